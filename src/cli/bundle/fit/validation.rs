//! Nothing is fitted to rows that may have been tampered with, unless somebody says so.

use anyhow::anyhow;
use serde_json::{Value, json};
use vitalgate::{
    bundle::model::ModelSpec,
    intake::{self, Report},
    screening::reference::DataValidation,
    training_data::Table,
};

use super::{Failure, FitArguments, Networks, print};

/// Looks at the rows; with findings and no `--allow`, prints the report and ends.
pub(super) fn validate(
    arguments: &FitArguments,
    spec: &ModelSpec,
    table: &Table,
    networks: Option<&Networks>,
) -> Result<Report, Failure> {
    let ruler = networks.map(|n| n.ruler(table)).transpose()?;
    let report = intake::validate(table, spec, ruler.as_ref(), arguments.seed);
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
        report.found().join(", ")
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
    json!({"found": report.found(), "report_sha256": report.digest(), "checks": report.checks})
}
