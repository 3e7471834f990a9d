//! JSON whose objects name each key once, at any depth (RFC 8259 section 4 leaves it open).
//!
//! Of a repeated key one reader takes the first value and another the last. What is signed or
//! recorded must mean one thing.

use std::{borrow::Cow, collections::BTreeSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// The first key that an object of `json` repeats; an error when it is no JSON, or nested deeper
/// than `serde_json` follows (128 levels). Nothing else of it is kept.
pub(crate) fn repeated_key(json: &[u8]) -> Result<Option<String>, serde_json::Error> {
    let mut repeated = None;
    let mut reader = serde_json::Deserializer::from_slice(json);
    let walked = UniqueKeys(&mut repeated)
        .deserialize(&mut reader)
        .and_then(|()| reader.end());
    match repeated {
        Some(key) => Ok(Some(key)),
        None => walked.map(|()| None),
    }
}

/// Walks a value and stops at the first repeated key, which it leaves behind.
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
        while let Some(key) = map.next_key_seed(Key)? {
            if keys.contains(&key) {
                *self.0 = Some(key.into_owned());
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

/// A key, out of the text itself where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::repeated_key;

    fn repeated(json: &str) -> Option<String> {
        repeated_key(json.as_bytes()).expect(json)
    }

    #[test]
    fn an_object_says_each_thing_once() {
        let once = r#"{"a":1,"b":[{"a":-1},{"a":1.5}],"c":{"a":null,"b":true},"d":"\u0061"}"#;
        assert_eq!(repeated(once), None);
        assert_eq!(repeated("{}"), None);
        for twice in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":1,"\u0061":2}"#,
            r#"{"x":{"a":1,"a":1}}"#,
            r#"{"x":[{"a":1,"a":1}]}"#,
        ] {
            assert_eq!(repeated(twice).as_deref(), Some("a"), "{twice}");
        }
    }

    #[test]
    fn what_is_no_json_says_so() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(100_000), "]".repeat(100_000));
        for json in [
            r#"{"a":1,}"#.as_bytes(),
            br#"{"a":1}}"#,
            br#"{"a":1} {"b":1}"#,
            br#"{"a"}"#,
            b"",
            b"{\"a\":\"\xff\"}",
            deep.as_bytes(),
        ] {
            assert!(repeated_key(json).is_err());
        }
    }
}
