//! Reads the file to its end, whatever is wrong with it, so that an operator mends it in one go.

use std::collections::HashMap;

use serde::{Deserialize, de::IntoDeserializer};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{Authorization, Config, Limits, PrincipalConfig, Problem, ServedModel};

/// The sections of the file, in the order they are documented.
const SECTIONS: [&str; 10] = [
    "repository",
    "data",
    "health",
    "limits",
    "onnxruntime",
    "trust",
    "models",
    "audit",
    "authorization",
    "principals",
];

/// Reads a configuration; every problem, by line.
pub(super) fn read(text: &str) -> Result<Config, Vec<Problem>> {
    let mut reader = Reader {
        text,
        problems: Vec::new(),
    };
    match reader.config() {
        Some(config) if reader.problems.is_empty() => Ok(config),
        _ => {
            reader.problems.sort_by_key(|p| p.line);
            Err(reader.problems)
        }
    }
}

pub(super) struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

/// Something of the file, and the byte where it starts.
struct At<T> {
    start: usize,
    it: T,
}

impl Reader<'_> {
    fn config(&mut self) -> Option<Config> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.problem(error.span().map(|s| s.start), error.message());
        }
        if !self.problems.is_empty() {
            return None;
        }
        let table = table.get_ref();
        for (key, _) in table {
            let name: &str = key.get_ref();
            if !SECTIONS.contains(&name) {
                let known = SECTIONS.join(", ");
                self.problem(
                    Some(key.span().start),
                    &format!("unknown section {name}; known: {known}"),
                );
            }
        }
        // All sections are read before any is missed, so that every problem is reported.
        let repository = self.section(table, "repository", &[]);
        let listening = ["listen", "certificate", "key", "client_ca"];
        let data = self.section(table, "data", &listening);
        let health = self.section(table, "health", &["listen"]);
        let limits = if table.contains_key("limits") {
            self.section(table, "limits", &[])
        } else {
            Some(Limits::default())
        };
        let onnxruntime = self.section(table, "onnxruntime", &["execution"]);
        let trust = self.section(table, "trust", &[]);
        let models = self.list::<ServedModel>(table, "models", &["name", "version"]);
        let audit = self.section(table, "audit", &["directory", "mode"]);
        let authorization = if table.contains_key("authorization") {
            self.section(table, "authorization", &["policy"])
        } else {
            Some(Authorization::default())
        };
        let principal = ["name", "san", "roles", "models"];
        let principals = self.list::<PrincipalConfig>(table, "principals", &principal);
        let trust = trust.and_then(|raw| self.trust(table, raw));
        self.check_limits(table, limits.as_ref());
        self.check_models(table, &models);
        let principals = self.by_san(principals);
        Some(Config {
            data: data?,
            health: health?,
            limits: limits?,
            onnxruntime: onnxruntime?,
            trust: trust?,
            repository: repository?,
            models: models.into_iter().map(|m| m.it).collect(),
            audit: audit?,
            authorization: authorization?,
            principals,
        })
    }

    fn check_limits(&mut self, table: &DeTable<'_>, limits: Option<&Limits>) {
        let Some(l) = limits else { return };
        let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        for (name, value, least, most) in [
            ("body_bytes", count(l.body_bytes), 1, 64 << 20),
            (
                "concurrent_requests",
                count(l.concurrent_requests),
                1,
                1 << 20,
            ),
            ("connections", count(l.connections), 1, 1 << 20),
            ("head_seconds", l.head_seconds, 1, 3600),
            ("body_seconds", l.body_seconds, 1, 3600),
            ("idle_seconds", l.idle_seconds, 1, 3600),
            ("drain_seconds", l.drain_seconds, 0, 3600),
        ] {
            let at = field(table, "limits", name);
            if !(least..=most).contains(&value) {
                self.problem(at, &format!("limits: {name} must be {least} to {most}"));
            }
        }
    }

    fn check_models(&mut self, table: &DeTable<'_>, models: &[At<ServedModel>]) {
        let listed = table.get("models").map(Spanned::get_ref);
        if let Some(DeValue::Array(items)) = listed
            && items.is_empty()
        {
            let at = table.get("models").map(|v| v.span().start);
            self.problem(at, "models: serve at least one model");
        }
        for (i, At { start, it: m }) in models.iter().enumerate() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if m.name.is_empty() || !m.name.chars().all(plain) {
                self.problem(
                    Some(*start),
                    &format!("models: name {:?} should be of a-z, 0-9, -", m.name),
                );
            }
            if m.version == 0 {
                self.problem(Some(*start), "models: versions start at 1");
            }
            if models.iter().take(i).any(|other| other.it == *m) {
                let (name, version) = (&m.name, m.version);
                self.problem(
                    Some(*start),
                    &format!("models: {name} version {version} is listed twice"),
                );
            }
        }
    }

    /// A subject alternative name means one principal, or authentication would be a guess.
    fn by_san(&mut self, principals: Vec<At<PrincipalConfig>>) -> HashMap<String, PrincipalConfig> {
        let mut by_san: HashMap<String, PrincipalConfig> = HashMap::new();
        for At { it: p, .. } in principals {
            let (san, at) = (p.san.get_ref().clone(), Some(p.san.span().start));
            let value = san
                .strip_prefix("URI:")
                .or_else(|| san.strip_prefix("DNS:"));
            if value.is_none_or(str::is_empty) {
                self.problem(
                    at,
                    &format!("principal {}: san should be URI:… or DNS:…", p.name),
                );
            }
            if by_san.values().any(|other| other.name == p.name) {
                self.problem(at, &format!("principal {}: the name is used twice", p.name));
            }
            if let Some(other) = by_san.insert(san, p) {
                self.problem(at, &format!("san is principal {}'s already", other.name));
            }
        }
        by_san
    }

    fn section<T: for<'de> Deserialize<'de>>(
        &mut self,
        table: &DeTable<'_>,
        name: &str,
        required: &[&str],
    ) -> Option<T> {
        let Some(value) = table.get(name) else {
            self.problem(None, &format!("section {name} is missing"));
            return None;
        };
        self.value(value.clone(), name, required)
    }

    fn list<T: for<'de> Deserialize<'de>>(
        &mut self,
        table: &DeTable<'_>,
        name: &str,
        required: &[&str],
    ) -> Vec<At<T>> {
        let Some(value) = table.get(name) else {
            self.problem(None, &format!("section [[{name}]] is missing"));
            return Vec::new();
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.problem(Some(value.span().start), &format!("write it as [[{name}]]"));
            return Vec::new();
        };
        items
            .iter()
            .filter_map(|item| {
                let start = item.span().start;
                let it = self.value(item.clone(), name, required)?;
                Some(At { start, it })
            })
            .collect()
    }

    /// Reads a value by its type. A field at fault is reported and taken out, and the rest is
    /// read again, until every fault is found; what is missing then was reported already.
    fn value<T: for<'de> Deserialize<'de>>(
        &mut self,
        mut value: Spanned<DeValue<'_>>,
        name: &str,
        required: &[&str],
    ) -> Option<T> {
        let start = value.span().start;
        let mut complete = true;
        if let DeValue::Table(table) = value.get_ref() {
            for missing in required.iter().filter(|f| !table.contains_key(**f)) {
                self.problem(Some(start), &format!("{name}: {missing} is missing"));
                complete = false;
            }
        }
        loop {
            let error = match T::deserialize(value.clone().into_deserializer()) {
                Ok(parsed) => return complete.then_some(parsed),
                Err(error) => error,
            };
            let at = error.span().map_or(start, |s| s.start);
            let culprit = value.get_ref().as_table().and_then(|table| {
                table
                    .iter()
                    .find(|(k, v)| k.span().contains(&at) || v.span().contains(&at))
                    .map(|(k, _)| k.clone())
            });
            if culprit.is_some() || complete {
                self.problem(Some(at), &format!("{name}: {}", error.message()));
            }
            let (Some(culprit), DeValue::Table(table)) = (culprit, value.get_mut()) else {
                return None;
            };
            table.remove(&culprit);
            complete = false;
        }
    }

    pub(super) fn problem(&mut self, offset: Option<usize>, message: &str) {
        let line = offset.map_or(0, |o| {
            1 + self.text.bytes().take(o).filter(|&b| b == b'\n').count()
        });
        self.problems.push(Problem {
            line,
            message: message.to_owned(),
        });
    }
}

/// Where the value of a section's field starts.
pub(super) fn field(table: &DeTable<'_>, section: &str, name: &str) -> Option<usize> {
    let fields = table.get(section)?.get_ref().as_table()?;
    fields.get(name).map(|v| v.span().start)
}
