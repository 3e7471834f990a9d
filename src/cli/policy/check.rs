//! `vitalgate policy check`: does an access policy hold, and who may do what under it.

use std::{
    fmt::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, anyhow};
use clap::Args;
use serde_json::{Value, json};
use vitalgate::authz::{AccessPolicy, AccessPolicyError, Cell, PolicyProblem, Role, Row, Survey};

use super::{Failure, print};

#[derive(Debug, Args)]
pub(crate) struct CheckArguments {
    /// The access policy, Cedar text.
    file: PathBuf,
    /// Hold it against this Cedar schema instead of the program's own.
    #[arg(long, value_name = "FILE")]
    schema: Option<PathBuf>,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &CheckArguments) -> Result<(), Failure> {
    let file = arguments.file.display();
    let policy = match &arguments.schema {
        None => AccessPolicy::load(&arguments.file),
        Some(schema) => AccessPolicy::load_against(&arguments.file, schema),
    };
    match policy {
        Ok(policy) if arguments.json => print(&as_json(&policy).to_string()),
        Ok(policy) => {
            let mut text = String::new();
            describe(&mut text, &policy)
                .with_context(|| file.to_string())
                .map_err(Failure::Environment)?;
            print(&format!("{file}: {}", text.trim_end()))
        }
        Err(error @ AccessPolicyError::Unreadable { .. }) => Err(Failure::environment(error)),
        Err(AccessPolicyError::Faulty(problems)) => {
            report(arguments, &problems)?;
            let n = problems.len();
            Err(Failure::DoesNotHold(anyhow!("{file} has {n} problem(s)")))
        }
    }
}

fn report(arguments: &CheckArguments, found: &[PolicyProblem]) -> Result<(), Failure> {
    if arguments.json {
        return print(&json!({"valid": false, "problems": problems(found)}).to_string());
    }
    let file = arguments.file.display();
    found
        .iter()
        .try_for_each(|problem| print(&format!("{file}: {problem}")))
}

fn problems(found: &[PolicyProblem]) -> Vec<Value> {
    found
        .iter()
        .map(|p| json!({"line": p.line, "message": p.message}))
        .collect()
}

fn as_json(policy: &AccessPolicy) -> Value {
    let rows = Survey::of(policy).rows;
    let rows = rows.iter().map(|row| {
        let roles = Role::ALL.iter().zip(&row.cells);
        let roles: serde_json::Map<String, Value> = roles
            .map(|(role, cell)| (role.as_str().to_owned(), cell_as_json(*cell)))
            .collect();
        let (plane, resource) = row.place.map(|(p, r)| (p.as_str(), r)).unzip();
        json!({
            "action": row.action.as_str(), "plane": plane, "resource": resource, "roles": roles,
        })
    });
    json!({
        "valid": true,
        "policies": policy.count(),
        "particular": policy.is_particular(),
        "warnings": problems(policy.warnings()),
        "actions": rows.collect::<Vec<_>>(),
    })
}

fn cell_as_json(cell: Cell) -> Value {
    match cell {
        Cell::Never => json!({"permitted": false}),
        Cell::Always => json!({"permitted": true, "step_up": false}),
        Cell::Sometimes => json!({"permitted": "depends"}),
        Cell::StepUp(max_age) => json!({"permitted": true, "step_up": true, "max_age": max_age}),
    }
}

fn describe(text: &mut String, policy: &AccessPolicy) -> fmt::Result {
    writeln!(text, "no problem found; {} policies\n", policy.count())?;
    let rows = Survey::of(policy).rows;
    table(text, &rows)?;
    let has = |wanted: fn(&Cell) -> bool| rows.iter().any(|row| row.cells.iter().any(wanted));
    writeln!(text)?;
    if has(|cell| matches!(cell, Cell::StepUp(_))) {
        writeln!(
            text,
            "step-up: with more than one factor, shown at most so many seconds ago"
        )?;
    }
    if has(|cell| matches!(cell, Cell::Sometimes)) {
        writeln!(text, "depends: on how the caller was authenticated")?;
    }
    if policy.is_particular() {
        writeln!(
            text,
            "Not in the table: what the policy says of single principals or models by name."
        )?;
    }
    for warning in policy.warnings() {
        writeln!(text, "warning: {warning}")?;
    }
    Ok(())
}

fn table(text: &mut String, rows: &[Row]) -> fmt::Result {
    let label = |row: &Row| match row.place {
        None => row.action.as_str().to_owned(),
        Some((plane, kind)) => format!("{} ({}, {kind})", row.action.as_str(), plane.as_str()),
    };
    let labels: Vec<String> = rows.iter().map(label).collect();
    let first = labels.iter().map(String::len).max().unwrap_or_default();
    write!(text, "{:first$}", "")?;
    for role in Role::ALL {
        write!(
            text,
            "  {:width$}",
            role.as_str(),
            width = width(rows, role)
        )?;
    }
    writeln!(text)?;
    for (row, label) in rows.iter().zip(&labels) {
        let mut line = format!("{label:first$}");
        for (role, cell) in Role::ALL.into_iter().zip(&row.cells) {
            write!(line, "  {:width$}", words(*cell), width = width(rows, role))?;
        }
        writeln!(text, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Of the widest thing in a role's column.
fn width(rows: &[Row], role: Role) -> usize {
    let column = Role::ALL
        .iter()
        .position(|r| *r == role)
        .unwrap_or_default();
    let cells = rows.iter().filter_map(|row| row.cells.get(column));
    cells
        .map(|cell| words(*cell).chars().count())
        .chain([role.as_str().len()])
        .max()
        .unwrap_or_default()
}

fn words(cell: Cell) -> String {
    match cell {
        Cell::Never => "-".to_owned(),
        Cell::Always => "yes".to_owned(),
        Cell::Sometimes => "depends".to_owned(),
        Cell::StepUp(None) => "step-up".to_owned(),
        Cell::StepUp(Some(seconds)) => format!("step-up ≤{seconds}s"),
    }
}
