//! The audit log: every decision is one line of JSON, written before its answer leaves.
//!
//! [`Recorded`] is the only type that becomes a response, and only [`AuditLog::record`] makes
//! one. Records name principals, models, codes and features; never a value, a pointer or any
//! other text of the caller's.
//!
//! One thread owns the file and writes whatever is queued in one `write(2)`; an answer waits
//! until that has returned, so that a killed process loses no record of an answer given.

use std::{
    fs::{File, Metadata, OpenOptions, TryLockError},
    io::{self, Read, Seek, SeekFrom, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use axum::response::{IntoResponse, Response};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::Serialize;
use tokio::sync::oneshot;

use crate::{
    answer::{self, Disposition},
    authn::Principal,
    authz::Action,
    clock,
    disposition::{Code, Refusal},
    trail::Trail,
};

/// Dirty data is synced to disk this often.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);
/// Records waiting for the writer at most.
const QUEUE: usize = 8192;

/// A response whose decision is in the log.
#[derive(Debug)]
pub struct Recorded(Response);

impl IntoResponse for Recorded {
    fn into_response(self) -> Response {
        self.0
    }
}

/// One line of the log.
#[derive(Serialize)]
struct Record<'a> {
    time: String,
    id: &'a str,
    principal: Option<&'a str>,
    /// Absent when nobody was authenticated.
    authentication: Option<&'static str>,
    source: String,
    action: Option<&'static str>,
    model: Option<&'a str>,
    version: Option<u32>,
    digest: Option<String>,
    disposition: &'static str,
    /// Absent when there was no HTTP answer.
    status: Option<u16>,
    codes: Vec<&'static str>,
    features: Vec<&'a str>,
    stages_us: serde_json::Map<String, serde_json::Value>,
}

struct Entry {
    line: Vec<u8>,
    accepted: oneshot::Sender<bool>,
}

/// Handle to the log's writer.
#[derive(Debug, Clone)]
pub struct AuditLog {
    queue: Sender<Entry>,
    healthy: Arc<AtomicBool>,
}

impl AuditLog {
    /// Opens `directory/audit.jsonl` for appending and starts its writer. The thread ends, with
    /// a last sync, when every handle is gone; join it then.
    pub fn open(directory: &Path) -> io::Result<(Self, thread::JoinHandle<()>)> {
        std::fs::create_dir_all(directory)?;
        let path = directory.join("audit.jsonl");
        let file = open(&path)?;
        let (queue, entries) = bounded(QUEUE);
        let healthy = Arc::new(AtomicBool::new(true));
        let writer = Writer {
            path,
            file,
            entries,
            healthy: Arc::clone(&healthy),
        };
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(|| writer.run())?;
        Ok((Self { queue, healthy }, thread))
    }

    /// Whether the last write was accepted.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Writes the record of a decision, waits until it is accepted, and only then makes the
    /// answer. When it cannot be written the answer is 503, whatever was decided.
    pub async fn record(&self, trail: &Trail, disposition: Disposition) -> Recorded {
        let status = disposition.status();
        if self.append(line(trail, &disposition, Some(status))).await {
            return Recorded(answer::write(trail, &disposition));
        }
        drop(disposition);
        let refused = Disposition::Refused(Refusal::from(Code::AuditUnavailable));
        Recorded(answer::write(trail, &refused))
    }

    /// Records a refusal that is not ours to answer: a failed handshake, which has no HTTP
    /// status, or a broken request head, which hyper has answered.
    pub async fn record_refusal(&self, trail: &Trail, code: Code, status: Option<u16>) {
        let refused = Disposition::Refused(Refusal::from(code));
        if !self.append(line(trail, &refused, status)).await {
            tracing::error!(code = code.as_str(), "a refusal could not be recorded");
        }
    }

    async fn append(&self, line: Option<Vec<u8>>) -> bool {
        let Some(line) = line else { return false };
        let (accepted, outcome) = oneshot::channel();
        self.queue.try_send(Entry { line, accepted }).is_ok() && outcome.await.unwrap_or(false)
    }
}

fn line(trail: &Trail, disposition: &Disposition, status: Option<u16>) -> Option<Vec<u8>> {
    let model = trail.model.as_deref();
    let stages = trail.stages().iter();
    let record = Record {
        time: clock::rfc3339(),
        id: &trail.id,
        principal: trail.principal.as_deref().map(Principal::name),
        authentication: trail.principal.as_deref().map(Principal::authentication),
        source: trail.source.to_string(),
        action: trail.action.map(Action::as_str),
        model: model.map(|m| m.spec().name.as_str()),
        version: model.map(|m| m.spec().version),
        digest: model.map(|m| format!("sha256:{}", m.digest())),
        disposition: disposition.outcome().as_str(),
        status,
        codes: disposition.codes().iter().map(|c| c.as_str()).collect(),
        features: disposition.features(),
        stages_us: stages
            .map(|(s, us)| (s.as_str().to_owned(), (*us).into()))
            .collect(),
    };
    let mut line = serde_json::to_vec(&record).ok()?;
    line.push(b'\n');
    Some(line)
}

/// Opens the log for appending, for this process alone: two writers would cut each other's lines.
fn open(path: &Path) -> io::Result<File> {
    let mut file = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    file.try_lock().map_err(|error| match error {
        TryLockError::WouldBlock => io::Error::other("another server writes this log"),
        TryLockError::Error(error) => error,
    })?;
    end_torn_line(&mut file)?;
    Ok(file)
}

/// A power cut may leave half a line behind. It is evidence, so it stays; what follows must not
/// become part of it.
fn end_torn_line(file: &mut File) -> io::Result<()> {
    if file.metadata()?.len() == 0 {
        return Ok(());
    }
    let mut last = [0u8; 1];
    file.seek(SeekFrom::End(-1))?;
    file.read_exact(&mut last)?;
    if last == *b"\n" {
        return Ok(());
    }
    tracing::warn!("audit log: its last line is torn; continuing on a new one");
    file.write_all(b"\n")
}

struct Writer {
    path: PathBuf,
    file: File,
    entries: Receiver<Entry>,
    healthy: Arc<AtomicBool>,
}

impl Writer {
    fn run(mut self) {
        let (mut bytes, mut waiting) = (Vec::new(), Vec::new());
        let (mut dirty, mut synced) = (false, clock::monotonic());
        loop {
            match self.entries.recv_timeout(SYNC_INTERVAL) {
                Ok(entry) => {
                    for Entry { line, accepted } in
                        std::iter::once(entry).chain(self.entries.try_iter().take(1023))
                    {
                        bytes.extend_from_slice(&line);
                        waiting.push(accepted);
                    }
                    let accepted = self.write(&bytes);
                    dirty |= accepted;
                    for reply in waiting.drain(..) {
                        // A caller that hung up has its record all the same.
                        let _: Result<(), bool> = reply.send(accepted);
                    }
                    bytes.clear();
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if dirty && synced.elapsed() >= SYNC_INTERVAL {
                self.sync();
                (dirty, synced) = (false, clock::monotonic());
            }
        }
        self.sync();
    }

    /// Writes all or nothing: a torn batch is cut off again, so that every line stays whole.
    fn write(&mut self, bytes: &[u8]) -> bool {
        let result = self.follow_path().and_then(|before| {
            self.file.write_all(bytes).inspect_err(|_| {
                if let Err(error) = self.file.set_len(before) {
                    tracing::error!(%error, "audit log: a torn line could not be cut off");
                }
            })
        });
        if let Err(error) = &result {
            tracing::error!(%error, "audit log: write failed; answers are withheld");
        }
        self.healthy.store(result.is_ok(), Ordering::Relaxed);
        result.is_ok()
    }

    /// Opens the log anew when it was moved away or deleted, so that records go where they are
    /// looked for; returns its length.
    fn follow_path(&mut self) -> io::Result<u64> {
        let open_file = self.file.metadata()?;
        let same = |at_path: Metadata| {
            (at_path.dev(), at_path.ino()) == (open_file.dev(), open_file.ino())
        };
        if std::fs::metadata(&self.path).is_ok_and(same) {
            return Ok(open_file.len());
        }
        self.file.sync_data()?;
        self.file = open(&self.path)?;
        tracing::warn!("audit log: it was moved or deleted; continuing in a new file");
        Ok(self.file.metadata()?.len())
    }

    fn sync(&self) {
        if let Err(error) = self.file.sync_data() {
            self.healthy.store(false, Ordering::Relaxed);
            tracing::error!(%error, "audit log: sync failed");
        }
    }
}
