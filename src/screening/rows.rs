//! Rows of a CSV file → patients, as the server would read them.

use std::{collections::HashMap, io};

use super::fit::{Patient, Trait};
use crate::{
    bundle::model::{Feature, Kind, Missing, ModelSpec},
    units::round_to_step,
};

/// Which column is which feature, and which names the patient.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Column → feature, where the header does not name the feature itself.
    pub map: Vec<(String, String)>,
    /// The column that names the patient; without one every row is a patient.
    pub group: Option<String>,
}

/// Why a file was not read.
#[derive(Debug, thiserror::Error)]
pub enum RowsError {
    /// Not CSV, or not readable.
    #[error(transparent)]
    Csv(#[from] csv::Error),
    /// A feature or the group has no column.
    #[error("no column for {0}: name one with --map COLUMN={0}")]
    NoColumn(String),
    /// The group has no column.
    #[error("no column {0} to group by")]
    NoGroup(String),
    /// A mapping that maps nothing.
    #[error("--map {0}={1}: {2}")]
    Map(String, String, &'static str),
    /// A cell that is no number.
    #[error("line {line}, column {column}: not a number, nor empty")]
    Cell {
        /// Line of the file, from 1.
        line: u64,
        /// Header of the column.
        column: String,
    },
}

/// Rows of a file, before anything is judged.
#[derive(Debug)]
pub struct Rows {
    /// Values in declared units on their measurement grid, NaN where not measured.
    pub patients: Vec<Patient>,
    /// The line of each in its file.
    pub lines: Vec<u64>,
}

impl Rows {
    /// Reads a file with a header. Empty cells, `NA`, `NaN` and `null` are missing values.
    /// Columns that are no feature are left alone.
    pub fn read(
        file: impl io::Read,
        spec: &ModelSpec,
        columns: &Columns,
        groups: &mut Groups,
    ) -> Result<Self, RowsError> {
        let mut reader = csv::ReaderBuilder::new()
            .trim(csv::Trim::All)
            .from_reader(file);
        let header = reader.headers()?.clone();
        let at = places(&header, spec, columns)?;
        let group = match &columns.group {
            Some(name) => Some(
                header
                    .iter()
                    .position(|h| h == name)
                    .ok_or_else(|| RowsError::NoGroup(name.clone()))?,
            ),
            None => None,
        };
        let (mut patients, mut lines) = (Vec::new(), Vec::new());
        for record in reader.records() {
            let record = record?;
            let line = record.position().map_or(0, csv::Position::line);
            let mut values = Vec::with_capacity(at.len());
            for (feature, &place) in spec.features.iter().zip(&at) {
                let text = record.get(place).unwrap_or_default();
                let value = number(text).ok_or_else(|| RowsError::Cell {
                    line,
                    column: header.get(place).unwrap_or_default().to_owned(),
                })?;
                values.push(on_grid(feature, value));
            }
            let group = match group.and_then(|place| record.get(place)) {
                Some(name) => groups.named(name),
                None => groups.fresh(),
            };
            patients.push(Patient { values, group });
            lines.push(line);
        }
        Ok(Self { patients, lines })
    }
}

/// Numbers for the names of groups, the same in every file of a fit.
#[derive(Debug, Default)]
pub struct Groups {
    named: HashMap<String, u64>,
    next: u64,
}

impl Groups {
    /// How many there are; they are numbered from 1.
    #[expect(clippy::len_without_is_empty, reason = "nobody asks")]
    pub fn len(&self) -> u64 {
        self.next
    }

    fn named(&mut self, name: &str) -> u64 {
        if let Some(&known) = self.named.get(name) {
            return known;
        }
        let number = self.fresh();
        self.named.insert(name.to_owned(), number);
        number
    }

    fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

/// The column of each feature: the one mapped to it, or the one of its name.
fn places(
    header: &csv::StringRecord,
    spec: &ModelSpec,
    columns: &Columns,
) -> Result<Vec<usize>, RowsError> {
    for (column, feature) in &columns.map {
        let wrong = |problem| RowsError::Map(column.clone(), feature.clone(), problem);
        if !spec.by_name.contains_key(feature) {
            return Err(wrong("the model has no feature of this name"));
        }
        // A file may have either name: that of the map, or the feature's own.
        if !header.iter().any(|h| h == column || h == feature) {
            return Err(wrong("the file has no column of either name"));
        }
    }
    let place = |feature: &Feature| {
        let mut mapped = columns.map.iter().filter(|(_, f)| *f == feature.name);
        let position = |name: &str| header.iter().position(|h| h == name);
        mapped
            .find_map(|(column, _)| position(column))
            .or_else(|| position(&feature.name))
            .ok_or_else(|| RowsError::NoColumn(feature.name.clone()))
    };
    spec.features.iter().map(place).collect()
}

fn number(text: &str) -> Option<f64> {
    match text {
        "" | "NA" | "NaN" | "nan" | "null" => Some(f64::NAN),
        "true" | "TRUE" | "True" => Some(1.0),
        "false" | "FALSE" | "False" => Some(0.0),
        text => text.parse().ok().filter(|v: &f64| v.is_finite()),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the screen computes in float32"
)]
fn on_grid(feature: &Feature, value: f64) -> f32 {
    let rounded = feature
        .precision
        .map(|step| round_to_step(value, step).value);
    rounded.unwrap_or(value) as f32
}

/// What another screen would make of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// It reaches the distribution screen with no reason for review.
    Passes,
    /// A value that the model needs is missing, or more than may be filled in.
    Missing,
    /// A value is outside its expected or possible range.
    Range,
    /// A consistency rule is broken.
    Rule,
}

/// Judges a row as the screens before this one do; with `lenient`, missing values are no reason.
pub fn earlier(spec: &ModelSpec, values: &[f32], lenient: bool) -> Earlier {
    let measured = || spec.features.iter().zip(values);
    let absent = measured().filter(|(_, v)| v.is_nan());
    let required = absent.clone().any(|(f, _)| f.missing == Missing::Reject);
    let too_many = u32::try_from(absent.count()).is_ok_and(|n| n > spec.review.max_missing);
    if !lenient && (required || too_many) {
        return Earlier::Missing;
    }
    let outside = |(feature, value): (&Feature, &f32)| {
        // Float32 on the edge of a decimal range lies on the edge.
        !value.is_nan() && !feature.expected.contains_nearly(f64::from(*value))
            || feature.kind != Kind::Quantity && value.fract() != 0.0 && !value.is_nan()
    };
    if measured().any(outside) {
        return Earlier::Range;
    }
    let exact: Vec<f64> = values.iter().map(|v| f64::from(*v)).collect();
    if spec.rules.iter().any(|rule| rule.is_broken_by(&exact)) {
        return Earlier::Rule;
    }
    Earlier::Passes
}

/// What fitting and evaluation have to know about a model's features.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the screen computes in float32"
)]
pub fn traits(spec: &ModelSpec) -> Vec<Trait> {
    let describe = |feature: &Feature| {
        let units = feature
            .declared
            .accepted_examples()
            .iter()
            .filter_map(|unit| {
                let conversion = feature.declared.convert(unit).ok()?;
                let offset = conversion.apply(0.0);
                let slope = conversion.apply(1.0) - offset;
                let same = (slope - 1.0).abs() < 1e-6 && offset.abs() < 1e-6;
                (!same).then_some((slope as f32, offset as f32))
            });
        Trait {
            name: feature.name.clone(),
            expected: (feature.expected.min as f32, feature.expected.max as f32),
            precision: feature.precision.map(|p| p as f32),
            whole: feature.kind != Kind::Quantity,
            optional: feature.missing != Missing::Reject,
            units: units.collect(),
        }
    };
    spec.features.iter().map(describe).collect()
}
