//! `vitalgate selftest`: shows on the spot what the documentation promises.

use clap::Subcommand;

use super::Failure;

#[cfg(feature = "phi-teeth")]
mod cost;
mod phi;
mod server;

#[derive(Debug, Subcommand)]
pub(crate) enum SelftestCommand {
    /// Send canary patients to a server of one's own, then scan its memory and files for them.
    ///
    /// Exit 0: nothing was found. 1: something was. 3: the test could not be made.
    Phi(phi::PhiArguments),
    /// Measure processor time a request, with the measures against residue and without.
    #[cfg(feature = "phi-teeth")]
    PhiCost(cost::CostArguments),
    /// The server under test; it talks to `selftest phi` through its standard input.
    #[command(hide = true)]
    PhiServer(server::ServerArguments),
}

pub(crate) fn run(command: SelftestCommand) -> Result<(), Failure> {
    match command {
        SelftestCommand::Phi(arguments) => phi::run(&arguments),
        #[cfg(feature = "phi-teeth")]
        SelftestCommand::PhiCost(arguments) => cost::run(&arguments),
        SelftestCommand::PhiServer(arguments) => server::run(&arguments),
    }
}
