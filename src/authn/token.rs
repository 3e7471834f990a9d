//! A JWT (RFC 7519) in compact form, read but not believed.
//!
//! Header and claims name each member once: a repeated one is read differently by different
//! readers.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Algorithm;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, Visitor},
};
use serde_json::{Map, Value};

use crate::disposition::Code;

/// A token whose signature was not checked yet.
#[derive(Debug)]
pub(super) struct Token<'t> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: String,
    pub(super) jku: Option<String>,
    pub(super) claims: Claims,
    /// What was signed.
    pub(super) message: &'t [u8],
    /// Base64url.
    pub(super) signature: &'t str,
}

impl<'t> Token<'t> {
    /// Reads a token, and refuses what its header alone forbids.
    pub(super) fn parse(text: &'t str) -> Result<Self, Code> {
        let malformed = Code::TokenMalformed;
        let (message, signature) = text.rsplit_once('.').ok_or(malformed)?;
        let (header, claims) = message.split_once('.').ok_or(malformed)?;
        if claims.contains('.') {
            return Err(malformed);
        }
        let header = object(header).ok_or(malformed)?;
        let algorithm = algorithm(&header)?;
        // Extensions that must be understood: we understand none (RFC 7515 section 4.1.11).
        if header.contains_key("crit") {
            return Err(Code::TokenCritical);
        }
        check_type(&header)?;
        let kid = text_of(&header, "kid")?.ok_or(Code::TokenKeyUnknown)?;
        Ok(Self {
            algorithm,
            kid: kid.to_owned(),
            jku: text_of(&header, "jku")?.map(str::to_owned),
            claims: Claims(object(claims).ok_or(malformed)?),
            message: message.as_bytes(),
            signature,
        })
    }
}

/// The five that are taken. `none` and everything symmetric is not even named.
fn algorithm(header: &Map<String, Value>) -> Result<Algorithm, Code> {
    match text_of(header, "alg")? {
        Some("RS256") => Ok(Algorithm::RS256),
        Some("RS384") => Ok(Algorithm::RS384),
        Some("PS256") => Ok(Algorithm::PS256),
        Some("ES256") => Ok(Algorithm::ES256),
        Some("ES384") => Ok(Algorithm::ES384),
        Some(_) | None => Err(Code::TokenAlgorithm),
    }
}

/// Access tokens say so (RFC 9068 section 2.1, RFC 8725 section 3.11); what was made for
/// something else must not pass for one.
fn check_type(header: &Map<String, Value>) -> Result<(), Code> {
    let typ = text_of(header, "typ")?.unwrap_or_default();
    let short = match typ.split_at_checked("application/".len()) {
        Some((prefix, rest)) if prefix.eq_ignore_ascii_case("application/") => rest,
        _ => typ,
    };
    let known = ["at+jwt", "jwt"];
    if known.iter().any(|k| short.eq_ignore_ascii_case(k)) {
        Ok(())
    } else {
        Err(Code::TokenType)
    }
}

fn text_of<'m>(object: &'m Map<String, Value>, name: &str) -> Result<Option<&'m str>, Code> {
    match object.get(name) {
        None => Ok(None),
        Some(value) => value.as_str().map(Some).ok_or(Code::TokenMalformed),
    }
}

/// The claims of a token.
#[derive(Debug)]
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    pub(super) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// A claim that is a string.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name)?.as_str()
    }

    /// A `NumericDate` (RFC 7519 section 2), whole seconds.
    ///
    /// # Errors
    /// [`Code::TokenClaimInvalid`] for what is no time at all.
    pub(super) fn time(&self, name: &str) -> Result<Option<i64>, Code> {
        let Some(value) = self.0.get(name) else {
            return Ok(None);
        };
        let seconds = value.as_i64().or_else(|| {
            let seconds = value.as_f64()?.floor();
            // Within the years that clocks show, a double holds whole seconds exactly.
            #[expect(
                clippy::cast_possible_truncation,
                reason = "within the bounds checked here"
            )]
            (0.0..4e10).contains(&seconds).then_some(seconds as i64)
        });
        let seconds = seconds.filter(|s| (0..40_000_000_000).contains(s));
        seconds.map(Some).ok_or(Code::TokenClaimInvalid)
    }

    /// A claim that is a string or a list of strings.
    pub(super) fn texts(&self, name: &str) -> Option<Vec<&str>> {
        match self.0.get(name)? {
            Value::String(one) => Some(vec![one]),
            Value::Array(items) => items.iter().map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        }
    }
}

fn object(encoded: &str) -> Option<Map<String, Value>> {
    let bytes = URL_SAFE_NO_PAD.decode(encoded).ok()?;
    let UniqueMembers(object) = serde_json::from_slice(&bytes).ok()?;
    Some(object)
}

/// A JSON object that names each member once.
struct UniqueMembers(Map<String, Value>);

impl<'de> Deserialize<'de> for UniqueMembers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Map<String, Value>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Map::new();
                while let Some((name, value)) = map.next_entry()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a member is repeated"));
                    }
                }
                Ok(members)
            }
        }
        deserializer.deserialize_map(Members).map(Self)
    }
}
