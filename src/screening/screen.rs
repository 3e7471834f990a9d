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
    dense::{Dense, exp_in_place},
    reference::{FORMAT, RawComponent, RawGaussian, RawReference},
};
use crate::stability::Pushes;

/// Scores beyond this many standard deviations mean no more than this.
pub(super) const CLIP: f32 = 8.0;
/// Sweeps over the missing scores.
pub const SWEEPS: usize = 6;
/// Bounds on what is evaluated for each patient.
const MAX_COMPONENTS: usize = 32;
const MAX_LAYERS: usize = 4;
const MAX_WIDTH: usize = 256;
const MAX_PROTOTYPES: usize = 512;

/// A fitted distribution, checked.
#[derive(Clone, Debug)]
pub struct Screen {
    maps: Vec<Curve>,
    mean: Vec<f32>,
    /// Ω, row by row.
    omega: Dense,
    columns: Vec<Vec<f32>>,
    diagonal: Vec<f32>,
    inverse_root: Vec<f32>,
    layers: Vec<Dense>,
    mixture: Mixture,
    whitening: Dense,
    prototypes: Dense,
    calibration: Calibration,
    agreement: Option<Agreement>,
    stability: Option<Pushes>,
}

#[derive(Clone, Debug)]
struct Mixture {
    /// All components' `P_k`, and `−P_k μ_k`.
    precisions: Dense,
    components: Vec<Component>,
}

#[derive(Clone, Debug)]
struct Component {
    log_peak: f32,
    mean: Vec<f32>,
    /// `½ log(2π / P_jj)` and `½ / P_jj`.
    offset: Vec<f32>,
    half_variance: Vec<f32>,
}

/// A thread's working memory. It holds what derives from a patient's values until
/// [`Scratch::wipe`].
#[derive(Debug, Default)]
pub struct Scratch {
    z: Vec<f32>,
    missing: Vec<f32>,
    centred: Vec<f32>,
    y: Vec<f32>,
    input: Vec<f32>,
    hidden: [Vec<f32>; 2],
    products: Vec<f32>,
    log_joint: Vec<f32>,
    peak: Vec<f32>,
    surprise: Vec<f32>,
    white: Vec<f32>,
}

impl Scratch {
    /// Everything in it, for who looks for traces of it in memory.
    #[cfg(feature = "tools")]
    pub fn parts(&self) -> [&[f32]; 12] {
        let Self {
            z,
            missing,
            centred,
            y,
            input,
            hidden: [first, second],
            products,
            log_joint,
            peak,
            surprise,
            white,
        } = self;
        let parts = [
            z, missing, centred, y, input, first, second, products, log_joint, peak, surprise,
            white,
        ];
        parts.map(Vec::as_slice)
    }

    /// Overwrites everything with zeros.
    pub fn wipe(&mut self) {
        use zeroize::Zeroize;
        let [first, second] = &mut self.hidden;
        for part in [
            &mut self.z,
            &mut self.missing,
            &mut self.centred,
            &mut self.y,
            &mut self.input,
            first,
            second,
            &mut self.products,
            &mut self.log_joint,
            &mut self.peak,
            &mut self.surprise,
            &mut self.white,
        ] {
            part.as_mut_slice().zeroize();
        }
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        self.wipe();
    }
}

/// What one feature contributes to a row's oddness.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Driver {
    /// The feature's index.
    pub feature: usize,
    /// How much speaks for its value being wrong, in nats; comparable within a row.
    pub evidence: f32,
    /// The value typical of it given the others, in the declared unit.
    pub typical: f32,
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

    /// The features of the row that was last evaluated with `scratch`, those that speak most for
    /// its oddness first. Missing ones are left out.
    pub fn drivers(&self, scratch: &Scratch) -> Vec<Driver> {
        let logits = scratch
            .hidden
            .first()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let parts = logits.iter().zip(&scratch.surprise).zip(&scratch.missing);
        let expected = scratch.z.iter().zip(&scratch.y).zip(&self.diagonal);
        let mut drivers: Vec<Driver> = parts
            .zip(expected.zip(&self.maps))
            .enumerate()
            .filter(|(_, ((_, missing), _))| **missing <= 0.0)
            .map(
                |(feature, (((logit, surprise), _), (((z, y), omega), map)))| Driver {
                    feature,
                    evidence: logit + surprise.min(12.0),
                    typical: map.inverse((z - y / omega).clamp(-4.0, 4.0)),
                },
            )
            .collect();
        drivers.sort_by(|a, b| b.evidence.total_cmp(&a.evidence));
        drivers
    }
}

impl Mixture {
    fn new(raw: &[RawComponent], d: usize) -> Result<Self, ReferenceError> {
        let wrong = |problem| ReferenceError::invalid("mixture", problem);
        if raw.is_empty() || raw.len() > MAX_COMPONENTS {
            return Err(wrong("1 to 32 components"));
        }
        let (mut rows, mut bias, mut components) = (Vec::new(), Vec::new(), Vec::new());
        for RawComponent {
            log_peak,
            mean,
            precision,
        } in raw
        {
            square("mixture", mean, precision)?;
            if mean.len() != d || !log_peak.is_finite() {
                return Err(wrong("one mean a feature, a finite peak"));
            }
            for row in precision {
                rows.push(row.as_slice());
                bias.push(-row.iter().zip(mean).map(|(p, m)| p * m).sum::<f32>());
            }
            let diagonal = diagonal(precision);
            let offset = |p: &f32| 0.5 * (std::f32::consts::TAU / p).ln();
            components.push(Component {
                log_peak: *log_peak,
                mean: mean.clone(),
                offset: diagonal.iter().map(offset).collect(),
                half_variance: diagonal.iter().map(|p| 0.5 / p).collect(),
            });
        }
        Ok(Self {
            precisions: Dense::new(&rows, &bias),
            components,
        })
    }

    /// Writes each feature's surprise, and returns −log p(z).
    ///
    /// `−log p(z_j | the others) = −LSE_k L_k + LSE_k (L_k + c_kj)`, where
    /// `L_k = log w_k + log N_k`, and `c_kj = ½ log(2π / P_k,jj) + ½ y_kj² / P_k,jj` takes `z_j`
    /// out of component k again.
    fn evaluate(&self, scratch: &mut Scratch) -> f32 {
        let Scratch {
            z,
            products,
            log_joint,
            peak,
            surprise,
            ..
        } = scratch;
        let d = z.len();
        resize(products, self.precisions.width());
        self.precisions.apply(z, products);
        log_joint.clear();
        peak.clear();
        peak.resize(d, f32::NEG_INFINITY);
        for (component, y) in self.components.iter().zip(products.chunks_exact_mut(d)) {
            let distance = z.iter().zip(&component.mean).zip(y.iter());
            let distance: f32 = distance.map(|((z, mean), y)| (z - mean) * y).sum();
            let log = component.log_peak - 0.5 * distance;
            log_joint.push(log);
            let terms = y
                .iter_mut()
                .zip(&component.offset)
                .zip(&component.half_variance);
            for (((y, offset), half), peak) in terms.zip(peak.iter_mut()) {
                *y = log + offset + *y * *y * half;
                *peak = peak.max(*y);
            }
        }
        let highest = log_joint.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        for log in log_joint.iter_mut() {
            *log -= highest;
        }
        exp_in_place(log_joint);
        let log_density = highest + log_joint.iter().sum::<f32>().ln();
        surprise.clear();
        surprise.resize(d, 0.0);
        for y in products.chunks_exact_mut(d).take(self.components.len()) {
            for (y, peak) in y.iter_mut().zip(peak.iter()) {
                *y -= peak;
            }
            exp_in_place(y);
            for (sum, y) in surprise.iter_mut().zip(y.iter()) {
                *sum += y;
            }
        }
        for (surprise, peak) in surprise.iter_mut().zip(peak.iter()) {
            *surprise = peak + surprise.ln() - log_density;
        }
        -log_density
    }
}

fn resize(part: &mut Vec<f32>, length: usize) {
    part.resize(length, 0.0);
}

fn diagonal(rows: &[Vec<f32>]) -> Vec<f32> {
    let rows = rows.iter().enumerate();
    rows.filter_map(|(j, row)| row.get(j).copied()).collect()
}

/// A square matrix with a positive diagonal where it is one.
fn square(place: &'static str, mean: &[f32], rows: &[Vec<f32>]) -> Result<Dense, ReferenceError> {
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
