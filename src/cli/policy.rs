//! `vitalgate policy`: write, sign and show release policies; check an access policy.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Subcommand;
use vitalgate::{
    bundle::policy::{Draft, PolicyError, read_file},
    error_chain::one_line,
};

use super::{
    Failure,
    bundle::{print, private_key},
};

mod check;
mod new;
mod show;
mod sign;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Write a release policy, to be signed.
    New(new::NewArguments),
    /// Sign a release policy; a policy that is signed already gets one more signature.
    Sign(sign::SignArguments),
    /// Show what a release policy says and who signed it: exit 1 when the keys given did not.
    Show(show::ShowArguments),
    /// Check an access policy (Cedar, not a release policy) and show who may do what: exit 1 when
    /// it would be refused.
    Check(check::CheckArguments),
}

pub(crate) fn run(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        PolicyCommand::New(arguments) => new::run(&arguments),
        PolicyCommand::Sign(arguments) => sign::run(&arguments),
        PolicyCommand::Show(arguments) => show::run(&arguments),
        PolicyCommand::Check(arguments) => check::run(&arguments),
    }
}

/// A policy that cannot be read leaves the question open; anything else is the policy's fault.
fn failure(error: &PolicyError) -> Failure {
    let reason = anyhow!("{}", one_line(error));
    if error.is_environment() {
        Failure::Environment(reason)
    } else {
        Failure::DoesNotHold(reason)
    }
}

/// Reads a policy, signed or not, and its bytes.
fn read_draft(path: &Path) -> Result<(Vec<u8>, Draft), Failure> {
    let bytes = read_file(path).map_err(|error| failure(&error))?;
    let draft = Draft::read(&bytes).map_err(|error| {
        Failure::DoesNotHold(anyhow!("{}: {}", path.display(), one_line(&error)))
    })?;
    Ok((bytes, draft))
}

/// Writes a file as a whole, or not at all.
fn write_whole(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Environment(anyhow!("{}: {error}", path.display()));
    let Some(name) = path.file_name() else {
        return Err(Failure::usage(anyhow!("--out must name a file")));
    };
    let name = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let staged: PathBuf = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&staged)
        .map_err(failed)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&staged, path));
    if written.is_err() {
        drop(fs::remove_file(&staged));
    }
    written.map_err(failed)
}
