//! Why a change was made, in the words of who made it.

use serde::{Deserialize, Serialize};

/// Fewest characters that can say anything.
const SHORTEST: usize = 3;
/// It goes into every record of the change; longer explanations belong in the incident's file.
const LONGEST: usize = 200;

/// A short text for the audit log: 3 to 200 characters of ASCII letters, digits, space and
/// `.,:;()/#@+-_`. Narrow enough that it cannot act on whatever shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reason(String);

impl Reason {
    /// Takes a text that is fit to be recorded.
    pub fn new(text: &str) -> Result<Self, UnfitReason> {
        let plain = |c: char| c.is_ascii_alphanumeric() || " .,:;()/#@+-_".contains(c);
        let told = text.trim().len() >= SHORTEST && text.len() <= LONGEST;
        if told && text.trim() == text && text.chars().all(plain) {
            Ok(Self(text.to_owned()))
        } else {
            Err(UnfitReason)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The text is too short, too long, padded, or has other characters. It is not repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a reason has 3 to 200 characters, of ASCII letters, digits, space and .,:;()/#@+-_, and no space around it"
)]
pub struct UnfitReason;

impl TryFrom<String> for Reason {
    type Error = UnfitReason;

    fn try_from(text: String) -> Result<Self, UnfitReason> {
        Self::new(&text)
    }
}

impl From<Reason> for String {
    fn from(reason: Reason) -> Self {
        reason.0
    }
}
