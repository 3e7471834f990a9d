//! What a model's patients looked like when it was fitted, feature by feature: counts in bins.
//!
//! It is the member `drift` of `reference.json`. Every count is of at least as many patients as
//! the fit's `min_rows`, and edges lie between values, to four digits.

use serde::{Deserialize, Serialize};

use crate::{bundle::model::ModelSpec, screening::ReferenceError};

/// Most bins of a histogram.
pub const BINS: usize = 16;

/// The member as it is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawDrift {
    /// Rows that were looked at: those that the server would not reject.
    pub rows: u32,
    /// Of these, rows that a screen before the distribution screen sends to review.
    pub stopped: u32,
    /// In the model's order.
    pub features: Vec<RawHistogram>,
    /// Of the members' mean probability, on rows that no network was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<RawHistogram>,
}

/// Counts in bins.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawHistogram {
    /// What is counted.
    pub name: String,
    /// Between bins, ascending: a value on an edge is in the upper bin.
    pub edges: Vec<f32>,
    /// One more than edges.
    pub counts: Vec<u32>,
    /// Rows without this value.
    pub missing: u32,
}

/// A histogram that can be asked.
#[derive(Clone, Debug)]
pub struct Histogram {
    edges: Vec<f32>,
    /// Of measured values, by bin.
    pub(super) counts: Vec<f64>,
    /// Rows without the value.
    pub(super) missing: f64,
}

impl Histogram {
    fn new(raw: &RawHistogram) -> Result<Self, ReferenceError> {
        let wrong = |problem: &str| ReferenceError::invalid("drift", problem);
        let pairs = raw.edges.iter().zip(raw.edges.iter().skip(1));
        let ascending =
            raw.edges.iter().all(|e| e.is_finite()) && pairs.clone().all(|(a, b)| a < b);
        if !ascending || raw.counts.len() != raw.edges.len() + 1 || raw.counts.len() > 4 * BINS {
            return Err(wrong("edges must ascend, with one count more than edges"));
        }
        if raw.counts.iter().map(|&c| u64::from(c)).sum::<u64>() == 0 {
            return Err(wrong("a histogram of nothing"));
        }
        Ok(Self {
            edges: raw.edges.clone(),
            counts: raw.counts.iter().map(|&c| f64::from(c)).collect(),
            missing: f64::from(raw.missing),
        })
    }

    /// `bins` bins of equal probability between 0 and 1, where the distribution is known to be
    /// uniform: conformal p-values.
    pub(super) fn uniform(bins: u8, rows: f64) -> Self {
        let width = 1.0 / f32::from(bins);
        Self {
            edges: (1..bins).map(|i| f32::from(i) * width).collect(),
            counts: vec![rows / f64::from(bins); usize::from(bins)],
            missing: 0.0,
        }
    }

    /// The bin of a value.
    pub(super) fn bin(&self, value: f32) -> usize {
        self.edges.partition_point(|edge| *edge <= value)
    }

    /// How many values it is of.
    pub(super) fn total(&self) -> f64 {
        self.counts.iter().sum()
    }
}

/// The reference of a model.
#[derive(Clone, Debug)]
pub struct Reference {
    pub(super) rows: f64,
    pub(super) stopped: f64,
    pub(super) features: Vec<Histogram>,
    pub(super) probability: Option<Histogram>,
}

impl Reference {
    /// Checks what a bundle says.
    pub(crate) fn new(raw: &RawDrift, spec: &ModelSpec) -> Result<Self, ReferenceError> {
        let names = raw.features.iter().map(|h| h.name.as_str());
        if !names.eq(spec.features.iter().map(|f| f.name.as_str())) {
            let problem = "histograms of other features, or in another order";
            return Err(ReferenceError::invalid("drift", problem));
        }
        if raw.rows == 0 || raw.stopped > raw.rows {
            let problem = "more rows were stopped than looked at";
            return Err(ReferenceError::invalid("drift", problem));
        }
        Ok(Self {
            rows: f64::from(raw.rows),
            stopped: f64::from(raw.stopped),
            features: raw
                .features
                .iter()
                .map(Histogram::new)
                .collect::<Result<_, _>>()?,
            probability: raw.probability.as_ref().map(Histogram::new).transpose()?,
        })
    }
}

/// Counts `values` (NaN: missing) in at most [`BINS`] bins of about as many values each, none of
/// fewer than `least`.
#[cfg(feature = "tools")]
pub fn histogram(name: &str, values: &[f32], least: usize) -> RawHistogram {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_by(f32::total_cmp);
    let least = least.max(sorted.len() / BINS).max(1);
    let (mut edges, mut counts) = (Vec::new(), Vec::new());
    let (mut open, mut left) = (0, sorted.len());
    let mut runs = sorted.chunk_by(|a, b| a.total_cmp(b).is_eq()).peekable();
    while let Some(run) = runs.next() {
        open += run.len();
        left -= run.len();
        let here = run.first().copied().unwrap_or_default();
        let next = runs.peek().and_then(|run| run.first());
        // What is left must make a bin too.
        if let Some(next) = next.filter(|_| open >= least && left >= least) {
            let edge = between(here, *next);
            edges.push(edge);
            counts.push(open);
            open = 0;
        }
    }
    counts.push(open);
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    RawHistogram {
        name: name.to_owned(),
        edges,
        counts: counts.into_iter().map(number).collect(),
        missing: number(values.len() - sorted.len()),
    }
}

/// A number of few digits above `low` and at most `high`.
#[cfg(feature = "tools")]
fn between(low: f32, high: f32) -> f32 {
    let middle = f32::midpoint(low, high);
    let short = (3..9).find_map(|digits: usize| {
        let short: f32 = format!("{middle:.digits$e}").parse().ok()?;
        (low < short && short <= high).then_some(short)
    });
    short.unwrap_or(high)
}
