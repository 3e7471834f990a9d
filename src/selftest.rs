//! Proves that nothing of a patient stays: sends canary patients of every kind to a server, then
//! reads the server's whole memory, with the connections still open, and its files.
//!
//! What is looked for are texts (identifiers, decimal digits) and numbers: values as sent and as
//! rounded, the networks' inputs, and every tensor that the networks compute on the way. What
//! is in memory before the first request is no trace of a patient and is not looked for.
//!
//! The scan has to prove that it sees: before the run it must find a half-sent request.

use std::{
    collections::BTreeMap, fs::File, io, net::SocketAddr, path::PathBuf, sync::Arc, thread,
    time::Duration,
};

use rand::{SeedableRng, rngs::StdRng};
use rustls::ClientConfig;
use serde::Serialize;

use crate::{config::Config, inference::Runtime};

mod canary;
mod client;
#[cfg(feature = "phi-teeth")]
mod cost;
mod patterns;
mod requests;
mod scan;
mod traffic;

use canary::{Marks, Model};
use client::Wire;
#[cfg(feature = "phi-teeth")]
pub use cost::Workload;
use patterns::Patterns;
pub use patterns::Trace;
pub use scan::Hit;
pub use traffic::Tally;
use traffic::Traffic;

/// By then a request on loopback has arrived.
const IN_PROGRESS: Duration = Duration::from_millis(500);
/// From the last answer until the server has nothing more in hand.
const AT_REST: Duration = Duration::from_secs(3);
/// How often the control is tried.
const CONTROLS: usize = 5;

/// A server under test.
#[derive(Debug)]
pub struct Subject {
    /// Its `/proc/self/mem`, opened by itself.
    pub memory: File,
    /// Its `/proc/self/maps`.
    pub maps: File,
    /// The data plane.
    pub data: SocketAddr,
    /// The admin plane, if there is one.
    pub admin: Option<SocketAddr>,
    /// Files and directories that it writes.
    pub files: Vec<PathBuf>,
}

/// A client's certificate and key, PEM.
#[derive(Debug)]
pub struct Identity {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Who calls.
#[derive(Debug)]
pub struct Callers {
    /// Whom they trust.
    pub authority: PathBuf,
    /// May predict.
    pub caller: Identity,
    /// May not.
    pub refused: Identity,
}

/// How much is sent.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Requests, of all kinds together.
    pub requests: usize,
    /// Connections that stay open.
    pub connections: usize,
    /// Draws the canaries.
    pub seed: u64,
}

/// What was found.
#[derive(Debug, Serialize)]
pub struct Report {
    /// Draws the same canaries again.
    pub seed: u64,
    /// Requests sent.
    pub requests: usize,
    /// Connections open during the scan.
    pub connections: usize,
    /// Answers by kind of request and outcome.
    pub answers: Tally,
    /// Patterns looked for.
    pub patterns: usize,
    /// Patterns not looked for, since they were in memory before the first request.
    pub before: usize,
    /// Memory scanned, bytes.
    pub scanned_bytes: u64,
    /// Files scanned, and what the admin plane publishes.
    pub files: usize,
    /// What the control found of a request in progress.
    pub control: BTreeMap<Trace, usize>,
    /// Traces found.
    pub traces: BTreeMap<Trace, usize>,
    /// Each of them.
    pub hits: Vec<Hit>,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum SelftestError {
    /// A file, a connection, the server.
    #[error("{0}")]
    Io(#[from] io::Error),
    /// ONNX Runtime.
    #[error(transparent)]
    Runtime(#[from] crate::inference::RuntimeError),
    /// The scan does not see a request in progress, so it proves nothing.
    #[error("the scan is blind: it does not see {0:?} of a request in progress")]
    Blind(Vec<Trace>),
    /// An answer that every model must have given was never given, so what it leaves is not shown.
    #[error("these answers were never given, so nothing is shown of them: {}", .0.join("; "))]
    Unreached(Vec<String>),
}

/// Runs the whole test against a server that serves what `config` says. `progress` is told what
/// is being done, and how much of how much of it is.
pub fn run(
    config: &Config,
    runtime: &Runtime,
    subject: &Subject,
    callers: &Callers,
    load: Load,
    mut progress: impl FnMut(&str, usize, usize),
) -> Result<Report, SelftestError> {
    let mut rng = StdRng::seed_from_u64(load.seed);
    let marks = Marks::draw(&mut rng);
    let mut patterns = Patterns::new(marks.identifier, marks.decimal);
    let mut models = config
        .models
        .iter()
        .map(|served| Model::read(&config.repository, served, runtime))
        .collect::<io::Result<Vec<_>>>()?;
    progress("drawing canaries", 0, load.requests);
    let requests = requests::plan(
        &mut models,
        &marks,
        load,
        config.limits.body_bytes,
        &mut rng,
        &mut patterns,
    );
    patterns.word(marks.planted, (Trace::Planted, "control"));
    patterns.planted_single(marks.planted_single);

    progress("scanning before the first request", 0, 1);
    let before = scan::memory(&subject.memory, &subject.maps, false, &patterns)?;
    let looked_for = patterns.len();
    patterns.forget(&before.origins());
    let (caller, refused) = self::callers(callers)?;
    progress("control: a request in progress", 0, 1);
    let name = models.first().map_or("", |m| m.spec.name.as_str());
    let control = control(subject, &caller, name, &marks, &patterns)?;

    let operator = Arc::clone(&refused);
    let mut traffic = Traffic::open(subject.data, caller, refused, load.connections)?;
    let (most, last) = requests.split_at(requests.len().saturating_sub(load.connections));
    for (turn, request) in most.iter().enumerate() {
        progress("sending", turn, requests.len());
        traffic.send(turn, request)?;
    }
    progress("waiting for what timed out", 0, 1);
    traffic.settle()?;
    traffic.reopen()?;
    // The last thing that every thread and connection has seen is a patient, not a handshake,
    // which would cover the traces.
    for (turn, request) in last.iter().enumerate() {
        traffic.send(turn, request)?;
    }
    let unreached = traffic.unreached(&requests);
    if !unreached.is_empty() {
        return Err(SelftestError::Unreached(unreached.into_iter().collect()));
    }
    // Nobody waits for the answer to what was aborted, and its record may have to wait for a
    // busy disk.
    thread::sleep(AT_REST);

    progress("scanning", 0, 1);
    let mut found = scan::memory(&subject.memory, &subject.maps, false, &patterns)?;
    let (scanned_bytes, mut files) = (found.bytes, 0);
    if let Some(admin) = subject.admin {
        for path in ["/metrics", "/admin/v1/state"] {
            let body = published(admin, &operator, path)?;
            scan::text(&body, path, &patterns, &mut found);
            files += 1;
        }
    }
    for path in &subject.files {
        files += scan::files(path, &patterns, &mut found)?;
    }
    Ok(Report {
        seed: load.seed,
        requests: requests.len(),
        connections: traffic.connections(),
        answers: traffic.tally,
        patterns: patterns.len(),
        before: looked_for - patterns.len(),
        scanned_bytes,
        files,
        control,
        traces: found.traces(),
        hits: found.hits,
    })
}

/// What the admin plane publishes at `path`.
fn published(
    admin: SocketAddr,
    operator: &Arc<ClientConfig>,
    path: &str,
) -> Result<Vec<u8>, SelftestError> {
    let mut wire = Wire::open(admin, operator)?;
    wire.send(format!("GET {path} HTTP/1.1\r\nHost: selftest\r\n\r\n").as_bytes())?;
    match wire.answer(false)? {
        Some(answer) if answer.status == 200 => Ok(answer.body),
        other => Err(io::Error::other(format!("{path} was not answered: {other:?}")).into()),
    }
}

/// Their TLS configurations: who may predict, and who may not.
fn callers(callers: &Callers) -> io::Result<(Arc<ClientConfig>, Arc<ClientConfig>)> {
    let identity = |i: &Identity| client::config(&callers.authority, &i.certificate, &i.key);
    Ok((identity(&callers.caller)?, identity(&callers.refused)?))
}

/// A request in progress must be seen, with numbers at whatever place. On a busy machine the
/// server may have given it up before it was looked for, so this is tried again.
fn control(
    subject: &Subject,
    caller: &Arc<ClientConfig>,
    model: &str,
    marks: &Marks,
    patterns: &Patterns,
) -> Result<BTreeMap<Trace, usize>, SelftestError> {
    let wanted = [
        Trace::Identifier,
        Trace::Decimal,
        Trace::SingleF32,
        Trace::Planted,
    ];
    let mut missing = Vec::new();
    for _ in 0..CONTROLS {
        let mut wire = Wire::open(subject.data, caller)?;
        wire.send(&half_a_request(model, marks))?;
        thread::sleep(IN_PROGRESS);
        let seen = scan::memory(&subject.memory, &subject.maps, true, patterns)?.traces();
        wire.close();
        missing = wanted.to_vec();
        missing.retain(|trace| !seen.contains_key(trace));
        if missing.is_empty() {
            return Ok(seen);
        }
    }
    Err(SelftestError::Blind(missing))
}

fn half_a_request(model: &str, marks: &Marks) -> Vec<u8> {
    let head = format!(
        "POST /v1/models/{model}/predict HTTP/1.1\r\nHost: selftest\r\n\
         Content-Type: application/json\r\nContent-Length: 4096\r\n\r\n"
    );
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&marks.identifier);
    bytes.extend_from_slice(&marks.decimal);
    for _ in 0..8 {
        bytes.extend_from_slice(&marks.planted.to_le_bytes());
        bytes.extend_from_slice(&marks.planted_single.to_le_bytes());
        // Next time at another place within four bytes.
        bytes.push(b' ');
    }
    bytes
}
