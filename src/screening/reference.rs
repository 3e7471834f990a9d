//! `reference.json`, format 2: what was fitted to the model's patients, as aggregates only.
//!
//! What these types cannot say, [`super::Screen::new`] checks.

use serde::{Deserialize, Serialize};

use crate::drift::reference::RawDrift;

/// The format that this server reads.
pub const FORMAT: u32 = 2;

/// The largest `reference.json` that is read, in bytes.
pub const MAX_BYTES: usize = 16 << 20;

/// `reference.json` as it is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawReference {
    /// Version of this format: 2.
    pub format: u32,
    /// The model's name.
    pub name: String,
    /// The model's version.
    pub version: u32,
    /// How it was fitted.
    pub fit: FitRecord,
    /// The features in the model's order, each with its map to normal scores.
    pub features: Vec<RawMarginal>,
    /// All scores together, as one normal distribution.
    pub gaussian: RawGaussian,
    /// All scores together, as a mixture of normal distributions.
    pub mixture: Vec<RawComponent>,
    /// The network that tells replaced values from a patient's own, layer by layer.
    pub network: Vec<RawLayer>,
    /// Typical patients: each the mean of several.
    pub prototypes: RawPrototypes,
    /// What the scores of patients who were kept aside look like.
    pub calibration: RawCalibration,
    /// How far the networks disagreed about patients whom they had not seen; absent when `fit`
    /// had no networks to ask, or one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agreement: Option<RawAgreement>,
    /// Which pushes show that a prediction hangs on measurement uncertainty; absent when `fit` had no
    /// networks to ask, or no feature declares an uncertainty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stability: Option<RawStability>,
    /// How the share of patients that a person may have to look at was divided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub budget: Option<RawBudget>,
    /// The features one by one, for those who watch whether the patients change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<RawDrift>,
}

/// Patterns of signs, fitted to patients near the edge of a band.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawStability {
    /// The most useful first.
    pub pushes: Vec<RawPush>,
}

/// One pattern, and for whom it is tried.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawPush {
    /// One of -1, 0, 1 a feature: times its declared uncertainty.
    pub signs: Vec<i8>,
    /// How far above a prediction the edge of a band may be, in logits; 0 if it moves nobody up.
    pub up: f64,
    /// The same below.
    pub down: f64,
}

/// The members' disagreement about patients kept aside.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawAgreement {
    /// The share of patients like these that may be flagged.
    pub alpha: f64,
    /// Largest accepted difference between two members' logits.
    pub bound: f64,
    /// The patients' differences, ascending.
    pub calibration: Vec<f32>,
}

/// Shares of in-distribution patients.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawBudget {
    /// Rejected or sent to review by all screens together, at most: the bundle's
    /// `review.budget`.
    pub total: f64,
    /// Stopped by a range, as measured on the rows that have every required value.
    pub ranges: f64,
    /// Stopped by a consistency rule and nothing before it, as measured.
    pub consistency: f64,
    /// Stopped for too many missing values only, as measured.
    pub missing: f64,
    /// Given to the distribution screen: its alpha.
    pub distribution: f64,
    /// Given to the agreement of the networks: its alpha.
    pub agreement: f64,
    /// Given to nobody.
    pub reserve: f64,
}

/// How a reference was fitted: enough to do it again with the same rows.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FitRecord {
    /// The program and its version.
    pub tool: String,
    /// Seed of everything random.
    pub seed: u64,
    /// Name of the quality setting.
    pub quality: String,
    /// Whether unit errors, slips and swaps were among what the network was trained on.
    pub templates: bool,
    /// SHA-256 of each file of rows, in the order given.
    pub data: Vec<DataDigest>,
    /// The file of patients whom the networks were not trained on, when one was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unseen: Option<DataDigest>,
    /// Rows that the distribution was fitted to.
    pub fit_rows: usize,
    /// Patients (or other groups of rows) among them.
    pub fit_groups: usize,
    /// Rows that calibrated it, none of a patient it was fitted to.
    pub calibration_rows: usize,
    /// Rows left out because another screen would stop them.
    pub screened_out: usize,
    /// Every number here is of at least so many patients.
    pub min_rows: usize,
    /// What was found when the files were looked at for signs of tampering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<DataValidation>,
}

/// What looking for signs of tampering came to.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataValidation {
    /// Hex SHA-256 of the report.
    pub report_sha256: String,
    /// The questions that found something; fitting went on knowingly.
    pub found: Vec<String>,
    /// Rows of the first file with a known outcome.
    pub labelled: usize,
    /// Of these, rows in which it occurred.
    pub positive: usize,
}

/// A file of rows.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DataDigest {
    /// Hex SHA-256.
    pub sha256: String,
    /// Rows in it.
    pub rows: usize,
}

/// One feature's map to normal scores.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawMarginal {
    /// The feature's name.
    pub name: String,
    /// `[value, score]`, ascending, at most 65.
    pub knots: Vec<(f32, f32)>,
}

/// A normal distribution.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawGaussian {
    /// Mean.
    pub mean: Vec<f32>,
    /// Inverse covariance.
    pub precision: Vec<Vec<f32>>,
}

/// A component of a mixture.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawComponent {
    /// Logarithm of the density at the mean, weight included.
    pub log_peak: f32,
    /// Mean.
    pub mean: Vec<f32>,
    /// Inverse covariance.
    pub precision: Vec<Vec<f32>>,
}

/// A layer of a network; all but the last are followed by max(0, x).
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawLayer {
    /// One row an output.
    pub weights: Vec<Vec<f32>>,
    /// One number an output.
    pub bias: Vec<f32>,
}

/// Typical patients in whitened scores.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawPrototypes {
    /// Turns scores less their mean into whitened ones.
    pub whitening: Vec<Vec<f32>>,
    /// Means of the whitened scores of several patients each.
    pub centroids: Vec<Vec<f32>>,
}

/// The distribution of the scores of patients kept aside.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawCalibration {
    /// The share of patients like these that may be flagged.
    pub alpha: f64,
    /// Weight of the most surprising value beside the network's, whose weight is 1.
    pub blend: f32,
    /// Shares of `alpha`: of the network with the surprise, of the density, of the prototypes;
    /// they sum to 1.
    pub shares: Vec<f32>,
    /// By how many values are missing, from none upwards; the last stands for more.
    pub strata: Vec<RawStratum>,
}

/// Patients with the same number of missing values.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawStratum {
    /// How many values are missing.
    pub missing: u32,
    /// Whether values were hidden to make it, since too few patients lacked them.
    pub masked: bool,
    /// For each channel `[score, -ln p]`, ascending.
    pub surprisal: Vec<Vec<(f32, f32)>>,
    /// The patients' combined scores, ascending.
    pub scores: Vec<f32>,
}

/// Why a `reference.json` is not used.
#[derive(Debug, thiserror::Error)]
pub enum ReferenceError {
    /// Not JSON, or not of the format.
    #[error("reference.json: {0}")]
    Syntax(#[from] serde_json::Error),
    /// Larger than [`MAX_BYTES`].
    #[error("reference.json: larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// A `format` this server does not know.
    #[error("reference.json: format {0} is not known, this server reads formats 1 and {FORMAT}")]
    Format(u32),
    /// Fitted for something else.
    #[error("reference.json: {0}")]
    OtherModel(String),
    /// A rule about one place was broken.
    #[error("reference.json: {place}: {problem}")]
    Invalid {
        /// Where.
        place: &'static str,
        /// What was expected.
        problem: String,
    },
}

impl ReferenceError {
    pub(crate) fn invalid(place: &'static str, problem: &str) -> Self {
        Self::Invalid {
            place,
            problem: problem.to_owned(),
        }
    }
}
