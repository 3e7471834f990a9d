//! A mixture of full-covariance normal distributions, by expectation and maximisation.

use nalgebra::{Cholesky, DMatrix, DVector};
use rand_chacha::ChaCha8Rng;

use super::clusters::k_means;

/// Added to every variance, so that no component collapses onto a patient.
const REGULARISATION: f64 = 0.02;
const STEPS: usize = 80;
const TOLERANCE: f64 = 1e-4;

/// One component.
pub(super) struct Component {
    pub(super) mean: DVector<f64>,
    pub(super) precision: DMatrix<f64>,
    /// log of the weight times the density at the mean.
    pub(super) log_peak: f64,
    /// L⁻¹ of the covariance L Lᵀ.
    root: DMatrix<f64>,
}

/// Fits `k` components to points (columns).
pub(super) fn fit(points: &DMatrix<f64>, k: usize, rng: &mut ChaCha8Rng) -> Option<Vec<Component>> {
    let n = points.ncols();
    let start = k_means(points, k, 10, rng);
    let mut shares = DMatrix::zeros(k, n);
    for (i, &cluster) in start.of.iter().enumerate() {
        shares[(cluster, i)] = 1.0;
    }
    let mut before = f64::NEG_INFINITY;
    let mut components = maximise(points, &shares)?;
    for _ in 0..STEPS {
        let likelihood = expect(points, &components, &mut shares);
        components = maximise(points, &shares)?;
        if likelihood - before < TOLERANCE {
            break;
        }
        before = likelihood;
    }
    Some(components)
}

/// Each component's share in each point; returns the mean log density.
#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
fn expect(points: &DMatrix<f64>, components: &[Component], shares: &mut DMatrix<f64>) -> f64 {
    for (k, component) in components.iter().enumerate() {
        let mut centred = points.clone();
        for mut column in centred.column_iter_mut() {
            column -= &component.mean;
        }
        let white = &component.root * centred;
        for (i, column) in white.column_iter().enumerate() {
            shares[(k, i)] = component.log_peak - 0.5 * column.norm_squared();
        }
    }
    let mut total = 0.0;
    for mut column in shares.column_iter_mut() {
        let most = column.max();
        let sum: f64 = column.iter().map(|l| (l - most).exp()).sum();
        let log = most + sum.ln();
        column.apply(|l| *l = (*l - log).exp());
        total += log;
    }
    total / points.ncols() as f64
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows and features")]
fn maximise(points: &DMatrix<f64>, shares: &DMatrix<f64>) -> Option<Vec<Component>> {
    let (d, n) = (points.nrows(), points.ncols() as f64);
    let means = points * shares.transpose();
    let component = |k: usize| {
        let share = shares.row(k);
        let count = share.sum() + 1e-9;
        let mean: DVector<f64> = means.column(k) / count;
        let mut centred = points.clone();
        for (mut column, weight) in centred.column_iter_mut().zip(share.iter()) {
            column -= &mean;
            column *= weight.sqrt();
        }
        let covariance =
            &centred * centred.transpose() / count + DMatrix::identity(d, d) * REGULARISATION;
        let factor = Cholesky::new(covariance)?;
        let weight = count / n;
        let log_peak =
            weight.ln() - 0.5 * (d as f64 * std::f64::consts::TAU.ln() + factor.ln_determinant());
        Some(Component {
            mean,
            precision: factor.inverse(),
            log_peak,
            root: factor
                .l()
                .solve_lower_triangular(&DMatrix::identity(d, d))?,
        })
    };
    (0..shares.nrows()).map(component).collect()
}
