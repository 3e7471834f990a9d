//! What becomes of a caller whose queries look like probing, step by step.

use super::verdict::Detail;

/// A strike is forgotten in so many seconds.
pub const DECAY_SECONDS: u64 = 3600;
/// Strikes from which on each step is taken.
const SLOW_DOWN: f64 = 0.5;
const BANDS_ONLY: f64 = 3.5;
const REVIEW: f64 = 7.5;
const QUARANTINE: f64 = 15.5;

/// How far the automatic response is. Each step fades by itself, and operators can undo it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// Nothing speaks against the caller.
    #[default]
    None,
    /// New rows are answered one in ten seconds; more near-duplicates are refused.
    SlowDown,
    /// Answers have bands and no probabilities.
    BandsOnly,
    /// Every row goes to a person.
    Review,
    /// Nothing about the model is answered.
    Quarantine,
}

impl Step {
    /// Every step.
    pub const ALL: [Self; 5] = [
        Self::None,
        Self::SlowDown,
        Self::BandsOnly,
        Self::Review,
        Self::Quarantine,
    ];

    /// After so many strikes.
    pub fn at(strikes: f64) -> Self {
        match strikes {
            s if s >= QUARANTINE => Self::Quarantine,
            s if s >= REVIEW => Self::Review,
            s if s >= BANDS_ONLY => Self::BandsOnly,
            s if s >= SLOW_DOWN => Self::SlowDown,
            _ => Self::None,
        }
    }

    /// As records, metrics and the admin plane write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::SlowDown => "slow-down",
            Self::BandsOnly => "bands-only",
            Self::Review => "review",
            Self::Quarantine => "quarantine",
        }
    }

    /// How much an answer may tell; a quarantined caller gets none.
    pub(super) fn detail(self) -> Detail {
        match self {
            Self::None | Self::SlowDown => Detail::Full,
            Self::BandsOnly => Detail::Band,
            Self::Review | Self::Quarantine => Detail::Withheld,
        }
    }
}
