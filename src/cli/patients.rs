//! Files of patients, as commands are given them.

use std::path::Path;

use anyhow::anyhow;
use clap::Args;
use vitalgate::{
    bundle::model::ModelSpec,
    error_chain::one_line,
    named_file::{self, LARGEST_TABLE},
    training_data::{Columns, Groups, Table, TableError},
};

use super::Failure;

/// Which columns are what.
#[derive(Debug, Args)]
pub(crate) struct ColumnArguments {
    /// The outcome's column, 0 or 1 [default: died, label, outcome, target or y].
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// The column that names the patient, where patients have several rows: all of a patient's
    /// rows stay on one side of a split.
    #[arg(long, value_name = "COLUMN")]
    group: Option<String>,
    /// The column that names where a row comes from, to look for tampering.
    #[arg(long, value_name = "COLUMN")]
    batch: Option<String>,
    /// Columns whose header is neither the feature's name nor a usual one.
    #[arg(long, value_name = "COLUMN=feature", value_delimiter = ',', value_parser = mapping)]
    map: Vec<(String, String)>,
}

impl ColumnArguments {
    /// Of the file with the patients.
    pub(crate) fn columns(&self) -> Columns {
        Columns {
            batch: self.batch.clone(),
            further: false,
            ..self.further()
        }
    }

    /// Whether a column says whose a row is.
    pub(crate) fn has_group(&self) -> bool {
        self.group.is_some()
    }

    /// Of a further file, which need not say whose its rows are nor what came of them.
    pub(crate) fn further(&self) -> Columns {
        let named = self.map.iter();
        Columns {
            label: self.label.clone(),
            group: self.group.clone(),
            batch: None,
            named: named
                .map(|(column, feature)| (feature.clone(), column.clone()))
                .collect(),
            further: true,
        }
    }
}

/// `COLUMN=feature`.
pub(crate) fn mapping(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((column, feature)) if !column.is_empty() && !feature.is_empty() => {
            Ok((column.to_owned(), feature.to_owned()))
        }
        _ => Err("expected COLUMN=feature".to_owned()),
    }
}

/// Reads a file of rows; `groups` has the numbers of patients in files read before it.
pub(crate) fn read_table(
    path: &Path,
    spec: &ModelSpec,
    columns: &Columns,
    groups: &mut Groups,
) -> Result<Table, Failure> {
    let bytes = named_file::read(path, LARGEST_TABLE)
        .map_err(|error| Failure::Environment(anyhow!("{}: {error}", path.display())))?;
    Table::read_with(&bytes, spec, columns, groups).map_err(|error| {
        let reason = anyhow!("{}: {}", path.display(), one_line(&error));
        match error {
            TableError::NoColumn { .. }
            | TableError::NoHeader { .. }
            | TableError::Ambiguous { .. }
            | TableError::NoFeature(_) => Failure::Usage(reason),
            TableError::Syntax { .. }
            | TableError::Field { .. }
            | TableError::NoGroup { .. }
            | TableError::Empty => Failure::DoesNotHold(reason),
        }
    })
}
