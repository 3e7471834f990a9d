//! Finds the stretch of a file in which a quantity is most unlike the rest.
//!
//! A scan statistic over an ordered series: the largest standardised sum over all stretches
//! between points of a grid (Glaz, Naus and Wallenstein, *Scan Statistics*), with a Bonferroni
//! bound over the stretches. It both tests and locates. Rows that depend on their neighbours
//! (the same patient twice) inflate sums; the inflation is estimated from differences between
//! neighbouring blocks, which a shifted stretch hardly touches. The sum of a rare yes-or-no is not
//! near normal, two in thirty are no news, so there the binomial tail has a say too.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "offline numerics over one grid"
)]

use statrs::distribution::{Binomial, DiscreteCDF};

use crate::statistics::normal_tail;

/// Points of the grid.
const GRID: usize = 128;
/// The shortest stretch: shorter ones are not near normal.
const SHORTEST: usize = 30;
/// Fewer standard deviations than this decide nothing, after Bonferroni.
const UNREMARKABLE: f64 = 3.0;

/// The most unusual stretch of a series.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// First row.
    pub(super) from: usize,
    /// One past the last row.
    pub(super) to: usize,
    /// Mean within it, in standard deviations of a row, away from the rest.
    pub(super) shift: f64,
    /// Bound on the chance of one so unusual in a series without order.
    pub(super) p: f64,
}

/// Scans a series whose order should not matter. `None` where it is too short or constant.
pub(super) fn scan(series: &[f64]) -> Option<Stretch> {
    let n = series.len();
    if n < 4 * SHORTEST {
        return None;
    }
    let mean = series.iter().sum::<f64>() / n as f64;
    let variance = series.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n as f64;
    if variance < 1e-12 {
        return None;
    }
    let sd = variance.sqrt();
    let inflation = inflation(series, mean, sd);
    let step = (n as f64 / GRID as f64).max(1.0);
    let points = (0..=GRID.min(n)).map(|k| ((k as f64 * step).round() as usize).min(n));
    let mut points: Vec<usize> = points.collect();
    points.dedup();
    let mut sums = vec![0.0; n + 1];
    for (index, value) in series.iter().enumerate() {
        sums[index + 1] = sums[index] + (value - mean) / sd;
    }
    let binary = series.iter().all(|v| [0.0, 1.0].contains(v));
    let chance = |z: f64, length: usize, sum: f64| {
        let normal = 2.0 * normal_tail(z.abs());
        if !binary || z.abs() < UNREMARKABLE {
            return normal;
        }
        let count = (sum * sd + mean * length as f64).round() as u64;
        normal.max(2.0 * binomial_tail(count, length as u64, mean, z > 0.0))
    };
    // The chance of one so unusual, and where it is.
    let mut best: Option<(f64, usize, usize)> = None;
    let mut tried = 0_usize;
    for (at, &from) in points.iter().enumerate() {
        for &to in &points[at + 1..] {
            let length = to - from;
            if length < SHORTEST || n - length < SHORTEST {
                continue;
            }
            tried += 1;
            // To an end of the file, this is the same as the rest: the shorter is the unusual one.
            if 2 * length > n && (from == 0 || to == n) {
                continue;
            }
            let spread = length as f64 * (1.0 - length as f64 / n as f64);
            let sum = sums[to] - sums[from];
            let p = chance(sum / (spread * inflation).sqrt(), length, sum);
            if best.is_none_or(|(least, _, _)| p < least) {
                best = Some((p, from, to));
            }
        }
    }
    let (p, from, to) = best?;
    let length = (to - from) as f64;
    let inside = (sums[to] - sums[from]) / length;
    // The rest is shifted the other way, since the whole has mean zero.
    let outside = -inside * length / (n as f64 - length);
    Some(Stretch {
        from,
        to,
        shift: inside - outside,
        p: (p * tried as f64).min(1.0),
    })
}

/// The chance of at least `count` (or, unless `more`, at most as many) of `length`.
fn binomial_tail(count: u64, length: u64, share: f64, more: bool) -> f64 {
    let Ok(binomial) = Binomial::new(share, length) else {
        return 1.0;
    };
    match (more, count.checked_sub(1)) {
        (true, Some(below)) => binomial.sf(below),
        (true, None) => 1.0,
        (false, _) => binomial.cdf(count),
    }
}

/// How much larger the variance of a sum of neighbours is than that of independent rows, from
/// the median squared difference of neighbouring blocks; at least 1.
pub(super) fn inflation(series: &[f64], mean: f64, sd: f64) -> f64 {
    /// Median of the square of a standard normal.
    const MEDIAN: f64 = 0.454_94;
    let size = (series.len() / 256).max(12);
    let blocks = series.chunks_exact(size);
    let means: Vec<f64> = blocks
        .map(|block| block.iter().map(|v| (v - mean) / sd).sum::<f64>() / size as f64)
        .collect();
    let mut squares: Vec<f64> = means.windows(2).map(|w| (w[1] - w[0]).powi(2)).collect();
    if squares.len() < 8 {
        return 1.0;
    }
    squares.sort_by(f64::total_cmp);
    let median = squares[squares.len() / 2];
    (median / MEDIAN / 2.0 * size as f64).max(1.0)
}
