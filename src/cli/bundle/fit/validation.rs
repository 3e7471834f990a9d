//! Nothing is fitted to rows that may have been tampered with, in any of the files, unless somebody
//! says so.

use std::path::Path;

use anyhow::anyhow;
use serde_json::{Value, json};
use vitalgate::{
    bundle::model::ModelSpec,
    intake::{self, Further, Report},
    screening::reference::DataValidation,
    training_data::Table,
};

use super::{Failure, FitArguments, Networks, Rows, print};

/// Looks at the rows; with findings and no `--allow`, prints the report and ends.
pub(super) fn validate(
    arguments: &FitArguments,
    spec: &ModelSpec,
    rows: &Rows,
    networks: Option<&Networks>,
) -> Result<Report, Failure> {
    let table = &rows.table;
    let ruler = networks.map(|n| n.ruler(table)).transpose()?;
    let mut report = intake::validate(table, spec, ruler.as_ref(), arguments.seed);
    let mut beside = |path: &Path, further: &Table| -> Result<(), Failure> {
        let networks = networks.filter(|_| further.labels().is_some());
        let ruler = networks.map(|n| n.ruler(further)).transpose()?;
        let seed = arguments.seed;
        let found = intake::validate_beside(table, further, spec, ruler.as_ref(), seed);
        report.further.push(Further {
            file: path
                .file_name()
                .map_or_else(String::new, |name| name.to_string_lossy().into_owned()),
            report: found,
        });
        Ok(())
    };
    for (path, further) in arguments.more.iter().zip(&rows.further) {
        beside(path, further)?;
    }
    if let (Some(path), Some(unseen)) = (&arguments.unseen, &rows.unseen) {
        beside(path, unseen)?;
    }
    if report.passes() || arguments.allow {
        return Ok(report);
    }
    print(&if arguments.json {
        report.json()
    } else {
        report.to_string()
    })?;
    Err(Failure::DoesNotHold(anyhow!(
        "{}: nothing fitted: a person has to look at {}; --allow goes on all the same",
        arguments.data.display(),
        report.found_in_words()
    )))
}

/// What the reference records of it.
pub(super) fn record(report: &Report) -> DataValidation {
    DataValidation {
        report_sha256: report.digest(),
        found: report.found().iter().map(|&name| name.to_owned()).collect(),
        labelled: report.labelled,
        positive: report.positive,
    }
}

/// What the command says of it.
pub(super) fn summary(report: &Report) -> Value {
    json!({"found": report.found(), "report_sha256": report.digest(), "checks": report.checks, "further": report.further})
}
