//! What somebody who overrides a review says: the review's token, and why.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::token::{BYTES, Token};

/// Why a person lets a prediction leave for an input that a screen flagged. Codes are stable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OverrideReason {
    /// Looked at the values named; they are this patient's, as measured.
    ConfirmedByClinician,
    /// Measured again, with the same result.
    ConfirmedByRepeatMeasurement,
    /// A known condition or treatment explains what is unusual.
    ExplainedByCondition,
    /// What is missing cannot be had now.
    ValueNotObtainable,
}

impl OverrideReason {
    /// Every one, in the order in which answers list them.
    pub const ALL: [Self; 4] = [
        Self::ConfirmedByClinician,
        Self::ConfirmedByRepeatMeasurement,
        Self::ExplainedByCondition,
        Self::ValueNotObtainable,
    ];

    /// As requests, answers and audit records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfirmedByClinician => "CONFIRMED_BY_CLINICIAN",
            Self::ConfirmedByRepeatMeasurement => "CONFIRMED_BY_REPEAT_MEASUREMENT",
            Self::ExplainedByCondition => "EXPLAINED_BY_CONDITION",
            Self::ValueNotObtainable => "VALUE_NOT_OBTAINABLE",
        }
    }

    /// The reason of this code.
    pub fn of(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.as_str() == code)
    }

    /// Every code, for messages.
    pub fn codes() -> String {
        Self::ALL.map(Self::as_str).join(", ")
    }
}

/// A request to override, as read from a body; nothing of it has been checked.
#[derive(Debug)]
pub struct Claim {
    /// None when the text is no token of ours.
    pub(super) token: Option<Token>,
    /// Why.
    pub reason: OverrideReason,
}

impl Claim {
    /// Takes a token's text as it was sent.
    pub(crate) fn new(token: &str, reason: OverrideReason) -> Self {
        let mut bytes = [0; BYTES];
        let length = URL_SAFE_NO_PAD.decode_slice(token, &mut bytes).ok();
        Self {
            token: length.filter(|&n| n == BYTES).map(|_| Token::of(bytes)),
            reason,
        }
    }
}
