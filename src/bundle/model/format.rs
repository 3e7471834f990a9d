//! `model.json` as it is written, format 1. What these types cannot say, [`super::ModelSpec`]
//! checks.

use std::collections::HashMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `model.json` as written, format 1. Unknown fields are denied everywhere.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "model.json of a vitalgate bundle, format 1")]
pub struct RawModel {
    /// Version of this format: 1.
    pub format: u32,
    /// Lower-case letters, digits and `-`, at most 64.
    pub name: String,
    /// From 1; equals the version directory of the repository.
    pub version: u32,
    /// For people.
    pub title: String,
    /// One or two plain sentences, limits included.
    pub intended_use: String,
    /// In the order of the networks' input columns.
    pub features: Vec<RawFeature>,
    /// CEL rules over the features.
    #[serde(default)]
    pub consistency: Vec<RawRule>,
    /// The networks; an ensemble when more than one.
    pub members: Vec<MemberSpec>,
    /// Conformal bound on the members' disagreement; required with more than one member.
    pub agreement: Option<Agreement>,
    /// What happens to a prediction that hangs on measurement uncertainty.
    #[serde(default)]
    pub stability: StabilitySpec,
    /// What is predicted, and its bands.
    pub outcome: OutcomeSpec,
    /// How far outputs are hardened.
    pub output: OutputSpec,
    /// What happens when a screen asks for a person.
    pub review: ReviewSpec,
    /// What honest use of the model looks like, to be told from probing.
    #[serde(default)]
    pub queries: QueriesSpec,
    /// Checked on the declared provider at load; synthetic patients only.
    pub known_answers: Vec<RawKnownAnswer>,
}

/// An input of the model, as written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawFeature {
    /// Lower-case letters, digits and `_`: the key in requests and the variable in rules.
    pub name: String,
    /// For people.
    pub title: String,
    /// The same in other languages, by their code (`de`); those that answers speak are used.
    #[serde(default)]
    pub titles: HashMap<String, String>,
    /// What kind of number it is.
    pub kind: Kind,
    /// UCUM; `1` for dimensionless.
    pub unit: String,
    /// LOINC code of the observation.
    pub loinc: Option<String>,
    /// Outside: no living patient, no instrument; rejected.
    pub possible: Interval,
    /// Outside: review.
    pub expected: Interval,
    /// Measurement step in `unit`; absent for derived values, which are not rounded.
    pub precision: Option<f64>,
    /// How far a measured value may be from the true one; absent where it is exact, or where nobody
    /// knows.
    pub uncertainty: Option<Uncertainty>,
    /// What a missing value means.
    pub missing: Missing,
    /// g/mol; allows conversion between mass and amount of substance.
    pub molar_mass: Option<f64>,
    /// Charge number; allows conversion between meq and mmol.
    pub valence: Option<u32>,
}

/// What kind of number a feature is.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A measured quantity.
    Quantity,
    /// A whole number, such as a score.
    Ordinal,
    /// `true`/`false` or 1/0.
    Boolean,
}

/// A closed interval in the feature's declared unit.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Interval {
    /// Lowest value inside.
    pub min: f64,
    /// Highest value inside.
    pub max: f64,
}

impl Interval {
    /// Whether `value` lies inside; NaN does not.
    pub fn contains(&self, value: f64) -> bool {
        self.min <= value && value <= self.max
    }

    /// Whether `value` lies inside, but for what a conversion of units or a float32 may add.
    pub fn contains_nearly(&self, value: f64) -> bool {
        let slack = value.abs() * f64::from(f32::EPSILON);
        self.min - slack <= value && value <= self.max + slack
    }
}

/// What a missing value means.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
pub enum Missing {
    /// The request is rejected.
    Reject,
    /// This value is used in its stead, and the answer says so.
    Impute(f64),
}

/// A consistency rule, as written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRule {
    /// Stable name.
    pub id: String,
    /// CEL; true means consistent. Every feature is a double. Skipped when one is missing.
    pub rule: String,
    /// What a violation leads to.
    pub on_violation: OnViolation,
    /// The features to look at, most suspect first.
    pub features: Vec<String>,
    /// Plain words for a clinician.
    pub message: String,
    /// The same in other languages, by their code (`de`).
    #[serde(default)]
    pub messages: HashMap<String, String>,
}

/// What the violation of a consistency rule leads to.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum OnViolation {
    /// The combination is implausible: a person looks.
    Review,
    /// The combination cannot be.
    Reject,
}

/// A network of the model: float32 `[N, features]` to float32 `[N, 1]` or `[N]`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemberSpec {
    /// Stable name.
    pub name: String,
    /// Path inside the bundle.
    pub file: String,
    /// Name of the input tensor.
    pub input: String,
    /// Name of the output tensor: the probability of the outcome.
    pub output: String,
}

/// Conformal bound on disagreement.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// Largest accepted difference between the members' logits.
    pub max_logit_spread: f64,
    /// Share of in-distribution patients that the bound flags.
    pub alpha: f64,
    /// The fewest members that must give an output; all of them when absent. With fewer there is
    /// no prediction.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quorum: Option<u32>,
    /// What happens when some members gave no output, and a quorum did.
    #[serde(default)]
    pub degraded: Degraded,
}

/// What happens when some members gave no output, and a quorum did.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Degraded {
    /// A person looks.
    #[default]
    Review,
    /// The others' mean is released, and the answer says who was lost.
    Annotate,
}

/// What happens when a prediction would be in another band within measurement uncertainty.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum StabilityPolicy {
    /// The answer says so, with the range of bands.
    #[default]
    Annotate,
    /// A person looks.
    Review,
    /// Nobody asks.
    Off,
}

/// Decision stability.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StabilitySpec {
    /// What an unstable prediction leads to.
    pub policy: StabilityPolicy,
}

/// How far a measured value may be from the true one: its standard uncertainty (GUM, JCGM 100),
/// the larger of both where both are given.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uncertainty {
    /// In the feature's declared unit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absolute: Option<f64>,
    /// Of the value: 0.02 is 2 %.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relative: Option<f64>,
    /// Where the figure comes from.
    pub source: String,
}

impl Uncertainty {
    /// At this value, in the feature's declared unit.
    pub fn at(&self, value: f64) -> f64 {
        let relative = self.relative.unwrap_or_default() * value.abs();
        self.absolute.unwrap_or_default().max(relative)
    }
}

/// What is predicted.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutcomeSpec {
    /// The event whose probability is predicted.
    pub name: String,
    /// Ascending; the last has no `below`.
    pub bands: Vec<Band>,
}

/// A band of probability.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// For people.
    pub name: String,
    /// Exclusive upper edge; absent for the last band.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub below: Option<f64>,
}

/// Output hardening.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OutputSpec {
    /// The released probability is rounded to this step.
    pub precision: f64,
}

/// Review policy.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewSpec {
    /// Whether a flagged input's prediction is released.
    pub policy: ReviewPolicy,
    /// More missing values than this lead to review.
    pub max_missing: u32,
    /// The share of patients like the model's own that all screens together may reject or send
    /// to review; `fit` divides it among them.
    #[serde(default = "usual_budget")]
    pub budget: f64,
}

fn usual_budget() -> f64 {
    0.05
}

/// What honest use of the model looks like.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct QueriesSpec {
    /// Hours between two scorings of the same patient: so many rows that differ little are
    /// expected of each. At least .1, at most 24.
    pub rescoring_hours: f64,
    /// The share of honest rows that some screen flags or rejects. Above 0, at most .2.
    pub review_rate: f64,
}

impl Default for QueriesSpec {
    fn default() -> Self {
        Self {
            rescoring_hours: 2.0,
            review_rate: 0.02,
        }
    }
}

/// Whether a flagged input's prediction is released.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum ReviewPolicy {
    /// No prediction leaves.
    Withhold,
    /// The prediction is attached to the review.
    Attach,
}

/// A known answer, as written.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawKnownAnswer {
    /// For messages.
    pub name: String,
    /// One value a feature, in order, in declared units.
    pub inputs: Vec<f64>,
    /// Expected probability by member name.
    pub outputs: HashMap<String, f64>,
    /// Largest accepted absolute difference.
    pub tolerance: f64,
}
