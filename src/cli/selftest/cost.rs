//! `vitalgate selftest phi-cost`, in test builds: processor time a request, with the measures
//! against residue and without.

use std::{fs, path::Path};

use anyhow::{Context, anyhow};
use clap::Args;
use vitalgate::selftest::Workload;

use super::{
    super::Failure,
    phi::{Server, callers, prepare, runtime},
    server::configuration,
};

/// Clock ticks a second in `/proc/PID/stat` (`USER_HZ`, 100 on every Linux).
const TICKS: f64 = 100.0;

#[derive(Debug, Args)]
pub(crate) struct CostArguments {
    /// Requests to each server in a round.
    #[arg(long, default_value_t = 2000)]
    requests: u32,
    /// Rounds; the servers take turns.
    #[arg(long, default_value_t = 10)]
    rounds: u32,
}

struct Measured {
    name: &'static str,
    server: Server,
    workload: Workload,
    ticks: f64,
    _state: tempfile::TempDir,
}

pub(super) fn run(arguments: &CostArguments) -> Result<(), Failure> {
    let mut measured =
        [("scrubbed", ""), ("unscrubbed", "all")].map(|(name, left_out)| start(name, left_out));
    for round in 0..=arguments.rounds {
        for one in &mut measured {
            let Ok(one) = one else { continue };
            let before = ticks(one.server.pid()).map_err(Failure::Environment)?;
            one.workload
                .send(usize::try_from(arguments.requests).unwrap_or(1))
                .map_err(Failure::environment)?;
            let after = ticks(one.server.pid()).map_err(Failure::Environment)?;
            // The first round warms up.
            if round > 0 {
                one.ticks += after - before;
            }
        }
    }
    let [scrubbed, unscrubbed] = measured;
    report(&scrubbed?, &unscrubbed?, arguments);
    Ok(())
}

#[expect(
    clippy::print_stdout,
    reason = "the figures are what the command is for"
)]
fn report(scrubbed: &Measured, unscrubbed: &Measured, arguments: &CostArguments) {
    let requests = f64::from(arguments.requests) * f64::from(arguments.rounds);
    for one in [scrubbed, unscrubbed] {
        let micros = one.ticks / TICKS * 1e6 / requests;
        println!("{:10} {micros:7.1} µs of CPU a request", one.name);
    }
    println!("ratio      {:.2}", scrubbed.ticks / unscrubbed.ticks);
}

fn start(name: &'static str, left_out: &str) -> Result<Measured, Failure> {
    let state = tempfile::tempdir().map_err(Failure::environment)?;
    prepare(state.path())?;
    let config = configuration(state.path(), None)?;
    let (server, subject) = Server::start(state.path(), None, &config, Some(left_out))
        .context("the server under test")
        .map_err(Failure::Environment)?;
    let runtime = runtime(&config)?;
    let who = callers(state.path());
    let workload = Workload::new(&config, &runtime, subject.data, &who);
    Ok(Measured {
        name,
        server,
        workload: workload.map_err(Failure::environment)?,
        ticks: 0.0,
        _state: state,
    })
}

/// User and system time of a process (proc(5), fields 14 and 15), in clock ticks.
fn ticks(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest);
    let fields = fields.unwrap_or_default().split_ascii_whitespace();
    let times: Vec<f64> = fields.skip(11).take(2).flat_map(str::parse).collect();
    match times.as_slice() {
        [user, system] => Ok(user + system),
        _ => Err(anyhow!("/proc/{pid}/stat cannot be read")),
    }
}
