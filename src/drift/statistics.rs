//! How far apart two histograms are, and how surprising that is.
//!
//! Both sides are samples: a reference of `m` rows says nothing finer than `1/m`, so everything
//! that is compared is compared as two samples, with `n·m/(n+m)` rows.

use statrs::function::beta::beta_reg;

/// Rows of one sample that tell as much as two samples of these sizes.
pub(super) fn effective(n: f64, m: f64) -> f64 {
    n * m / (n + m)
}

/// Population stability index: Σ (p−q)·ln(p/q), with half a row in every bin so that none is
/// empty. Under no drift it is about (bins − 1)·(1/n + 1/m): it says how large a drift is, not
/// whether there is one.
pub(super) fn psi(observed: &[f64], reference: &[f64]) -> f64 {
    let (p, q) = (shares(observed, 0.5), shares(reference, 0.5));
    p.zip(q).map(|(p, q)| (p - q) * (p / q).ln()).sum()
}

/// Jensen–Shannon divergence, bits: 0 the same, 1 nothing in common.
pub(super) fn jensen_shannon(observed: &[f64], reference: &[f64]) -> f64 {
    let (p, q) = (shares(observed, 0.0), shares(reference, 0.0));
    let part = |a: f64, mean: f64| if a > 0.0 { a * (a / mean).log2() } else { 0.0 };
    p.zip(q)
        .map(|(p, q)| f64::midpoint(part(p, f64::midpoint(p, q)), part(q, f64::midpoint(p, q))))
        .sum::<f64>()
        .clamp(0.0, 1.0)
}

/// Kolmogorov–Smirnov: the largest distance between the two distribution functions at the bins'
/// edges, and the probability of one as large without drift (Smirnov's asymptotic series; binned,
/// it errs on the side of no alarm).
pub(super) fn kolmogorov_smirnov(observed: &[f64], reference: &[f64]) -> (f64, f64) {
    let (n, m) = (observed.iter().sum(), reference.iter().sum());
    let (mut below, mut below_reference, mut distance) = (0.0_f64, 0.0_f64, 0.0_f64);
    for (p, q) in shares(observed, 0.0).zip(shares(reference, 0.0)) {
        below += p;
        below_reference += q;
        distance = distance.max((below - below_reference).abs());
    }
    (distance, kolmogorov(distance, effective(n, m)))
}

/// 2 Σ (−1)^(k−1) exp(−2k²·n·D²).
fn kolmogorov(distance: f64, n: f64) -> f64 {
    let square = n * distance * distance;
    if square < 0.04 {
        return 1.0;
    }
    let (mut sum, mut sign) = (0.0, 1.0);
    for k in 1..=20 {
        let term = (-2.0 * f64::from(k * k) * square).exp();
        sum += sign * term;
        sign = -sign;
    }
    (2.0 * sum).clamp(0.0, 1.0)
}

/// The probability of at least `k` of `n` when the reference has `k0` of `n0`: the upper tail of
/// a binomial distribution, by the incomplete beta function. The reference's share is taken with
/// `doubt` more rows, since a count of none does not mean never.
pub(super) fn excess(k: f64, n: f64, k0: f64, n0: f64, doubt: f64) -> f64 {
    let share = ((k0 + doubt) / (n0 + doubt)).min(1.0);
    // Two samples, as above.
    let rows = effective(n, n0);
    let events = k * rows / n;
    if events <= share * rows || events < 1.0 {
        return 1.0;
    }
    if share >= 1.0 {
        return 1.0;
    }
    beta_reg(events, rows - events + 1.0, share)
}

fn shares(counts: &[f64], extra: f64) -> impl Iterator<Item = f64> {
    let total = counts
        .iter()
        .map(|c| c + extra)
        .sum::<f64>()
        .max(f64::MIN_POSITIVE);
    counts.iter().map(move |c| (c + extra) / total)
}

/// The positive root θ of Σ share·exp(θ·(step − allowance)) = 1 (Lundberg): a cumulative sum of
/// such steps that starts anew at zero exceeds h about once in exp(θ·h) steps, whatever their
/// distribution. `None` when it cannot rise.
pub(super) fn lundberg(steps: &[f64], shares: &[f64], allowance: f64) -> Option<f64> {
    let rises = steps
        .iter()
        .zip(shares)
        .any(|(s, p)| *p > 0.0 && *s > allowance);
    let grows = |theta: f64| {
        let terms = steps.iter().zip(shares);
        terms
            .map(|(s, p)| p * (theta * (s - allowance)).exp())
            .sum::<f64>()
            > 1.0
    };
    if !rises {
        return None;
    }
    let (mut low, mut high) = (0.0, 1.0);
    while !grows(high) && high < 1e4 {
        low = high;
        high *= 2.0;
    }
    for _ in 0..60 {
        let middle = f64::midpoint(low, high);
        if grows(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    Some(low)
}

/// vᵀ S⁻¹ v by Cholesky's factors of `S`, of which the lower triangle is given, the diagonal last
/// in each row. `None` when it is not positive definite.
pub(super) fn quadratic(lower: &[Vec<f64>], vector: &[f64]) -> Option<f64> {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let (mut factors, mut solved) = (Vec::<Vec<f64>>::new(), Vec::new());
    for (row, value) in lower.iter().zip(vector) {
        let (diagonal, others) = row.split_last()?;
        let mut factor = Vec::with_capacity(row.len());
        for (entry, above) in others.iter().zip(&factors) {
            factor.push((entry - dot(&factor, above)) / above.last()?);
        }
        let pivot = diagonal - dot(&factor, &factor);
        if pivot <= f64::EPSILON * diagonal {
            return None;
        }
        solved.push((value - dot(&factor, &solved)) / pivot.sqrt());
        factor.push(pivot.sqrt());
        factors.push(factor);
    }
    Some(dot(&solved, &solved))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_is_no_distance_and_nothing_in_common_the_largest() {
        let (a, b) = ([50.0, 30.0, 20.0], [0.0, 0.0, 100.0]);
        assert!(psi(&a, &a).abs() < 1e-12 && jensen_shannon(&a, &a).abs() < 1e-12);
        let apart = jensen_shannon(&[10.0, 0.0], &[0.0, 7.0]);
        assert!((apart - 1.0).abs() < 1e-12);
        assert!(psi(&a, &b) > 1.0);
    }

    /// scipy.special.kolmogorov(√n·D) for `n·D²` = 1 and 4.
    #[test]
    fn the_series_is_kolmogorovs() {
        assert!((kolmogorov(0.1, 100.0) - 0.269_999_671_677_355).abs() < 1e-9);
        assert!((kolmogorov(0.2, 100.0) - 6.709_252_557_796_953e-4).abs() < 1e-9);
    }

    #[test]
    fn distance_is_between_distribution_functions() {
        let (distance, p) = kolmogorov_smirnov(&[80.0, 20.0], &[500.0, 500.0]);
        assert!((distance - 0.3).abs() < 1e-12 && p < 1e-6, "{p}");
    }

    /// scipy.stats.binom.sf(9, 100, .05) = 0.0281882…
    #[test]
    fn the_tail_is_the_binomials() {
        let p = excess(10.0, 100.0, 5e8, 1e10, 0.0);
        assert!((p - 0.028_188_294).abs() < 1e-4, "{p}");
        assert!((excess(4.0, 100.0, 5e8, 1e10, 0.0) - 1.0).abs() < 1e-12);
    }

    /// For ±1 steps with P(+1) = .4, θ = ln(.6/.4).
    #[test]
    fn the_root_is_the_ruin_exponent() {
        let root = lundberg(&[-1.0, 1.0], &[0.6, 0.4], 0.0).unwrap();
        assert!((root - 1.5_f64.ln()).abs() < 1e-9, "{root}");
        assert_eq!(lundberg(&[-1.0, 0.0], &[0.5, 0.5], 0.0), None);
    }

    /// numpy: v @ linalg.inv(S) @ v = 1.0 for S = [[4, 2], [2, 3]] and v = [2, 1].
    #[test]
    fn a_form_is_solved_by_its_factors() {
        let form = quadratic(&[vec![4.0], vec![2.0, 3.0]], &[2.0, 1.0]);
        assert!((form.unwrap() - 1.0).abs() < 1e-12, "{form:?}");
        assert_eq!(quadratic(&[vec![1.0], vec![1.0, 1.0]], &[1.0, 1.0]), None);
    }
}
