//! The fitted distribution, evaluated for one patient at a time.
//!
//! Everything is float32 and laid out in blocks; nothing is allocated once a thread's
//! [`Scratch`] is large enough. The steps, with z the normal scores of a row's values:
//!
//! 1. *Map*: each value to its normal score, by the feature's own curve, clipped to ±8.
//! 2. *Fill in*: missing scores take their conditional mean given the others, found by sweeping
//!    `z_j ← z_j − (Ω(z−μ))_j / Ω_jj` over them (Gauss–Seidel).
//! 3. *Residual*: `r_j = (Ω(z−μ))_j / √Ω_jj`, each score's distance from what the others lead one
//!    to expect, in conditional standard deviations.
//! 4. *Replaced*: a network reads z, r, min(r², 36)/4 and what is missing; it was trained to
//!    tell copies of patients in which values were replaced from the patients themselves.
//! 5. *Surprise*: `−log p(z_j | the others)` under the mixture, the largest of all features.
//! 6. *Density*: −log p(z) under the mixture.
//! 7. *Prototype*: distance to the nearest typical patient, in whitened scores.

use super::{
    Agreement, CHANNELS, ReferenceError,
    calibration::{Calibration, Judgement},
    curve::Curve,
    dense::Dense,
    drivers::Mistakes,
    mixture::Mixture,
    reference::{FORMAT, RawGaussian, RawReference},
    scratch::Scratch,
};
use crate::stability::Pushes;

/// Scores beyond this many standard deviations mean no more than this.
pub(super) const CLIP: f32 = 8.0;
/// Sweeps over the missing scores.
pub const SWEEPS: usize = 6;
/// Bounds on what is evaluated for each patient.
const MAX_LAYERS: usize = 4;
const MAX_WIDTH: usize = 256;
const MAX_PROTOTYPES: usize = 512;

/// A fitted distribution, checked.
#[derive(Clone, Debug)]
pub struct Screen {
    pub(super) maps: Vec<Curve>,
    mean: Vec<f32>,
    /// Ω, row by row.
    omega: Dense,
    columns: Vec<Vec<f32>>,
    pub(super) diagonal: Vec<f32>,
    inverse_root: Vec<f32>,
    layers: Vec<Dense>,
    pub(super) mixture: Mixture,
    whitening: Dense,
    prototypes: Dense,
    calibration: Calibration,
    agreement: Option<Agreement>,
    stability: Option<Pushes>,
    independent: f32,
    /// How each feature's number may have been mistaken, if that is known.
    pub(super) mistakes: Vec<Mistakes>,
}

impl Screen {
    /// Checks and compiles a reference.
    pub fn new(raw: &RawReference) -> Result<Self, ReferenceError> {
        let invalid = ReferenceError::invalid;
        if raw.format != FORMAT {
            return Err(ReferenceError::Format(raw.format));
        }
        let d = raw.features.len();
        if d == 0 || d > crate::bundle::model::MAX_FEATURES {
            return Err(invalid("features", "1 to 128"));
        }
        let maps = raw.features.iter().map(|f| {
            let curve = Curve::through(&f.knots).filter(|_| f.knots.len() <= 65);
            curve.ok_or_else(|| invalid("features", "1 to 65 ascending finite knots each"))
        });
        let maps = maps.collect::<Result<_, _>>()?;
        let RawGaussian { mean, precision } = &raw.gaussian;
        let omega = square("gaussian", mean, precision)?;
        let columns = (0..d).map(|j| precision.iter().filter_map(|r| r.get(j).copied()).collect());
        let diagonal = diagonal(precision);
        let screen = Self {
            maps,
            mean: mean.clone(),
            omega,
            columns: columns.collect(),
            inverse_root: diagonal.iter().map(|o| o.sqrt().recip()).collect(),
            diagonal,
            layers: network(raw, d)?,
            mixture: Mixture::new(&raw.mixture, d)?,
            whitening: square("prototypes", mean, &raw.prototypes.whitening)?,
            prototypes: matrix("prototypes", &raw.prototypes.centroids, d, MAX_PROTOTYPES)?,
            calibration: Calibration::new(&raw.calibration)?,
            agreement: raw.agreement.as_ref().map(Agreement::new).transpose()?,
            stability: raw
                .stability
                .as_ref()
                .map(|raw| Pushes::new(raw, d))
                .transpose()?,
            independent: independent(precision),
            mistakes: Vec::new(),
        };
        if screen.mean.len() != d {
            return Err(invalid("gaussian", "one mean a feature"));
        }
        Ok(screen)
    }

    /// How many features a row has.
    pub fn features(&self) -> usize {
        self.maps.len()
    }

    /// The calibrated thresholds.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Which pushes show that a prediction hangs on measurement uncertainty, if any were fitted.
    pub fn stability(&self) -> Option<&Pushes> {
        self.stability.as_ref()
    }

    /// How far the networks may disagree, if the fit asked them.
    pub fn agreement(&self) -> Option<&Agreement> {
        self.agreement.as_ref()
    }

    /// As how many independent features the patients' differ: fewer than there are, where some go
    /// along with others. The participation ratio of the covariance's eigenvalues λ, (Σλ)²/Σλ².
    pub fn independent(&self) -> f32 {
        self.independent
    }

    /// The normal score of a feature's value.
    pub fn score(&self, feature: usize, value: f32) -> Option<f32> {
        let map = self.maps.get(feature)?;
        Some(map.at(value).clamp(-CLIP, CLIP))
    }

    /// Judges a row; a value that was not measured is NaN.
    pub fn judge(&self, values: impl IntoIterator<Item = f64>, scratch: &mut Scratch) -> Judgement {
        let (scores, missing) = self.scores(values, scratch);
        self.calibration.judge(&scores, missing)
    }

    /// A row's score in each channel, and how many of its values are missing.
    #[inline]
    pub fn scores(
        &self,
        values: impl IntoIterator<Item = f64>,
        scratch: &mut Scratch,
    ) -> ([f32; CHANNELS], usize) {
        let missing = self.map(values, scratch);
        self.expect(missing, scratch);
        let replaced = self.replaced(scratch);
        let density = self.mixture.evaluate(scratch);
        let surprise = scratch.surprise.iter().zip(&scratch.missing);
        let surprise = surprise.fold(f32::NEG_INFINITY, |most, (&s, &missing)| {
            if missing > 0.0 { most } else { most.max(s) }
        });
        let Scratch { centred, white, .. } = scratch;
        resize(white, self.whitening.width());
        self.whitening.apply(centred, white);
        let white = white.get(..self.features()).unwrap_or_default();
        let prototype = self.prototypes.nearest(white).sqrt();
        let scores = [replaced, surprise.max(-1e3), density, prototype];
        // What cannot be computed is as odd as can be.
        let finite = scores.map(|s| if s.is_finite() { s } else { f32::MAX.sqrt() });
        (finite, missing)
    }

    /// Values to scores; 0 less the mean stands for what is missing, to begin with.
    fn map(&self, values: impl IntoIterator<Item = f64>, scratch: &mut Scratch) -> usize {
        let Scratch {
            z,
            missing,
            centred,
            ..
        } = scratch;
        for part in [&mut *z, &mut *missing, &mut *centred] {
            part.clear();
        }
        for ((map, mean), value) in self.maps.iter().zip(&self.mean).zip(values) {
            #[expect(clippy::cast_possible_truncation, reason = "scores are float32")]
            let value = value as f32;
            let absent = value.is_nan();
            let score = if absent {
                *mean
            } else {
                map.at(value).clamp(-CLIP, CLIP)
            };
            z.push(score);
            centred.push(score - mean);
            missing.push(f32::from(u8::from(absent)));
        }
        missing.iter().filter(|m| **m > 0.0).count()
    }

    /// y = Ω(z−μ), with what is missing filled in.
    fn expect(&self, absent: usize, scratch: &mut Scratch) {
        let Scratch {
            z,
            missing,
            centred,
            y,
            ..
        } = scratch;
        resize(y, self.omega.width());
        self.omega.apply(centred, y);
        if absent == 0 {
            return;
        }
        for _ in 0..SWEEPS {
            let features = missing.iter().zip(&self.diagonal).zip(&self.columns);
            for (j, ((absent, diagonal), column)) in features.enumerate() {
                if *absent > 0.0 {
                    let step = -y.get(j).copied().unwrap_or_default() / diagonal;
                    if let Some(centred) = centred.get_mut(j) {
                        *centred += step;
                    }
                    for (y, omega) in y.iter_mut().zip(column) {
                        *y += omega * step;
                    }
                }
            }
        }
        for ((z, centred), mean) in z.iter_mut().zip(centred.iter()).zip(&self.mean) {
            *z = centred + mean;
        }
    }

    /// Runs the network, whose outputs stay in `scratch.hidden`.
    fn replaced(&self, scratch: &mut Scratch) -> f32 {
        let Scratch {
            z,
            missing,
            y,
            input,
            hidden: [from, to],
            ..
        } = scratch;
        input.clear();
        input.extend_from_slice(z);
        let residuals = || {
            let parts = y.iter().zip(&self.inverse_root).zip(missing.iter());
            parts.map(|((y, root), missing)| y * root * (1.0 - missing))
        };
        input.extend(residuals());
        input.extend(residuals().map(|r| (r * r).min(36.0) * 0.25));
        input.extend_from_slice(missing);
        // The two change places with every layer, so both must have room for the widest.
        let widths = self.layers.iter().map(Dense::width);
        let widest = widths.fold(input.len(), usize::max);
        for part in [&mut *from, &mut *to] {
            part.clear();
            part.reserve(widest);
        }
        from.extend_from_slice(input);
        for (index, layer) in self.layers.iter().enumerate() {
            resize(to, layer.width());
            layer.apply(from, to);
            if index + 1 < self.layers.len() {
                for activation in to.iter_mut() {
                    *activation = activation.max(0.0);
                }
            }
            std::mem::swap(from, to);
        }
        from.get(self.features()).copied().unwrap_or(f32::MAX)
    }
}

pub(super) fn resize(part: &mut Vec<f32>, length: usize) {
    part.resize(length, 0.0);
}

pub(super) fn diagonal(rows: &[Vec<f32>]) -> Vec<f32> {
    let rows = rows.iter().enumerate();
    rows.filter_map(|(j, row)| row.get(j).copied()).collect()
}

/// [`Screen::independent`], from the precision matrix: of the covariance, which is its inverse, the
/// trace squared by the sum of squares. As many as there are features when that is no number.
#[expect(clippy::cast_precision_loss, reason = "at most 128 features")]
fn independent(precision: &[Vec<f32>]) -> f32 {
    let d = precision.len();
    let covariance = inverse(precision);
    let trace: f64 = covariance
        .iter()
        .enumerate()
        .filter_map(|(j, row)| row.get(j))
        .sum();
    let squares: f64 = covariance.iter().flatten().map(|v| v * v).sum();
    let ratio = trace * trace / squares;
    #[expect(clippy::cast_possible_truncation, reason = "between 1 and 128")]
    if ratio.is_finite() {
        ratio.clamp(1.0, d as f64) as f32
    } else {
        d as f32
    }
}

/// Gauss-Jordan in place, without pivoting: the matrix is positive definite.
fn inverse(matrix: &[Vec<f32>]) -> Vec<Vec<f64>> {
    let mut rows: Vec<Vec<f64>> = matrix
        .iter()
        .map(|row| row.iter().map(|v| f64::from(*v)).collect())
        .collect();
    for k in 0..rows.len() {
        let mut pivot = rows.get_mut(k).map(std::mem::take).unwrap_or_default();
        let scale = pivot.get_mut(k).map_or(1.0, |v| std::mem::replace(v, 1.0));
        for v in &mut pivot {
            *v /= scale;
        }
        for row in rows.iter_mut().filter(|row| !row.is_empty()) {
            let factor = row.get_mut(k).map(std::mem::take).unwrap_or_default();
            for (v, p) in row.iter_mut().zip(&pivot) {
                *v -= factor * p;
            }
        }
        if let Some(row) = rows.get_mut(k) {
            *row = pivot;
        }
    }
    rows
}

/// A square matrix with a positive diagonal where it is one.
pub(super) fn square(
    place: &'static str,
    mean: &[f32],
    rows: &[Vec<f32>],
) -> Result<Dense, ReferenceError> {
    if mean.iter().any(|m| !m.is_finite()) || rows.len() != mean.len() {
        return Err(ReferenceError::invalid(
            place,
            "one finite mean and row a feature",
        ));
    }
    if diagonal(rows).iter().any(|&v| v.is_nan() || v <= 0.0) {
        return Err(ReferenceError::invalid(
            place,
            "a diagonal that is not positive",
        ));
    }
    matrix(place, rows, mean.len(), usize::MAX)
}

fn matrix(
    place: &'static str,
    rows: &[Vec<f32>],
    width: usize,
    most: usize,
) -> Result<Dense, ReferenceError> {
    let finite = rows.iter().flatten().all(|v| v.is_finite());
    if rows.is_empty() || rows.len() > most || !finite {
        return Err(ReferenceError::invalid(
            place,
            "too few or too many rows, or not finite",
        ));
    }
    if rows.iter().any(|row| row.len() != width) {
        return Err(ReferenceError::invalid(place, "a row of another width"));
    }
    let rows: Vec<&[f32]> = rows.iter().map(Vec::as_slice).collect();
    Ok(Dense::new(&rows, &vec![0.0; rows.len()]))
}

fn network(raw: &RawReference, d: usize) -> Result<Vec<Dense>, ReferenceError> {
    let wrong = |problem| ReferenceError::invalid("network", problem);
    if raw.network.is_empty() || raw.network.len() > MAX_LAYERS {
        return Err(wrong("1 to 4 layers"));
    }
    let mut width = 4 * d;
    let mut layers = Vec::new();
    for layer in &raw.network {
        let outputs = layer.weights.len();
        matrix("network", &layer.weights, width, MAX_WIDTH)?;
        if layer.bias.len() != outputs || layer.bias.iter().any(|b| !b.is_finite()) {
            return Err(wrong("one finite bias an output"));
        }
        let rows: Vec<&[f32]> = layer.weights.iter().map(Vec::as_slice).collect();
        layers.push(Dense::new(&rows, &layer.bias));
        width = outputs;
    }
    if width != d + 1 {
        return Err(wrong("one output a feature and one for the row"));
    }
    Ok(layers)
}

#[cfg(test)]
mod tests {
    use super::{independent, inverse};

    #[test]
    fn features_that_go_along_with_each_other_are_not_independent() {
        assert!((independent(&[vec![2.0, 0.0], vec![0.0, 2.0]]) - 2.0).abs() < 1e-6);
        // Correlation .6: (Σλ)² = 4, Σλ² = 1.6² + .4².
        let precision = [vec![1.5625, -0.9375], vec![-0.9375, 1.5625]];
        for (row, expected) in inverse(&precision).iter().zip([[1.0, 0.6], [0.6, 1.0]]) {
            for (value, expected) in row.iter().zip(expected) {
                assert!((value - expected).abs() < 1e-12, "{row:?}");
            }
        }
        assert!((independent(&precision) - 4.0 / 2.72).abs() < 1e-6);
        assert!((independent(&[vec![0.0]]) - 1.0).abs() < 1e-6, "no number");
    }
}
