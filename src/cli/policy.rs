//! `vitalgate policy`: write, sign and show release policies; check an access policy.

use std::path::Path;

use anyhow::anyhow;
use clap::Subcommand;
use vitalgate::{
    bundle::policy::{Draft, PolicyError, read_file},
    error_chain::one_line,
};

use super::{Failure, bundle::print};

mod check;
#[cfg(feature = "tools")]
mod new;
mod show;
#[cfg(feature = "tools")]
mod sign;

#[derive(Debug, Subcommand)]
pub(crate) enum PolicyCommand {
    /// Write a release policy, to be signed.
    #[cfg(feature = "tools")]
    New(new::NewArguments),
    /// Sign a release policy; a policy that is signed already gets one more signature.
    #[cfg(feature = "tools")]
    Sign(sign::SignArguments),
    /// Show what a release policy says and who signed it: exit 1 when the keys given did not.
    Show(show::ShowArguments),
    /// Check an access policy (Cedar, not a release policy) and show who may do what: exit 1 when
    /// it would be refused.
    Check(check::CheckArguments),
}

pub(crate) fn run(command: PolicyCommand) -> Result<(), Failure> {
    match command {
        #[cfg(feature = "tools")]
        PolicyCommand::New(arguments) => new::run(&arguments),
        #[cfg(feature = "tools")]
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
