//! The audit log: every decision is one line of JSON, written before its answer leaves, chained
//! to the line before it and covered by signed checkpoints.
//!
//! [`Recorded`] is the only type that becomes a response, and only [`AuditLog::record`] makes
//! one. Records name principals, models, codes and features; never a value, a pointer or any
//! other text of the caller's.
//!
//! One thread (`writer`) owns the files (`files`), the chain ([`chain`]) and the Merkle tree
//! ([`merkle`]); every second it signs the tree's root (`note`). [`verify()`] holds all of it
//! against a key and against checkpoints kept elsewhere.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use axum::response::{IntoResponse, Response};
use crossbeam_channel::{Sender, bounded};
use tokio::sync::oneshot;

use crate::{
    answer::{self, Disposition},
    config::{self, AuditMode},
    disposition::{Code, Refusal},
    tls::TlsSetupError,
    trail::Trail,
};

pub mod chain;
mod coverage;
pub mod fhir;
mod files;
mod finding;
mod identifiers;
mod journal;
mod keys;
pub mod merkle;
mod note;
mod record;
mod ship;
mod tail;
mod verify;
mod writer;

pub use finding::{Finding, Kind, MAX_FINDINGS, Report, TornLine};
pub use identifiers::{Identifier, Identifiers, Subject};
pub use journal::{Snapshot, each_record, notes_in};
pub(crate) use keys::read_secret;
pub use keys::{KeyError, PublicKey, SigningKey};
pub use note::{Checkpoint, Note, NoteError};
pub use ship::Shipper;
pub use tail::{Tail, tail};
pub use verify::{Trusted, Verified, verify};

use writer::{Entry, Writer};

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

/// Where and how a log is written.
#[derive(Debug)]
pub struct Settings {
    /// Directory of its files.
    pub directory: PathBuf,
    /// When a record counts as accepted.
    pub mode: AuditMode,
    /// A segment is closed before it grows beyond this.
    pub segment_bytes: u64,
    /// The log's name in checkpoints.
    pub origin: String,
    /// Signs the checkpoints.
    pub key: SigningKey,
    /// Sends copies of them away.
    pub shipper: Option<Shipper>,
}

impl Settings {
    /// As configured; reads the files that it names.
    pub fn load(audit: &config::Audit) -> Result<Self, SettingsError> {
        Ok(Self {
            directory: audit.directory.clone(),
            mode: audit.mode,
            segment_bytes: audit.segment_bytes,
            origin: audit.origin.clone(),
            key: SigningKey::load(&audit.key)?,
            shipper: audit.ship.as_ref().map(Shipper::new).transpose()?,
        })
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The signing key.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// What is needed to reach the collector of checkpoints.
    #[error(transparent)]
    Collector(#[from] TlsSetupError),
}

/// Why a log cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its directory cannot be used.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is there contradicts itself. Going on would bury the evidence.
    #[error(
        "{path}: the audit log there does not hold ({finding}); nothing may be appended to it. See \
         `vitalgate audit verify`, keep the directory as evidence, and configure another one"
    )]
    Broken {
        /// Where.
        path: PathBuf,
        /// The first thing that is wrong.
        finding: String,
    },
    /// What is there is another log.
    #[error(
        "{path}: the audit log there is {named:?}, not {origin:?}; configure another directory"
    )]
    Origin {
        /// Where.
        path: PathBuf,
        /// As its checkpoints name it.
        named: String,
        /// As the configuration names it.
        origin: String,
    },
}

/// Where a log ends, for those who watch it.
#[derive(Clone, Debug)]
pub struct Head {
    /// How many records there are.
    pub records: u64,
    /// Hash of the last one.
    pub hash: chain::Hash,
    /// The last checkpoint of this process, a signed note.
    pub checkpoint: Option<String>,
    /// When it was signed, since the Unix epoch.
    pub checkpoint_time: Option<Duration>,
    /// How many of the records a checkpoint covers, whichever process signed it.
    pub proven: u64,
}

/// Handle to the log's writer.
#[derive(Debug, Clone)]
pub struct AuditLog {
    queue: Sender<Entry>,
    healthy: Arc<AtomicBool>,
    head: Arc<Mutex<Head>>,
}

impl AuditLog {
    /// Opens the log where it ended and starts its writer. The thread ends, with a last sync and
    /// a last checkpoint, when every handle is gone; join it then.
    pub fn open(settings: Settings) -> Result<(Self, thread::JoinHandle<()>), OpenError> {
        let path = settings.directory.clone();
        let (queue, entries) = bounded(QUEUE);
        let healthy = Arc::new(AtomicBool::new(true));
        let head = Arc::new(Mutex::new(Head {
            records: 0,
            hash: chain::GENESIS,
            checkpoint: None,
            checkpoint_time: None,
            proven: 0,
        }));
        let writer = Writer::open(settings, entries, Arc::clone(&healthy), Arc::clone(&head))?;
        let thread = thread::Builder::new()
            .name("audit".to_owned())
            .spawn(|| writer.run())
            .map_err(|source| OpenError::Io { path, source })?;
        Ok((
            Self {
                queue,
                healthy,
                head,
            },
            thread,
        ))
    }

    /// Whether the last write was accepted.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Where the log ends.
    pub fn head(&self) -> Head {
        self.head
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Writes the record of a decision, waits until it is accepted, and only then makes the
    /// answer. When it cannot be written the answer is 503, whatever was decided.
    pub async fn record(&self, trail: &Trail, disposition: Disposition) -> Recorded {
        let status = disposition.status();
        if self
            .append(record::body(trail, &disposition, Some(status)))
            .await
        {
            disposition.note_recorded();
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
        if !self.append(record::body(trail, &refused, status)).await {
            tracing::error!(code = code.as_str(), "a refusal could not be recorded");
        }
    }

    /// Records that an authorized change is about to be made; its outcome makes a record of its
    /// own. What cannot be recorded is not to be done.
    pub async fn announce(&self, trail: &Trail) -> Result<(), Code> {
        let announced = record::body(trail, &Disposition::Announced, None);
        if self.append(announced).await {
            Ok(())
        } else {
            Err(Code::AuditUnavailable)
        }
    }

    /// Records that wait to be written.
    pub fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Hands the writer a record's body as it is, to measure the writer alone.
    #[cfg(feature = "null-audit")]
    pub fn submit(&self, body: Vec<u8>) -> Option<oneshot::Receiver<bool>> {
        let (accepted, outcome) = oneshot::channel();
        let entry = Entry { body, accepted };
        self.queue.try_send(entry).ok().map(|()| outcome)
    }

    async fn append(&self, body: Option<Vec<u8>>) -> bool {
        let Some(body) = body else { return false };
        let (accepted, outcome) = oneshot::channel();
        self.queue.try_send(Entry { body, accepted }).is_ok() && outcome.await.unwrap_or(false)
    }
}
