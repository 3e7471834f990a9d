//! The command line.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Error, anyhow};
use clap::{Args, Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(flatten)]
    pub(crate) requests: Requests,
    #[command(flatten)]
    pub(crate) load: Load,
    #[command(flatten)]
    pub(crate) disturbance: Disturbance,
    /// Write the figures to this file as JSON.
    #[arg(long, global = true)]
    pub(crate) json: Option<PathBuf>,
    /// Draw latency by percentile to this file as SVG.
    #[arg(long, global = true)]
    pub(crate) plot: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Arguments {
    pub(crate) fn is_ramp(&self) -> bool {
        matches!(self.command, Command::Ramp { .. })
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Each connection sends its next request when the answer to the last is there.
    Closed,
    /// Requests are due at a constant rate, whether or not answers come.
    Open {
        /// Requests per second, over all connections.
        #[arg(long)]
        rate: f64,
    },
    /// Closed loop first, then open loop at rising shares of what that gave, to find the knee.
    Ramp {
        /// How many rates are tried.
        #[arg(long, default_value_t = 8)]
        steps: u32,
    },
}

/// Whom to ask. The server has to be on this machine.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The server's address, loopback only.
    #[arg(long, default_value = "127.0.0.1:8443", value_parser = loopback)]
    pub(crate) address: SocketAddr,
    /// The name that its certificate has to carry.
    #[arg(long, default_value = "localhost")]
    pub(crate) name: String,
    /// Root certificate of the server, PEM.
    #[arg(long, default_value = ".vitalgate/ca.pem")]
    pub(crate) ca: PathBuf,
    /// Client certificate chain, PEM.
    #[arg(long, default_value = ".vitalgate/clients/evaluator.pem")]
    pub(crate) cert: PathBuf,
    /// The client certificate's key, PEM.
    #[arg(long, default_value = ".vitalgate/clients/evaluator.key")]
    pub(crate) key: PathBuf,
    /// Ask without a client certificate.
    #[arg(long)]
    pub(crate) no_client_certificate: bool,
}

/// What to ask.
#[derive(Debug, Args)]
pub(crate) struct Requests {
    /// Path of the resource asked.
    #[arg(long, default_value = "/v1/models/icu-mortality/predict")]
    pub(crate) path: String,
    /// What is sent, by share: `NAME=SHARE[:FILE]`, several with commas. The body is FILE's, else
    /// NAME.json of --bodies; `malformed` is a body cut short, `get` has none. These, `predicted`,
    /// `review` and `rejected` have to be answered with the status that is due to them; of any other
    /// the first answer is the right one.
    #[arg(long, default_value = "predicted=1", value_delimiter = ',')]
    pub(crate) mix: Vec<String>,
    /// Directory of bodies.
    #[arg(long, default_value = "models/icu-mortality/examples")]
    pub(crate) bodies: PathBuf,
    /// Members of an answer that differ each time, and are not compared.
    #[arg(long, default_value = "id,token,expires", value_delimiter = ',')]
    pub(crate) varying: Vec<String>,
    /// A header sent with each request, `name: value`; may be repeated.
    #[arg(long)]
    pub(crate) header: Vec<String>,
    /// Take 429 and 503 with Retry-After for load that was shed, not for a wrong answer.
    #[arg(long)]
    pub(crate) may_shed: bool,
}

/// How much of it.
#[derive(Debug, Args)]
pub(crate) struct Load {
    /// Connections, each with a thread.
    #[arg(long, default_value_t = 32)]
    pub(crate) connections: usize,
    /// Seconds that are measured.
    #[arg(long, default_value = "10", value_parser = seconds)]
    pub(crate) duration: Duration,
    /// Seconds before that, not measured.
    #[arg(long, default_value = "1", value_parser = seconds)]
    pub(crate) warmup: Duration,
    /// Requests after which a connection is closed and a new one made; 0 keeps it.
    #[arg(long, default_value_t = 0)]
    pub(crate) requests_per_connection: u64,
    /// No progress bar.
    #[arg(long)]
    pub(crate) quiet: bool,
}

/// What else weighs on the server meanwhile; none of it is measured.
#[derive(Debug, Args)]
pub(crate) struct Disturbance {
    /// TLS connections that are opened first and stay silent.
    #[arg(long, default_value_t = 0)]
    pub(crate) idle: usize,
    /// Connections that send a request one byte a second.
    #[arg(long, default_value_t = 0)]
    pub(crate) slow: usize,
    /// New connections a second, each with a full handshake, closed at once.
    #[arg(long, default_value_t = 0.0)]
    pub(crate) churn: f64,
}

fn loopback(text: &str) -> Result<SocketAddr, Error> {
    let address: SocketAddr = text.parse()?;
    if !address.ip().is_loopback() {
        return Err(anyhow!(
            "load is sent to this machine only; {address} is another"
        ));
    }
    Ok(address)
}

fn seconds(text: &str) -> Result<Duration, Error> {
    Ok(Duration::try_from_secs_f64(text.parse()?)?)
}
