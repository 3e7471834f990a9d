//! Sends copies of checkpoints away, so that whoever can write the log cannot also take back what
//! was signed.
//!
//! A thread of its own delivers them in order and keeps trying; the writer only puts them into a
//! bounded spool in memory and never waits. When the spool is full, the oldest is given up: each
//! checkpoint covers everything that the ones before it did. Nothing is lost by a restart either,
//! since the files of the log have every checkpoint, and the next one covers it.

use std::{
    convert::Infallible,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TrySendError, bounded};
use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};

use crate::{
    clock,
    config::{Destination, Shipping},
    tls::{self, TlsSetupError},
};

mod https;
mod syslog;

/// First and longest wait between two tries.
const BACK_OFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_mins(1)];
/// Longest wait for the collector, for each step.
const PATIENCE: Duration = Duration::from_secs(5);
/// After the drain, what still waits is tried for this long.
const LAST_TRIES: Duration = Duration::from_secs(3);

/// A way to deliver notes.
enum Carrier {
    Https(https::Poster),
    Syslog(syslog::Sender),
}

impl Carrier {
    /// Delivers a note; says why not.
    fn deliver(&self, note: &str) -> Result<(), String> {
        match self {
            Self::Https(poster) => poster.post(note),
            Self::Syslog(sender) => sender.send(note),
        }
    }
}

/// What is needed to ship; made before the server starts, so that a wrong file is told then.
pub struct Shipper {
    carrier: Carrier,
    spool: usize,
}

impl std::fmt::Debug for Shipper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shipper").finish_non_exhaustive()
    }
}

impl Shipper {
    /// Reads the files that the configuration names. The collector is not asked.
    pub fn new(shipping: &Shipping) -> Result<Self, TlsSetupError> {
        let carrier = match &shipping.to {
            Destination::Https(url) => Carrier::Https(https::Poster::new(url, shipping)?),
            Destination::Syslog { host, port } => {
                Carrier::Syslog(syslog::Sender::new(host, *port, client_config(shipping)?)?)
            }
        };
        Ok(Self {
            carrier,
            spool: shipping.spool.max(1),
        })
    }

    /// Starts the thread that delivers.
    pub(super) fn start(self) -> std::io::Result<Spool> {
        let (notes, waiting) = bounded(self.spool);
        let (open, closing) = bounded(0);
        let delivery = Delivery {
            carrier: self.carrier,
            waiting: waiting.clone(),
            closing,
        };
        let thread = thread::Builder::new()
            .name("audit-ship".to_owned())
            .spawn(|| delivery.run())?;
        Ok(Spool {
            notes: Some(notes),
            waiting,
            open: Some(open),
            thread: Some(thread),
            full: false,
        })
    }
}

/// Where the writer puts checkpoints. Dropping it gives the last ones a short time to go.
pub(super) struct Spool {
    notes: Option<Sender<String>>,
    waiting: Receiver<String>,
    open: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
    full: bool,
}

impl Spool {
    /// Puts a checkpoint in; never waits.
    pub(super) fn put(&mut self, note: String) {
        let Some(notes) = &self.notes else { return };
        match notes.try_send(note) {
            Ok(()) => self.full = false,
            Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(note)) => {
                if !std::mem::replace(&mut self.full, true) {
                    tracing::error!("checkpoints are not collected; the oldest are given up");
                }
                drop(self.waiting.try_recv());
                drop(notes.try_send(note));
            }
        }
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        drop((self.notes.take(), self.open.take()));
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread that ships checkpoints panicked");
        }
    }
}

struct Delivery {
    carrier: Carrier,
    waiting: Receiver<String>,
    /// Disconnected once the log is closed.
    closing: Receiver<Infallible>,
}

impl Delivery {
    fn run(self) {
        while let Ok(note) = self.waiting.recv() {
            if !self.deliver(&note) {
                tracing::warn!(
                    left = self.waiting.len() + 1,
                    "checkpoints were not collected"
                );
                return;
            }
        }
    }

    /// Tries until it is delivered, or there is no more time.
    fn deliver(&self, note: &str) -> bool {
        let [mut wait, longest] = BACK_OFF;
        let (mut failed, mut closed_since) = (false, None);
        loop {
            match self.carrier.deliver(note) {
                Ok(()) => {
                    if failed {
                        tracing::info!("checkpoints are collected again");
                    }
                    return true;
                }
                Err(error) if failed => tracing::debug!(error, "checkpoint not collected"),
                Err(error) => tracing::error!(error, "checkpoint not collected; trying again"),
            }
            failed = true;
            if self.closing.recv_timeout(wait) == Err(RecvTimeoutError::Disconnected) {
                let since = *closed_since.get_or_insert_with(clock::monotonic);
                if since.elapsed() >= LAST_TRIES {
                    return false;
                }
                thread::sleep(BACK_OFF[0] / 2);
            }
            wait = (wait * 2).min(longest);
        }
    }
}

/// TLS towards a collector: its certificate must chain to the configured roots.
fn client_config(shipping: &Shipping) -> Result<Arc<ClientConfig>, TlsSetupError> {
    let wrong = |e: rustls::Error| TlsSetupError::Config(format!("checkpoint collector: {e}"));
    let mut roots = RootCertStore::empty();
    for root in tls::certificates(&shipping.ca)? {
        roots.add(root).map_err(wrong)?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_root_certificates(roots);
    let config = match (&shipping.certificate, &shipping.key) {
        (Some(certificate), Some(key)) => builder
            .with_client_auth_cert(tls::certificates(certificate)?, tls::private_key(key)?)
            .map_err(wrong)?,
        _ => builder.with_no_client_auth(),
    };
    Ok(Arc::new(config))
}
