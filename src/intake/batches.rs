//! Stretches of the file and named batches that are distributed unlike the rest.
//!
//! In the file's order, every feature's mean, spread and missingness and every pair's product
//! are scanned ([`super::scan`]): a shift, a change of spread, values lost and a broken
//! dependence each show, with the lines between which they lie. Batches that a column names are
//! compared with all the others: Kolmogorov–Smirnov where a feature takes many values,
//! chi-squared where it takes few, and products of scores for dependence. Bonferroni throughout.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::many_single_char_names,
    reason = "offline numerics; widths come from one table"
)]

use std::collections::BTreeMap;

use crate::{
    bundle::model::ModelSpec,
    statistics::{chi_squared_tail, kolmogorov_smirnov, normal_tail},
    training_data::{Batches, Table},
};

use super::{
    ALPHA, Check, Finding, Verdict,
    columns::{Column, Columns, FEW_VALUES},
    counted,
    scan::{self, Stretch, scan},
};

/// Patients differ by season and by ward; with thousands of rows a difference in level of a fifth
/// of a standard deviation is certain and means nothing.
const MILD: f64 = 0.25;
const NAME: &str = "shifted_batches";
/// More batches than this are no batches.
const MAX_BATCHES: usize = 200;
/// Fewer rows than this say nothing about a distribution.
pub(super) const FEW_ROWS: usize = 30;

pub(super) fn check(table: &Table, spec: &ModelSpec, columns: &Columns) -> Check {
    if table.len() < 4 * FEW_ROWS {
        return Check::new(NAME, Verdict::NotAsked, "too few rows");
    }
    let mut findings = stretches(table, columns);
    let mut summary = format!(
        "{} from the rest ({} features: mean, spread, missingness, dependence)",
        counted(
            findings.len(),
            "stretch of the file differs",
            "stretches of the file differ"
        ),
        spec.features.len()
    );
    if let Some(batches) = table.batches() {
        if batches.names.len() > MAX_BATCHES {
            let many = format!(
                "column {} has more than {MAX_BATCHES} batches",
                batches.header
            );
            return Check::new(NAME, Verdict::NotAsked, many);
        }
        let differing = named(columns, batches);
        summary = format!(
            "{summary}; of {} batches named by {}, {} from the others",
            batches.names.len(),
            batches.header,
            counted(differing.len(), "differs", "differ")
        );
        findings.extend(differing);
    }
    let verdict = if findings.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Found
    };
    Check::new(NAME, verdict, summary).with(findings)
}

/// A series to scan, and what it says about its feature when it is unusual.
struct Series {
    values: Vec<f64>,
    feature: usize,
    partner: Option<usize>,
    says: &'static str,
}

fn series(columns: &Columns) -> impl Iterator<Item = Series> {
    let d = columns.features.len();
    let single = (0..d).flat_map(move |j| {
        let Column {
            raw,
            scores,
            missing,
            distinct,
            ..
        } = &columns.features[j];
        let mut list = vec![Series {
            values: scores.clone(),
            feature: j,
            partner: None,
            says: "level",
        }];
        if *distinct > FEW_VALUES {
            list.push(Series {
                values: scores.iter().map(|z| z.abs()).collect(),
                feature: j,
                partner: None,
                says: "spread",
            });
        }
        if *missing > 0.0 {
            list.push(Series {
                values: raw
                    .iter()
                    .map(|v| f64::from(u8::from(v.is_nan())))
                    .collect(),
                feature: j,
                partner: None,
                says: "missingness",
            });
        }
        list
    });
    let pairs = (0..d)
        .flat_map(move |j| (0..j).map(move |k| (j, k)))
        .map(move |(j, k)| {
            let (a, b) = (&columns.features[j].scores, &columns.features[k].scores);
            Series {
                // Clipped, so that a few rows do not make a stretch.
                values: a
                    .iter()
                    .zip(b)
                    .map(|(a, b)| a.clamp(-2.0, 2.0) * b.clamp(-2.0, 2.0))
                    .collect(),
                feature: j,
                partner: Some(k),
                says: "dependence",
            }
        });
    single.chain(pairs)
}

/// Stretches of the file in which something is unusual, those that overlap taken together.
fn stretches(table: &Table, columns: &Columns) -> Vec<Finding> {
    let mut unusual: Vec<(Stretch, Series)> = Vec::new();
    let mut tried = 0.0;
    for series in series(columns) {
        tried += 1.0;
        let by_unit = if series.says == "missingness" {
            columns.any_by_unit(&series.values)
        } else {
            columns.by_unit(&series.values)
        };
        if let Some(stretch) = scan(&by_unit).map(|s| columns.in_rows(s))
            && stretch.p < ALPHA
            && stretch.shift.abs() >= MILD
        {
            unusual.push((stretch, series));
        }
    }
    unusual.retain(|(stretch, _)| stretch.p * tried < ALPHA);
    unusual.sort_by(|a, b| a.0.p.total_cmp(&b.0.p));
    let mut findings: Vec<(Stretch, Vec<&(Stretch, Series)>)> = Vec::new();
    for found in &unusual {
        let overlapping = findings.iter_mut().find(|(s, _)| {
            let common =
                s.to.min(found.0.to)
                    .saturating_sub(s.from.max(found.0.from));
            2 * common > (found.0.to - found.0.from).min(s.to - s.from)
        });
        match overlapping {
            Some((_, members)) => members.push(found),
            None => findings.push((found.0, vec![found])),
        }
    }
    findings
        .into_iter()
        .map(|(stretch, members)| {
            let mut features: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for (s, series) in &members {
                let said = match series.partner {
                    None if series.says == "level" => format!("level {:+.2} sd", s.shift),
                    None => series.says.to_owned(),
                    // A pair is only news when neither of its features is.
                    Some(other) => format!("dependence on {}", columns.features[other].name),
                };
                let of = features.entry(series.feature).or_default();
                if series.partner.is_none() || of.is_empty() {
                    of.push(said);
                }
            }
            let named: Vec<String> = features
                .iter()
                .map(|(&j, said)| format!("{} ({})", columns.features[j].name, said.join(", ")))
                .collect();
            Finding {
                what: format!("unlike the rest of the file: {}", named.join("; ")),
                features: features
                    .keys()
                    .map(|&j| columns.features[j].name.clone())
                    .collect(),
                between: Some((table.line(stretch.from), table.line(stretch.to - 1))),
                batch: None,
                rows: stretch.to - stretch.from,
                lines: Vec::new(),
            }
        })
        .collect()
}

/// Batches that differ from all the others together.
fn named(columns: &Columns, batches: &Batches) -> Vec<Finding> {
    let d = columns.features.len();
    let tests = batches.names.len() * (2 * d + d * (d - 1) / 2);
    let limit = ALPHA / tests as f64;
    // Rows that follow each other may be of one patient.
    let worth = columns.units() as f64 / columns.len as f64;
    let mut findings = Vec::new();
    for (index, name) in batches.names.iter().enumerate() {
        let (inside, outside): (Vec<usize>, Vec<usize>) =
            (0..columns.len).partition(|&row| batches.of[row] as usize == index);
        if inside.len() < FEW_ROWS || outside.len() < FEW_ROWS {
            continue;
        }
        let mut differing: BTreeMap<usize, &str> = BTreeMap::new();
        for (j, column) in columns.features.iter().enumerate() {
            if compare(column, &inside, &outside, worth) < limit {
                differing.insert(j, "distribution");
            } else if missingness(column, &inside, &outside, worth) < limit {
                differing.insert(j, "missingness");
            }
        }
        for j in 0..d {
            for k in 0..j {
                if !differing.contains_key(&j)
                    && !differing.contains_key(&k)
                    && dependence(columns, (j, k), (&inside, &outside), worth) < limit
                {
                    differing.insert(j, "dependence on others");
                }
            }
        }
        if !differing.is_empty() {
            let named: Vec<String> = differing
                .iter()
                .map(|(&j, says)| format!("{} ({says})", columns.features[j].name))
                .collect();
            findings.push(Finding {
                what: format!("unlike the other batches: {}", named.join("; ")),
                features: differing
                    .keys()
                    .map(|&j| columns.features[j].name.clone())
                    .collect(),
                between: None,
                batch: Some(name.clone()),
                rows: inside.len(),
                lines: Vec::new(),
            });
        }
    }
    findings
}

/// p-value for one feature.
pub(super) fn compare(column: &Column, inside: &[usize], outside: &[usize], worth: f64) -> f64 {
    let take = |rows: &[usize]| -> Vec<f64> {
        let values = rows.iter().map(|&row| column.raw[row]);
        values.filter(|v| !v.is_nan()).collect()
    };
    let (a, b) = (take(inside), take(outside));
    if column.distinct > FEW_VALUES {
        return kolmogorov_smirnov(&a, &b, 1.0 / worth).1;
    }
    let mut counts: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
    for value in a.iter().copied() {
        counts.entry((value + 0.0).to_bits()).or_default().0 += worth;
    }
    for value in b.iter().copied() {
        counts.entry((value + 0.0).to_bits()).or_default().1 += worth;
    }
    homogeneity(counts.values().copied())
}

pub(super) fn missingness(column: &Column, inside: &[usize], outside: &[usize], worth: f64) -> f64 {
    let count = |rows: &[usize]| {
        let missing = rows.iter().filter(|&&row| column.raw[row].is_nan()).count() as f64;
        (missing * worth, (rows.len() as f64 - missing) * worth)
    };
    let ((am, ap), (bm, bp)) = (count(inside), count(outside));
    homogeneity([(am, bm), (ap, bp)].into_iter())
}

/// Chi-squared test of homogeneity of two columns of counts.
pub(super) fn homogeneity(cells: impl Iterator<Item = (f64, f64)>) -> f64 {
    // Cells of few patients are put together.
    let (mut kept, mut rest) = (Vec::new(), (0.0, 0.0));
    for (a, b) in cells {
        if a + b < 10.0 {
            rest = (rest.0 + a, rest.1 + b);
        } else {
            kept.push((a, b));
        }
    }
    if rest.0 + rest.1 > 0.0 {
        kept.push(rest);
    }
    let (a, b): (Vec<f64>, Vec<f64>) = kept.iter().copied().unzip();
    let (sum_a, sum_b) = (a.iter().sum::<f64>(), b.iter().sum::<f64>());
    let all = sum_a + sum_b;
    if kept.len() < 2 || sum_a <= 0.0 || sum_b <= 0.0 {
        return 1.0;
    }
    let statistic: f64 = kept
        .iter()
        .map(|&(x, y)| {
            let (ex, ey) = ((x + y) * sum_a / all, (x + y) * sum_b / all);
            (x - ex).powi(2) / ex + (y - ey).powi(2) / ey
        })
        .sum();
    chi_squared_tail(statistic, kept.len() - 1)
}

/// p-value for the mean product of two features' scores.
fn dependence(
    columns: &Columns,
    (j, k): (usize, usize),
    (inside, outside): (&[usize], &[usize]),
    worth: f64,
) -> f64 {
    let (a, b) = (&columns.features[j].scores, &columns.features[k].scores);
    let moments = |rows: &[usize]| {
        let n = rows.len() as f64;
        let products = || rows.iter().map(|&row| a[row] * b[row]);
        let mean = products().sum::<f64>() / n;
        let variance = products().map(|p| (p - mean).powi(2)).sum::<f64>() / n;
        (mean, variance / (n * worth))
    };
    let ((mean_in, var_in), (mean_out, var_out)) = (moments(inside), moments(outside));
    let z = (mean_in - mean_out) / (var_in + var_out).sqrt().max(1e-9);
    2.0 * normal_tail(z.abs())
}

/// How much neighbouring rows depend on each other in a series of residuals.
pub(super) fn inflation_of(series: &[f64]) -> f64 {
    let n = series.len() as f64;
    let mean = series.iter().sum::<f64>() / n;
    let sd = (series.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
    if sd > 0.0 {
        scan::inflation(series, mean, sd)
    } else {
        1.0
    }
}
