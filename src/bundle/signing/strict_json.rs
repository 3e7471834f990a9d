//! JSON whose objects name each key once, and are objects.
//!
//! serde notices a repeated key only in fields it knows; elsewhere the last one wins, while
//! another reader may take the first. It also takes a list of values in the order of our
//! declarations for an object, which no other reader does. A signed document must mean one thing.

use serde::{
    de::{
        DeserializeOwned, Deserializer, Error, IntoDeserializer, Visitor,
        value::{MapDeserializer, SeqDeserializer},
    },
    forward_to_deserialize_any,
};
use serde_json::Value;

use super::error::{SigningError, excerpt};
use crate::unique_keys::repeated_key;

/// Parses `json`, refusing at any depth a repeated key, and a list where an object belongs.
pub(in crate::bundle) fn parse<T: DeserializeOwned>(
    document: &'static str,
    json: &[u8],
    wrong: impl FnOnce(String) -> SigningError,
) -> Result<T, SigningError> {
    let repeated = repeated_key(json);
    if let Ok(Some(key)) = repeated {
        return Err(SigningError::DuplicateKey {
            document,
            key: excerpt(&key),
        });
    }
    repeated
        .and_then(|_| T::deserialize(Objects(serde_json::from_slice(json)?)))
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

/// A value that gives a struct only from an object.
struct Objects(Value);

impl<'de> Deserializer<'de> for Objects {
    type Error = serde_json::Error;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        if self.0.is_array() {
            return Err(Error::custom("a list where an object belongs"));
        }
        self.deserialize_any(visitor)
    }

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        match self.0 {
            Value::Array(items) => {
                let mut items = SeqDeserializer::new(items.into_iter().map(Objects));
                let value = visitor.visit_seq(&mut items)?;
                items.end()?;
                Ok(value)
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(key, value)| (key, Objects(value)));
                visitor.visit_map(MapDeserializer::new(fields))
            }
            scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => {
                scalar.deserialize_any(visitor)
            }
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        if self.0.is_null() {
            visitor.visit_none()
        } else {
            visitor.visit_some(self)
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map identifier ignored_any
    }
}

impl IntoDeserializer<'_, serde_json::Error> for Objects {
    type Deserializer = Self;

    fn into_deserializer(self) -> Self {
        self
    }
}
