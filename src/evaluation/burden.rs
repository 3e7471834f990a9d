//! How many patients a person would have to look at, and which.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use crate::{
    bundle::model::ModelSpec,
    disposition::Code,
    screening::reference::{RawBudget, RawReference},
    statistics::share_interval,
};

use super::{metrics::Estimate, path::Ended};

/// Rows of one kind.
#[derive(Clone, Debug, Serialize)]
pub struct Stratum {
    /// What they are divided by.
    pub by: String,
    /// Which part.
    pub name: String,
    /// Rows that have every value the model requires.
    pub rows: usize,
    /// Further rows, which lack one: rejected for that, and counted nowhere else here.
    pub incomplete: usize,
    /// Of these, rejected.
    pub rejected: usize,
    /// Of these, sent to review.
    pub reviewed: usize,
    /// Rejected and reviewed, with its 95% interval (Clopper–Pearson).
    pub share: Estimate,
    /// By code; a row counts under each of its own.
    pub codes: BTreeMap<String, usize>,
}

/// The bundle's review budget and what of it these rows take.
#[derive(Clone, Debug, Serialize)]
pub struct Budget {
    /// Patients that all screens together may reject or send to review.
    pub total: f64,
    /// Those they do, of the rows with every required value.
    pub taken: Estimate,
    /// Whether it is no more.
    pub within: bool,
    /// How fitting divided it, when it did.
    pub divided: Option<RawBudget>,
}

impl fmt::Display for Budget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the bundle's budget of {:.1} %", 100.0 * self.total)?;
        let Some(divided) = &self.divided else {
            return Ok(());
        };
        let parts = [
            ("ranges", divided.ranges),
            ("rules", divided.consistency),
            ("missing values", divided.missing),
            ("distribution", divided.distribution),
            ("agreement", divided.agreement),
            ("reserve", divided.reserve),
        ];
        let parts = parts.map(|(name, share)| format!("{name} {:.2}", 100.0 * share));
        let (measured, given) = parts.split_at(3);
        write!(
            f,
            ", divided by the fit into {} (as measured), {}",
            measured.join(", "),
            given.join(", ")
        )
    }
}

/// Compares all rows' burden with the budget.
pub(super) fn budget(
    spec: &ModelSpec,
    burden: &[Stratum],
    reference: Option<&RawReference>,
) -> Option<Budget> {
    let all = burden.first()?;
    Some(Budget {
        total: spec.review.budget,
        taken: all.share,
        within: all.share.value <= spec.review.budget,
        divided: reference.and_then(|raw| raw.budget),
    })
}

/// Divides rows by sex, age, outcome and missing values, where the file has them.
pub(super) fn burden(
    spec: &ModelSpec,
    rows: &[(&[f64], Option<bool>, Ended)],
    outcome: &str,
) -> Vec<Stratum> {
    let value = |row: &[f64], name: &str| {
        let index = spec.by_name.get(name)?;
        row.get(*index).copied().filter(|v| !v.is_nan())
    };
    let mut parts: BTreeMap<(u8, &str, u8, String), Vec<&Ended>> = BTreeMap::new();
    for (row, label, ended) in rows {
        let mut put = |order: u8, by: &'static str, rank: u8, name: String| {
            parts
                .entry((order, by, rank, name))
                .or_default()
                .push(ended);
        };
        put(0, "all", 0, "all".to_owned());
        for (name, yes, no) in [("male", "men", "women"), ("female", "women", "men")] {
            if let Some(sex) = value(row, name) {
                put(1, "sex", 0, (if sex > 0.5 { yes } else { no }).to_owned());
            }
        }
        if let Some(age) = value(row, "age") {
            let bands = [(50.0, "under 50"), (65.0, "50 to 64"), (80.0, "65 to 79")];
            let rank = bands.iter().position(|(below, _)| age < *below);
            let name = rank
                .and_then(|i| bands.get(i))
                .map_or("80 and over", |b| b.1);
            let rank = rank.and_then(|r| u8::try_from(r).ok()).unwrap_or(3);
            put(2, "age", rank, name.to_owned());
        }
        if let Some(label) = label {
            let name = if *label {
                outcome.to_owned()
            } else {
                format!("no {outcome}")
            };
            put(3, "outcome", u8::from(*label), name);
        }
        let missing = ended.missing.min(3);
        let name = match missing {
            0 => "none missing".to_owned(),
            3 => "3 or more missing".to_owned(),
            n => format!("{n} missing"),
        };
        if !is_incomplete(ended) {
            put(4, "missing", u8::try_from(missing).unwrap_or(3), name);
        }
    }
    parts
        .into_iter()
        .filter_map(|((_, by, _, name), ended)| stratum(by, name, &ended))
        .collect()
}

/// Whether a row was rejected for a missing value only: nothing was judged.
pub(super) fn is_incomplete(ended: &Ended) -> bool {
    ended.rejected && ended.codes.iter().all(|code| *code == Code::MissingValue)
}

/// `None` where every row lacks a required value.
fn stratum(by: &str, name: String, all: &[&Ended]) -> Option<Stratum> {
    let ended = || all.iter().filter(|ended| !is_incomplete(ended));
    let rows = ended().count();
    let rejected = ended().filter(|e| e.rejected).count();
    let reviewed = ended()
        .filter(|e| !e.rejected && !e.codes.is_empty())
        .count();
    let mut codes: BTreeMap<String, usize> = BTreeMap::new();
    for each in ended() {
        let mut own: Vec<&str> = each.codes.iter().map(|c| c.as_str()).collect();
        own.sort_unstable();
        own.dedup();
        for code in own {
            *codes.entry(code.to_owned()).or_default() += 1;
        }
    }
    let (low, high) = share_interval(rejected + reviewed, rows, 0.95);
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    (rows > 0).then(|| Stratum {
        by: by.to_owned(),
        name,
        rows,
        incomplete: all.len() - rows,
        rejected,
        reviewed,
        share: Estimate {
            value: number(rejected + reviewed) / number(rows),
            low,
            high,
        },
        codes,
    })
}
