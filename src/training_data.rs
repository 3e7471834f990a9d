//! Patients' rows from a CSV file, for fitting and for judging; never on the request path.
//!
//! A column belongs to a feature when its header is the feature's name, its LOINC code, or what
//! people call that observation (`HR`, `Na`), whatever the case and the punctuation; anything
//! else is said with `--map`. Values are in the declared units and are rounded to the declared
//! precision, as the server rounds what it is sent, so that what is fitted is what will be judged.
//!
//! The rows are patients: no error and no `Debug` shows a value or an identifier, only lines and
//! headers. Identifiers of groups are turned into numbers as they are read.

use std::{collections::HashMap, fmt};

use aws_lc_rs::digest::{SHA256, digest};

use crate::{
    bundle::model::{Feature, Kind, ModelSpec},
    units::round_to_step,
};

mod headers;

/// Headers that are taken for the outcome when none is named.
const LABELS: [&str; 5] = ["died", "label", "outcome", "target", "y"];
/// What stands for a value that was not measured.
const MISSING: [&str; 6] = ["", "na", "nan", "null", "none", "?"];

/// Which columns are what, beside what the headers say by themselves.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// The outcome, 0 or 1; found by its usual names when `None`.
    pub label: Option<String>,
    /// Whose row it is: rows of one group never lie on both sides of a split.
    pub group: Option<String>,
    /// Where it comes from: a site, a delivery.
    pub batch: Option<String>,
    /// A feature's name and the header of its column.
    pub named: Vec<(String, String)>,
    /// The file need not have the columns of the outcome and the group.
    pub further: bool,
}

/// Why a file is no table of a model's rows.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    /// Not CSV.
    #[error("line {line}: not CSV: {problem}")]
    Syntax {
        /// Where.
        line: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A header that was asked for, or that a feature needs, is not there.
    #[error("no column {wanted:?} for {role}; the file has {found}")]
    NoColumn {
        /// The header.
        wanted: String,
        /// What it is needed for.
        role: String,
        /// The headers there are.
        found: String,
    },
    /// What stands on the first line are no names; it may be a patient's row.
    #[error(
        "the first line has no column names, in {columns} column(s); is the header missing, or \
         the separator no comma?"
    )]
    NoHeader {
        /// How many cells there are.
        columns: usize,
    },
    /// Two columns could be meant.
    #[error("columns {first:?} and {second:?} could both be {role}; name one with {with}")]
    Ambiguous {
        /// One.
        first: String,
        /// The other.
        second: String,
        /// What for.
        role: String,
        /// The argument that says which.
        with: &'static str,
    },
    /// A feature that the model does not have.
    #[error("--map …={0}: the model has no feature of this name")]
    NoFeature(String),
    /// A field that is not what its column holds. What it holds instead is a patient's.
    #[error("line {line}, column {header:?}: expected {expected}")]
    Field {
        /// The line in the file, the header's is 1.
        line: u64,
        /// The column.
        header: String,
        /// What should stand there.
        expected: &'static str,
    },
    /// Rows that belong to nobody; together they would be one patient.
    #[error("column {header:?} does not say whose {rows} row(s) are, the first on line {line}")]
    NoGroup {
        /// The column.
        header: String,
        /// The first line where it is empty.
        line: u64,
        /// In how many rows it is.
        rows: usize,
    },
    /// A header and nothing else.
    #[error("no rows")]
    Empty,
}

/// Rows of a model's features, as read from one file.
pub struct Table {
    width: usize,
    values: Vec<f64>,
    lines: Vec<u64>,
    labels: Option<Labels>,
    groups: Option<Vec<u32>>,
    batches: Option<Batches>,
    headers: Vec<String>,
    sha256: String,
}

/// The outcomes of a table's rows.
#[derive(Clone)]
pub struct Labels {
    /// The column.
    pub header: String,
    /// A row each; `None` where it is not known.
    pub values: Vec<Option<bool>>,
}

/// Where a table's rows come from.
#[derive(Clone)]
pub struct Batches {
    /// The column.
    pub header: String,
    /// Of each batch, in order of first appearance.
    pub names: Vec<String>,
    /// A row each, an index into `names`.
    pub of: Vec<u32>,
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table")
            .field("rows", &self.len())
            .field("sha256", &self.sha256)
            .finish_non_exhaustive()
    }
}

impl Table {
    /// Reads a CSV file with a header, UTF-8, comma-separated.
    ///
    /// # Errors
    /// See [`TableError`]; the first that is met.
    pub fn read(bytes: &[u8], spec: &ModelSpec, columns: &Columns) -> Result<Self, TableError> {
        Self::read_with(bytes, spec, columns, &mut Groups::default())
    }

    /// The same for one of several files, in which a group has the same number.
    ///
    /// # Errors
    /// See [`TableError`]; the first that is met.
    pub fn read_with(
        bytes: &[u8],
        spec: &ModelSpec,
        columns: &Columns,
        groups: &mut Groups,
    ) -> Result<Self, TableError> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(bytes);
        let headers: Vec<String> = match reader.headers() {
            Ok(found) => found.iter().map(str::to_owned).collect(),
            Err(error) => return Err(syntax(&error)),
        };
        let at = headers::features(&headers, spec, columns)?;
        let dispensable = |found: Result<Option<usize>, TableError>| match found {
            Err(TableError::NoColumn { .. } | TableError::Ambiguous { .. }) if columns.further => {
                Ok(None)
            }
            found => found,
        };
        let find = |name: &Option<String>, role: &str| {
            let found = name.as_ref().map(|n| headers::exact(&headers, n, role));
            dispensable(found.transpose())
        };
        let label = if columns.label.is_some() {
            find(&columns.label, "the outcome")?
        } else {
            dispensable(headers::usual(&headers, &LABELS, "the outcome", "--label"))?
        };
        let group = find(&columns.group, "the group")?;
        let batch = find(&columns.batch, "the batch")?;

        let mut table = Self {
            width: spec.features.len(),
            values: Vec::new(),
            lines: Vec::new(),
            labels: label.map(|index| Labels {
                header: headers.get(index).cloned().unwrap_or_default(),
                values: Vec::new(),
            }),
            groups: group.map(|_| Vec::new()),
            batches: batch.map(|index| Batches {
                header: headers.get(index).cloned().unwrap_or_default(),
                names: Vec::new(),
                of: Vec::new(),
            }),
            headers,
            sha256: hex::encode(digest(&SHA256, bytes)),
        };
        let mut batches = Interned::default();
        let mut nobodys: Option<(u64, usize)> = None;
        for record in reader.records() {
            let record = record.map_err(|error| syntax(&error))?;
            let line = record.position().map_or(0, csv::Position::line);
            let field = |index: usize| record.get(index).unwrap_or_default();
            for (feature, &index) in spec.features.iter().zip(&at) {
                let value = number(feature, field(index))
                    .map_err(|expected| table.wrong(line, index, expected))?;
                table.values.push(value);
            }
            if let (Some(index), Some(labels)) = (label, &mut table.labels) {
                let value = truth(field(index));
                let Ok(value) = value else {
                    return Err(table.wrong(line, index, "0 or 1, or nothing"));
                };
                labels.values.push(value);
            }
            if let (Some(index), Some(of)) = (group, &mut table.groups) {
                if is_missing(field(index)) {
                    nobodys.get_or_insert((line, 0)).1 += 1;
                }
                of.push(groups.0.number(field(index)));
            }
            if let (Some(index), Some(found)) = (batch, &mut table.batches) {
                found.of.push(batches.number(field(index)));
            }
            table.lines.push(line);
        }
        if table.lines.is_empty() {
            return Err(TableError::Empty);
        }
        if let (Some(index), Some((line, rows))) = (group, nobodys) {
            let header = table.headers.get(index).cloned().unwrap_or_default();
            return Err(TableError::NoGroup { header, line, rows });
        }
        if let Some(found) = &mut table.batches {
            found.names = batches.names();
        }
        Ok(table)
    }

    fn wrong(&self, line: u64, index: usize, expected: &'static str) -> TableError {
        TableError::Field {
            line,
            header: self.headers.get(index).cloned().unwrap_or_default(),
            expected,
        }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there is none; a table that was read has at least one.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// How many features a row has.
    pub fn width(&self) -> usize {
        self.width
    }

    /// A row's values in the declared units, NaN where not measured; empty beyond the last row.
    pub fn row(&self, index: usize) -> &[f64] {
        let start = index.saturating_mul(self.width);
        let end = start.saturating_add(self.width);
        self.values.get(start..end).unwrap_or_default()
    }

    /// All rows, in the file's order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> {
        self.values.chunks_exact(self.width.max(1))
    }

    /// The line of the file that a row begins on; the header's is 1.
    pub fn line(&self, index: usize) -> u64 {
        self.lines.get(index).copied().unwrap_or_default()
    }

    /// The outcomes, if the file has them.
    pub fn labels(&self) -> Option<&Labels> {
        self.labels.as_ref()
    }

    /// Whose row each is, if it was asked for.
    pub fn groups(&self) -> Option<&[u32]> {
        self.groups.as_deref()
    }

    /// Where each row comes from, if it was asked for.
    pub fn batches(&self) -> Option<&Batches> {
        self.batches.as_ref()
    }

    /// SHA-256 of the file, hex.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the kinds are not all of them known"
)]
fn syntax(error: &csv::Error) -> TableError {
    let line = error.position().map_or(1, csv::Position::line);
    let problem = match error.kind() {
        csv::ErrorKind::Utf8 { .. } => "not UTF-8",
        csv::ErrorKind::UnequalLengths { .. } => "another number of fields than the header has",
        _ => "cannot be read",
    };
    TableError::Syntax { line, problem }
}

/// A feature's value, on its measurement grid.
fn number(feature: &Feature, text: &str) -> Result<f64, &'static str> {
    if is_missing(text) {
        return Ok(f64::NAN);
    }
    let value = match (feature.kind, text.to_ascii_lowercase().as_str()) {
        (Kind::Boolean, "true" | "yes") => 1.0,
        (Kind::Boolean, "false" | "no") => 0.0,
        (_, text) => text.parse().map_err(|_| "a number, or nothing")?,
    };
    if !f64::is_finite(value) {
        return Err("a finite number, or nothing");
    }
    if feature.kind != Kind::Quantity && value.fract() != 0.0 {
        return Err("a whole number, or nothing");
    }
    Ok(feature
        .precision
        .map_or(value, |step| round_to_step(value, step).value))
}

fn truth(text: &str) -> Result<Option<bool>, ()> {
    if is_missing(text) {
        return Ok(None);
    }
    match text.to_ascii_lowercase().as_str() {
        "1" | "1.0" | "true" | "yes" => Ok(Some(true)),
        "0" | "0.0" | "false" | "no" => Ok(Some(false)),
        _ => Err(()),
    }
}

fn is_missing(text: &str) -> bool {
    MISSING.iter().any(|word| text.eq_ignore_ascii_case(word))
}

/// Numbers for the names of groups.
#[derive(Default)]
pub struct Groups(Interned);

impl fmt::Debug for Groups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Groups").field(&self.0.0.len()).finish()
    }
}

/// Texts as numbers, in order of first appearance.
#[derive(Default)]
struct Interned(HashMap<String, u32>);

impl Interned {
    fn number(&mut self, text: &str) -> u32 {
        let next = u32::try_from(self.0.len()).unwrap_or(u32::MAX);
        *self.0.entry(text.to_owned()).or_insert(next)
    }

    fn names(self) -> Vec<String> {
        let mut names: Vec<(u32, String)> = self.0.into_iter().map(|(n, i)| (i, n)).collect();
        names.sort_unstable();
        names.into_iter().map(|(_, name)| name).collect()
    }
}

#[cfg(test)]
mod tests;
