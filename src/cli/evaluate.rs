//! `vitalgate evaluate`: what people run on a bundle before they approve it.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use vitalgate::{
    bundle::{REFERENCE_FILE, model::ModelSpec, parse_model, parse_screen},
    error_chain::one_line,
    evaluation::{self, Exported, Options, Report, Subject, Watch},
    inference::Engine,
    intake,
    row::Row,
    screening::reference::RawReference,
    training_data::Groups,
};

use super::{
    Failure,
    bundle::{bundle_directory, print, read_bundle},
    networks::{Networks, members, runtime},
    patients::{ColumnArguments, read_table},
};

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
    #[command(flatten)]
    columns: ColumnArguments,
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
    let columns = arguments.columns.columns();
    let mut groups = Groups::default();
    let table = read_table(&arguments.data, &spec, &columns, &mut groups)?;
    let engine = members(&directory, &spec, files.clone())?;
    let runtime = runtime()?;
    let networks = Networks::start(&spec, &runtime, &engine)?;
    if arguments.validate {
        let report = intake::validate(
            &table,
            &spec,
            Some(&networks.ruler(&table)?),
            arguments.seed,
        );
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
    let further = arguments.columns.further();
    let other = arguments.other.as_ref();
    let other = other.map(|path| read_table(path, &spec, &further, &mut groups));
    let other = other.transpose()?;
    let serving = Engine::<Row>::start(&runtime, &engine).map_err(|e| refused(&e))?;
    let subject = Subject {
        spec: &spec,
        digest: &digest,
        screen: screen.as_ref().zip(raw.as_ref()),
        engine: &serving,
        plain: networks.engine(),
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
