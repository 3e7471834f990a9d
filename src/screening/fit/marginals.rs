//! Each feature's map from values to normal scores, as means of several patients' values.

use statrs::distribution::{ContinuousCDF, Normal};

/// Knots in a map at most.
const KNOTS: usize = 65;

/// Knots `[value, score]` through the empirical distribution of `values` (NaN is left out).
///
/// A value's score is Φ⁻¹ of its mid-rank. With fewer than 65 distinct values there is a knot
/// for each; otherwise 65 windows of ranks, evenly spaced in scores. Either way a knot is the
/// mean of at least `min_rows` patients' values: extremes and rare values are never written.
pub(super) fn knots(values: &[f32], min_rows: usize) -> Vec<(f32, f32)> {
    let mut sorted: Vec<f32> = values.iter().copied().filter(|v| !v.is_nan()).collect();
    sorted.sort_by(f32::total_cmp);
    let runs: Vec<&[f32]> = sorted
        .chunk_by(|a, b| (a - b).abs() < f32::EPSILON * b.abs())
        .collect();
    let windows = if runs.len() < KNOTS {
        gathered(
            &runs.iter().map(|run| run.len()).collect::<Vec<_>>(),
            min_rows,
        )
    } else {
        gathered(&even(sorted.len()), min_rows)
    };
    let normal = Normal::standard();
    let mut knots: Vec<(f32, f32)> = Vec::with_capacity(windows.len());
    let mut start = 0;
    for width in windows {
        let end = start + width;
        let window = &sorted[start..end];
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            reason = "counts of rows; scores are float32"
        )]
        let (mean, score) = {
            let mean = window.iter().copied().map(f64::from).sum::<f64>() / width as f64;
            let middle = (start as f64 + 0.5 * width as f64) / sorted.len() as f64;
            (round(mean as f32), normal.inverse_cdf(middle) as f32)
        };
        start = end;
        match knots.last_mut() {
            // Windows within one value that many patients share.
            Some(last) if mean <= last.0 => last.1 = f32::midpoint(last.1, score),
            _ => knots.push((mean, score)),
        }
    }
    for knot in &mut knots {
        knot.1 = round(knot.1);
    }
    knots
}

/// Widths of 65 windows over `n` ranks, evenly spaced in normal scores.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts of rows"
)]
fn even(n: usize) -> Vec<usize> {
    let normal = Normal::standard();
    let widest = -normal.inverse_cdf(1.0 / n as f64);
    let edge = |i: usize| {
        let z = widest * (2.0 * i as f64 / KNOTS as f64 - 1.0);
        if i == 0 {
            0
        } else if i == KNOTS {
            n
        } else {
            (normal.cdf(z) * n as f64).round() as usize
        }
    };
    (0..KNOTS).map(|i| edge(i + 1) - edge(i)).collect()
}

/// Joins neighbouring windows until each has `least` rows.
fn gathered(widths: &[usize], least: usize) -> Vec<usize> {
    let mut joined: Vec<usize> = Vec::new();
    let mut open = 0;
    for width in widths {
        open += width;
        if open >= least {
            joined.push(open);
            open = 0;
        }
    }
    match joined.last_mut() {
        Some(rest) => *rest += open,
        None => joined.push(open),
    }
    joined
}

/// To six significant digits: what is written is what is evaluated.
pub(super) fn round(value: f32) -> f32 {
    format!("{value:.5e}").parse().unwrap_or(value)
}
