//! What a score and a probability are worth.

#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    reason = "offline numerics; counts of rows are far below 2^52"
)]

use serde::Serialize;

use crate::statistics::normal_quantile;

/// Area under the receiver operating characteristic: the chance that a positive scores above a
/// negative, halves for ties; NaN when either is missing.
pub fn auroc(scores: &[f64], positive: &[bool]) -> f64 {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
    let positives = positive.iter().filter(|p| **p).count() as f64;
    let negatives = positive.len() as f64 - positives;
    let (mut sum, mut start) = (0.0, 0);
    while start < order.len() {
        let value = scores[order[start]];
        let same = order[start..]
            .iter()
            .take_while(|&&i| scores[i] <= value)
            .count();
        let rank = (2 * start + same + 1) as f64 / 2.0;
        let here = order[start..start + same].iter().filter(|&&i| positive[i]);
        sum += rank * here.count() as f64;
        start += same;
    }
    (sum - positives * (positives + 1.0) / 2.0) / (positives * negatives)
}

/// [`auroc`] of scores kept apart.
pub fn separation(clean: &[f64], odd: &[f64]) -> f64 {
    let scores: Vec<f64> = clean.iter().chain(odd).copied().collect();
    let positive: Vec<bool> = (0..scores.len()).map(|i| i >= clean.len()).collect();
    auroc(&scores, &positive)
}

/// The share of clean rows that score at least as high as the threshold that 95% of the odd ones
/// reach.
pub fn false_positives_at_95(clean: &[f64], odd: &[f64]) -> f64 {
    if clean.is_empty() || odd.is_empty() {
        return f64::NAN;
    }
    let mut sorted = odd.to_vec();
    sorted.sort_by(f64::total_cmp);
    let threshold = sorted[(0.05 * sorted.len() as f64) as usize];
    clean.iter().filter(|s| **s >= threshold).count() as f64 / clean.len() as f64
}

/// A number with its 95% interval.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Estimate {
    /// The number.
    pub value: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

/// A predicted probability, judged by outcomes.
#[derive(Clone, Debug, Serialize)]
pub struct Calibration {
    /// Rows.
    pub rows: usize,
    /// Rows with the outcome.
    pub positive: usize,
    /// Discrimination; interval by Hanley and `McNeil` (1982).
    pub auroc: Estimate,
    /// Mean squared error; interval by its standard error.
    pub brier: Estimate,
    /// Expected calibration error over ten bins of equal size.
    pub ece: f64,
    /// The bins.
    pub bins: Vec<Bin>,
}

/// Rows of similar predicted probability.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Bin {
    /// How many.
    pub rows: usize,
    /// Mean predicted probability.
    pub predicted: f64,
    /// Share with the outcome and its 95% interval (Clopper–Pearson).
    pub observed: Estimate,
}

/// Judges probabilities; `None` unless both outcomes occur.
pub fn calibration(probabilities: &[f64], truth: &[bool]) -> Option<Calibration> {
    let n = truth.len();
    let positive = truth.iter().filter(|y| **y).count();
    if positive == 0 || positive == n {
        return None;
    }
    let area = auroc(probabilities, truth);
    let (p, q) = (positive as f64, (n - positive) as f64);
    let (q1, q2) = (area / (2.0 - area), 2.0 * area * area / (1.0 + area));
    let variance =
        (area * (1.0 - area) + (p - 1.0) * (q1 - area * area) + (q - 1.0) * (q2 - area * area))
            / (p * q);
    let z = normal_quantile(0.975);
    let around = |value: f64, error: f64| Estimate {
        value,
        low: (value - z * error).max(0.0),
        high: (value + z * error).min(1.0),
    };
    let errors: Vec<f64> = probabilities
        .iter()
        .zip(truth)
        .map(|(p, y)| (p - f64::from(u8::from(*y))).powi(2))
        .collect();
    let brier = errors.iter().sum::<f64>() / n as f64;
    let spread = errors.iter().map(|e| (e - brier).powi(2)).sum::<f64>() / (n as f64).powi(2);
    let bins = bins(probabilities, truth);
    let ece = bins
        .iter()
        .map(|b| b.rows as f64 / n as f64 * (b.predicted - b.observed.value).abs())
        .sum();
    Some(Calibration {
        rows: n,
        positive,
        auroc: around(area, variance.max(0.0).sqrt()),
        brier: around(brier, spread.sqrt()),
        ece,
        bins,
    })
}

fn bins(probabilities: &[f64], truth: &[bool]) -> Vec<Bin> {
    let mut order: Vec<usize> = (0..truth.len()).collect();
    order.sort_by(|&a, &b| probabilities[a].total_cmp(&probabilities[b]));
    let size = truth.len().div_ceil(10).max(1);
    order
        .chunks(size)
        .map(|rows| {
            let positive = rows.iter().filter(|&&i| truth[i]).count();
            let (low, high) = crate::statistics::share_interval(positive, rows.len(), 0.95);
            Bin {
                rows: rows.len(),
                predicted: rows.iter().map(|&i| probabilities[i]).sum::<f64>() / rows.len() as f64,
                observed: Estimate {
                    value: positive as f64 / rows.len() as f64,
                    low,
                    high,
                },
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn areas_count_pairs() {
        let truth = [false, true, false, true];
        assert!((auroc(&[0.1, 0.4, 0.35, 0.8], &truth) - 1.0).abs() < 1e-12);
        assert!(
            (auroc(&[0.5; 4], &truth) - 0.5).abs() < 1e-12,
            "ties are halves"
        );
        assert!((auroc(&[0.9, 0.4, 0.35, 0.8], &truth) - 0.5).abs() < 1e-12);
        assert!(auroc(&[0.1, 0.2], &[true, true]).is_nan());
        assert!((separation(&[1.0, 2.0], &[2.0, 3.0]) - 0.875).abs() < 1e-12);
    }

    #[test]
    fn thresholds_keep_95_of_100() {
        let odd: Vec<f64> = (0..100).map(f64::from).collect();
        let clean: Vec<f64> = (0..10).map(f64::from).collect();
        // 95 of the odd are at least 5, as are five of the clean.
        assert!((false_positives_at_95(&clean, &odd) - 0.5).abs() < 1e-12);
    }

    #[test]
    fn a_calibrated_probability_is_seen_as_one() {
        let p: Vec<f64> = (0..1000).map(|i| f64::from(i % 10) / 10.0 + 0.05).collect();
        let truth: Vec<bool> = (0..1000)
            .map(|i| (i / 10) % 20 < (i % 10) * 2 + 1)
            .collect();
        let found = calibration(&p, &truth).unwrap();
        assert!(found.ece < 1e-9, "{}", found.ece);
        assert!(found.auroc.low < found.auroc.value && found.auroc.value < found.auroc.high);
        assert_eq!(found.bins.len(), 10);
        assert!(calibration(&p, &[false; 1000]).is_none());
    }
}
