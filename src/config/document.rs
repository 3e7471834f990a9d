//! The configuration as it may be shown: complete, but for secrets and where they lie.

use serde_json::Value;

use super::Config;

/// Words in a field's name that make its value nobody's business.
const SECRET: [&str; 6] = ["key", "secret", "token", "password", "pin", "credential"];
/// What stands in its place.
const REDACTED: &str = "redacted";

impl Config {
    /// What the server runs with, as JSON: the file, and the limits that it left out. A value
    /// whose field speaks of keys or secrets is left out, paths to them included, and so are user
    /// names and passwords in addresses. Paths are as they were written.
    pub fn redacted(&self) -> Value {
        let mut shown = serde_json::to_value(&self.document).unwrap_or_default();
        if let Some(sections) = shown.as_object_mut() {
            let limits = serde_json::to_value(self.limits).unwrap_or_default();
            sections.insert("limits".to_owned(), limits);
        }
        redact(&mut shown);
        shown
    }
}

fn redact(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if is_secret(name) {
                    *field = REDACTED.into();
                } else {
                    redact(field);
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(redact),
        Value::String(text) => {
            if let Some(shown) = without_credentials(text) {
                *text = shown;
            } else if text.contains("-----BEGIN") {
                REDACTED.clone_into(text);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn is_secret(name: &str) -> bool {
    let mut words = name.split(['_', '-']);
    words.any(|word| SECRET.contains(&word.strip_suffix('s').unwrap_or(word)))
}

/// An address with a user name or password (RFC 3986 section 3.2.1), without them.
fn without_credentials(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let (_, host) = authority.rsplit_once('@')?;
    let tail = rest.get(authority.len()..)?;
    Some(format!("{scheme}://{REDACTED}@{host}{tail}"))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    const SAMPLE: &str = include_str!("../../docs/samples/vitalgate.toml");

    #[test]
    fn everything_is_shown_but_keys() {
        let config = Config::parse(SAMPLE, Path::new("/etc")).unwrap();
        let shown = config.redacted();
        assert_eq!(shown["data"][0]["listen"], "0.0.0.0:8443");
        assert_eq!(shown["data"][0]["key"], REDACTED);
        assert_eq!(shown["admin"]["key"], REDACTED);
        assert_eq!(shown["trust"]["policy_keys"], REDACTED);
        assert_eq!(shown["trust"]["policy"], "policy/release.dsse.json");
        assert_eq!(shown["models"][0]["name"], "icu-mortality");
        for key in ["server.key", "admin.key", "root.pub"] {
            assert!(!shown.to_string().contains(key));
        }
    }

    #[test]
    fn what_was_left_out_of_the_limits_is_shown() {
        let start = SAMPLE.find("\n[limits]").unwrap();
        let end = SAMPLE.find("\n[budgets.").unwrap();
        let text = format!("{}{}", &SAMPLE[..start], &SAMPLE[end..]);
        let config = Config::parse(&text, Path::new("/etc")).unwrap();
        assert_eq!(config.redacted()["limits"]["body_bytes"], 65536);
    }

    #[test]
    fn secrets_in_odd_places_are_not() {
        let mut value = serde_json::json!({
            "hash-keys": ["a"], "token": {"x": 1}, "monkey": "shown",
            "list": [{"url": "https://ann:pa%40ss@host:1/x?y@z"}, "-----BEGIN PRIVATE KEY-----"],
        });
        redact(&mut value);
        let expected = serde_json::json!({
            "hash-keys": REDACTED, "token": REDACTED, "monkey": "shown",
            "list": [{"url": "https://redacted@host:1/x?y@z"}, REDACTED],
        });
        assert_eq!(value, expected);
    }
}
