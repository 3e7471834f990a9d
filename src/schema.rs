//! Request body → [`Observed`]: strict JSON, known fields, declared types, units, precision.
//!
//! A pull parser reads the body once, in place. Every fault is collected with its RFC 6901
//! pointer before the request is rejected, so that an integrator mends a request in one go;
//! only broken JSON ends the reading early, since what follows it has no meaning.

use std::sync::Arc;

use jiter::{Jiter, JiterError, Peek};

use crate::{
    audit::Subject,
    bundle::model::{Kind, ModelSpec},
    clinical,
    disposition::{Code, InputFault, Rejection},
    phi::Phi,
    review::{Claim, Confirmed},
    row::{FeatureSet, Row},
    units::{Conversion, UnitError, round_to_step},
    urgency::Priority,
};

mod claim;
mod describe;
mod faults;
pub use describe::request_schema;
use faults::{MAX_FAULTS, expected_type, push_token};

/// Longest `context.encounter` and `context.patient`, in bytes.
const MAX_SUBJECT: usize = 128;

/// A body that had the model's schema; made only by [`parse`].
#[derive(Debug)]
pub struct Observed(Box<Row>);

impl Observed {
    pub(crate) fn into_row(self) -> Box<Row> {
        self.0
    }

    /// What the caller wants to override, if anything; once.
    pub(crate) fn take_claim(&mut self) -> Option<Claim> {
        self.0.claim.take()
    }

    /// Has the networks asked about it before others, or after them.
    pub(crate) fn prioritize(&mut self, priority: Priority) {
        self.0.priority = priority;
    }

    /// Notes that the override holds.
    pub(crate) fn confirm(&mut self, confirmed: Confirmed) {
        self.0.confirmed = Some(confirmed);
    }

    /// What was read, to be fingerprinted.
    pub(crate) fn row(&self) -> &Row {
        &self.0
    }
}

/// Reads a request body by the model's schema.
pub fn parse(spec: &Arc<ModelSpec>, body: &[u8]) -> Result<Observed, Rejection> {
    let (text, utf8_error) = match std::str::from_utf8(body) {
        Ok(_) => (body, None),
        Err(e) => (
            body.get(..e.valid_up_to()).unwrap_or_default(),
            Some(e.valid_up_to()),
        ),
    };
    let mut reader = Reader {
        json: Jiter::new(text).with_allow_inf_nan(),
        row: Row::new(Arc::clone(spec)),
        at: Phi::new(String::with_capacity(96)),
        seen: FeatureSet::default(),
        observations_read: false,
        faults: Vec::new(),
    };
    match reader.document() {
        // Without observations, a list of everything that is missing would be noise.
        Ok(()) if utf8_error.is_none() && !reader.observations_read => {}
        Ok(()) if utf8_error.is_none() => reader.require_all(),
        Ok(()) => reader.not_utf8(utf8_error.unwrap_or_default()),
        Err(error) => match utf8_error {
            Some(at) => reader.not_utf8(at),
            None => reader.broken(&error),
        },
    }
    if reader.faults.is_empty() {
        reader.row.freeze_inputs();
        Ok(Observed(reader.row))
    } else {
        // What could be read is judged too: a sender mends everything in one go.
        let mut faults = reader.faults;
        let known: Vec<_> = faults.iter().map(|f| f.feature).collect();
        let impossible = clinical::impossible_values(&reader.row);
        faults.extend(impossible.filter(|f| !known.contains(&f.feature)));
        faults.truncate(MAX_FAULTS);
        Err(Rejection {
            spec: Arc::clone(spec),
            faults,
            subject: reader.row.subject.take(),
        })
    }
}

/// Where in the documented shape the reader stands.
#[derive(Clone, Copy)]
enum Key {
    Observations,
    Context,
    Encounter,
    Patient,
    Feature(usize),
    Value,
    Unit,
    Review,
    Token,
    ReasonCode,
    Unknown,
}

/// A number as it was sent, before unit and precision are applied.
#[derive(Clone, Copy)]
enum Sent {
    Null,
    Number(f64),
    Bool(bool),
    /// Something else; a fault has been noted.
    Wrong,
}

struct Reader<'j> {
    json: Jiter<'j>,
    row: Box<Row>,
    /// Pointer to the value being read. Keys are the caller's words, so it is PHI.
    at: Phi<String>,
    seen: FeatureSet,
    observations_read: bool,
    faults: Vec<InputFault>,
}

type Read<T> = Result<T, JiterError>;

impl Reader<'_> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a key that is not expected here is refused, whatever it is"
    )]
    fn document(&mut self) -> Read<()> {
        if self.json.peek()? == Peek::Object {
            let (mut observations, mut context, mut review) = (false, false, false);
            self.object(
                |_, key| match key {
                    "observations" => Key::Observations,
                    "context" => Key::Context,
                    "review" => Key::Review,
                    _ => Key::Unknown,
                },
                |reader, key| match key {
                    Key::Observations if !std::mem::replace(&mut observations, true) => {
                        reader.observations()
                    }
                    Key::Context if !std::mem::replace(&mut context, true) => reader.context(),
                    Key::Review if !std::mem::replace(&mut review, true) => reader.review(),
                    other => reader.unexpected(other, "observations, context, review"),
                },
            )?;
            if !observations {
                self.at.expose_mut().push_str("/observations");
                self.fault(Code::MissingValue, None, "an object of observations");
                self.at.expose_mut().clear();
            }
        } else {
            self.wrong_type(None, "an object with observations")?;
        }
        self.json.finish()
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a key that is not expected here is refused, whatever it is"
    )]
    fn observations(&mut self) -> Read<()> {
        if self.json.peek()? != Peek::Object {
            return self.wrong_type(None, "an object of observations");
        }
        self.observations_read = true;
        self.object(
            |spec, key| {
                spec.by_name
                    .get(key)
                    .map_or(Key::Unknown, |&i| Key::Feature(i))
            },
            |reader, key| match key {
                Key::Feature(i) if reader.seen.insert(i) => reader.observation(i),
                Key::Feature(i) => reader.duplicate(Some(i)),
                other => reader.unexpected(other, "a feature of this model"),
            },
        )
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a key that is not expected here is refused, whatever it is"
    )]
    fn observation(&mut self, index: usize) -> Read<()> {
        let (mut value, mut conversion) = (None, None);
        if self.json.peek()? == Peek::Object {
            let mut unit_seen = false;
            self.object(
                |_, key| match key {
                    "value" => Key::Value,
                    "unit" => Key::Unit,
                    _ => Key::Unknown,
                },
                |reader, key| match key {
                    Key::Value if value.is_none() => {
                        value = Some(reader.number(index)?);
                        Ok(())
                    }
                    Key::Unit if !std::mem::replace(&mut unit_seen, true) => {
                        conversion = reader.unit(index)?;
                        Ok(())
                    }
                    other => reader.unexpected(other, "value, unit"),
                },
            )?;
            if value.is_none() {
                let expected = self.expected(index);
                let mark = self.descend("value");
                self.fault(Code::MissingValue, Some(index), &expected);
                self.ascend(mark);
            }
        } else {
            value = Some(self.number(index)?);
        }
        self.accept(index, value.unwrap_or(Sent::Wrong), conversion);
        Ok(())
    }

    /// Applies type, precision and unit of the feature to what was sent.
    fn accept(&mut self, index: usize, sent: Sent, unit: Option<(Conversion, Phi<String>)>) {
        let spec = Arc::clone(self.row.spec());
        let Some(feature) = spec.features.get(index) else {
            return;
        };
        let number = match (sent, feature.kind) {
            (Sent::Null | Sent::Wrong, _) => return,
            (Sent::Bool(b), Kind::Boolean) => f64::from(u8::from(b)),
            (Sent::Bool(_), Kind::Quantity | Kind::Ordinal) => {
                return self.fault(Code::WrongType, Some(index), &expected_type(feature));
            }
            (Sent::Number(n), _) if !n.is_finite() => {
                return self.fault(Code::NonFinite, Some(index), &expected_type(feature));
            }
            (Sent::Number(n), _) => n,
        };
        let unit = unit.filter(|(conversion, _)| !conversion.is_identity());
        let conversion = unit.as_ref().map(|(conversion, _)| *conversion);
        let declared = |value| conversion.map_or(value, |c| c.apply(value));
        if !feature.possible.contains_nearly(declared(number)) {
            self.row.impossible.insert(index);
        }
        let mut value = number;
        if let Some(precision) = feature.precision {
            // In the submitted unit: that is where the instrument's digits are.
            let step = conversion.map_or(precision, |c| c.step(precision));
            let rounded = round_to_step(number, step);
            if rounded.changed {
                self.row.rounded.insert(index);
            }
            value = rounded.value;
        }
        if let Some((conversion, unit)) = unit {
            value = declared(value);
            self.row.convert(index, conversion, unit);
        }
        // What was sent must be whole, not what is left after rounding; and a unit must not make
        // a fraction of it (1 % of a boolean).
        if feature.kind != Kind::Quantity && (number.fract() != 0.0 || value.fract() != 0.0) {
            return self.fault(Code::NotWhole, Some(index), &expected_type(feature));
        }
        self.row.set(index, value);
    }

    fn number(&mut self, index: usize) -> Read<Sent> {
        let peek = self.json.peek()?;
        match peek {
            Peek::Null => self.json.known_null().map(|()| Sent::Null),
            Peek::True | Peek::False => self.json.known_bool(peek).map(Sent::Bool),
            _ if peek.is_num() => {
                let digits = self.json.known_number_bytes(peek)?;
                // A number too large for a double reads as infinity, and is refused as such.
                let parsed = std::str::from_utf8(digits)
                    .ok()
                    .and_then(|d| d.parse().ok());
                Ok(Sent::Number(parsed.unwrap_or(f64::NAN)))
            }
            _ => {
                let expected = self.expected(index);
                self.wrong_type(Some(index), &expected)?;
                Ok(Sent::Wrong)
            }
        }
    }

    fn unit(&mut self, index: usize) -> Read<Option<(Conversion, Phi<String>)>> {
        if self.json.peek()? != Peek::String {
            self.wrong_type(Some(index), "a UCUM unit as a string")?;
            return Ok(None);
        }
        let spec = Arc::clone(self.row.spec());
        let Some(feature) = spec.features.get(index) else {
            return Ok(None);
        };
        let unit = self.json.known_str()?;
        let code = match feature.declared.convert(unit) {
            Ok(conversion) => return Ok(Some((conversion, Phi::new(unit.to_owned())))),
            Err(UnitError::TooLong) => Code::TooLong,
            Err(UnitError::NotCommensurable) => Code::IncompatibleUnit,
            Err(UnitError::Unknown | UnitError::MolarMass | UnitError::Valence) => {
                Code::UnknownUnit
            }
        };
        let expected = format!(
            "{} or another unit of the same kind",
            feature.declared.accepted_examples().join(", ")
        );
        self.fault(code, Some(index), &expected);
        Ok(None)
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a key that is not expected here is refused, whatever it is"
    )]
    fn context(&mut self) -> Read<()> {
        if self.json.peek()? != Peek::Object {
            return self.wrong_type(None, "an object with encounter, patient");
        }
        let (mut encounter, mut patient) = (false, false);
        self.object(
            |_, key| match key {
                "encounter" => Key::Encounter,
                "patient" => Key::Patient,
                _ => Key::Unknown,
            },
            |reader, key| match key {
                Key::Encounter if !std::mem::replace(&mut encounter, true) => {
                    let named = reader.subject()?.map(Subject::Encounter);
                    // The patient says more than the encounter, whichever comes first.
                    if reader.row.subject.is_none() {
                        reader.row.subject = named;
                    }
                    Ok(())
                }
                Key::Patient if !std::mem::replace(&mut patient, true) => {
                    let named = reader.subject()?.map(Subject::Patient);
                    reader.row.subject = named.or(reader.row.subject.take());
                    Ok(())
                }
                other => reader.unexpected(other, "encounter, patient"),
            },
        )
    }

    /// An opaque string; it is hashed with a key, and otherwise not looked at.
    fn subject(&mut self) -> Read<Option<Phi<String>>> {
        match self.json.peek()? {
            Peek::Null => self.json.known_null().map(|()| None),
            Peek::String => {
                let text = self.json.known_str()?;
                if text.len() > MAX_SUBJECT {
                    self.fault(Code::TooLong, None, &format!("at most {MAX_SUBJECT} bytes"));
                    return Ok(None);
                }
                Ok(Some(Phi::new(text.to_owned())))
            }
            _ => self.wrong_type(None, "an opaque string").map(|()| None),
        }
    }

    /// Walks an object: names each key, moves the pointer there, reads the value.
    fn object(
        &mut self,
        name: impl Fn(&ModelSpec, &str) -> Key,
        mut read: impl FnMut(&mut Self, Key) -> Read<()>,
    ) -> Read<()> {
        let mark = self.at.expose().len();
        let mut first = true;
        loop {
            let Self { json, row, at, .. } = self;
            let next = if first {
                json.known_object()?
            } else {
                json.next_key()?
            };
            let Some(text) = next else { return Ok(()) };
            first = false;
            let key = name(row.spec(), text);
            push_token(at.expose_mut(), text);
            read(self, key)?;
            self.ascend(mark);
        }
    }

    /// A key that is unknown, or known and given before.
    fn unexpected(&mut self, key: Key, expected: &str) -> Read<()> {
        if matches!(key, Key::Unknown) {
            self.fault(Code::UnknownField, None, expected);
            self.json.next_skip()
        } else {
            self.duplicate(None)
        }
    }

    fn duplicate(&mut self, feature: Option<usize>) -> Read<()> {
        self.fault(Code::DuplicateKey, feature, "one value a key");
        self.json.next_skip()
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the very number is what is tested")]
mod tests;
