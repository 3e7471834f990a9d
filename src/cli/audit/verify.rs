//! `vitalgate audit verify`.

use std::{
    io,
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;
use vitalgate::{
    audit::{Note, PublicKey, Report, Snapshot, Trusted, notes_in, verify},
    error_chain::printable,
    named_file,
};

use super::Failure;

/// Largest file of anchors, bytes.
const MAX_ANCHORS: u64 = 64 << 20;

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// Directory of the log, or one of its files, which stands for all of them.
    path: PathBuf,
    /// Public key that the checkpoints must be signed with, SPKI PEM: yours, not what lies beside
    /// the log. Once for each key the log was ever signed with.
    #[arg(long, value_name = "PEM", required = true)]
    key: Vec<PathBuf>,
    /// A checkpoint that was kept elsewhere, or a file of several; may be given more than once.
    #[arg(long, value_name = "CHECKPOINT")]
    anchor: Vec<PathBuf>,
    /// The log's name, so that no other log of the same key can take its place.
    #[arg(long, value_name = "NAME")]
    origin: Option<String>,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &VerifyArguments) -> Result<(), Failure> {
    let trusted = Trusted {
        keys: arguments
            .key
            .iter()
            .map(|path| PublicKey::load(path))
            .collect::<Result<_, _>>()
            .map_err(Failure::environment)?,
        origin: arguments.origin.clone(),
        anchors: anchors(&arguments.anchor)?,
    };
    let unreadable = |error: io::Error| {
        let path = arguments.path.display();
        Failure::Environment(anyhow!("{path}: {error}"))
    };
    let snapshot = Snapshot::take(&arguments.path).map_err(unreadable)?;
    let progress = Progress::of(snapshot.bytes(), arguments.json);
    let verified = verify(snapshot, &trusted, |bytes| progress.at(bytes)).map_err(unreadable)?;
    progress.done();
    let report = verified.report;
    let text = if arguments.json {
        serde_json::to_string(&report).map_err(Failure::environment)?
    } else {
        in_words(&arguments.path, &report)
    };
    print(&text);
    if report.holds {
        return Ok(());
    }
    let found = report.findings.len() as u64 + report.more;
    Err(Failure::DoesNotHold(anyhow!(
        "{}: the audit log does not hold: {found} finding(s)",
        arguments.path.display()
    )))
}

fn anchors(paths: &[PathBuf]) -> Result<Vec<(String, Note)>, Failure> {
    let mut anchors = Vec::new();
    for path in paths {
        let notes = read_anchor(path)
            .with_context(|| format!("{}", path.display()))
            .map_err(Failure::Environment)?;
        anchors.extend(notes.into_iter().map(|n| (path.display().to_string(), n)));
    }
    Ok(anchors)
}

fn read_anchor(path: &Path) -> anyhow::Result<Vec<Note>> {
    let text = named_file::read(path, MAX_ANCHORS)?;
    let notes: Option<Vec<Note>> = notes_in(&text)?.into_iter().collect();
    match notes {
        Some(notes) if !notes.is_empty() => Ok(notes),
        Some(_) | None => Err(anyhow!(
            "expected one or more checkpoints (C2SP signed notes)"
        )),
    }
}

fn in_words(path: &Path, report: &Report) -> String {
    let verdict = if report.holds {
        "holds"
    } else {
        "DOES NOT HOLD"
    };
    let origin = report.origin.as_deref().unwrap_or("of no known name");
    let mut lines = vec![
        format!("{}: audit log {origin} {verdict}", path.display()),
        format!(
            "  records      {} in {} file(s)",
            report.records, report.files
        ),
        format!(
            "  proven       {} by {} signed checkpoint(s)",
            report.proven, report.checkpoints
        ),
    ];
    if report.unproven > 0 {
        lines.push(format!(
            "  unproven     {}: seq {} and what follows is not covered by a checkpoint that holds; a \
             change or a cut there would not be seen",
            report.unproven, report.proven
        ));
    }
    for torn in &report.torn {
        let what = if torn.before_gap {
            "of a record; what follows it is missing: it was not cut by a kill"
        } else {
            "of a record that was never acknowledged, cut short by a kill or a power cut"
        };
        lines.push(format!(
            "  torn         {} line {}: {} bytes {what}",
            torn.file, torn.line, torn.bytes
        ));
    }
    for warning in &report.warnings {
        lines.push(format!(
            "  warning      {}: {}",
            warning.file, warning.detail
        ));
    }
    lines.push(format!("  head         {}", report.head));
    for finding in &report.findings {
        let kind = serde_json::to_value(finding.kind).unwrap_or_default();
        lines.push(format!(
            "  {} {} line {}: {}",
            kind.as_str().unwrap_or_default(),
            finding.file,
            finding.line,
            finding.detail
        ));
    }
    if report.more > 0 {
        lines.push(format!("  and {} more", report.more));
    }
    let lines: Vec<String> = lines.iter().map(|line| printable(line)).collect();
    lines.join("\n")
}

#[expect(
    clippy::print_stdout,
    reason = "the verdict is what the command is for"
)]
fn print(text: &str) {
    println!("{text}");
}

/// A bar on a terminal; nothing elsewhere, and nothing in builds without the tools.
struct Progress {
    #[cfg(feature = "tools")]
    bar: indicatif::ProgressBar,
}

#[cfg(feature = "tools")]
impl Progress {
    fn of(bytes: u64, quiet: bool) -> Self {
        if quiet {
            return Self {
                bar: indicatif::ProgressBar::hidden(),
            };
        }
        // Drawn on stderr, and only when that is a terminal.
        let bar = indicatif::ProgressBar::new(bytes);
        let style = indicatif::ProgressStyle::with_template(
            "{wide_bar} {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        );
        if let Ok(style) = style {
            bar.set_style(style);
        }
        Self { bar }
    }

    fn at(&self, bytes: u64) {
        self.bar.set_position(bytes);
    }

    fn done(&self) {
        self.bar.finish_and_clear();
    }
}

#[cfg(not(feature = "tools"))]
impl Progress {
    fn of(_bytes: u64, _quiet: bool) -> Self {
        Self {}
    }

    #[expect(clippy::unused_self, reason = "the build with the tools draws a bar")]
    fn at(&self, _bytes: u64) {}

    #[expect(clippy::unused_self, reason = "the build with the tools draws a bar")]
    fn done(&self) {}
}
