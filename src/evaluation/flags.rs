//! False flags: does an alpha of 1% flag 1% of patients nobody has seen?

#![expect(
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "offline numerics; counts of rows are far below 2^52"
)]

use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::statistics::flag_interval;

/// Levels that are looked at, whatever the bundle's own is.
pub const ALPHAS: [f64; 4] = [0.005, 0.01, 0.02, 0.05];
/// Level of the intervals.
const LEVEL: f64 = 0.99;

/// False flags at one level.
#[derive(Clone, Debug, Serialize)]
pub struct FalseFlags {
    /// The level.
    pub alpha: f64,
    /// Clean rows that were judged, one a patient where the file says whose they are.
    pub rows: usize,
    /// Of these, flagged.
    pub flagged: usize,
    /// The share.
    pub share: f64,
    /// Where the count lies with probability 99% if calibration and these rows are exchangeable
    /// (beta-binomial).
    pub interval: (usize, usize),
    /// Whether it does.
    pub within: bool,
    /// Of the re-splits of calibration and test rows, how many have a count within the interval.
    pub resplits_within: usize,
    /// How many re-splits were made.
    pub resplits: usize,
    /// Mean share flagged over the re-splits.
    pub resplits_mean: f64,
}

/// Compares scores of calibration rows and of the rows judged here (higher is odder), both with
/// the same number of missing values; nothing where there is none of either.
pub(super) fn false_flags(
    calibration: &[f64],
    test: &[f64],
    resplits: usize,
    rng: &mut ChaCha8Rng,
) -> Vec<FalseFlags> {
    let mut all: Vec<f64> = calibration.iter().chain(test).copied().collect();
    let (n, m) = (calibration.len(), test.len());
    if n == 0 || m == 0 {
        return Vec::new();
    }
    let intervals = ALPHAS.map(|alpha| flag_interval(n, m, alpha, LEVEL));
    let own = count(calibration, test);
    let mut within = [0; ALPHAS.len()];
    let mut sum = [0; ALPHAS.len()];
    for _ in 0..resplits {
        all.shuffle(rng);
        let counts = count(&all[..n], &all[n..]);
        for (at, &flagged) in counts.iter().enumerate() {
            let (low, high) = intervals[at];
            within[at] += usize::from((low..=high).contains(&flagged));
            sum[at] += flagged;
        }
    }
    (0..ALPHAS.len())
        .map(|at| FalseFlags {
            alpha: ALPHAS[at],
            rows: m,
            flagged: own[at],
            share: own[at] as f64 / m as f64,
            interval: intervals[at],
            within: (intervals[at].0..=intervals[at].1).contains(&own[at]),
            resplits_within: within[at],
            resplits,
            resplits_mean: sum[at] as f64 / (resplits.max(1) * m) as f64,
        })
        .collect()
}

/// How many test rows have (1 + calibration scores at least as high) / (n + 1) ≤ alpha.
fn count(calibration: &[f64], test: &[f64]) -> [usize; ALPHAS.len()] {
    let mut sorted = calibration.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    let mut counts = [0; ALPHAS.len()];
    for score in test {
        let as_high = n - sorted.partition_point(|s| s < score);
        let p = (1 + as_high) as f64 / (n + 1) as f64;
        for (count, alpha) in counts.iter_mut().zip(ALPHAS) {
            *count += usize::from(p <= alpha);
        }
    }
    counts
}
