//! `vitalgate bundle`: make, sign, verify and inspect model bundles.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Subcommand;
use vitalgate::bundle::{
    BUNDLE_DIRECTORY, MODEL_FILE,
    signing::{Contents, Limits, SigningError},
};

use super::Failure;
use vitalgate::{error_chain::one_line, named_file};

mod bom;
#[cfg(feature = "tools")]
mod build;
mod card;
#[cfg(feature = "tools")]
mod fit;
mod inspect;
mod intake;
#[cfg(feature = "tools")]
mod keygen;
mod networks;
mod report;
#[cfg(feature = "tools")]
mod sign;
#[cfg(feature = "tools")]
mod stability;
mod verify;

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Make a bundle from model.json and ONNX files, checking all that the server will check.
    #[cfg(feature = "tools")]
    Build(build::BuildArguments),
    /// Fit what a model's patients look like: rows of a CSV file to reference.json.
    #[cfg(feature = "tools")]
    Fit(fit::FitArguments),
    /// Fit and measure which pushes show that a prediction hangs on measurement uncertainty.
    #[cfg(feature = "tools")]
    Stability(stability::StabilityArguments),
    /// Make a key pair for signing, in files or in a token.
    #[cfg(feature = "tools")]
    Keygen(keygen::KeygenArguments),
    /// Sign a bundle.
    #[cfg(feature = "tools")]
    Sign(sign::SignArguments),
    /// Verify one signature over a directory: exit 0, or 1 with the reason.
    Verify(verify::VerifyArguments),
    /// Show what a bundle is, whose signatures lie beside it, and whether it could be served.
    Inspect(inspect::InspectArguments),
}

pub(crate) fn run(command: BundleCommand) -> Result<(), Failure> {
    match command {
        #[cfg(feature = "tools")]
        BundleCommand::Build(arguments) => build::run(&arguments),
        #[cfg(feature = "tools")]
        BundleCommand::Fit(arguments) => fit::run(&arguments),
        #[cfg(feature = "tools")]
        BundleCommand::Stability(arguments) => stability::run(&arguments),
        #[cfg(feature = "tools")]
        BundleCommand::Keygen(arguments) => keygen::run(&arguments),
        #[cfg(feature = "tools")]
        BundleCommand::Sign(arguments) => sign::run(&arguments),
        BundleCommand::Verify(arguments) => verify::run(&arguments),
        BundleCommand::Inspect(arguments) => inspect::run(&arguments),
    }
}

/// The bundle that `directory` is, or, when it is a version's directory, the one it holds.
pub(crate) fn bundle_directory(directory: &Path) -> PathBuf {
    let within = directory.join(BUNDLE_DIRECTORY);
    if !directory.join(MODEL_FILE).exists() && within.is_dir() {
        within
    } else {
        directory.to_owned()
    }
}

/// The directory in which the bundle lies, beside which its signatures are kept.
fn version_directory(bundle: &Path) -> io::Result<PathBuf> {
    match (bundle.file_name(), bundle.parent()) {
        (Some(_), Some(parent)) => Ok(parent.to_owned()),
        // `.` or `..`: what it means is for the system to say.
        _ => bundle.join("..").canonicalize(),
    }
}

/// Reads a bundle once. A system that does not let us is the environment's fault; anything else
/// is the bundle's.
pub(crate) fn read_bundle(bundle: &Path) -> Result<Contents, Failure> {
    Contents::read(bundle, &Limits::default()).map_err(|error| {
        let unreadable = matches!(error, SigningError::Io { .. });
        let reason = anyhow!("{}: {}", bundle.display(), one_line(&error));
        if unreadable {
            Failure::Environment(reason)
        } else {
            Failure::DoesNotHold(reason)
        }
    })
}

/// Reads a file the caller named, up to what a bundle may hold in one.
fn read_file(path: &Path) -> Result<Vec<u8>, Failure> {
    let limit = Limits::default().file_bytes;
    named_file::read(path, limit).map_err(|error| {
        let reason = anyhow!("{}: {error}", path.display());
        if error.kind() == io::ErrorKind::FileTooLarge {
            Failure::DoesNotHold(reason)
        } else {
            Failure::Environment(reason)
        }
    })
}

/// Prints a result. A reader that has left is no failure of ours.
pub(crate) fn print(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out
        .write_all(text.as_bytes())
        .and_then(|()| out.write_all(b"\n"))
        .and_then(|()| out.flush())
    {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Failure::environment(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}
