//! JSON whose objects name each key once.
//!
//! serde notices a repeated key only in fields it knows; elsewhere the last one wins, while
//! another reader may take the first. A signed document must mean one thing.

use std::{collections::BTreeSet, fmt};

use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor,
};

use super::error::{SigningError, excerpt};

/// Parses `json`, refusing a repeated key at any depth.
pub(in crate::bundle) fn parse<T: DeserializeOwned>(
    document: &'static str,
    json: &[u8],
    wrong: impl FnOnce(String) -> SigningError,
) -> Result<T, SigningError> {
    let mut duplicate = None;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let scanned = UniqueKeys(&mut duplicate)
        .deserialize(&mut reader)
        .and_then(|()| reader.end());
    if let Some(key) = duplicate {
        return Err(SigningError::DuplicateKey {
            document,
            key: excerpt(&key),
        });
    }
    scanned
        .and_then(|()| serde_json::from_slice(json))
        .map_err(|e| {
            // serde repeats the document's own words in its messages.
            wrong(
                e.to_string()
                    .chars()
                    .take(200)
                    .flat_map(char::escape_debug)
                    .collect(),
            )
        })
}

/// Walks a value and stops at the first repeated key, which it leaves behind. The recursion is
/// bounded by `serde_json`, at 128 levels.
struct UniqueKeys<'a>(&'a mut Option<String>);

impl<'de> DeserializeSeed<'de> for UniqueKeys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for UniqueKeys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut keys = BTreeSet::new();
        while let Some(key) = map.next_key::<String>()? {
            if keys.contains(&key) {
                *self.0 = Some(key);
                return Err(A::Error::custom("repeated key"));
            }
            keys.insert(key);
            map.next_value_seed(UniqueKeys(&mut *self.0))?;
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(UniqueKeys(&mut *self.0))?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
