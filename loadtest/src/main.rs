//! Load generator: sends a mix of requests over TLS at a constant rate (open loop) or as fast as
//! answers come (closed loop), checks every answer, and reports latencies.
//!
//! In the open loop a latency counts from when a request was *due*, so that a server which stalls
//! is charged for every request that had to wait for it ("coordinated omission", Gil Tene).
//!
//! Exit codes: 0 all answers were right, 1 some were not, 2 usage, 3 environment.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a command for people"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "the one clock is the server's; this program is another"
)]

use std::{process::ExitCode, sync::Arc};

use anyhow::{Context, Error};
use clap::Parser;

mod arguments;
mod case;
mod connection;
mod disturbance;
mod load;
mod outcome;
mod plot;
mod ramp;
mod report;

use arguments::{Arguments, Command};

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            eprintln!("loadtest: {error:#}");
            ExitCode::from(3)
        }
    }
}

/// Whether every answer was right.
fn run(arguments: &Arguments) -> Result<bool, Error> {
    let client = Arc::new(connection::Client::new(&arguments.target)?);
    let mix = case::Mix::learn(&client, &arguments.requests)?;
    let runs = {
        let _disturbance = disturbance::start(&client, &arguments.disturbance)?;
        match &arguments.command {
            Command::Closed => vec![load::closed(&client, &mix, &arguments.load)?],
            Command::Open { rate } => vec![load::open(&client, &mix, &arguments.load, *rate)?],
            Command::Ramp { steps } => ramp::run(&client, &mix, &arguments.load, *steps)?,
        }
    };
    for run in &runs {
        println!("{}", report::table(run)?);
    }
    if let Some(knee) = ramp::knee(&runs).filter(|_| arguments.is_ramp()) {
        println!("knee: {knee:.0} requests/s");
    }
    if let Some(path) = &arguments.json {
        std::fs::write(path, report::json(&runs)?)
            .with_context(|| format!("cannot write {}", path.display()))?;
    }
    if let Some(path) = &arguments.plot {
        plot::percentiles(&runs, path)?;
    }
    Ok(runs.iter().all(outcome::Run::is_right))
}
