//! Looks at training rows before anything is fitted to them: have they been tampered with?
//!
//! Eight questions, each answered by statistics that say how sure they are and *where*:
//! values no patient has; features that never vary; rows that stand twice; near-copies whose
//! outcomes contradict each other; floods of jittered copies; stretches or batches of the file
//! that are distributed unlike the rest; stretches where the outcome's rate jumps; outcomes that
//! the patients' own values contradict more often than chance allows. Thresholds are corrected for how many places are looked at, so that a clean
//! file passes.
//!
//! The report has counts, lines of the file and the names of features, never a value. Its digest
//! and that of the data go into the bundle's bill of materials.

use std::fmt;

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;

use crate::{
    bundle::model::{Missing, ModelSpec},
    training_data::Table,
};

mod batches;
mod beside;
mod columns;
mod duplicates;
mod flood;
mod labels;
mod logistic;
mod scan;
mod text;

pub use labels::Ruler;

/// Most lines that one finding lists.
const MAX_LINES: usize = 200;
/// Chance that a clean file fails one of the questions about distributions, in all.
const ALPHA: f64 = 0.001;

/// What a question came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was found.
    Pass,
    /// Something to know about, not a reason to stop.
    Note,
    /// A person has to look before the rows are used.
    Found,
    /// It could not be asked of these rows.
    NotAsked,
}

impl Verdict {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Note => "note",
            Self::Found => "FOUND",
            Self::NotAsked => "not asked",
        }
    }
}

/// Something found, and where.
#[derive(Clone, Debug, Serialize)]
pub struct Finding {
    /// In words.
    pub what: String,
    /// Names of the features it is about.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
    /// First and last line of the stretch of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub between: Option<(u64, u64)>,
    /// The batch it lies in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// How many rows.
    pub rows: usize,
    /// Lines of the file, most suspect first, 200 at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lines: Vec<u64>,
}

/// One question.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Stable name.
    pub name: &'static str,
    /// What it came to.
    pub verdict: Verdict,
    /// One sentence.
    pub summary: String,
    /// Where.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
}

impl Check {
    fn new(name: &'static str, verdict: Verdict, summary: impl Into<String>) -> Self {
        Self {
            name,
            verdict,
            summary: summary.into(),
            findings: Vec::new(),
        }
    }

    fn with(mut self, findings: Vec<Finding>) -> Self {
        self.findings = findings;
        self
    }
}

/// What was looked at and what was found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Version of this format: 1.
    pub format: u32,
    /// The model's name.
    pub model: String,
    /// SHA-256 of the file, hex.
    pub data_sha256: String,
    /// Rows of the file.
    pub rows: usize,
    /// Rows the server would take: nothing required is missing, nothing impossible.
    pub usable: usize,
    /// Rows with a known outcome.
    pub labelled: usize,
    /// Rows whose outcome occurred.
    pub positive: usize,
    /// Patients, when the rows are grouped.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<usize>,
    /// Seed of the folds.
    pub seed: u64,
    /// The questions, in order.
    pub checks: Vec<Check>,
    /// What was found in further files, each also beside this one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Further>,
}

/// Another file of rows.
#[derive(Clone, Debug, Serialize)]
pub struct Further {
    /// Its name, without directories.
    pub file: String,
    /// What was found in it.
    pub report: Report,
}

impl Report {
    /// Whether nothing was found that a person has to look at.
    pub fn passes(&self) -> bool {
        self.found().is_empty()
    }

    /// Names of the questions that found something in any file, each once.
    pub fn found(&self) -> Vec<&'static str> {
        let mut found = self.found_here();
        for name in self.further.iter().flat_map(|f| f.report.found()) {
            if !found.contains(&name) {
                found.push(name);
            }
        }
        found
    }

    /// Names of the questions that found something in this file.
    fn found_here(&self) -> Vec<&'static str> {
        let found = self.checks.iter().filter(|c| c.verdict == Verdict::Found);
        found.map(|c| c.name).collect()
    }

    /// The questions that found something, by file, in words.
    pub fn found_in_words(&self) -> String {
        let here = (!self.passes_here()).then(|| self.found_here().join(", "));
        let further = self.further.iter().filter(|f| !f.report.passes());
        let further = further.map(|f| format!("{} in {}", f.report.found().join(", "), f.file));
        here.into_iter()
            .chain(further)
            .collect::<Vec<_>>()
            .join("; ")
    }

    fn passes_here(&self) -> bool {
        self.found_here().is_empty()
    }

    /// As JSON, always the same bytes for the same report.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// SHA-256 of [`Report::json`], hex.
    pub fn digest(&self) -> String {
        hex::encode(digest(&SHA256, self.json().as_bytes()))
    }

    /// What the bill of materials records of it: name and value of each property, for a
    /// component's `properties` (`CycloneDX` 1.6).
    pub fn properties(&self) -> Vec<(String, String)> {
        let property = |name: &str, value: String| (format!("vitalgate:data:{name}"), value);
        let found = self.found();
        let mut list = vec![
            property("sha256", self.data_sha256.clone()),
            property("rows", self.rows.to_string()),
            property("usable_rows", self.usable.to_string()),
            property("labelled_rows", self.labelled.to_string()),
            property("positive_rows", self.positive.to_string()),
            property("validation:report_sha256", self.digest()),
            property("validation:seed", self.seed.to_string()),
            property(
                "validation:verdict",
                if found.is_empty() {
                    "pass".to_owned()
                } else {
                    format!("found: {}", found.join(", "))
                },
            ),
        ];
        list.extend(self.groups.map(|n| property("groups", n.to_string())));
        list
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&text::report(self))
    }
}

/// Looks at a table's rows. `ruler` has what a trained model predicts for each row: with it,
/// wrong outcomes are found far more surely than without.
pub fn validate(table: &Table, spec: &ModelSpec, ruler: Option<&Ruler>, seed: u64) -> Report {
    let columns = columns::Columns::of(table, spec);
    let labels = table
        .labels()
        .map(|l| l.values.as_slice())
        .unwrap_or_default();
    let outcomes = labels::Outcomes::of(table, &columns, ruler, seed);
    Report {
        format: 1,
        model: spec.name.clone(),
        data_sha256: table.sha256().to_owned(),
        rows: table.len(),
        usable: table.rows().filter(|row| usable(row, spec)).count(),
        labelled: labels.iter().flatten().count(),
        positive: labels.iter().flatten().filter(|l| **l).count(),
        groups: columns.groups.as_ref().map(|_| columns.units()),
        seed,
        checks: vec![
            impossible(table, spec),
            constant(&columns),
            duplicates::exact(table, spec),
            duplicates::conflicting(table, spec),
            flood::check(table, &columns),
            batches::check(table, spec, &columns),
            labels::rate(table, &columns, &outcomes),
            labels::conflicts(table, &outcomes),
        ],
        further: Vec::new(),
    }
}

/// Looks at a further file's rows in themselves and beside those of the first.
pub fn validate_beside(
    first: &Table,
    further: &Table,
    spec: &ModelSpec,
    ruler: Option<&Ruler>,
    seed: u64,
) -> Report {
    let mut report = validate(further, spec, ruler, seed);
    let columns = |table| columns::Columns::of(table, spec);
    let beside = beside::check(&columns(first), &columns(further));
    report.checks.push(beside);
    report
}

fn usable(row: &[f64], spec: &ModelSpec) -> bool {
    row.iter().zip(&spec.features).all(|(value, feature)| {
        if value.is_nan() {
            matches!(feature.missing, Missing::Impute(_))
        } else {
            feature.possible.contains(*value)
        }
    })
}

/// Values that no living patient has and no instrument gives; those beyond the expected range
/// are only counted.
fn impossible(table: &Table, spec: &ModelSpec) -> Check {
    let mut findings = Vec::new();
    let (mut all, mut unexpected) = (0, 0);
    for (j, feature) in spec.features.iter().enumerate() {
        let values = || {
            let of = |row: &[f64]| row.get(j).copied().unwrap_or(f64::NAN);
            table
                .rows()
                .map(of)
                .enumerate()
                .filter(|(_, v)| !v.is_nan())
        };
        unexpected += values()
            .filter(|(_, v)| !feature.expected.contains(*v))
            .count();
        let impossible: Vec<usize> = values()
            .filter(|(_, v)| !feature.possible.contains(*v))
            .map(|(row, _)| row)
            .collect();
        if impossible.is_empty() {
            continue;
        }
        all += impossible.len();
        findings.push(Finding {
            what: format!(
                "{} outside {} to {} {}",
                feature.name, feature.possible.min, feature.possible.max, feature.unit
            ),
            features: vec![feature.name.clone()],
            between: None,
            batch: None,
            rows: impossible.len(),
            lines: lines(table, &impossible),
        });
    }
    let beyond = format!("{unexpected} more outside the expected range");
    if findings.is_empty() {
        let summary = format!("no impossible value; {unexpected} outside the expected range");
        Check::new("impossible_values", Verdict::Pass, summary)
    } else {
        let all = counted(all, "impossible value", "impossible values");
        let summary = format!("{all}; {beyond}");
        Check::new("impossible_values", Verdict::Found, summary).with(findings)
    }
}

/// Features with one value in all rows: a stuck instrument, a column that was filled in, or nothing
/// to learn from.
fn constant(columns: &columns::Columns) -> Check {
    const NAME: &str = "constant_features";
    if columns.len < batches::FEW_ROWS {
        return Check::new(NAME, Verdict::NotAsked, "too few rows");
    }
    let constant = columns.features.iter().filter(|c| c.distinct <= 1);
    let findings: Vec<Finding> = constant
        .map(|column| Finding {
            what: if column.distinct == 0 {
                format!("{} has no value in any row", column.name)
            } else {
                format!(
                    "{} has the same value in every row that has one",
                    column.name
                )
            },
            features: vec![column.name.clone()],
            between: None,
            batch: None,
            rows: columns.len,
            lines: Vec::new(),
        })
        .collect();
    let (verdict, summary) = match findings.len() {
        0 => (Verdict::Pass, "every feature varies".to_owned()),
        n => (
            Verdict::Found,
            format!("{} vary", counted(n, "feature does not", "features do not")),
        ),
    };
    Check::new(NAME, verdict, summary).with(findings)
}

/// A number with the words for it.
fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

/// The lines of these rows, as many as a finding lists.
fn lines(table: &Table, rows: &[usize]) -> Vec<u64> {
    let listed = rows.iter().take(MAX_LINES);
    listed.map(|&row| table.line(row)).collect()
}

#[cfg(test)]
mod tests;
