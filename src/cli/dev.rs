//! `vitalgate dev`: a whole server from nothing, for trying out. Not for patients.

use std::path::PathBuf;

use clap::Args;

use super::Failure;

#[derive(Debug, Args)]
pub(crate) struct DevArguments {
    /// Directory of keys, certificates, bundles, configuration and audit log; made if absent.
    #[arg(long, default_value = ".vitalgate")]
    state: PathBuf,
}

pub(crate) fn run(_arguments: &DevArguments) -> Result<(), Failure> {
    Ok(())
}
