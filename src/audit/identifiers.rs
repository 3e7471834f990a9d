//! The only identifiers that are kept across requests: keyed hashes.
//!
//! A *fingerprint* tells that the same input came again on the same day; its key is derived anew
//! for each UTC day from the fleet key, which all replicas share. A *pseudonym* tells that a
//! record concerns the same patient, for as long as the pseudonym key is retained, so that a
//! breach can be scoped. Without the keys neither says anything.

use std::{fmt, path::Path, sync::Arc};

use arc_swap::ArcSwap;
use aws_lc_rs::hmac::{self, HMAC_SHA256};
use zeroize::Zeroizing;

use super::keys::{KeyError, read_secret};
use crate::{clock, phi::Phi, row::Row};

/// Bytes of a key file: two hexadecimal digits each.
const KEY_BYTES: usize = 32;
/// Bytes of an identifier: 128 bits meet by chance after 2^64 patients.
const BYTES: usize = 16;
const DAY: u64 = 24 * 60 * 60;

/// A keyed hash, lower-case hexadecimal.
pub type Identifier = String;

/// Whom a request is about, in the caller's words.
#[derive(Debug)]
pub enum Subject {
    /// `context.patient`.
    Patient(Phi<String>),
    /// `context.encounter`, where no patient was named.
    Encounter(Phi<String>),
}

/// Reads a key of 32 bytes, 64 hexadecimal digits, as `openssl rand -hex 32` prints it, and the one
/// before it from the next line, if there is one. The file must be closed to group and others.
fn load(path: &Path) -> Result<(hmac::Key, Option<hmac::Key>), KeyError> {
    let text = read_secret(path)?;
    let wrong = || KeyError::Form {
        path: path.to_owned(),
        expected: "expected 64 hexadecimal digits (openssl rand -hex 32)",
    };
    let mut lines = text.trim_ascii().split(|b| *b == b'\n').map(key);
    let (first, second) = (lines.next(), lines.next());
    let current = first.flatten().ok_or_else(wrong)?;
    match (second, lines.next()) {
        (None, None) => Ok((current, None)),
        (Some(Some(previous)), None) => Ok((current, Some(previous))),
        _ => Err(wrong()),
    }
}

fn key(line: &[u8]) -> Option<hmac::Key> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    hex::decode_to_slice(line.trim_ascii(), key.as_mut_slice()).ok()?;
    Some(hmac::Key::new(HMAC_SHA256, key.as_slice()))
}

/// The keys of the identifiers.
pub struct Identifiers {
    fleet: hmac::Key,
    previous_fleet: Option<hmac::Key>,
    pseudonyms: hmac::Key,
    today: ArcSwap<Daily>,
}

/// The key of one day's fingerprints.
struct Daily {
    /// Days since the Unix epoch.
    day: u64,
    key: hmac::Key,
}

impl Daily {
    fn derive(fleet: &hmac::Key, day: u64) -> Self {
        let label = [
            b"vitalgate input fingerprint day ",
            &*day.to_string().into_bytes(),
        ]
        .concat();
        Self {
            day,
            key: hmac::Key::new(HMAC_SHA256, hmac::sign(fleet, &label).as_ref()),
        }
    }
}

impl fmt::Debug for Identifiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identifiers").finish_non_exhaustive()
    }
}

impl Identifiers {
    /// Reads both keys.
    pub fn load(fleet: &Path, pseudonyms: &Path) -> Result<Self, KeyError> {
        let (fleet, previous_fleet) = load(fleet)?;
        let (pseudonym, None) = load(pseudonyms)? else {
            // With another key nobody could tell that two records are of one patient.
            return Err(KeyError::Form {
                path: pseudonyms.to_owned(),
                expected: "expected one key: pseudonyms' is never rotated",
            });
        };
        Ok(Self {
            today: ArcSwap::from_pointee(Daily::derive(&fleet, day())),
            pseudonyms: pseudonym,
            fleet,
            previous_fleet,
        })
    }

    /// The fleet key in force, and the one before it while what was made with it may still hold.
    pub(crate) fn fleet_keys(&self) -> impl Iterator<Item = &hmac::Key> {
        std::iter::once(&self.fleet).chain(&self.previous_fleet)
    }

    /// The fingerprint of an input: of the model's name and every value, in the bundle's order,
    /// after units and rounding.
    pub fn fingerprint(&self, row: &Row) -> Identifier {
        let mut context = hmac::Context::with_key(&self.daily_key(day()).key);
        row.feed(|bytes| context.update(bytes));
        identifier(&context.sign())
    }

    /// A key for one purpose, for as long as the fleet key lasts.
    pub(crate) fn lasting_key(&self, purpose: &str) -> hmac::Key {
        let label = [b"vitalgate ", purpose.as_bytes()].concat();
        hmac::Key::new(HMAC_SHA256, hmac::sign(&self.fleet, &label).as_ref())
    }

    /// A key of one day, for one purpose.
    pub(crate) fn day_key(&self, day: u64, purpose: &str) -> hmac::Key {
        let of_day = self.daily_key(day);
        let label = [b"vitalgate ", purpose.as_bytes()].concat();
        hmac::Key::new(HMAC_SHA256, hmac::sign(&of_day.key, &label).as_ref())
    }

    /// The pseudonym of whom a request is about.
    pub fn pseudonym(&self, subject: &Subject) -> Identifier {
        let (kind, text): (&[u8], _) = match subject {
            Subject::Patient(text) => (b"patient\0", text),
            Subject::Encounter(text) => (b"encounter\0", text),
        };
        let mut context = hmac::Context::with_key(&self.pseudonyms);
        context.update(kind);
        context.update(text.expose().as_bytes());
        identifier(&context.sign())
    }

    fn daily_key(&self, day: u64) -> Arc<Daily> {
        let today = self.today.load();
        if today.day == day {
            return Arc::clone(&today);
        }
        let fresh = Arc::new(Daily::derive(&self.fleet, day));
        self.today.store(Arc::clone(&fresh));
        fresh
    }
}

fn day() -> u64 {
    clock::since_epoch().as_secs() / DAY
}

fn identifier(tag: &hmac::Tag) -> Identifier {
    hex::encode(tag.as_ref().get(..BYTES).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::{schema, specimens};

    fn identifiers(fleet: &str, pseudonyms: &str) -> Result<Identifiers, KeyError> {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str, text: &str| {
            let path = directory.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        Identifiers::load(&file("fleet", fleet), &file("pseudonyms", pseudonyms))
    }

    fn row(body: &specimens::Body) -> Box<Row> {
        schema::parse(&specimens::icu(), &body.bytes())
            .unwrap()
            .into_row()
    }

    #[test]
    fn a_fingerprint_is_of_the_canonical_input() {
        let one = identifiers(&"a1".repeat(32), &"b2".repeat(32)).unwrap();
        let print = |body: specimens::Body| one.fingerprint(&row(&body));
        let plain = print(specimens::Body::icu());
        assert_eq!(plain.len(), 32);
        assert_eq!(plain, print(specimens::Body::icu()));
        // Another unit for the same value is the same input.
        let body = |json| specimens::Body::icu().with("temperature", json);
        let converted = print(body(r#"{"value": 98.6, "unit": "[degF]"}"#));
        assert_eq!(print(body("37")), converted);
        assert_ne!(plain, converted);
        let absent = specimens::Body::icu().without("magnesium");
        let null = specimens::Body::icu().with("magnesium", "null");
        assert_eq!(print(absent), print(null));
        let other = identifiers(&"a2".repeat(32), &"b2".repeat(32)).unwrap();
        assert_ne!(plain, other.fingerprint(&row(&specimens::Body::icu())));
    }

    #[test]
    fn fingerprints_change_with_the_day_and_pseudonyms_do_not() {
        let one = identifiers(&"a1".repeat(32), &"b2".repeat(32)).unwrap();
        let sign = |day| hmac::sign(&one.daily_key(day).key, b"x").as_ref().to_vec();
        assert_eq!(sign(20_000), sign(20_000));
        assert_ne!(sign(20_000), sign(20_001));
        assert_eq!(sign(20_000), sign(20_000));
        let patient = |text: &str| one.pseudonym(&Subject::Patient(Phi::new(text.to_owned())));
        assert_eq!(patient("p-1"), patient("p-1"));
        assert_ne!(patient("p-1"), patient("p-2"));
        let encounter = one.pseudonym(&Subject::Encounter(Phi::new("p-1".to_owned())));
        assert_ne!(patient("p-1"), encounter);
    }

    #[test]
    fn keys_are_64_digits() {
        let good = "0f".repeat(32);
        assert!(identifiers(&format!("{good}\n"), &good).is_ok());
        for wrong in ["", "00", &"zz".repeat(32), &"00".repeat(33)] {
            assert!(identifiers(wrong, &good).is_err(), "{wrong}");
            assert!(identifiers(&good, wrong).is_err(), "{wrong}");
        }
    }
}
