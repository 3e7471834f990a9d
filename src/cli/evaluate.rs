//! `vitalgate evaluate`: what people run on a bundle before they approve it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use vitalgate::{
    bundle::{REFERENCE_FILE, engine_spec, model::ModelSpec, parse_model, parse_screen},
    evaluation::{self, Exported, Options, Report, Subject, Watch, path::Plain},
    inference::{Engine, EngineSpec, Execution, PINNED_SHA256, Runtime, find_library},
    intake::{self, Ruler},
    named_file::{self, LARGEST_TABLE},
    row::Row,
    screening::reference::RawReference,
    training_data::{Columns, Table, TableError},
};

use super::{
    Failure,
    bundle::{bundle_directory, print, read_bundle},
};
use vitalgate::error_chain::one_line;

#[derive(Debug, Args)]
pub(crate) struct EvaluateArguments {
    /// The bundle, or the directory of its version. Signatures are not needed and not looked at.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Patients that neither the networks nor the distribution were fitted to: CSV with a header.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// Patients of another population, who should be found atypical.
    #[arg(long, value_name = "FILE")]
    other: Option<PathBuf>,
    /// The outcome's column, 0 or 1 [default: died, label, outcome, target or y].
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// The column that names the patient, where patients have several rows.
    #[arg(long, value_name = "COLUMN")]
    group: Option<String>,
    /// The column that names where a row comes from (with --validate).
    #[arg(long, value_name = "COLUMN")]
    batch: Option<String>,
    /// Columns whose header is neither the feature's name nor a usual one.
    #[arg(long, value_name = "COLUMN=feature", value_delimiter = ',', value_parser = super::bundle::mapping)]
    map: Vec<(String, String)>,
    /// Of everything random: the same bundle, rows and seed give the same figures.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Corrupted copies of each family that are enough when so many reach the distribution screen.
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(1..))]
    copies: u32,
    /// How often calibration and test rows are split anew for the false flags.
    #[arg(long, default_value_t = 100)]
    resplits: usize,
    /// Only look for signs of tampering in the rows; exit 1 when there are some.
    #[arg(long, conflicts_with_all = ["html", "export", "other"])]
    validate: bool,
    /// Write the report as one HTML page.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Write the rows that were scored, one CSV a family, to compare other detectors on. They are
    /// patients' rows: the directory must exist, and is yours to delete.
    #[arg(long, value_name = "DIR")]
    export: Option<PathBuf>,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &EvaluateArguments) -> Result<(), Failure> {
    let directory = bundle_directory(&arguments.bundle);
    let contents = read_bundle(&directory)?;
    let digest = contents.root_digest();
    let files = contents.unverified().clone();
    let refused =
        |error: &dyn std::error::Error| Failure::DoesNotHold(anyhow!("{}", one_line(error)));
    let spec = parse_model(&directory, &files).map_err(|e| refused(&e))?;
    let columns = Columns {
        label: arguments.label.clone(),
        group: arguments.group.clone(),
        batch: arguments.batch.clone(),
        named: arguments
            .map
            .iter()
            .map(|(column, feature)| (feature.clone(), column.clone()))
            .collect(),
    };
    let table = read_table(&arguments.data, &spec, &columns)?;
    let engine = networks(&directory, &spec, files.clone())?;
    let runtime = runtime()?;
    let plain = Engine::<Plain>::start(&runtime, &engine).map_err(|e| refused(&e))?;
    let ruler = || ruler(&spec, &plain, &table);
    if arguments.validate {
        let report = intake::validate(&table, &spec, Some(&ruler()?), arguments.seed);
        print(&if arguments.json {
            report.json()
        } else {
            report.to_string()
        })?;
        return if report.passes() {
            Ok(())
        } else {
            let found = report.found().join(", ");
            Err(Failure::DoesNotHold(anyhow!(
                "{}: {found}",
                arguments.data.display()
            )))
        };
    }
    let screen = parse_screen(&directory, &files, &spec).map_err(|e| refused(&e))?;
    let raw: Option<RawReference> = match (&screen, files.get(REFERENCE_FILE)) {
        (Some(_), Some(bytes)) => Some(serde_json::from_slice(bytes).map_err(|e| refused(&e))?),
        _ => None,
    };
    let other = Columns {
        label: None,
        group: None,
        batch: None,
        ..columns
    };
    let other = arguments
        .other
        .as_ref()
        .map(|path| read_table(path, &spec, &other))
        .transpose()?;
    let serving = Engine::<Row>::start(&runtime, &engine).map_err(|e| refused(&e))?;
    let subject = Subject {
        spec: &spec,
        digest: &digest,
        screen: screen.as_ref().zip(raw.as_ref()),
        engine: &serving,
        plain: &plain,
    };
    let options = Options {
        seed: arguments.seed,
        copies: arguments.copies as usize,
        resplits: arguments.resplits,
    };
    let bar = Bar::new(arguments.json);
    let (report, exported) = evaluation::evaluate(&subject, &table, other.as_ref(), options, &bar)
        .map_err(|e| Failure::Environment(anyhow!("{}", one_line(&e))))?;
    bar.0.finish_and_clear();
    finish(arguments, &spec, &report, &exported)
}

fn finish(
    arguments: &EvaluateArguments,
    spec: &ModelSpec,
    report: &Report,
    exported: &Exported,
) -> Result<(), Failure> {
    if let Some(path) = &arguments.html {
        fs::write(path, evaluation::page(report)).map_err(|e| failed(path, &e))?;
    }
    if let Some(directory) = &arguments.export {
        for (name, rows) in exported {
            let path = directory.join(format!("{name}.csv"));
            fs::write(&path, csv_text(spec, rows)).map_err(|e| failed(&path, &e))?;
        }
    }
    print(&if arguments.json {
        report.json()
    } else {
        report.to_string()
    })
}

fn failed(path: &Path, error: &std::io::Error) -> Failure {
    Failure::Environment(anyhow!("{}: {error}", path.display()))
}

fn csv_text(spec: &ModelSpec, rows: &[Vec<f64>]) -> String {
    let names: Vec<&str> = spec.features.iter().map(|f| f.name.as_str()).collect();
    let mut text = names.join(",");
    for row in rows {
        let fields = row.iter().map(|v| {
            if v.is_nan() {
                String::new()
            } else {
                v.to_string()
            }
        });
        text.push('\n');
        text.push_str(&fields.collect::<Vec<_>>().join(","));
    }
    text.push('\n');
    text
}

/// Reads a file of rows.
pub(crate) fn read_table(
    path: &Path,
    spec: &ModelSpec,
    columns: &Columns,
) -> Result<Table, Failure> {
    let bytes = named_file::read(path, LARGEST_TABLE).map_err(|error| failed(path, &error))?;
    Table::read(&bytes, spec, columns).map_err(|error| {
        let reason = anyhow!("{}: {}", path.display(), one_line(&error));
        match error {
            TableError::NoColumn { .. }
            | TableError::Ambiguous { .. }
            | TableError::NoFeature(_) => Failure::Usage(reason),
            TableError::Syntax { .. } | TableError::Field { .. } | TableError::Empty => {
                Failure::DoesNotHold(reason)
            }
        }
    })
}

pub(crate) fn runtime() -> Result<Runtime, Failure> {
    let missing =
        |error: &dyn std::error::Error| Failure::Environment(anyhow!("{}", one_line(error)));
    let library = find_library(None).map_err(|e| missing(&e))?;
    Runtime::load(&library, PINNED_SHA256).map_err(|e| missing(&e))
}

pub(crate) fn networks(
    directory: &Path,
    spec: &ModelSpec,
    mut files: BTreeMap<String, Vec<u8>>,
) -> Result<EngineSpec, Failure> {
    engine_spec(directory, spec, &mut files, Execution::Cpu)
        .map_err(|error| Failure::DoesNotHold(anyhow!("{}", one_line(&error))))
}

/// The mean of the networks for every row, to compare outcomes with.
fn ruler(
    spec: &std::sync::Arc<ModelSpec>,
    plain: &Engine<Plain>,
    table: &Table,
) -> Result<Ruler, Failure> {
    let predicted = evaluation::predictions(spec, plain, table)
        .map_err(|e| Failure::Environment(anyhow!("{}", one_line(&e))))?;
    let mean = |p: &Vec<f64>| {
        let count = u32::try_from(p.len()).ok().filter(|n| *n > 0);
        count.map_or(f64::NAN, |n| p.iter().sum::<f64>() / f64::from(n))
    };
    Ok(Ruler {
        source: format!("{} version {}", spec.name, spec.version),
        probabilities: predicted.iter().map(mean).collect(),
    })
}

/// The networks that lie beside a model.json, as a ruler for the outcomes of its training rows;
/// `None` where there are none to run.
pub(crate) fn ruler_beside(model: &Path, table: &Table) -> Option<Ruler> {
    let directory = model.parent()?;
    let contents = read_bundle(directory).ok()?;
    let files = contents.unverified().clone();
    let spec = parse_model(directory, &files).ok()?;
    let engine = networks(directory, &spec, files).ok()?;
    let plain = Engine::<Plain>::start(&runtime().ok()?, &engine).ok()?;
    ruler(&spec, &plain, table).ok()
}

/// Steps, on stderr, when that is a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(quiet: bool) -> Self {
        let bar = if quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::no_length()
        };
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}") {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Watch for Bar {
    fn start(&self, steps: u64) {
        self.0.set_length(steps);
    }

    fn step(&self, what: &str) {
        self.0.set_message(what.to_owned());
        self.0.inc(1);
    }
}
