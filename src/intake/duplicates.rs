//! Rows that stand twice, and near-copies whose outcomes contradict each other.

use std::collections::{HashMap, HashSet};

use crate::{bundle::model::ModelSpec, training_data::Table};

use super::{Check, Finding, Verdict, counted, lines};

/// A row says enough to be told from others when it has at least so many values that are not
/// shared by a tenth of all rows.
const TELLING: usize = 4;
/// Near-copies agree in this share of the features.
const NEAR: f64 = 0.8;
/// Rows in one bucket beyond this are not compared pair by pair, but each with the next few: among
/// so many copies some neighbours contradict each other.
const BUCKET: usize = 400;
const NEIGHBOURS: usize = 8;

/// Rows equal in every feature, of different groups.
pub(super) fn exact(table: &Table, spec: &ModelSpec) -> Check {
    const NAME: &str = "duplicate_rows";
    if telling(table, spec).len() < TELLING {
        let summary = "the features take too few values for a repeated row to mean anything";
        return Check::new(NAME, Verdict::NotAsked, summary);
    }
    let mut first: HashMap<Vec<u64>, usize> = HashMap::new();
    let (mut again, mut within) = (Vec::new(), 0);
    for (index, row) in table.rows().enumerate() {
        // Rows that mostly lack values are alike without being copies.
        if 2 * row.iter().filter(|v| v.is_nan()).count() > row.len() {
            continue;
        }
        let bits = row.iter().map(|v| v.to_bits()).collect();
        if let Some(&earlier) = first.get(&bits) {
            if same_group(table, earlier, index) {
                within += 1;
            } else {
                again.push(index);
            }
        } else {
            first.insert(bits, index);
        }
    }
    let of_one = if within > 0 {
        format!("; {within} within a group, which is left to the split")
    } else {
        String::new()
    };
    if again.is_empty() {
        let summary = format!("no row stands twice{of_one}");
        return Check::new(NAME, Verdict::Pass, summary);
    }
    let repeat = counted(again.len(), "row repeats", "rows repeat");
    let summary = format!("{repeat} an earlier one{of_one}");
    let finding = Finding {
        what: "equal to an earlier row in every feature".to_owned(),
        features: Vec::new(),
        between: None,
        batch: None,
        rows: again.len(),
        lines: lines(table, &again),
    };
    Check::new(NAME, Verdict::Found, summary).with(vec![finding])
}

/// Rows that agree in most features and not in the outcome.
pub(super) fn conflicting(table: &Table, spec: &ModelSpec) -> Check {
    const NAME: &str = "conflicting_copies";
    let Some(labels) = table.labels() else {
        return Check::new(NAME, Verdict::NotAsked, "the file has no outcomes");
    };
    let telling = telling(table, spec);
    if telling.len() < TELLING {
        let summary = "the features take too few values for a near-copy to mean anything";
        return Check::new(NAME, Verdict::NotAsked, summary);
    }
    let conflict = |&(a, b): &(usize, usize)| {
        let of = |row: usize| labels.values.get(row).copied().flatten();
        of(a).is_some() && of(b).is_some() && of(a) != of(b)
    };
    let pairs = near_copies(table, &telling);
    let between = |&&(a, b): &&(usize, usize)| conflict(&(a, b));
    let rows: HashSet<usize> = pairs
        .iter()
        .filter(between)
        .flat_map(|&(a, b)| [a, b])
        .collect();
    let summary = format!(
        "{} of near-copies (at least {:.0} % of the values equal), {} with contradicting outcomes",
        counted(pairs.len(), "pair", "pairs"),
        100.0 * NEAR,
        pairs.iter().filter(between).count()
    );
    if rows.is_empty() {
        return Check::new(NAME, Verdict::Pass, summary);
    }
    let mut rows: Vec<usize> = rows.into_iter().collect();
    rows.sort_unstable();
    let finding = Finding {
        what: "near-copies of each other with contradicting outcomes".to_owned(),
        features: Vec::new(),
        between: None,
        batch: None,
        rows: rows.len(),
        lines: lines(table, &rows),
    };
    Check::new(NAME, Verdict::Found, summary).with(vec![finding])
}

/// The features whose values tell rows apart: no value is shared by a tenth of the rows that have
/// one. Copies count once, or many of them would hide themselves.
fn telling(table: &Table, spec: &ModelSpec) -> Vec<usize> {
    let bits = |row: &[f64]| -> Vec<u64> { row.iter().map(|v| v.to_bits()).collect() };
    let mut seen = HashSet::new();
    let different: Vec<&[f64]> = table.rows().filter(|row| seen.insert(bits(row))).collect();
    let all = 0..spec.features.len();
    all.filter(|&j| {
        let mut counts: HashMap<u64, usize> = HashMap::new();
        let values = different.iter().filter_map(|row| row.get(j));
        for value in values.filter(|v| !v.is_nan()) {
            *counts.entry(value.to_bits()).or_default() += 1;
        }
        let known = counts.values().sum::<usize>();
        // What most rows lack tells few of them apart.
        known * 2 >= different.len() && counts.values().all(|&n| n * 10 <= known.max(10))
    })
    .collect()
}

/// Pairs of rows that agree in [`NEAR`] of all features and are not of one group.
///
/// Two rows that differ in m features agree in at least one of m + 1 disjoint sets of features,
/// so only rows that agree in a whole set are compared. Each set gets its share of the telling
/// features, so that few rows agree in it by chance.
fn near_copies(table: &Table, telling: &[usize]) -> Vec<(usize, usize)> {
    let width = table.width();
    let may_differ = differences(width);
    let sets = (may_differ + 1).min(telling.len());
    let other = (0..width).filter(|j| !telling.contains(j));
    let dealt: Vec<usize> = telling.iter().copied().chain(other).collect();
    let mut pairs = HashSet::new();
    for set in 0..sets {
        let features: Vec<usize> = dealt.iter().copied().skip(set).step_by(sets).collect();
        let mut buckets: HashMap<Vec<u64>, Vec<usize>> = HashMap::new();
        for (index, row) in table.rows().enumerate() {
            let values = || features.iter().filter_map(|&j| row.get(j));
            // What is missing agrees with nothing.
            if values().any(|v| v.is_nan()) {
                continue;
            }
            let key = values().map(|v| v.to_bits());
            buckets.entry(key.collect()).or_default().push(index);
        }
        for bucket in buckets.values() {
            let next = if bucket.len() <= BUCKET {
                BUCKET
            } else {
                NEIGHBOURS
            };
            for (at, &a) in bucket.iter().enumerate() {
                for &b in bucket.iter().skip(at + 1).take(next) {
                    let near = differing(table.row(a), table.row(b)) <= may_differ;
                    if near && !same_group(table, a, b) {
                        pairs.insert((a, b));
                    }
                }
            }
        }
    }
    let mut pairs: Vec<_> = pairs.into_iter().collect();
    pairs.sort_unstable();
    pairs
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "at most 128 features"
)]
fn differences(width: usize) -> usize {
    ((1.0 - NEAR) * width as f64 + 1e-9) as usize
}

/// In how many features two rows differ; what is missing agrees with nothing.
fn differing(a: &[f64], b: &[f64]) -> usize {
    let pairs = a.iter().zip(b);
    pairs
        .filter(|(a, b)| a.is_nan() || a.to_bits() != b.to_bits())
        .count()
}

pub(super) fn same_group(table: &Table, a: usize, b: usize) -> bool {
    table
        .groups()
        .is_some_and(|groups| groups.get(a) == groups.get(b))
}
