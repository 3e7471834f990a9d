//! A further file beside the first one.
//!
//! Other hours or other patients do differ a little, and with thousands of rows a little is
//! certain. What counts is certain *and* large: a distance of the distributions as that of two
//! normal ones half a standard deviation apart, values missing where they were not, or a pair's
//! dependence broken. Tests as between batches, Bonferroni throughout.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::many_single_char_names,
    reason = "offline numerics; both tables have one model's features"
)]

use std::collections::BTreeMap;

use crate::statistics::{kolmogorov_smirnov, normal_tail};

use super::{
    ALPHA, Check, Finding, Verdict,
    batches::{FEW_ROWS, compare, missingness},
    columns::{Column, Columns, FEW_VALUES},
    counted,
};

const NAME: &str = "unlike_data";
/// Distance of two distributions: 0 for the same, 1 for those that share nothing. Two normal ones
/// half a standard deviation apart have .2.
const FAR: f64 = 0.2;
/// Difference of the shares that lack a value.
const MISSING: f64 = 0.15;
/// Difference of two rank correlations.
const BROKEN: f64 = 0.25;

pub(super) fn check(first: &Columns, further: &Columns) -> Check {
    if first.len < FEW_ROWS || further.len < FEW_ROWS {
        return Check::new(NAME, Verdict::NotAsked, "too few rows");
    }
    let d = first.features.len();
    let limit = ALPHA / (2 * d + d * (d - 1) / 2) as f64;
    let worth = (first.units() + further.units()) as f64 / (first.len + further.len) as f64;
    let outside: Vec<usize> = (0..first.len).collect();
    let inside: Vec<usize> = (first.len..first.len + further.len).collect();
    let mut differing: BTreeMap<usize, String> = BTreeMap::new();
    for (j, (a, b)) in first.features.iter().zip(&further.features).enumerate() {
        let joined = Column {
            name: String::new(),
            raw: a.raw.iter().chain(&b.raw).copied().collect(),
            scores: Vec::new(),
            distinct: a.distinct.max(b.distinct),
            missing: 0.0,
        };
        let p = || compare(&joined, &inside, &outside, worth);
        if distance(a, b) > FAR && p() < limit {
            differing.insert(j, level(a, b));
        } else if (a.missing - b.missing).abs() > MISSING
            && missingness(&joined, &inside, &outside, worth) < limit
        {
            differing.insert(j, "missingness".to_owned());
        }
    }
    let mut broken: BTreeMap<usize, String> = BTreeMap::new();
    for j in 0..d {
        for k in 0..j {
            if differing.contains_key(&j) || differing.contains_key(&k) {
                continue;
            }
            let (a, n) = correlation(first, (j, k));
            let (b, m) = correlation(further, (j, k));
            if (a - b).abs() > BROKEN && n > 10.0 && m > 10.0 {
                let z = (a.atanh() - b.atanh()) / (1.0 / (n - 3.0) + 1.0 / (m - 3.0)).sqrt();
                if 2.0 * normal_tail(z.abs()) < limit {
                    let says = format!("dependence on {}", first.features[k].name);
                    broken.entry(j).or_insert(says);
                }
            }
        }
    }
    differing.append(&mut broken);
    if differing.is_empty() {
        return Check::new(
            NAME,
            Verdict::Pass,
            format!("{d} features are distributed much as in the first file"),
        );
    }
    let named = differing
        .iter()
        .map(|(&j, says)| format!("{} ({says})", first.features[j].name));
    let finding = Finding {
        what: format!(
            "unlike the first file: {}",
            named.collect::<Vec<_>>().join("; ")
        ),
        features: differing
            .keys()
            .map(|&j| first.features[j].name.clone())
            .collect(),
        between: None,
        batch: None,
        rows: further.len,
        lines: Vec::new(),
    };
    let summary = format!(
        "of {d} features, {} distributed unlike in the first file",
        counted(differing.len(), "is", "are")
    );
    Check::new(NAME, Verdict::Found, summary).with(vec![finding])
}

fn known(column: &Column) -> Vec<f64> {
    let values = column.raw.iter().copied();
    values.filter(|v| !v.is_nan()).collect()
}

/// How far two distributions are apart: of distribution functions, or of shares of few values.
fn distance(a: &Column, b: &Column) -> f64 {
    let (a_known, b_known) = (known(a), known(b));
    if a_known.is_empty() || b_known.is_empty() {
        return 0.0;
    }
    if a.distinct.max(b.distinct) > FEW_VALUES {
        return kolmogorov_smirnov(&a_known, &b_known, 1.0).0;
    }
    let mut shares: BTreeMap<u64, f64> = BTreeMap::new();
    for (values, sign) in [(&a_known, 1.0), (&b_known, -1.0)] {
        for value in values {
            *shares.entry((value + 0.0).to_bits()).or_default() += sign / values.len() as f64;
        }
    }
    shares.values().map(|s| s.abs()).sum::<f64>() / 2.0
}

/// The shift of the mean, in standard deviations of the first file.
fn level(a: &Column, b: &Column) -> String {
    let (a, b) = (known(a), known(b));
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
    let middle = mean(&a);
    let squares = a.iter().map(|v| (v - middle).powi(2)).sum::<f64>();
    let sd = (squares / a.len() as f64).sqrt();
    let shift = (mean(&b) - middle) / sd;
    if shift.is_finite() && shift.abs() >= 0.1 {
        format!("level {shift:+.2} sd")
    } else {
        "distribution".to_owned()
    }
}

/// Correlation of the normal scores of the rows that have both, and how many such patients.
fn correlation(columns: &Columns, (j, k): (usize, usize)) -> (f64, f64) {
    let (a, b) = (&columns.features[j], &columns.features[k]);
    let both = (0..columns.len).filter(|&row| !a.raw[row].is_nan() && !b.raw[row].is_nan());
    let (mut n, mut x, mut y, mut xx, mut yy, mut xy) = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0);
    for row in both {
        let (u, v) = (a.scores[row], b.scores[row]);
        n += 1.0;
        x += u;
        y += v;
        xx += u * u;
        yy += v * v;
        xy += u * v;
    }
    let spread = ((xx - x * x / n) * (yy - y * y / n)).sqrt();
    let worth = columns.units() as f64 / columns.len as f64;
    if n > 0.0 && spread > 1e-9 {
        let r = (xy - x * y / n) / spread;
        (r.clamp(-0.999, 0.999), n * worth)
    } else {
        (0.0, 0.0)
    }
}
