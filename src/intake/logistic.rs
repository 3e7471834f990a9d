//! Ridge logistic regression on smooth functions of each feature, cross-fitted: a rigid,
//! quickly fitted judge of how likely each row's outcome is.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "offline numerics; widths come from one design"
)]

use nalgebra::{DMatrix, DVector};
use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::columns::{Columns, FEW_VALUES};

const FOLDS: usize = 5;
const RIDGE: f64 = 50.0;
const STEPS: usize = 6;

/// Logits for each row, from a regression that has not seen the row's unit; rows whose label is
/// `None` are predicted and not learned from.
pub(super) fn cross_fitted(columns: &Columns, labels: &[Option<bool>], seed: u64) -> Vec<f64> {
    let design = design(columns);
    let mut units: Vec<usize> = (0..columns.units()).collect();
    units.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut fold = vec![0; units.len()];
    for (position, unit) in units.into_iter().enumerate() {
        fold[unit] = position % FOLDS;
    }
    let mut logits = vec![0.0; columns.len];
    for held_out in 0..FOLDS {
        let learned: Vec<usize> = (0..columns.len)
            .filter(|&row| fold[columns.unit(row)] != held_out && labels[row].is_some())
            .collect();
        let y = DVector::from_iterator(
            learned.len(),
            learned
                .iter()
                .map(|&row| f64::from(u8::from(labels[row] == Some(true)))),
        );
        let weights = fit(&design.select_rows(&learned), &y);
        for row in (0..columns.len).filter(|&row| fold[columns.unit(row)] == held_out) {
            logits[row] = design
                .row(row)
                .iter()
                .zip(weights.iter())
                .map(|(x, w)| x * w)
                .sum();
        }
    }
    logits
}

/// A constant, and for each feature its score, the score's modulus and two hinges, standardised;
/// a flag where values are missing.
fn design(columns: &Columns) -> DMatrix<f64> {
    let n = columns.len;
    let mut parts: Vec<Vec<f64>> = Vec::new();
    for column in &columns.features {
        let mut push = |f: &dyn Fn(f64) -> f64| {
            parts.push(column.scores.iter().map(|z| f(*z)).collect());
        };
        push(&|z| z);
        if column.distinct > FEW_VALUES / 2 {
            push(&f64::abs);
            push(&|z| (z - 1.0).max(0.0));
            push(&|z| (-z - 1.0).max(0.0));
        }
        if column.missing > 0.01 {
            parts.push(
                column
                    .raw
                    .iter()
                    .map(|v| f64::from(u8::from(v.is_nan())))
                    .collect(),
            );
        }
    }
    for part in &mut parts {
        let mean = part.iter().sum::<f64>() / n as f64;
        let variance = part.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
        let sd = variance.sqrt().max(1e-9);
        for value in part.iter_mut() {
            *value = (*value - mean) / sd;
        }
    }
    parts.insert(0, vec![1.0; n]);
    DMatrix::from_fn(n, parts.len(), |row, part| parts[part][row])
}

/// Newton's method (iteratively reweighted least squares).
fn fit(x: &DMatrix<f64>, y: &DVector<f64>) -> DVector<f64> {
    let width = x.ncols();
    let mut weights = DVector::zeros(width);
    let rate = (y.mean()).clamp(1e-3, 1.0 - 1e-3);
    weights[0] = (rate / (1.0 - rate)).ln();
    for _ in 0..STEPS {
        let p = (x * &weights).map(sigmoid);
        let mut weighted = x.clone();
        for (mut row, p) in weighted.row_iter_mut().zip(p.iter()) {
            row *= (p * (1.0 - p)).max(1e-6);
        }
        // Not `tr_mul`, which is a loop of dot products: this is one blocked product.
        let transposed = x.transpose();
        let mut hessian = &transposed * &weighted;
        let mut gradient = &transposed * (y - &p);
        for j in 1..width {
            hessian[(j, j)] += RIDGE;
            gradient[j] -= RIDGE * weights[j];
        }
        hessian[(0, 0)] += 1e-9;
        let Some(step) = hessian.cholesky().map(|c| c.solve(&gradient)) else {
            break;
        };
        weights += &step;
        if step.amax() < 1e-6 {
            break;
        }
    }
    weights
}

pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}
