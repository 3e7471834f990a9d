//! `vitalgate bundle`: make, sign, verify and inspect model bundles.

use std::path::PathBuf;

use clap::Subcommand;

use super::Failure;

#[derive(Debug, Subcommand)]
pub(crate) enum BundleCommand {
    /// Verify one signature over a bundle: exit 0, or 1 with the reason.
    Verify {
        /// The bundle's directory.
        bundle: PathBuf,
    },
}

pub(crate) fn run(_command: BundleCommand) -> Result<(), Failure> {
    Ok(())
}
