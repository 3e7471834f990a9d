//! The command line: one file a subcommand.

use std::{fmt, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};
use vitalgate::error_chain::one_line;

mod admin;
mod audit;
mod bundle;
mod check;
#[cfg(feature = "tools")]
mod dev;
#[cfg(feature = "tools")]
mod evaluate;
#[cfg(feature = "tools")]
mod networks;
#[cfg(feature = "tools")]
mod patients;
mod policy;
#[cfg(feature = "tools")]
mod selftest;
mod serve;
#[cfg(feature = "tools")]
mod signing_key;
mod table;
#[cfg(feature = "tools")]
mod whole_file;

/// Serves signed clinical models over mutual TLS, and screens every input first.
#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve demo models with throw-away keys, on loopback. Not for patients.
    #[cfg(feature = "tools")]
    Dev(dev::DevArguments),
    /// Serve what a configuration file says.
    Serve {
        /// The configuration, TOML.
        #[arg(long)]
        config: PathBuf,
    },
    /// Look after a running server: models, callers, read-only mode, evidence.
    Admin(admin::AdminArguments),
    /// Print every problem of a configuration file with its line.
    Check {
        /// The configuration, TOML.
        #[arg(long)]
        config: PathBuf,
        /// Print a JSON object instead of text.
        #[arg(long)]
        json: bool,
    },
    /// Verify and export audit logs.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Show that nothing of a patient stays.
    #[cfg(feature = "tools")]
    #[command(subcommand)]
    Selftest(selftest::SelftestCommand),
    /// Judge a bundle on patients' rows, before it is approved; or only the rows.
    #[cfg(feature = "tools")]
    Evaluate(Box<evaluate::EvaluateArguments>),
    /// Make, sign, verify and inspect model bundles.
    #[command(subcommand)]
    Bundle(bundle::BundleCommand),
    /// Write, sign and show release policies (which models); check an access policy (who may do what).
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
}

/// Why a command did not end well, by what a script should make of it.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The thing asked about does not hold: exit 1.
    DoesNotHold(anyhow::Error),
    /// The command was called in a wrong way: exit 2.
    Usage(anyhow::Error),
    /// A file, port or library stands in the way: exit 3.
    Environment(anyhow::Error),
}

impl Failure {
    pub(crate) fn does_not_hold(error: impl Into<anyhow::Error>) -> Self {
        Self::DoesNotHold(error.into())
    }

    pub(crate) fn usage(error: impl Into<anyhow::Error>) -> Self {
        Self::Usage(error.into())
    }

    pub(crate) fn environment(error: impl Into<anyhow::Error>) -> Self {
        Self::Environment(error.into())
    }

    fn exit_code(&self) -> u8 {
        match self {
            Self::DoesNotHold(_) => 1,
            Self::Usage(_) => 2,
            Self::Environment(_) => 3,
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::DoesNotHold(e) | Self::Usage(e) | Self::Environment(e)) = self;
        f.write_str(&one_line(e.as_ref()))
    }
}

/// Runs the command that the arguments name.
#[expect(
    clippy::print_stderr,
    reason = "a command says on stderr why it failed"
)]
pub(crate) fn run() -> ExitCode {
    #[cfg(feature = "phi-teeth")]
    if let Err(error) = leave_measures_out() {
        eprintln!("vitalgate: {error}");
        return ExitCode::from(2);
    }
    let result = match Arguments::parse().command {
        #[cfg(feature = "tools")]
        Command::Dev(arguments) => dev::run(&arguments),
        Command::Serve { config } => serve::run(&config),
        Command::Admin(arguments) => admin::run(&arguments),
        Command::Check { config, json } => check::run(&config, json),
        Command::Audit(command) => audit::run(command),
        #[cfg(feature = "tools")]
        Command::Selftest(command) => selftest::run(command),
        #[cfg(feature = "tools")]
        Command::Evaluate(arguments) => evaluate::run(&arguments),
        Command::Bundle(command) => bundle::run(command),
        Command::Policy(command) => policy::run(command),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("vitalgate: {failure}");
            ExitCode::from(failure.exit_code())
        }
    }
}

/// A test build leaves out the measures that `VITALGATE_PHI_OFF` names, and says so.
#[cfg(feature = "phi-teeth")]
#[expect(
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "not in any build that serves patients"
)]
fn leave_measures_out() -> Result<(), String> {
    let names = std::env::var("VITALGATE_PHI_OFF").unwrap_or_default();
    eprintln!("vitalgate: TEST BUILD, patient data is not protected; left out: {names:?}");
    vitalgate::phi::measures::leave_out(&names)
}
