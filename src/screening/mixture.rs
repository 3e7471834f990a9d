//! A mixture of normal distributions: how rare a row is, and how surprising each value.

use pulp::{Arch, NullaryFnOnce};

use super::{
    ReferenceError,
    dense::{Dense, exp_in_place},
    reference::RawComponent,
    scratch::Scratch,
    screen::{diagonal, resize, square},
};

/// Bound on what is evaluated for each patient.
const MAX_COMPONENTS: usize = 32;

#[derive(Clone, Debug)]
pub(super) struct Mixture {
    /// All components' `P_k`, and `−P_k μ_k`.
    precisions: Dense,
    components: Vec<Component>,
    arch: Arch,
}

#[derive(Clone, Debug)]
struct Component {
    log_peak: f32,
    mean: Vec<f32>,
    /// `½ log(2π / P_jj)` and `½ / P_jj`.
    offset: Vec<f32>,
    half_variance: Vec<f32>,
}

impl Mixture {
    pub(super) fn new(raw: &[RawComponent], d: usize) -> Result<Self, ReferenceError> {
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
            arch: Arch::new(),
        })
    }

    /// Writes each feature's surprise, and returns −log p(z).
    ///
    /// `−log p(z_j | the others) = −LSE_k L_k + LSE_k (L_k + c_kj)`, where
    /// `L_k = log w_k + log N_k`, and `c_kj = ½ log(2π / P_k,jj) + ½ y_kj² / P_k,jj` takes `z_j`
    /// out of component k again.
    pub(super) fn evaluate(&self, scratch: &mut Scratch) -> f32 {
        resize(&mut scratch.products, self.precisions.width());
        self.precisions.apply(&scratch.z, &mut scratch.products);
        self.arch.dispatch(Densities(self, scratch))
    }

    /// What the others say of feature `j` of the row whose scores are `z`: the components'
    /// conditional distributions, to be asked for the density of other scores.
    pub(super) fn given_others(&self, z: &[f32], j: usize, scratch: &mut Vec<f32>) -> Conditional {
        let d = z.len();
        resize(scratch, self.precisions.width());
        self.precisions.apply(z, scratch);
        let own = z.get(j).copied().unwrap_or_default();
        let parts = self.components.iter().zip(scratch.chunks_exact(d));
        let parts = parts.map(|(component, y)| {
            let distance = z.iter().zip(&component.mean).zip(y);
            let distance: f32 = distance.map(|((z, mean), y)| (z - mean) * y).sum();
            let at = |of: &[f32]| of.get(j).copied().unwrap_or_default();
            let (y, half) = (at(y), at(&component.half_variance));
            Part {
                log_weight: component.log_peak - 0.5 * distance
                    + at(&component.offset)
                    + y * y * half,
                mean: own - 2.0 * half * y,
                variance: 2.0 * half,
            }
        });
        Conditional(parts.collect())
    }
}

/// [`Mixture::evaluate`] once the products are there, compiled for each kind of processor.
struct Densities<'a>(&'a Mixture, &'a mut Scratch);

impl NullaryFnOnce for Densities<'_> {
    type Output = f32;

    #[inline(always)]
    #[expect(clippy::inline_always, reason = "as `Arch::dispatch` asks")]
    fn call(self) -> f32 {
        let Self(mixture, scratch) = self;
        let Scratch {
            z,
            products,
            log_joint,
            peak,
            surprise,
            ..
        } = scratch;
        let d = z.len();
        log_joint.clear();
        peak.clear();
        peak.resize(d, f32::NEG_INFINITY);
        for (component, y) in mixture.components.iter().zip(products.chunks_exact_mut(d)) {
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
        for y in products.chunks_exact_mut(d).take(mixture.components.len()) {
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

/// A score's distribution given the others.
pub(super) struct Conditional(Vec<Part>);

struct Part {
    log_weight: f32,
    mean: f32,
    variance: f32,
}

impl Conditional {
    /// The log density at a score, but for a constant.
    pub(super) fn log_density(&self, z: f32) -> f32 {
        let log = |part: &Part| {
            let away = z - part.mean;
            part.log_weight - 0.5 * (away * away / part.variance + part.variance.ln())
        };
        let most = self.0.iter().map(log).fold(f32::NEG_INFINITY, f32::max);
        most + self
            .0
            .iter()
            .map(|part| (log(part) - most).exp())
            .sum::<f32>()
            .ln()
    }
}
