//! What a release policy says.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{
    super::signing::{PublicKey, SigningError, excerpt, strict_json},
    PolicyError,
    error::shown,
};

/// What becomes of models that serve already when the policy expires. No new ones are loaded
/// either way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnExpiry {
    /// They go on.
    Keep,
    /// Predictions are refused.
    Stop,
}

/// The document, as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawTerms {
    /// Of this document: 1.
    pub format: u32,
    /// Rises with every change.
    pub serial: u64,
    /// When it was written, RFC 3339.
    pub issued: String,
    /// From when on it no longer holds, RFC 3339.
    pub expires: String,
    /// What becomes of models that serve then.
    pub on_expiry: OnExpiry,
    /// Who approves.
    pub roles: BTreeMap<String, RawRole>,
    /// The lowest version of each model that may be loaded; no other model may.
    pub min_version: BTreeMap<String, u32>,
    /// Ids of keys whose signatures no longer count.
    pub revoked_keys: Vec<String>,
    /// Root digests of bundles that may no longer be loaded.
    pub revoked_digests: Vec<String>,
}

/// A role, as it is written.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRole {
    /// How many of its keys must have signed.
    pub threshold: usize,
    /// Public keys, SPKI PEM.
    pub keys: Vec<String>,
}

/// A policy without contradictions. Whether anybody signed it is another question.
#[derive(Debug)]
pub struct Terms {
    raw: RawTerms,
    issued: OffsetDateTime,
    expires: OffsetDateTime,
    roles: BTreeMap<String, Role>,
    revoked_keys: BTreeSet<String>,
    revoked_digests: BTreeSet<String>,
}

/// Those who approve in one capacity.
#[derive(Debug)]
pub struct Role {
    threshold: usize,
    keys: Vec<PublicKey>,
}

impl Role {
    /// How many of its keys must have signed: at least 1, at most all.
    pub fn threshold(&self) -> usize {
        self.threshold
    }

    /// The ids of its keys.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().map(PublicKey::id)
    }

    pub(super) fn keys(&self) -> &[PublicKey] {
        &self.keys
    }
}

impl Terms {
    /// Reads and checks a policy document.
    pub fn parse(json: &[u8]) -> Result<Self, PolicyError> {
        const DOCUMENT: &str = "release policy";
        let raw: RawTerms =
            strict_json::parse(DOCUMENT, json, wrong_json(DOCUMENT)).map_err(PolicyError::Json)?;
        if raw.format != 1 {
            return Err(PolicyError::Format(raw.format));
        }
        if raw.serial == 0 {
            return Err(field("serial", "must be above 0"));
        }
        let (issued, expires) = (time("issued", &raw.issued)?, time("expires", &raw.expires)?);
        if expires <= issued {
            return Err(field("expires", "is not after issued"));
        }
        for name in raw.min_version.keys() {
            check_name("min_version", name)?;
        }
        Ok(Self {
            roles: roles(&raw.roles)?,
            revoked_keys: hex_set("revoked_keys", &raw.revoked_keys)?,
            revoked_digests: hex_set("revoked_digests", &raw.revoked_digests)?,
            issued,
            expires,
            raw,
        })
    }

    /// Rises with every change.
    pub fn serial(&self) -> u64 {
        self.raw.serial
    }

    /// When it was written.
    pub fn issued(&self) -> OffsetDateTime {
        self.issued
    }

    /// From when on it no longer holds.
    pub fn expires(&self) -> OffsetDateTime {
        self.expires
    }

    /// [`Self::expires`] in RFC 3339.
    pub fn expires_text(&self) -> String {
        shown(self.expires)
    }

    /// What becomes of models that serve when it expires.
    pub fn on_expiry(&self) -> OnExpiry {
        self.raw.on_expiry
    }

    /// Who approves, by name of the role.
    pub fn roles(&self) -> &BTreeMap<String, Role> {
        &self.roles
    }

    /// The lowest version of a model that may be loaded; none when the model may not be.
    pub fn min_version(&self, model: &str) -> Option<u32> {
        self.raw.min_version.get(model).copied()
    }

    /// Whether the key's signatures no longer count.
    pub fn is_key_revoked(&self, id: &str) -> bool {
        self.revoked_keys.contains(id)
    }

    /// Whether bundles with this root digest may no longer be loaded.
    pub fn is_digest_revoked(&self, digest: &str) -> bool {
        self.revoked_digests.contains(digest)
    }

    /// The document.
    pub fn raw(&self) -> &RawTerms {
        &self.raw
    }
}

fn roles(raw: &BTreeMap<String, RawRole>) -> Result<BTreeMap<String, Role>, PolicyError> {
    if raw.is_empty() {
        return Err(PolicyError::NoRoles);
    }
    let mut holders: BTreeMap<String, &str> = BTreeMap::new();
    let mut roles = BTreeMap::new();
    for (name, RawRole { threshold, keys }) in raw {
        check_name("roles", name)?;
        if *threshold == 0 || *threshold > keys.len() {
            return Err(PolicyError::Threshold {
                role: name.clone(),
                threshold: *threshold,
                keys: keys.len(),
            });
        }
        let place = || format!("release policy: role {name}");
        let mut read = Vec::with_capacity(keys.len());
        for pem in keys {
            let key = public_key(&place(), pem.as_bytes())?;
            let id = key.id().to_owned();
            match holders.insert(id.clone(), name) {
                None => read.push(key),
                Some(other) if other == name => {
                    return Err(PolicyError::KeyTwice {
                        place: place(),
                        key: id,
                    });
                }
                Some(other) => {
                    return Err(PolicyError::KeyInTwoRoles {
                        key: id,
                        first: other.to_owned(),
                        second: name.clone(),
                    });
                }
            }
        }
        let role = Role {
            threshold: *threshold,
            keys: read,
        };
        roles.insert(name.clone(), role);
    }
    Ok(roles)
}

/// Reads a key that will be counted: in the one form that has an id.
pub(super) fn public_key(place: &str, pem: &[u8]) -> Result<PublicKey, PolicyError> {
    let key = PublicKey::from_pem(pem).map_err(|source| PolicyError::Key {
        place: place.to_owned(),
        source,
    })?;
    if !key.is_canonical() {
        return Err(PolicyError::KeyForm {
            place: place.to_owned(),
        });
    }
    Ok(key)
}

pub(super) fn wrong_json(document: &'static str) -> impl FnOnce(String) -> SigningError {
    move |reason| SigningError::DocumentJson { document, reason }
}

fn field(name: &str, problem: &str) -> PolicyError {
    PolicyError::Field {
        field: name.to_owned(),
        problem: problem.to_owned(),
    }
}

fn time(name: &str, text: &str) -> Result<OffsetDateTime, PolicyError> {
    OffsetDateTime::parse(text, &Rfc3339)
        .map_err(|_| field(name, &format!("{} is not RFC 3339 time", excerpt(text))))
}

fn check_name(place: &str, name: &str) -> Result<(), PolicyError> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if name.is_empty() || name.len() > 100 || !name.chars().all(plain) {
        let problem = format!("{} should be of a-z, 0-9, -", excerpt(name));
        return Err(field(place, &problem));
    }
    Ok(())
}

/// A mistyped digest would revoke nothing, silently.
fn hex_set(name: &str, digests: &[String]) -> Result<BTreeSet<String>, PolicyError> {
    let is_digest = |text: &str| {
        text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    match digests.iter().find(|text| !is_digest(text)) {
        Some(text) => Err(field(
            name,
            &format!("{} is not 64 lower-case hexadecimal digits", excerpt(text)),
        )),
        None => Ok(digests.iter().cloned().collect()),
    }
}
