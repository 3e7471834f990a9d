//! Spans of requests and their stages, sent to a collector: OTLP over HTTP, in protobuf
//! (<https://opentelemetry.io/docs/specs/otlp/>).
//!
//! A request's trail times its stages in any case. Where an exporter was started, the trail is
//! copied when its answer is written, if the trace is sampled, into a bounded queue; a thread makes
//! spans of it and sends them. Where none was, a request pays one look at an empty cell. The queue
//! never waits: what does not fit is dropped and counted.
//!
//! Spans have ids, durations, codes, and the names of models, stages and callers: what metrics and
//! the audit log may have, and nothing else.

use std::{
    convert::Infallible,
    io,
    sync::OnceLock,
    thread::{self, JoinHandle},
};

use crossbeam_channel::{Sender, bounded};

use super::catalogue::TRACE_SPANS;
use crate::{answer::Disposition, config, tls::TlsSetupError, trail::Trail};

mod delivery;
mod message;
mod request;

use delivery::{Collector, Delivery};
use request::Traced;

static EXPORTER: OnceLock<Exporter> = OnceLock::new();

/// Where requests put what is to be sent.
struct Exporter {
    queue: Sender<Box<Traced>>,
    sample: f64,
    dropped: metrics::Counter,
}

/// Why spans cannot be sent.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The files that are needed to reach the collector.
    #[error("telemetry.otlp: {0}")]
    Tls(#[from] TlsSetupError),
    /// There is no thread to send them.
    #[error("telemetry.otlp: {0}")]
    Thread(#[from] io::Error),
    /// The process has an exporter already.
    #[error("telemetry.otlp: this process has an exporter already")]
    Started,
}

/// The thread that sends. Dropping it gives the last spans a short time to go.
#[derive(Debug)]
pub struct Export {
    open: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Export {
    /// Spans are sent from now on, for this whole process. The collector is not asked yet.
    ///
    /// # Errors
    /// When a file is not good, or the process has an exporter already.
    pub fn start(otlp: &config::Otlp) -> Result<Self, ExportError> {
        let collector = Collector::new(otlp)?;
        let (queue, waiting) = bounded(otlp.queue);
        let (open, closing) = bounded(0);
        for result in delivery::RESULTS {
            TRACE_SPANS.with([result.into()]).absolute(0);
        }
        let exporter = Exporter {
            queue,
            sample: otlp.sample,
            dropped: TRACE_SPANS.with(["dropped".into()]),
        };
        EXPORTER.set(exporter).map_err(|_| ExportError::Started)?;
        let delivery = Delivery::new(collector, waiting, closing);
        let thread = thread::Builder::new()
            .name("otlp".to_owned())
            .spawn(|| delivery.run())?;
        Ok(Self {
            open: Some(open),
            thread: Some(thread),
        })
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        drop(self.open.take());
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread that sends spans panicked");
        }
    }
}

/// Whether the files that are needed to reach the collector can be read. It is not asked.
///
/// # Errors
/// What is wrong with them.
pub fn check(otlp: &config::Otlp) -> Result<(), ExportError> {
    Collector::new(otlp)?;
    Ok(())
}

/// Notes an answer that is about to leave.
pub(super) fn answered(trail: &Trail, disposition: &Disposition) {
    let Some(exporter) = EXPORTER.get() else {
        return;
    };
    let Some(traced) = Traced::of(trail, disposition, exporter.sample) else {
        return;
    };
    let spans = traced.spans();
    if exporter.queue.try_send(Box::new(traced)).is_err() {
        exporter.dropped.increment(count_u64(spans));
    }
}

/// As a counter takes it.
fn count_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
