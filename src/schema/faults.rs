//! What a body did wrong: faults, their pointers, and what was expected instead.

use std::sync::Arc;

use jiter::{JiterError, JiterErrorType, JsonErrorType};

use super::{Read, Reader};
use crate::{
    bundle::model::{Feature, Kind, Missing},
    disposition::{Code, InputFault},
    phi::Phi,
};

/// Faults reported at most: a hostile body must not make a large answer.
pub(super) const MAX_FAULTS: usize = 64;

impl Reader<'_> {
    pub(super) fn wrong_type(&mut self, feature: Option<usize>, expected: &str) -> Read<()> {
        // Skip first: a syntax error inside is the better message, and comes by itself.
        self.json.next_skip()?;
        self.fault(Code::WrongType, feature, expected);
        Ok(())
    }

    pub(super) fn require_all(&mut self) {
        let spec = Arc::clone(self.row.spec());
        for (index, feature) in spec.features.iter().enumerate() {
            let missing = self.row.values().get(index).is_none_or(|v| v.is_nan());
            // A value that was sent and is faulty has its own fault already.
            if !missing || self.faults.iter().any(|f| f.feature == Some(index)) {
                continue;
            }
            match feature.missing {
                Missing::Impute(value) => {
                    self.row.imputed.insert(index);
                    self.row.set(index, value);
                }
                Missing::Reject => {
                    let at = self.at.expose_mut();
                    at.clear();
                    at.push_str("/observations/");
                    at.push_str(&feature.name);
                    self.fault(Code::MissingValue, Some(index), &expected_type(feature));
                }
            }
        }
    }

    pub(super) fn broken(&mut self, error: &JiterError) {
        let position = self.json.error_position(error.index);
        let (code, what) = match &error.error_type {
            JiterErrorType::JsonError(JsonErrorType::RecursionLimitExceeded) => {
                (Code::TooDeep, "nested too deeply".to_owned())
            }
            // Of the library's messages only this one would repeat the caller's text.
            JiterErrorType::JsonError(JsonErrorType::DuplicateKey(_)) => {
                (Code::DuplicateKey, "duplicate key".to_owned())
            }
            other @ (JiterErrorType::JsonError(_) | JiterErrorType::WrongType { .. }) => {
                (Code::MalformedJson, other.to_string())
            }
        };
        let expected = format!(
            "JSON; {what} at line {} column {}",
            position.line, position.column
        );
        self.fault(code, None, &expected);
    }

    pub(super) fn not_utf8(&mut self, offset: usize) {
        self.fault(Code::NotUtf8, None, &format!("UTF-8; byte {offset} is not"));
    }

    pub(super) fn fault(&mut self, code: Code, feature: Option<usize>, expected: &str) {
        if self.faults.len() >= MAX_FAULTS {
            // What ends the reading decides the status, so it is never the one left out.
            if code.status() != 400 {
                return;
            }
            self.faults.truncate(MAX_FAULTS - 1);
        }
        self.faults.push(InputFault {
            code,
            pointer: Phi::new(self.at.expose().clone()),
            feature,
            expected: expected.to_owned(),
        });
    }

    pub(super) fn expected(&self, index: usize) -> String {
        let feature = self.row.spec().features.get(index);
        feature.map(expected_type).unwrap_or_default()
    }

    pub(super) fn descend(&mut self, token: &str) -> usize {
        let mark = self.at.expose().len();
        push_token(self.at.expose_mut(), token);
        mark
    }

    pub(super) fn ascend(&mut self, mark: usize) {
        self.at.expose_mut().truncate(mark);
    }
}

/// RFC 6901 section 3: `~` and `/` are escaped; a hostile key is cut to a bounded length.
pub(super) fn push_token(pointer: &mut String, token: &str) {
    pointer.push('/');
    for c in token.chars().take(64) {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            other => pointer.push(other),
        }
    }
}

pub(super) fn expected_type(feature: &Feature) -> String {
    let null = match feature.missing {
        Missing::Reject => "",
        Missing::Impute(_) => ", or null when not measured",
    };
    match feature.kind {
        Kind::Quantity => format!("a number in {}{null}", feature.unit),
        Kind::Ordinal => format!("a whole number{null}"),
        Kind::Boolean => format!("true or false (or 1 or 0){null}"),
    }
}
