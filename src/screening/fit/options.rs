//! How to fit, and why nothing was fitted.

use crate::screening::ReferenceError;

/// How good a fit is wanted, and so how long it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Seconds; to see whether everything works.
    Quick,
    /// One network.
    Standard,
    /// Four networks, distilled into one.
    Best,
}

/// What a [`Quality`] means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) teachers: u64,
    pub(super) epochs: u64,
    pub(super) student_epochs: u64,
}

impl Quality {
    /// As the command line and the record write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Best => "best",
        }
    }

    pub(super) fn settings(self) -> Settings {
        match self {
            Self::Quick => Settings {
                teachers: 1,
                epochs: 12,
                student_epochs: 0,
            },
            Self::Standard => Settings {
                teachers: 1,
                epochs: 300,
                student_epochs: 0,
            },
            Self::Best => Settings {
                teachers: 4,
                epochs: 250,
                student_epochs: 600,
            },
        }
    }
}

/// How to fit.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of everything random.
    pub seed: u64,
    /// The share of patients like these that may be flagged.
    pub alpha: f64,
    /// Time for quality.
    pub quality: Quality,
    /// Whether the network also learns unit errors, decimal slips and swapped fields.
    pub templates: bool,
    /// The share of patients kept aside for calibration.
    pub calibration_share: f64,
    /// Every number that is written is of at least so many patients.
    pub min_rows: usize,
    /// How many values of a row the server fills in at most.
    pub max_missing: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            alpha: 0.01,
            quality: Quality::Standard,
            templates: false,
            calibration_share: 0.2,
            min_rows: 5,
            max_missing: 0,
        }
    }
}

/// Told how far a fit is.
pub trait Progress {
    /// So many steps will be taken.
    fn start(&self, steps: u64);
    /// So many more were taken.
    fn advance(&self, steps: u64);
}

/// Nobody watches.
impl Progress for () {
    fn start(&self, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// Why nothing was fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Too few patients for what is to be estimated.
    #[error("{found} patients to {what}, at least {least} are needed")]
    TooFew {
        /// What for.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there must be.
        least: usize,
    },
    /// A row of another width.
    #[error("a row has {found} values, the model has {expected} features")]
    Width {
        /// Features of the model.
        expected: usize,
        /// Values in the row.
        found: usize,
    },
    /// A feature without values.
    #[error("{feature}: too few values are measured, at least {least} are needed")]
    Unmeasured {
        /// Which.
        feature: String,
        /// How many there must be.
        least: usize,
    },
    /// An estimate that cannot be computed.
    #[error("the {0} of these rows cannot be estimated: do features depend on each other exactly?")]
    Degenerate(&'static str),
    /// What was fitted would not be accepted.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}
