//! `model.json`: everything that changes clinical meaning, parsed once into a [`ModelSpec`]
//! whose invalid states do not exist.

use std::{collections::HashMap, sync::Arc};

use crate::{
    clinical::Rule,
    units::{DeclaredUnit, UnitError, round_to_step},
};

mod check;
mod format;
pub use format::{
    Agreement, Band, Degraded, Interval, Kind, MemberSpec, Missing, OnViolation, OutcomeSpec,
    OutputSpec, QueriesSpec, RawFeature, RawKnownAnswer, RawModel, RawRule, ReviewPolicy,
    ReviewSpec, StabilityPolicy, StabilitySpec, Uncertainty,
};

/// The largest number of features: they are tracked in 128-bit sets.
pub const MAX_FEATURES: usize = 128;

/// What is wrong with a `model.json`.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// Not JSON, or not of the schema.
    #[error("model.json: {0}")]
    Syntax(#[from] serde_json::Error),
    /// A `format` this server does not know.
    #[error("model.json: format {0} is not known, this server reads format 1")]
    Format(u32),
    /// A rule about one place was broken.
    #[error("model.json: {place}: {problem}")]
    Invalid {
        /// Where, in words.
        place: String,
        /// What was expected.
        problem: String,
    },
    /// A declared unit cannot be used.
    #[error("model.json: feature {feature}: unit {unit:?}: {source}")]
    Unit {
        /// The feature's name.
        feature: String,
        /// As declared.
        unit: String,
        /// Why.
        source: UnitError,
    },
}

fn invalid(place: impl Into<String>, problem: impl Into<String>) -> ModelError {
    ModelError::Invalid {
        place: place.into(),
        problem: problem.into(),
    }
}

/// A feature, ready for the request path.
#[derive(Debug)]
pub struct Feature {
    /// Key in requests.
    pub name: String,
    /// For people.
    pub title: String,
    /// The same in other languages, by their code.
    pub titles: HashMap<String, String>,
    /// What kind of number it is.
    pub kind: Kind,
    /// As declared, UCUM.
    pub unit: String,
    /// Converts what clients send.
    pub declared: DeclaredUnit,
    /// LOINC code.
    pub loinc: Option<String>,
    /// Outside: rejected.
    pub possible: Interval,
    /// Outside: review.
    pub expected: Interval,
    /// Measurement step in the declared unit.
    pub precision: Option<f64>,
    /// How far a measured value may be from the true one.
    pub uncertainty: Option<Uncertainty>,
    /// What a missing value means.
    pub missing: Missing,
}

impl Feature {
    /// Its title in this language, or the one that is always there.
    pub fn title_in(&self, language: &str) -> &str {
        self.titles.get(language).unwrap_or(&self.title)
    }
}

/// A known answer, ready for the engine.
#[derive(Debug)]
pub struct KnownAnswer {
    /// For messages.
    pub name: String,
    /// Model inputs.
    pub inputs: Vec<f32>,
    /// Expected probabilities, in the members' order.
    pub outputs: Vec<f32>,
    /// Largest accepted absolute difference.
    pub tolerance: f32,
}

/// A model's clinical meaning, checked. Made from verified bytes only by the bundle loader.
#[derive(Debug)]
pub struct ModelSpec {
    /// Name.
    pub name: String,
    /// Version.
    pub version: u32,
    /// For people.
    pub title: String,
    /// For people.
    pub intended_use: String,
    /// In input order.
    pub features: Vec<Feature>,
    /// Feature index by name.
    pub by_name: HashMap<String, usize>,
    /// Compiled consistency rules.
    pub rules: Vec<Rule>,
    /// The networks.
    pub members: Vec<MemberSpec>,
    /// Bound on disagreement.
    pub agreement: Option<Agreement>,
    /// What happens to a prediction that hangs on measurement uncertainty.
    pub stability: StabilitySpec,
    /// What is predicted.
    pub outcome: OutcomeSpec,
    /// Output hardening.
    pub output: OutputSpec,
    /// Review policy.
    pub review: ReviewSpec,
    /// What honest use looks like.
    pub queries: QueriesSpec,
    /// Checked at load.
    pub known_answers: Vec<KnownAnswer>,
}

impl ModelSpec {
    /// Parses and checks the bytes of a `model.json`.
    pub fn parse(bytes: &[u8]) -> Result<Arc<Self>, ModelError> {
        let raw: RawModel = serde_json::from_slice(bytes)?;
        if raw.format != 1 {
            return Err(ModelError::Format(raw.format));
        }
        check::identifier("name", &raw.name, '-')?;
        if raw.version == 0 {
            return Err(invalid("version", "starts at 1"));
        }
        for (place, text) in check::texts(&raw) {
            if text.trim().is_empty() || text.chars().any(char::is_control) {
                return Err(invalid(place, "must be text of one line"));
            }
        }
        let (features, by_name) = check::features(raw.features)?;
        let rules = check::rules(raw.consistency, &features, &by_name)?;
        check::members(&raw.members, raw.agreement)?;
        check::outcome(&raw.outcome, raw.output)?;
        if !(raw.review.budget > 0.0 && raw.review.budget <= 0.5) {
            return Err(invalid(
                "review.budget",
                "must lie above 0 and be at most 0.5",
            ));
        }
        check::queries(raw.queries)?;
        let known_answers = check::known_answers(raw.known_answers, features.len(), &raw.members)?;
        Ok(Arc::new(Self {
            name: raw.name,
            version: raw.version,
            title: raw.title,
            intended_use: raw.intended_use,
            features,
            by_name,
            rules,
            members: raw.members,
            agreement: raw.agreement,
            stability: raw.stability,
            outcome: raw.outcome,
            output: raw.output,
            review: raw.review,
            queries: raw.queries,
            known_answers,
        }))
    }

    /// The fewest members that must give an output.
    pub fn quorum(&self) -> usize {
        let declared = self.agreement.and_then(|agreement| agreement.quorum);
        declared.map_or(self.members.len(), |quorum| quorum as usize)
    }

    /// A probability as it is released, and the index of its band. The band is read off the
    /// released one: edges lie between two released values, so it tells nothing more.
    pub fn harden(&self, probability: f64) -> (f64, usize) {
        let released = round_to_step(probability, self.output.precision).value;
        let bands = &self.outcome.bands;
        let band = bands
            .iter()
            .position(|b| b.below.is_none_or(|edge| released < edge))
            .unwrap_or(bands.len().saturating_sub(1));
        (released, band)
    }

    /// The message of the rule at this index, in this language if the bundle has it.
    pub(crate) fn rule_message(&self, index: usize, language: &str) -> &str {
        let rule = self.rules.get(index);
        rule.map_or("", |rule| rule.message(language))
    }

    /// Name of the band at this index.
    pub fn band(&self, index: usize) -> &str {
        let band = self.outcome.bands.get(index);
        band.map_or("", |band| band.name.as_str())
    }

    /// Names of the features at these indices.
    pub fn names<'a>(&'a self, indices: &'a [usize]) -> impl Iterator<Item = &'a str> {
        indices
            .iter()
            .filter_map(|&i| self.features.get(i))
            .map(|f| f.name.as_str())
    }
}
