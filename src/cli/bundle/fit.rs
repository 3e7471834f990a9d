//! `vitalgate bundle fit`: rows of patients → `reference.json`, aggregates only.

use std::{
    collections::HashSet,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use vitalgate::{
    bundle::model::ModelSpec,
    clock,
    error_chain::one_line,
    screening::{
        fit::{self, Admitted, FitError, Options, Patient, Progress, Quality},
        reference::DataDigest,
    },
    training_data::{Groups, Table},
};

use super::{Failure, print, read_file};
use crate::cli::{
    networks::Networks,
    patients::{ColumnArguments, read_table},
};

mod agreement;
mod budget;
mod histograms;
mod report;
mod validation;
mod written;

pub(super) use written::written;

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command")]
pub(crate) struct FitArguments {
    /// The model's model.json: its features, ranges, units and rules.
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
    /// Rows of patients the model is made for, CSV with a header: one row a patient, or --group.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// More rows of the same patients (at other times, say), to fit and never to calibrate. Needs
    /// --group.
    #[arg(long, value_name = "FILE")]
    more: Vec<PathBuf>,
    /// Patients whom the networks beside model.json were not trained on: how far the networks
    /// disagree about them, and the predictions that later ones are compared with [default for the
    /// disagreement: the patients of --data that are kept aside].
    #[arg(long, value_name = "FILE")]
    unseen: Option<PathBuf>,
    /// Only count the histograms that drift is measured against, and put them into --out, which
    /// was fitted before.
    #[arg(long)]
    drift_only: bool,
    #[command(flatten)]
    columns: ColumnArguments,
    /// Fit although there are signs of tampering; the reference records them.
    #[arg(long)]
    allow: bool,
    /// Where to write; replaced only once the fit is done.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The share of such patients that the screen may flag [default: 0.01, or less when the
    /// bundle's review budget leaves less].
    #[arg(long)]
    alpha: Option<f64>,
    /// Of everything random: the same rows, seed and kind of machine give the same file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Time for quality: seconds, a quarter of a minute, or two minutes of one core.
    #[arg(long, value_enum, default_value_t = QualityArgument::Best)]
    quality: QualityArgument,
    /// Also train on unit errors, decimal slips and swapped fields. They are then no longer
    /// unseen when the fit is evaluated.
    #[arg(long)]
    templates: bool,
    /// The share of patients kept aside for calibration.
    #[arg(long, default_value_t = 0.2)]
    calibration_share: f64,
    /// Every number that is written is of at least so many patients.
    #[arg(long, default_value_t = 5)]
    min_rows: usize,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum QualityArgument {
    Quick,
    Standard,
    Best,
}

pub(crate) fn run(arguments: &FitArguments) -> Result<(), Failure> {
    let model = read_file(&arguments.features)?;
    let spec = ModelSpec::parse(&model).map_err(|error| {
        Failure::DoesNotHold(anyhow!(
            "{}: {}",
            arguments.features.display(),
            one_line(&error)
        ))
    })?;
    let options = options(arguments)?;
    writable(&arguments.out)?;
    let mut rows = Rows::read(arguments, &spec)?;
    let networks = Networks::beside(&arguments.features);
    let histograms = histograms::count(arguments, &spec, &rows, networks.as_ref())?;
    if arguments.drift_only {
        return histograms::replace_in(arguments, &spec, &rows, histograms);
    }
    let validated = validation::validate(arguments, &spec, &rows, networks.as_ref())?;
    let budget = budget::divide(&spec, &rows.admitted, arguments.alpha)
        .map_err(|reason| Failure::DoesNotHold(anyhow!("{reason}")))?;
    let options = Options {
        alpha: budget.distribution,
        max_missing: spec.review.max_missing,
        ..options
    };
    let bar = Bar::new(arguments.json);
    let started = clock::monotonic();
    let mut fitted = fit::fit(
        (&spec.name, spec.version),
        &fit::traits(&spec),
        &rows.admitted.passing,
        &rows.more,
        &options,
        &bar,
    )
    .map_err(|error| refused(&arguments.data, &error))?;
    bar.0.finish_and_clear();
    let reference = &mut fitted.reference;
    reference.fit.data = std::mem::take(&mut rows.digests);
    reference.fit.unseen = rows.unseen.as_ref().map(digest_of);
    reference.fit.validation = Some(validation::record(&validated));
    reference.fit.screened_out = rows.admitted.left_out.iter().map(|(_, count)| count).sum();
    reference.budget = Some(budget);
    reference.drift = Some(histograms);
    if let (Some(networks), true) = (&networks, spec.members.len() > 1) {
        let table = rows.unseen.as_ref().unwrap_or(&rows.table);
        let asked = |patient: u64| rows.unseen.is_some() || fitted.aside.contains(&patient);
        let spreads = agreement::spreads(&spec, networks, table, (arguments.seed, asked))?;
        reference.agreement = agreement::calibrate(&spreads, budget.agreement);
    }
    let text = written(reference).map_err(Failure::does_not_hold)?;
    replace(&arguments.out, text.as_bytes())?;
    let seconds = clock::monotonic().duration_since(started).as_secs_f64();
    let said = report::Fit {
        arguments,
        reference,
        text: &text,
        admitted: &rows.admitted,
        aside: fitted.aside.len(),
        validated: &validated,
        seconds,
    };
    print(&if arguments.json {
        said.json()
    } else {
        said.to_string()
    })
}

/// The rows of all files.
struct Rows {
    table: Table,
    admitted: Admitted,
    /// For fitting only.
    more: Vec<Patient>,
    unseen: Option<Table>,
    /// The files of `more`.
    further: Vec<Table>,
    digests: Vec<DataDigest>,
}

impl Rows {
    fn read(arguments: &FitArguments, spec: &ModelSpec) -> Result<Self, Failure> {
        let mut groups = Groups::default();
        let columns = arguments.columns.columns();
        let table = read_table(&arguments.data, spec, &columns, &mut groups)?;
        let mut admitted = Admitted::of(spec, &table, 0);
        let mut digests = vec![digest_of(&table)];
        let mut tables = Vec::new();
        let mut more = std::mem::take(&mut admitted.partial);
        let columns = arguments.columns.further();
        for (path, file) in arguments.more.iter().zip(1..) {
            let further = read_table(path, spec, &columns, &mut groups)?;
            if further.groups().is_none() {
                return Err(Failure::usage(anyhow!(
                    "{}: no column of --group, which says whose a row is",
                    path.display()
                )));
            }
            let rows = Admitted::of(spec, &further, file);
            more.extend(rows.passing.into_iter().chain(rows.partial));
            digests.push(digest_of(&further));
            tables.push(further);
        }
        if let Some(known) = table.groups() {
            // A patient who is not in --data may be one that was kept for testing.
            let known: HashSet<u64> = known.iter().map(|g| u64::from(*g)).collect();
            more.retain(|patient| known.contains(&patient.group));
        }
        let unseen = (arguments.unseen.as_ref())
            .map(|path| read_table(path, spec, &columns, &mut Groups::default()));
        Ok(Self {
            table,
            admitted,
            more,
            unseen: unseen.transpose()?,
            further: tables,
            digests,
        })
    }
}

fn digest_of(table: &Table) -> DataDigest {
    DataDigest {
        sha256: table.sha256().to_owned(),
        rows: table.len(),
    }
}

fn options(arguments: &FitArguments) -> Result<Options, Failure> {
    let wrong = |reason: &str| Err(Failure::usage(anyhow!("{reason}")));
    if arguments
        .alpha
        .is_some_and(|alpha| !(alpha > 0.0 && alpha <= 0.2))
    {
        return wrong("--alpha must lie above 0 and be at most 0.2");
    }
    if !(0.05..=0.75).contains(&arguments.calibration_share) {
        return wrong("--calibration-share must lie between 0.05 and 0.75");
    }
    if !arguments.more.is_empty() && !arguments.columns.has_group() {
        return wrong(
            "--more needs --group, the column that says whose a row is: without it rows of \
             patients who calibrate would be among those that are fitted to",
        );
    }
    if arguments.min_rows < 3 {
        return wrong("--min-rows must be at least 3: less would be single patients' values");
    }
    Ok(Options {
        seed: arguments.seed,
        quality: match arguments.quality {
            QualityArgument::Quick => Quality::Quick,
            QualityArgument::Standard => Quality::Standard,
            QualityArgument::Best => Quality::Best,
        },
        templates: arguments.templates,
        calibration_share: arguments.calibration_share,
        min_rows: arguments.min_rows,
        ..Options::default()
    })
}

fn refused(path: &Path, error: &FitError) -> Failure {
    Failure::DoesNotHold(anyhow!(
        "{}: nothing fitted: {}",
        path.display(),
        one_line(error)
    ))
}

/// Where what will be `out` is written first.
fn staged(out: &Path) -> Result<PathBuf, Failure> {
    let Some(name) = out.file_name().filter(|_| !out.is_dir()) else {
        return Err(Failure::usage(anyhow!("--out must name a file")));
    };
    Ok(out.with_file_name(format!(
        ".{}.{}",
        name.to_string_lossy(),
        std::process::id()
    )))
}

fn not_written(out: &Path, error: &io::Error) -> Failure {
    Failure::Environment(anyhow!("{}: cannot be written: {error}", out.display()))
}

/// Whether `out` can be written, before minutes of work for it.
fn writable(out: &Path) -> Result<(), Failure> {
    let staged = staged(out)?;
    fs::File::create_new(&staged)
        .and_then(|_| fs::remove_file(&staged))
        .map_err(|error| not_written(out, &error))
}

/// Writes beside `out` and moves it there: it is either the whole file or as it was.
pub(super) fn replace(out: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let staged = staged(out)?;
    let written = fs::File::create_new(&staged)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&staged, out));
    if written.is_err() {
        drop(fs::remove_file(&staged));
    }
    written.map_err(|error| not_written(out, &error))
}

/// Steps of training, on stderr, when that is a terminal.
struct Bar(ProgressBar);

impl Bar {
    fn new(quiet: bool) -> Self {
        let bar = if quiet {
            ProgressBar::hidden()
        } else {
            ProgressBar::no_length()
        };
        let style = ProgressStyle::with_template("training {bar:40} {percent}% {eta} left");
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self(bar)
    }
}

impl Progress for Bar {
    fn start(&self, steps: u64) {
        self.0.set_length(steps);
    }

    fn advance(&self, steps: u64) {
        self.0.inc(steps);
    }
}
