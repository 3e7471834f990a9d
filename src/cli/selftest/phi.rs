//! `vitalgate selftest phi`.

use std::{
    fs::{self, File},
    io::{self, Write},
    net::{Ipv4Addr, SocketAddr},
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context, anyhow};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use vitalgate::{
    config::{Config, ReleasePolicy, Trust},
    inference::{PINNED_SHA256, Runtime, find_library},
    selftest::{self, Callers, Identity, Load, Report, SelftestError, Subject},
};

use super::{
    super::{Failure, dev},
    server::{await_ready, configuration, take_over},
};

/// Hits that are listed one by one for people.
const LISTED: usize = 40;
/// How long the server may take to start.
const START: Duration = Duration::from_mins(2);

#[derive(Debug, Args)]
pub(crate) struct PhiArguments {
    /// Serve what this configuration serves; the demo models when left out. Listeners, identities
    /// and the audit log are throw-away ones in any case.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Requests, of all kinds together.
    #[arg(long, default_value_t = 2000)]
    requests: usize,
    /// Connections that stay open.
    #[arg(long, default_value_t = 64)]
    connections: usize,
    /// Draws the same canaries as a run that printed this seed.
    #[arg(long)]
    seed: Option<u64>,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(arguments: &PhiArguments) -> Result<(), Failure> {
    if arguments.requests == 0 || arguments.connections < 8 {
        return Err(Failure::usage(anyhow!(
            "at least one request and 8 connections are needed"
        )));
    }
    let directory = tempfile::Builder::new()
        .prefix("vitalgate-selftest-")
        .tempdir()
        .map_err(Failure::environment)?;
    let report = test(arguments, directory.path())?;
    print(&report, arguments.json).map_err(Failure::environment)?;
    match report.hits.len() {
        0 => Ok(()),
        count => Err(Failure::does_not_hold(anyhow!(
            "{count} traces of patients were left"
        ))),
    }
}

fn test(arguments: &PhiArguments, state: &Path) -> Result<Report, Failure> {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len}") {
        bar.set_style(style);
    }
    prepare(state)?;
    let config = configuration(state, arguments.config.as_deref())?;
    let runtime = runtime(&config)?;
    bar.set_message("starting the server");
    let (server, subject) = Server::start(state, arguments.config.as_deref(), &config, None)
        .context("the server under test")
        .map_err(Failure::Environment)?;
    let load = Load {
        requests: arguments.requests,
        connections: arguments.connections,
        seed: arguments.seed.unwrap_or_else(rand::random),
    };
    let report = selftest::run(
        &config,
        &runtime,
        &subject,
        &callers(state),
        load,
        |what, position, length| {
            bar.set_message(what.to_owned());
            bar.set_length(length as u64);
            bar.set_position(position as u64);
        },
    );
    bar.finish_and_clear();
    drop(server);
    report.map_err(|error| match error {
        SelftestError::Io(error) => Failure::Environment(anyhow!(error).context(format!(
            "seed {}; {}",
            load.seed,
            last_words(state)
        ))),
        error @ (SelftestError::Runtime(_)
        | SelftestError::Blind(_)
        | SelftestError::Unreached(_)) => Failure::environment(error),
    })
}

/// Makes a state directory with throw-away identities.
pub(super) fn prepare(state: &Path) -> Result<(), Failure> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    dev::prepare(&dev::DevArguments {
        state: state.to_owned(),
        listen: any,
        health: any,
        admin: any,
    })
    .map_err(Failure::Environment)
}

pub(super) fn runtime(config: &Config) -> Result<Runtime, Failure> {
    let library =
        find_library(config.onnxruntime.library.as_deref()).map_err(Failure::environment)?;
    let sha256 = config.onnxruntime.sha256.as_deref();
    Runtime::load(&library, sha256.unwrap_or(PINNED_SHA256)).map_err(Failure::environment)
}

pub(super) fn callers(state: &Path) -> Callers {
    let identity = |name: &str| Identity {
        certificate: state.join("clients").join(format!("{name}.pem")),
        key: state.join("clients").join(format!("{name}.key")),
    };
    Callers {
        authority: state.join("ca.pem"),
        caller: identity("clinician"),
        refused: identity("ops"),
    }
}

/// The last lines of the server's log.
fn last_words(state: &Path) -> String {
    let log = fs::read_to_string(state.join("server.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().rev().take(3).collect();
    format!("the server's log ends: {}", lines.join(" | "))
}

/// The server under test, ended when dropped.
pub(super) struct Server {
    child: Child,
    _socket: UnixStream,
}

impl Server {
    /// Starts it in the state directory, to serve what the configuration file `path` says.
    /// `left_out` names measures that a test build is to leave out.
    pub(super) fn start(
        state: &Path,
        path: Option<&Path>,
        config: &Config,
        left_out: Option<&str>,
    ) -> anyhow::Result<(Self, Subject)> {
        let (mut socket, theirs) = UnixStream::pair()?;
        socket.set_read_timeout(Some(START))?;
        let mut command = Command::new(std::env::current_exe()?);
        command
            .args(["selftest", "phi-server", "--state"])
            .arg(state)
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(File::create(state.join("server.log"))?);
        if let Some(path) = path {
            command.arg("--config").arg(path);
        }
        if let Some(names) = left_out {
            command.env("VITALGATE_PHI_OFF", names);
        }
        let child = command.spawn()?;
        drop(command);
        let started = take_over(&socket)
            .and_then(|views| await_ready(&mut socket).map(|ready| (views, ready)));
        let server = Self {
            child,
            _socket: socket,
        };
        let ((memory, maps), ready) = started.with_context(|| last_words(state))?;
        let mut files = vec![state.to_owned()];
        if let Trust::Policy(ReleasePolicy {
            state: Some(serials),
            ..
        }) = &config.trust
        {
            files.push(serials.clone());
        }
        let subject = Subject {
            memory,
            maps,
            data: ready.data,
            admin: ready.admin,
            files,
        };
        Ok((server, subject))
    }
}

#[cfg(feature = "phi-teeth")]
impl Server {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; there is nothing that it would have to save.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[expect(clippy::print_stdout, reason = "the report is what the command is for")]
fn print(report: &Report, json: bool) -> io::Result<()> {
    if json {
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, report)?;
        return out.write_all(b"\n");
    }
    println!("answers:");
    for (kind, outcomes) in &report.answers {
        let outcomes: Vec<String> = outcomes.iter().map(|(o, n)| format!("{o} ×{n}")).collect();
        println!("  {kind:18} {}", outcomes.join(", "));
    }
    println!(
        "looked for {} patterns ({} more were in memory before the first request) in {} MiB of \
         memory and {} files, with {} connections open, after {} requests (seed {})",
        report.patterns,
        report.before,
        report.scanned_bytes >> 20,
        report.files,
        report.connections,
        report.requests,
        report.seed,
    );
    println!("control, a request in progress: {}", list(&report.control));
    for hit in report.hits.iter().take(LISTED) {
        println!(
            "  {:#x} in {}: {:?} of {}",
            hit.address, hit.place, hit.trace, hit.kind
        );
    }
    match report.hits.len() {
        0 => println!("0 hits: nothing of a patient was left"),
        count => println!("{count} hits: {}", list(&report.traces)),
    }
    Ok(())
}

fn list(traces: &std::collections::BTreeMap<selftest::Trace, usize>) -> String {
    let traces: Vec<String> = traces.iter().map(|(t, n)| format!("{t:?} ×{n}")).collect();
    traces.join(", ")
}
