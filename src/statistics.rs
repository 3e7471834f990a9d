//! Tests and intervals that data and screens are judged by.
//!
//! Distribution functions come from `statrs`; what is here is what it does not have.

#![expect(
    clippy::many_single_char_names,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    reason = "offline numerics; counts of rows are far below 2^52"
)]

use statrs::{
    distribution::{Beta, ChiSquared, ContinuousCDF, Normal},
    function::{beta::ln_beta, factorial::ln_binomial},
};

/// P(Z > z) for a standard normal Z.
pub fn normal_tail(z: f64) -> f64 {
    Normal::standard().sf(z)
}

/// The z below which a standard normal lies with probability `p`.
pub fn normal_quantile(p: f64) -> f64 {
    Normal::standard().inverse_cdf(p.clamp(1e-300, 1.0 - 1e-16))
}

/// P(X > x) for a chi-squared X.
pub fn chi_squared_tail(x: f64, degrees: usize) -> f64 {
    match ChiSquared::new(degrees as f64) {
        Ok(distribution) if x > 0.0 => distribution.sf(x),
        _ => 1.0,
    }
}

/// Normal scores of the ranks, mid-ranks where values are equal; 0 where a value is NaN.
pub fn normal_scores(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).filter(|&i| !values[i].is_nan()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let count = order.len() as f64;
    let mut scores = vec![0.0; values.len()];
    let mut start = 0;
    while start < order.len() {
        let value = values[order[start]];
        let same = order[start..].iter().take_while(|&&i| values[i] <= value);
        let end = start + same.count();
        let rank = (start + end) as f64 / 2.0;
        let score = normal_quantile(rank / count);
        for &index in &order[start..end] {
            scores[index] = score;
        }
        start = end;
    }
    scores
}

/// Two-sample Kolmogorov–Smirnov: the largest distance of the two distribution functions, and
/// its asymptotic p-value for effective sizes divided by `inflation` (rows that depend on each
/// other are worth fewer).
pub fn kolmogorov_smirnov(a: &[f64], b: &[f64], inflation: f64) -> (f64, f64) {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    a.sort_by(f64::total_cmp);
    b.sort_by(f64::total_cmp);
    if a.is_empty() || b.is_empty() {
        return (0.0, 1.0);
    }
    let (n, m) = (a.len() as f64, b.len() as f64);
    let (mut i, mut j, mut distance) = (0, 0, 0.0_f64);
    while i < a.len() && j < b.len() {
        let at = a[i].min(b[j]);
        i += a[i..].iter().take_while(|v| **v <= at).count();
        j += b[j..].iter().take_while(|v| **v <= at).count();
        distance = distance.max((i as f64 / n - j as f64 / m).abs());
    }
    let effective = (n * m / (n + m) / inflation).sqrt();
    let t = (effective + 0.12 + 0.11 / effective) * distance;
    (distance, kolmogorov_tail(t))
}

/// P(K > t) for Kolmogorov's distribution.
fn kolmogorov_tail(t: f64) -> f64 {
    if t < 0.2 {
        return 1.0;
    }
    let mut sum = 0.0;
    for k in 1..=100 {
        let k = f64::from(k);
        let term = (-2.0 * k * k * t * t).exp();
        sum += if k % 2.0 > 0.5 { term } else { -term };
        if term < 1e-17 {
            break;
        }
    }
    (2.0 * sum).clamp(0.0, 1.0)
}

/// Clopper–Pearson interval for a share, two-sided at `level` (such as .95).
pub fn share_interval(count: usize, of: usize, level: f64) -> (f64, f64) {
    let half = (1.0 - level) / 2.0;
    let (k, n) = (count as f64, of as f64);
    let quantile = |a: f64, b: f64, p: f64| Beta::new(a, b).map_or(f64::NAN, |d| d.inverse_cdf(p));
    let low = if count == 0 {
        0.0
    } else {
        quantile(k, n - k + 1.0, half)
    };
    let high = if count == of {
        1.0
    } else {
        quantile(k + 1.0, n - k, 1.0 - half)
    };
    (low, high)
}

/// How many of `tested` new patients a split conformal screen flags: the central interval at
/// `level` of the beta-binomial distribution that exchangeability gives (Vovk 2012; Angelopoulos
/// and Bates 2023, section 3.2).
///
/// A new patient is flagged when at most k = ⌊α(n+1)⌋ − 1 of n calibration scores are as high;
/// the chance of that, over calibration sets, is Beta(k + 1, n − k).
pub fn flag_interval(calibrated: usize, tested: usize, alpha: f64, level: f64) -> (usize, usize) {
    let rank = (alpha * (calibrated as f64 + 1.0) * (1.0 + 1e-12)).floor();
    if rank < 1.0 {
        return (0, 0);
    }
    let (a, b) = (rank, calibrated as f64 + 1.0 - rank);
    let half = (1.0 - level) / 2.0;
    let (mut below, mut low, mut high) = (0.0, None, tested);
    for flagged in 0..=tested {
        let k = flagged as u64;
        let log = ln_binomial(tested as u64, k)
            + ln_beta(flagged as f64 + a, (tested - flagged) as f64 + b)
            - ln_beta(a, b);
        below += log.exp();
        if low.is_none() && below > half {
            low = Some(flagged);
        }
        if below >= 1.0 - half {
            high = flagged;
            break;
        }
    }
    (low.unwrap_or(0), high)
}

/// Mean and the two-sided interval at 95% of a mean, by Student's approximation for few numbers
/// (the quantiles of t at 95% for up to ten degrees, then the normal one).
pub fn mean_interval(values: &[f64]) -> (f64, f64, f64) {
    const T: [f64; 10] = [
        12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    ];
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let Some(degrees) = values.len().checked_sub(2) else {
        return (mean, f64::NAN, f64::NAN);
    };
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
    let half = T.get(degrees).copied().unwrap_or(1.96) * (variance / n).sqrt();
    (mean, mean - half, mean + half)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, by: f64) {
        assert!((a - b).abs() < by, "{a} {b}");
    }

    #[test]
    fn distributions_agree_with_tables() {
        near(normal_quantile(0.975), 1.959_964, 1e-5);
        near(normal_tail(1.644_854), 0.05, 1e-6);
        near(chi_squared_tail(3.841_459, 1), 0.05, 1e-6);
        near(kolmogorov_tail(1.358), 0.05, 1e-3);
        let (low, high) = share_interval(13, 1300, 0.95);
        near(low, 0.005_335, 1e-5);
        near(high, 0.017_035, 1e-5);
    }

    #[test]
    fn scores_are_those_of_mid_ranks() {
        let scores = normal_scores(&[3.0, 1.0, f64::NAN, 1.0, 2.0]);
        near(scores[1], normal_quantile(0.25), 1e-9);
        near(scores[1], scores[3], 1e-12);
        near(scores[2], 0.0, 1e-12);
        near(scores[0], normal_quantile(3.5 / 4.0), 1e-9);
    }

    #[test]
    fn samples_of_one_distribution_do_not_differ_and_others_do() {
        let a: Vec<f64> = (0..400).map(|i| f64::from(i * 37 % 401)).collect();
        let b: Vec<f64> = (0..300).map(|i| f64::from(i * 53 % 401)).collect();
        assert!(kolmogorov_smirnov(&a, &b, 1.0).1 > 0.5);
        let c: Vec<f64> = b.iter().map(|v| v + 80.0).collect();
        let (distance, p) = kolmogorov_smirnov(&a, &c, 1.0);
        assert!(distance > 0.15 && p < 1e-4, "{distance} {p}");
        assert!(
            kolmogorov_smirnov(&a, &c, 20.0).1 > 0.05,
            "few are worth less"
        );
    }

    /// Against the distribution itself, drawn: uniform scores, 99 calibrated, 50 tested.
    #[test]
    fn flags_of_exchangeable_scores_stay_within_their_interval() {
        use rand::{RngExt, SeedableRng};
        let (low, high) = flag_interval(99, 50, 0.1, 0.9);
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(7);
        let mut inside = 0;
        for _ in 0..4000 {
            let calibration: Vec<f64> = (0..99).map(|_| rng.random()).collect();
            let flagged = (0..50).filter(|_| {
                let score: f64 = rng.random();
                let as_high = calibration.iter().filter(|c| **c >= score).count();
                (1 + as_high) as f64 / 100.0 <= 0.1
            });
            inside += usize::from((low..=high).contains(&flagged.count()));
        }
        let share = inside as f64 / 4000.0;
        assert!((0.88..=0.97).contains(&share), "{share}");
        assert!(low >= 1 && high <= 10, "{low} {high}");
    }

    #[test]
    fn a_mean_has_students_interval() {
        let (mean, low, high) = mean_interval(&[1.0, 2.0, 3.0, 4.0, 5.0]);
        near(mean, 3.0, 1e-12);
        near(high - mean, 2.776 * (2.5_f64 / 5.0).sqrt(), 1e-3);
        near(mean - low, high - mean, 1e-12);
    }
}
