//! What an evaluation found.

use std::fmt;

use serde::Serialize;

use super::{
    burden::{Budget, Stratum},
    detection::Figures,
    flags::FalseFlags,
    latency::Latency,
    metrics::Calibration,
    text,
};

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Version of this format: 1.
    pub format: u32,
    /// The program and its version.
    pub tool: String,
    /// The bundle.
    pub model: Identity,
    /// The rows.
    pub data: Data,
    /// Seed of everything random.
    pub seed: u64,
    /// The share of patients that the screen may flag; absent without a fitted distribution.
    pub alpha: Option<f64>,
    /// How the distribution was fitted, as the reference records it.
    pub fit: Option<serde_json::Value>,
    /// What to know before reading the figures.
    pub notes: Vec<String>,
    /// By family; empty without a fitted distribution.
    pub families: Vec<Figures>,
    /// Over families.
    pub mean: Option<Means>,
    /// The second file's rows.
    pub other: Option<Figures>,
    /// False flags among the rows with nothing missing.
    pub false_flags: Vec<FalseFlags>,
    /// Who is rejected or sent to review.
    pub burden: Vec<Stratum>,
    /// The same beside what the bundle allows.
    pub budget: Option<Budget>,
    /// The model's probability, on every row that could be scored.
    pub calibration: Option<Calibration>,
    /// The same on rows that are answered with a prediction.
    pub calibration_released: Option<Calibration>,
    /// Each network alone: its name and its figures.
    pub members: Vec<(String, Calibration)>,
    /// How long it takes.
    pub latency: Latency,
}

/// Which bundle.
#[derive(Debug, Serialize)]
pub struct Identity {
    /// Name.
    pub name: String,
    /// Version.
    pub version: u32,
    /// Title, for people.
    pub title: String,
    /// Root digest.
    pub digest: String,
    /// What it predicts.
    pub outcome: String,
}

/// Which rows.
#[derive(Debug, Serialize)]
pub struct Data {
    /// SHA-256 of the file, hex.
    pub sha256: String,
    /// Rows.
    pub rows: usize,
    /// Of these, without a value that the model requires; nothing else is counted of them, and
    /// the burden is of the others.
    pub incomplete: usize,
    /// With a known outcome.
    pub labelled: usize,
    /// SHA-256 of the second file.
    pub other_sha256: Option<String>,
}

/// Means over families.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Means {
    /// Families of which 100 copies reached the screen and that fitting has not seen as such (not
    /// made by templates).
    pub families: usize,
    /// Of the combined score.
    pub auroc: f64,
    /// At 95% true positives.
    pub fpr_at_95_tpr: f64,
    /// At the bundle's alpha.
    pub detected: f64,
    /// At a threshold set on the clean rows at 1%.
    pub detected_at_exact_1_percent: f64,
}

impl Report {
    /// As JSON.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// What is measured of the model: the mean of its networks, the same on the rows that are
    /// answered, and each network.
    pub(super) fn models(&self) -> impl Iterator<Item = (&str, &Calibration)> {
        let mean = self.calibration.iter().map(|c| ("mean of the networks", c));
        let answered = &self.calibration_released;
        let answered = answered.iter().map(|c| ("the same, on rows answered", c));
        let members = self.members.iter().map(|(name, c)| (name.as_str(), c));
        mean.chain(answered).chain(members)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::report(self))
    }
}
