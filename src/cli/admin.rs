//! `vitalgate admin`: the client of the admin plane.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use vitalgate::containment::Reason;

use super::Failure;

mod client;
mod evidence;
mod show;

use client::{Client, Connection};

#[derive(Debug, Args)]
pub(crate) struct AdminArguments {
    #[command(flatten)]
    connection: Connection,
    /// Print what the server answered, in JSON.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: AdminCommand,
}

#[derive(Debug, Subcommand)]
enum AdminCommand {
    /// What is served: versions, digests, approvals, states.
    Models,
    /// Verify, approve and serve a version from the repository.
    Load(Deployment),
    /// Serve a version no longer; until the next start, which serves what the configuration says.
    Unload(Deployment),
    /// Stop predictions of a model, or every request of a caller, until it is released.
    #[command(subcommand)]
    Quarantine(Subject),
    /// Let a model or a caller go on.
    #[command(subcommand)]
    Release(Subject),
    /// Who is configured to call, and who is quarantined.
    Callers,
    /// Freeze deployments, or let them go on; predictions and quarantines stay possible.
    ReadOnly {
        #[arg(value_enum)]
        on: Switch,
        #[command(flatten)]
        why: Why,
    },
    /// The server as a whole.
    State,
    /// The last record of the audit log: its number and hash.
    AuditHead,
    /// The last records of the audit log, as they are.
    AuditRecords {
        /// How many, at most.
        #[arg(long, default_value_t = 100)]
        last: usize,
    },
    /// The effective configuration, without secrets.
    Config,
    /// Metrics, in the Prometheus text format.
    Metrics,
    /// Put everything an investigation needs into one file, without secrets or patients.
    Evidence {
        /// The file: .tar or .json.
        #[arg(long)]
        out: PathBuf,
        /// Records of the audit log, at most.
        #[arg(long, default_value_t = 10_000)]
        last: usize,
    },
}

#[derive(Debug, Args)]
struct Deployment {
    /// The model's name.
    model: String,
    /// Its version.
    version: u32,
    #[command(flatten)]
    why: Why,
}

#[derive(Debug, Subcommand)]
enum Subject {
    /// Predictions of a model.
    Model {
        /// Its name.
        name: String,
        /// This version only; otherwise all there are and will be.
        #[arg(long)]
        version: Option<u32>,
        #[command(flatten)]
        why: Why,
    },
    /// Every request of a caller.
    Caller {
        /// The principal's name.
        name: String,
        #[command(flatten)]
        why: Why,
    },
}

#[derive(Debug, Args)]
struct Why {
    /// Why, for the audit log: 3 to 200 plain characters. No patient data.
    #[arg(long, value_parser = reason)]
    reason: Reason,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

fn reason(text: &str) -> Result<Reason, String> {
    Reason::new(text).map_err(|unfit| unfit.to_string())
}

impl AdminCommand {
    /// Whose certificate of a `dev` state directory is used when none is named: the least that
    /// will do.
    fn usual_role(&self) -> &'static str {
        match self {
            Self::Load(_) | Self::Unload(_) => "ml-engineer",
            Self::AuditHead | Self::AuditRecords { .. } | Self::Evidence { .. } => "compliance",
            Self::Models
            | Self::Quarantine(_)
            | Self::Release(_)
            | Self::Callers
            | Self::ReadOnly { .. }
            | Self::State
            | Self::Config
            | Self::Metrics => "ops",
        }
    }
}

/// Makes the call, and shows what came of it.
#[expect(clippy::print_stdout, reason = "the answer is what the command is for")]
pub(crate) fn run(arguments: &AdminArguments) -> Result<(), Failure> {
    let AdminArguments {
        connection,
        json,
        command,
    } = arguments;
    let client = Client::new(connection, command.usual_role())?;
    if let AdminCommand::Metrics = command {
        print!("{}", client.get("/metrics")?);
        return Ok(());
    }
    let answer = call(&client, command)?;
    let text = if *json {
        serde_json::to_string_pretty(&answer).map_err(Failure::environment)?
    } else {
        show::answer(command, &answer)
    };
    println!("{text}");
    Ok(())
}

fn call(client: &Client, command: &AdminCommand) -> Result<Value, Failure> {
    let post = |path: String, why: &Why| client.post(&path, &json!({"reason": why.reason}));
    match command {
        AdminCommand::Models => client.read("/admin/v1/models"),
        AdminCommand::Callers => client.read("/admin/v1/callers"),
        AdminCommand::State => client.read("/admin/v1/state"),
        AdminCommand::Config => client.read("/admin/v1/config"),
        AdminCommand::AuditHead => client.read("/admin/v1/audit/head"),
        AdminCommand::AuditRecords { last } => {
            client.read(&format!("/admin/v1/audit/records?last={last}"))
        }
        AdminCommand::Load(it) => post(it.path("load"), &it.why),
        AdminCommand::Unload(it) => post(it.path("unload"), &it.why),
        AdminCommand::Quarantine(subject) => post(subject.path("quarantine"), subject.why()),
        AdminCommand::Release(subject) => post(subject.path("release"), subject.why()),
        AdminCommand::ReadOnly { on, why } => client.post(
            "/admin/v1/read-only",
            &json!({"on": *on == Switch::On, "reason": why.reason}),
        ),
        AdminCommand::Evidence { out, last } => evidence::collect(client, out, *last),
        AdminCommand::Metrics => Err(Failure::usage(anyhow!("metrics are not JSON"))),
    }
}

impl Deployment {
    fn path(&self, verb: &str) -> String {
        let (model, version) = (client::segment(&self.model), self.version);
        format!("/admin/v1/models/{model}/versions/{version}/{verb}")
    }
}

impl Subject {
    fn path(&self, verb: &str) -> String {
        match self {
            Self::Model { name, version, .. } => {
                let name = client::segment(name);
                match version {
                    None => format!("/admin/v1/models/{name}/{verb}"),
                    Some(version) => format!("/admin/v1/models/{name}/versions/{version}/{verb}"),
                }
            }
            Self::Caller { name, .. } => {
                format!("/admin/v1/callers/{}/{verb}", client::segment(name))
            }
        }
    }

    fn why(&self) -> &Why {
        match self {
            Self::Model { why, .. } | Self::Caller { why, .. } => why,
        }
    }
}
