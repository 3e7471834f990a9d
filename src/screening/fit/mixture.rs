//! A mixture of full-covariance normal distributions, by expectation and maximisation.

#![expect(
    clippy::cast_precision_loss,
    reason = "counts of rows, patients and features"
)]

use std::collections::BTreeMap;

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

/// Fits at most `k` components to points (columns), each of at least `least` patients: fewer
/// components where one would be of few patients with many rows.
pub(super) fn fit(
    points: &DMatrix<f64>,
    patients: &[u64],
    (k, least): (usize, usize),
    rng: &mut ChaCha8Rng,
) -> Option<Vec<Component>> {
    for k in (2..=k).rev() {
        let (components, shares) = fit_components(points, k, rng)?;
        if (0..k).all(|component| count(&shares, component, patients) >= least as f64) {
            return Some(components);
        }
    }
    Some(fit_components(points, 1, rng)?.0)
}

/// How many patients a component consists of; nobody counts for more than one.
fn count(shares: &DMatrix<f64>, component: usize, patients: &[u64]) -> f64 {
    let mut of_patient: BTreeMap<u64, f64> = BTreeMap::new();
    for (patient, share) in patients.iter().zip(shares.row(component).iter()) {
        *of_patient.entry(*patient).or_default() += share;
    }
    of_patient.values().map(|share| share.min(1.0)).sum()
}

/// Components, and the share of each in each point.
fn fit_components(
    points: &DMatrix<f64>,
    k: usize,
    rng: &mut ChaCha8Rng,
) -> Option<(Vec<Component>, DMatrix<f64>)> {
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
    Some((components, shares))
}

/// Each component's share in each point; returns the mean log density.
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

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::screening::fit::normal;

    #[test]
    fn no_component_is_one_patient_with_many_rows() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        // Two groups of patients, and one patient far from both with half of all rows.
        let place = |i: usize| match i {
            400.. => 9.0,
            _ if i.is_multiple_of(2) => 0.0,
            _ => 5.0,
        };
        let points = DMatrix::from_fn(3, 800, |_, i| place(i) + f64::from(normal(&mut rng)));
        let patients: Vec<u64> = (0..800).map(|i| i.min(400)).collect();
        let alone = |of: &[u64]| {
            let mixture = fit(&points, of, (3, 5), &mut ChaCha8Rng::seed_from_u64(1)).unwrap();
            let near = |c: &Component| c.mean.iter().all(|m| (m - 9.0).abs() < 1.0);
            (mixture.len(), mixture.iter().any(near))
        };
        let everyone: Vec<u64> = (0..800).collect();
        assert_eq!(alone(&everyone), (3, true));
        let (components, found) = alone(&patients);
        assert!(components < 3 && !found);
    }
}
