//! How well a fitted screen tells corrupted patients from real ones.
//!
//! The families here are made in clinical units, from the patients who are judged, by code that
//! shares nothing with what the network was trained on. Only copies that would get past the
//! range check and the consistency rules count: the rest never reach this screen.
//!
//! A single value taken from another patient is no family: more often than not it is as ordinary
//! as the one it replaced, and nothing can tell.

#![expect(
    clippy::indexing_slicing,
    reason = "offline numerics over rows whose width was checked on entry"
)]

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::fit::Trait;

/// A way in which values go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// One value in another unit of its kind.
    Unit,
    /// One decimal point a place to the left or right.
    Slip,
    /// Two values in each other's fields.
    Swap,
    /// One value at an end of its expected range, as from a saturated sensor.
    Saturated,
    /// Three values, each of another patient.
    ThreeReplaced,
    /// Every value of another patient, each of a different one.
    Shuffled,
    /// Two values drawn evenly from the expected range.
    Uniform,
    /// A third of the values stuck at the middle of the population.
    Stuck,
    /// Half of the values of one other patient.
    HalfReplaced,
    /// Noise of a standard deviation on four values.
    Noise,
}

impl Family {
    /// All.
    pub const ALL: [Self; 10] = [
        Self::Unit,
        Self::Slip,
        Self::Swap,
        Self::Saturated,
        Self::ThreeReplaced,
        Self::Shuffled,
        Self::Uniform,
        Self::Stuck,
        Self::HalfReplaced,
        Self::Noise,
    ];

    /// As reports write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unit => "unit error",
            Self::Slip => "decimal slip",
            Self::Swap => "swapped fields",
            Self::Saturated => "one value saturated",
            Self::ThreeReplaced => "three values replaced",
            Self::Shuffled => "all values shuffled",
            Self::Uniform => "two values uniform",
            Self::Stuck => "a third stuck",
            Self::HalfReplaced => "half replaced",
            Self::Noise => "noise on four",
        }
    }

    /// Whether it has a template that `fit --templates` trains on too.
    pub fn is_template(self) -> bool {
        matches!(self, Self::Unit | Self::Slip | Self::Swap)
    }

    /// A corrupted copy of `rows[row]` and the features that were changed; `None` when this row
    /// gives none that an earlier screen would let through (`passes`).
    pub fn corrupt(
        self,
        traits: &[Trait],
        population: &Population<'_>,
        row: usize,
        passes: &dyn Fn(&[f32]) -> bool,
        rng: &mut ChaCha8Rng,
    ) -> Option<(Vec<f32>, Vec<usize>)> {
        let own = population.rows[row];
        for _ in 0..20 {
            let mut values = own.to_vec();
            self.alter(traits, population, &mut values, rng);
            let mut changed = Vec::new();
            for (j, (value, before)) in values.iter_mut().zip(own).enumerate() {
                *value = traits[j].rounded(*value);
                if value.is_nan() != before.is_nan() || (*value - before).abs() > 1e-6 {
                    changed.push(j);
                }
            }
            let inside = traits
                .iter()
                .zip(&values)
                .all(|(t, v)| v.is_nan() || t.accepts(*v));
            if inside && !changed.is_empty() && passes(&values) {
                return Some((values, changed));
            }
        }
        None
    }

    fn alter(
        self,
        traits: &[Trait],
        population: &Population<'_>,
        values: &mut [f32],
        rng: &mut ChaCha8Rng,
    ) {
        let d = values.len();
        let rows = population.rows;
        let some = |count: usize, rng: &mut ChaCha8Rng| {
            rand::seq::index::sample(rng, d, count.min(d)).into_vec()
        };
        match self {
            Self::Unit => {
                let measured: Vec<usize> =
                    (0..d).filter(|&j| !traits[j].units.is_empty()).collect();
                if let Some(&j) = pick(&measured, rng)
                    && let Some((slope, offset)) = pick(&traits[j].units, rng)
                {
                    values[j] = (values[j] - offset) / slope;
                }
            }
            Self::Slip => {
                let quantities: Vec<usize> = (0..d).filter(|&j| !traits[j].whole).collect();
                if let Some(&j) = pick(&quantities, rng) {
                    values[j] *= if rng.random_bool(0.5) { 10.0 } else { 0.1 };
                }
            }
            Self::Swap => {
                if let [a, b] = some(2, rng)[..] {
                    values.swap(a, b);
                }
            }
            Self::Saturated => {
                let quantities: Vec<usize> = (0..d).filter(|&j| !traits[j].whole).collect();
                if let Some(&j) = pick(&quantities, rng) {
                    let (low, high) = traits[j].expected;
                    values[j] = if rng.random_bool(0.5) { low } else { high };
                }
            }
            Self::ThreeReplaced | Self::Shuffled => {
                let count = if self == Self::ThreeReplaced { 3 } else { d };
                for j in some(count, rng) {
                    values[j] = rows[rng.random_range(0..rows.len())][j];
                }
            }
            Self::Uniform => {
                for j in some(2, rng) {
                    let (low, high) = traits[j].expected;
                    values[j] = low + (high - low) * rng.random::<f32>();
                }
            }
            Self::Stuck => {
                for j in some(d.div_ceil(3), rng) {
                    values[j] = population.medians[j];
                }
            }
            Self::HalfReplaced => {
                let other = rows[rng.random_range(0..rows.len())];
                for j in some(d / 2, rng) {
                    values[j] = other[j];
                }
            }
            Self::Noise => {
                for j in some(4, rng) {
                    let u: f32 = 1.0 - rng.random::<f32>();
                    let angle = std::f32::consts::TAU * rng.random::<f32>();
                    values[j] += population.sds[j] * (-2.0 * u.ln()).sqrt() * angle.cos();
                }
            }
        }
    }
}

fn pick<'t, T>(from: &'t [T], rng: &mut ChaCha8Rng) -> Option<&'t T> {
    (!from.is_empty()).then(|| &from[rng.random_range(0..from.len())])
}

/// The patients that corrupted copies are made of.
#[derive(Debug)]
pub struct Population<'r> {
    rows: &'r [&'r [f32]],
    medians: Vec<f32>,
    sds: Vec<f32>,
}

impl<'r> Population<'r> {
    /// Rows as wide as the model, NaN where not measured.
    #[expect(clippy::cast_precision_loss, reason = "a count of patients")]
    pub fn new(rows: &'r [&'r [f32]]) -> Self {
        let d = rows.first().map_or(0, |row| row.len());
        let (mut medians, mut sds) = (Vec::new(), Vec::new());
        for j in 0..d {
            let mut column: Vec<f32> = rows.iter().map(|r| r[j]).filter(|v| !v.is_nan()).collect();
            column.sort_by(f32::total_cmp);
            let n = column.len().max(1) as f32;
            let mean = column.iter().sum::<f32>() / n;
            let variance = column.iter().map(|v| (v - mean) * (v - mean)).sum::<f32>() / n;
            medians.push(column.get(column.len() / 2).copied().unwrap_or(f32::NAN));
            sds.push(variance.sqrt());
        }
        Self { rows, medians, sds }
    }
}

/// The probability that a corrupted copy scores higher than a clean row, ties counting half.
#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
pub fn auroc(clean: &[f32], corrupted: &[f32]) -> f64 {
    let mut sorted = clean.to_vec();
    sorted.sort_by(f32::total_cmp);
    let wins: f64 = corrupted
        .iter()
        .map(|score| {
            let below = sorted.partition_point(|c| c < score) as f64;
            let not_above = sorted.partition_point(|c| c <= score) as f64;
            0.5 * (below + not_above)
        })
        .sum();
    wins / (clean.len() as f64 * corrupted.len() as f64)
}

/// The share of clean rows flagged at the threshold that catches 95% of the corrupted ones.
#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
pub fn false_positives_at_95(clean: &[f32], corrupted: &[f32]) -> f64 {
    let mut sorted = corrupted.to_vec();
    sorted.sort_by(f32::total_cmp);
    let threshold = sorted
        .get(sorted.len() / 20)
        .copied()
        .unwrap_or(f32::NEG_INFINITY);
    clean.iter().filter(|c| **c >= threshold).count() as f64 / clean.len() as f64
}
