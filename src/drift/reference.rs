//! What a model's patients looked like when it was fitted, feature by feature: counts in bins.
//!
//! It is the member `drift` of `reference.json`. Every count is of at least as many patients as
//! the fit's `min_rows`, and edges lie between values, to four digits.

use serde::{Deserialize, Serialize};

use super::population::Population;
use crate::{bundle::model::ModelSpec, screening::ReferenceError};

/// Most bins of a histogram.
pub const BINS: usize = 16;

/// The member as it is written.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RawDrift {
    /// Rows that were looked at: one of each patient, of those that the server would not reject.
    pub rows: u32,
    /// Of these, rows that a screen before the distribution screen sends to review.
    pub stopped: u32,
    /// In the model's order.
    pub features: Vec<RawHistogram>,
    /// Of the members' mean probability, on rows that no network was trained on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<RawHistogram>,
    /// Of the features' ridits (a value's bin as its place in the reference, −½ to ½, 0 when it is
    /// missing): row `i` has the correlations of feature `i` with those before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation: Option<Vec<Vec<f32>>>,
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

    /// Between bins, ascending.
    pub(super) fn edges(&self) -> &[f32] {
        &self.edges
    }

    /// The bin of a value.
    pub(super) fn bin(&self, value: f32) -> usize {
        self.edges.partition_point(|edge| *edge <= value)
    }

    /// Places of the bins in the distribution: the share below and half of the bin's own, less ½,
    /// so that their mean is 0.
    pub(super) fn ridits(&self) -> Vec<f64> {
        let (total, mut below) = (self.total(), 0.0);
        let counts = self.counts.iter();
        counts
            .map(|count| {
                let share = count / total;
                below += share;
                below - share / 2.0 - 0.5
            })
            .collect()
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
    pub(super) population: Option<Population>,
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
        let features = raw.features.iter().map(Histogram::new);
        let features = features.collect::<Result<Vec<_>, _>>()?;
        let rows = f64::from(raw.rows);
        let population = raw.correlation.as_ref().map(|correlation| {
            let problem = "correlation is not that of the features";
            Population::new(&features, correlation, rows)
                .ok_or_else(|| ReferenceError::invalid("drift", problem))
        });
        Ok(Self {
            rows,
            stopped: f64::from(raw.stopped),
            population: population.transpose()?,
            features,
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

/// How the features' ridits go together, over rows of values in the features' order (NaN:
/// missing): the member `correlation`, to four digits.
#[cfg(feature = "tools")]
pub fn correlation<'r>(
    features: &[RawHistogram],
    rows: impl Iterator<Item = &'r [f64]>,
) -> Option<Vec<Vec<f32>>> {
    let histograms: Vec<Histogram> = features
        .iter()
        .map(Histogram::new)
        .collect::<Result<_, _>>()
        .ok()?;
    let ridits: Vec<Vec<f64>> = histograms.iter().map(Histogram::ridits).collect();
    let width = histograms.len();
    let (mut squares, mut places) = (vec![vec![0.0; width]; width], vec![0.0; width]);
    for row in rows {
        for ((place, value), (histogram, ridits)) in places
            .iter_mut()
            .zip(row)
            .zip(histograms.iter().zip(&ridits))
        {
            #[expect(clippy::cast_possible_truncation, reason = "edges are float32")]
            let bin = (!value.is_nan()).then(|| histogram.bin(*value as f32));
            *place = bin.and_then(|bin| ridits.get(bin)).copied().unwrap_or(0.0);
        }
        for (sums, own) in squares.iter_mut().zip(&places) {
            for (sum, other) in sums.iter_mut().zip(&places) {
                *sum += own * other;
            }
        }
    }
    let variances: Vec<f64> = squares
        .iter()
        .enumerate()
        .filter_map(|(index, sums)| sums.get(index).copied())
        .collect();
    #[expect(clippy::cast_possible_truncation, reason = "of four digits")]
    let rounded = |r: f64| ((r * 1e4).round() / 1e4) as f32;
    let pairs = squares.iter().zip(&variances).enumerate();
    let pairs = pairs.map(|(index, (sums, own))| {
        let others = sums.iter().zip(&variances).take(index);
        let correlation = |(sum, other): (&f64, &f64)| sum / (own * other).sqrt();
        let correlations = others.map(correlation);
        // A feature that never varies goes with nothing.
        correlations
            .map(|r| {
                if r.is_finite() {
                    rounded(r.clamp(-1.0, 1.0))
                } else {
                    0.0
                }
            })
            .collect()
    });
    Some(pairs.collect())
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
