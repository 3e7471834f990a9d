//! `vitalgate bundle fit`: rows of patients → `reference.json`, aggregates only.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
    time::Instant,
};

use anyhow::anyhow;
use aws_lc_rs::digest::{SHA256, digest};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use vitalgate::{
    bundle::model::ModelSpec,
    clock,
    intake::Report,
    named_file::{self, LARGEST_TABLE},
    screening::{
        fit::{self, FitError, Options, Patient, Progress, Quality},
        reference::{DataDigest, RawReference},
        rows::{self, Columns, Earlier, Groups, Rows, RowsError},
    },
};

use super::{Failure, print, read_file};
use vitalgate::error_chain::one_line;

mod histograms;
mod validation;

#[derive(Debug, Args)]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command")]
pub(crate) struct FitArguments {
    /// The model's model.json: its features, ranges, units and rules.
    #[arg(long, value_name = "FILE")]
    features: PathBuf,
    /// Rows of patients the model is made for, CSV with a header: one row a patient, or --group.
    #[arg(long, value_name = "FILE")]
    data: PathBuf,
    /// More rows of the same patients (at other times, say), to fit and never to calibrate.
    #[arg(long, value_name = "FILE")]
    more: Vec<PathBuf>,
    /// The column that names the patient: all of a patient's rows stay on one side of a split.
    #[arg(long, value_name = "COLUMN")]
    group: Option<String>,
    /// Columns whose header is not the feature's name.
    #[arg(long, value_name = "COLUMN=feature", value_delimiter = ',', value_parser = mapping)]
    map: Vec<(String, String)>,
    /// Rows that no network was trained on, with the features' own or usual names: their predictions
    /// are what later ones are compared with.
    #[arg(long, value_name = "FILE")]
    unseen: Option<PathBuf>,
    /// Only count the histograms that drift is measured against, and put them into --out, which
    /// was fitted before.
    #[arg(long)]
    drift_only: bool,
    /// The outcome's column, 0 or 1, to look for tampering [default: died, label, outcome, target or y].
    #[arg(long, value_name = "COLUMN")]
    label: Option<String>,
    /// The column that names where a row comes from, to look for tampering.
    #[arg(long, value_name = "COLUMN")]
    batch: Option<String>,
    /// Fit although there are signs of tampering; the reference records them.
    #[arg(long)]
    allow: bool,
    /// Where to write; replaced only once the fit is done.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// The share of such patients that the screen may flag.
    #[arg(long, default_value_t = 0.01)]
    alpha: f64,
    /// Of everything random: the same rows, seed and kind of machine give the same file.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Time for quality: seconds, a minute or several.
    #[arg(long, value_enum, default_value_t = QualityArgument::Standard)]
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

/// `COLUMN=feature`.
pub(crate) fn mapping(argument: &str) -> Result<(String, String), String> {
    match argument.split_once('=') {
        Some((column, feature)) if !column.is_empty() && !feature.is_empty() => {
            Ok((column.to_owned(), feature.to_owned()))
        }
        _ => Err("expected COLUMN=feature".to_owned()),
    }
}

pub(crate) fn run(arguments: &FitArguments) -> Result<(), Failure> {
    let options = options(arguments)?;
    let model = read_file(&arguments.features)?;
    let spec = ModelSpec::parse(&model).map_err(|error| {
        Failure::DoesNotHold(anyhow!(
            "{}: {}",
            arguments.features.display(),
            one_line(&error)
        ))
    })?;
    let columns = Columns {
        map: arguments.map.clone(),
        group: arguments.group.clone(),
    };
    let mut groups = Groups::default();
    let mut data = Vec::new();
    let Admitted {
        passing: patients,
        partial,
        left_out,
        everyone,
    } = read(&arguments.data, &spec, &columns, &mut groups, &mut data)?;
    let histograms = histograms::count(arguments, &spec, &everyone)?;
    if arguments.drift_only {
        return histograms::replace_in(arguments, histograms);
    }
    let validated = validation::validate(arguments, &spec)?;
    let known = groups.len();
    let mut more = partial;
    for path in &arguments.more {
        let rows = read(path, &spec, &columns, &mut groups, &mut data)?;
        more.extend(rows.passing.into_iter().chain(rows.partial));
    }
    if arguments.group.is_some() {
        // A patient who is not in --data may be one that was kept for testing.
        more.retain(|patient| patient.group <= known);
    }
    let options = Options {
        max_missing: spec.review.max_missing,
        ..options
    };
    let bar = Bar::new(arguments.json);
    let started = clock::monotonic();
    let traits = rows::traits(&spec);
    let mut fitted = fit::fit(
        (&spec.name, spec.version),
        &traits,
        &patients,
        &more,
        &options,
        &bar,
    )
    .map_err(|error| refused(&arguments.data, &error))?;
    bar.0.finish_and_clear();
    fitted.reference.drift = Some(histograms);
    fitted.reference.fit.data = data;
    fitted.reference.fit.validation = Some(validation::record(&validated));
    fitted.reference.fit.screened_out = left_out.iter().map(|(_, count)| count).sum();
    let text = written(&fitted.reference).map_err(Failure::does_not_hold)?;
    replace(&arguments.out, text.as_bytes())?;
    report(
        arguments,
        &fitted.reference,
        &text,
        (&left_out, &validated),
        started,
    )
}

fn options(arguments: &FitArguments) -> Result<Options, Failure> {
    let wrong = |reason: &str| Err(Failure::usage(anyhow!("{reason}")));
    if !(arguments.alpha > 0.0 && arguments.alpha <= 0.2) {
        return wrong("--alpha must lie above 0 and be at most 0.2");
    }
    if !(0.05..=0.75).contains(&arguments.calibration_share) {
        return wrong("--calibration-share must lie between 0.05 and 0.75");
    }
    if arguments.min_rows < 3 {
        return wrong("--min-rows must be at least 3: less would be single patients' values");
    }
    Ok(Options {
        seed: arguments.seed,
        alpha: arguments.alpha,
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

/// The rows of a file.
struct Admitted {
    /// Those that get as far as this screen.
    passing: Vec<Patient>,
    /// Those that only lack values: good enough to fit, not to calibrate.
    partial: Vec<Patient>,
    /// How many were stopped, by what.
    left_out: Vec<(Earlier, usize)>,
    /// All of them.
    everyone: Vec<Patient>,
}

fn read(
    path: &Path,
    spec: &ModelSpec,
    columns: &Columns,
    groups: &mut Groups,
    data: &mut Vec<DataDigest>,
) -> Result<Admitted, Failure> {
    let bytes = named_file::read(path, LARGEST_TABLE)
        .map_err(|error| Failure::Environment(anyhow!("{}: {error}", path.display())))?;
    let rows = Rows::read(bytes.as_slice(), spec, columns, groups).map_err(|error| {
        let reason = anyhow!("{}: {}", path.display(), one_line(&error));
        match error {
            RowsError::NoColumn(_) | RowsError::NoGroup(_) | RowsError::Map(..) => {
                Failure::Usage(reason)
            }
            RowsError::Csv(_) | RowsError::Cell { .. } => Failure::DoesNotHold(reason),
        }
    })?;
    data.push(DataDigest {
        sha256: hex::encode(digest(&SHA256, &bytes)),
        rows: rows.patients.len(),
    });
    let mut left_out = vec![
        (Earlier::Missing, 0),
        (Earlier::Range, 0),
        (Earlier::Rule, 0),
    ];
    let (mut passing, mut partial) = (Vec::new(), Vec::new());
    let everyone = rows.patients.clone();
    for patient in rows.patients {
        let stopped = rows::earlier(spec, &patient.values, false);
        for (by, count) in &mut left_out {
            *count += usize::from(*by == stopped);
        }
        if stopped == Earlier::Passes {
            passing.push(patient);
        } else if rows::earlier(spec, &patient.values, true) == Earlier::Passes {
            partial.push(patient);
        }
    }
    Ok(Admitted {
        passing,
        partial,
        left_out,
        everyone,
    })
}

fn refused(path: &Path, error: &FitError) -> Failure {
    Failure::DoesNotHold(anyhow!(
        "{}: nothing fitted: {}",
        path.display(),
        one_line(error)
    ))
}

/// One line a list of numbers: compact, and still readable in a comparison of two fits.
pub(super) fn written(reference: &RawReference) -> Result<String, serde_json::Error> {
    // By way of text, which has the digits of a float32; a `Value` would have those of a double.
    let value: Value = serde_json::from_str(&serde_json::to_string(reference)?)?;
    let mut text = String::new();
    lines(&value, 0, &mut text);
    text.push('\n');
    Ok(text)
}

fn lines(value: &Value, depth: usize, text: &mut String) {
    let flat = |list: &[Value]| list.iter().all(|v| !v.is_object() && !v.is_array());
    let pairs = |list: &[Value]| {
        list.iter().all(|v| {
            v.as_array()
                .is_some_and(|pair| pair.len() == 2 && flat(pair))
        })
    };
    let indent = |text: &mut String, depth: usize| {
        text.push('\n');
        text.push_str(&"  ".repeat(depth));
    };
    match value {
        Value::Array(list) if !flat(list) && !pairs(list) => {
            text.push('[');
            for (index, item) in list.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                indent(text, depth + 1);
                lines(item, depth + 1, text);
            }
            indent(text, depth);
            text.push(']');
        }
        Value::Object(members) => {
            text.push('{');
            for (index, (name, member)) in members.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                indent(text, depth + 1);
                text.push_str(&Value::from(name.as_str()).to_string());
                text.push_str(": ");
                lines(member, depth + 1, text);
            }
            indent(text, depth);
            text.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            text.push_str(&value.to_string());
        }
    }
}

/// Writes beside `out` and moves it there: it is either the whole file or as it was.
pub(super) fn replace(out: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Environment(anyhow!("{}: {error}", out.display()));
    let Some(name) = out.file_name() else {
        return Err(Failure::usage(anyhow!("--out must name a file")));
    };
    let staged = out.with_file_name(format!(
        ".{}.{}",
        name.to_string_lossy(),
        std::process::id()
    ));
    let written = fs::File::create_new(&staged)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&staged, out));
    if written.is_err() {
        drop(fs::remove_file(&staged));
    }
    written.map_err(failed)
}

fn report(
    arguments: &FitArguments,
    reference: &RawReference,
    text: &str,
    (left_out, validated): (&[(Earlier, usize)], &Report),
    started: Instant,
) -> Result<(), Failure> {
    let record = &reference.fit;
    let sha256 = hex::encode(digest(&SHA256, text.as_bytes()));
    let stopped = |by: Earlier| {
        let of = left_out.iter().filter(|(earlier, _)| *earlier == by);
        of.map(|(_, count)| count).sum::<usize>()
    };
    let seconds = clock::monotonic().duration_since(started).as_secs_f64();
    let strata: Vec<Value> = reference
        .calibration
        .strata
        .iter()
        .map(|s| json!({"missing": s.missing, "rows": s.scores.len(), "masked": s.masked}))
        .collect();
    if arguments.json {
        return print(
            &json!({
                "reference": arguments.out.display().to_string(),
                "sha256": sha256,
                "model": reference.name,
                "version": reference.version,
                "fit": record,
                "left_out": {
                    "missing": stopped(Earlier::Missing),
                    "ranges": stopped(Earlier::Range),
                    "consistency": stopped(Earlier::Rule),
                },
                "validation": validation::summary(validated),
                "alpha": reference.calibration.alpha,
                "strata": strata,
                "seconds": seconds,
            })
            .to_string(),
        );
    }
    let masked = |yes: bool| if yes { ", values hidden" } else { "" };
    let strata = reference.calibration.strata.iter().map(|s| {
        format!(
            "missing    {}: {} rows{}",
            s.missing,
            s.scores.len(),
            masked(s.masked)
        )
    });
    let mut lines = vec![
        format!(
            "fitted     {} version {}",
            reference.name, reference.version
        ),
        format!(
            "rows       {} of {} patients",
            record.fit_rows, record.fit_groups
        ),
        format!(
            "left out   {} with too much missing, {} out of range, {} that break a rule",
            stopped(Earlier::Missing),
            stopped(Earlier::Range),
            stopped(Earlier::Rule)
        ),
        format!(
            "calibrated on {} other patients, alpha {}",
            record.calibration_rows, reference.calibration.alpha
        ),
    ];
    let found = validated.found();
    lines.push(format!(
        "looked at  {}, report sha256:{}",
        if found.is_empty() {
            "no sign of tampering".to_owned()
        } else {
            format!("ALLOWED all the same: {}", found.join(", "))
        },
        validated.digest()
    ));
    lines.extend(strata);
    lines.extend([
        format!(
            "network    {}, seed {}, {seconds:.0} s",
            record.quality, record.seed
        ),
        format!("sha256     {sha256}"),
        format!(
            "reference  {} ({} bytes)",
            arguments.out.display(),
            text.len()
        ),
    ]);
    print(&lines.join("\n"))
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
