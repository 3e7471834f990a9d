//! `vitalgate audit export --fhir`.

use std::{
    fs::OpenOptions,
    io::{self, BufWriter, Write},
    os::unix::fs::OpenOptionsExt,
    path::PathBuf,
};

use anyhow::anyhow;
use clap::Args;
use vitalgate::audit::{Snapshot, each_record, fhir::audit_event};

use super::Failure;

#[derive(Debug, Args)]
pub(crate) struct ExportArguments {
    /// The log, to be written as FHIR R4 `AuditEvents`, newline-delimited JSON: its directory, or
    /// one of its files, which stands for all of them. It is not verified; `audit verify` does.
    #[arg(long, value_name = "PATH")]
    fhir: PathBuf,
    /// Where to write; must not exist. Standard output when left out.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub(crate) fn run(arguments: &ExportArguments) -> Result<(), Failure> {
    let path = arguments.fhir.display();
    let unreadable = |error: io::Error| Failure::Environment(anyhow!("{path}: {error}"));
    let snapshot = Snapshot::take(&arguments.fhir).map_err(unreadable)?;
    let origin = snapshot.origin().map_err(unreadable)?;
    let origin = origin.unwrap_or_else(|| "vitalgate".to_owned());
    let mut out: Box<dyn Write> = match &arguments.out {
        None => Box::new(BufWriter::new(io::stdout().lock())),
        Some(file) => {
            let created = OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(file)
                .map_err(|error| Failure::Environment(anyhow!("{}: {error}", file.display())))?;
            Box::new(BufWriter::new(created))
        }
    };
    let mut foreign = 0;
    let others = each_record(snapshot, |line| {
        let Some(event) = audit_event(line, &origin) else {
            foreign += 1;
            return Ok(());
        };
        serde_json::to_writer(&mut out, &event)?;
        out.write_all(b"\n")
    })
    .and_then(|others| out.flush().map(|()| others + foreign))
    .map_err(unreadable)?;
    if others == 0 {
        return Ok(());
    }
    Err(Failure::DoesNotHold(anyhow!(
        "{path}: {others} line(s) are not records and were left out; see vitalgate audit verify"
    )))
}
