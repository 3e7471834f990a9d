//! `vitalgate audit`: what those who audit a server do with its log, on any machine.

use clap::Subcommand;

use super::Failure;

mod export;
mod verify;

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Say whether a log is whole and as it was signed: exit 0, or 1 with what is wrong and where.
    Verify(verify::VerifyArguments),
    /// Print a log in another format, one JSON object a line.
    Export(export::ExportArguments),
}

pub(crate) fn run(command: AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Verify(arguments) => verify::run(&arguments),
        AuditCommand::Export(arguments) => export::run(&arguments),
    }
}
