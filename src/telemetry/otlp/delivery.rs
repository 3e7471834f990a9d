//! The thread that sends spans, and what it does about a collector that is away.

use std::{
    convert::Infallible,
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::rand;
use crossbeam_channel::{Receiver, RecvTimeoutError, select};
use prost::Message;
use ureq::{Agent, http::StatusCode};

use super::{
    count_u64,
    message::{
        ExportTraceServiceRequest, ExportTraceServiceResponse, InstrumentationScope, KeyValue,
        Resource, ResourceSpans, ScopeSpans,
    },
    request::Traced,
};
use crate::{
    clock,
    config::{self, Otlp},
    error_chain::one_line,
    telemetry::catalogue::TRACE_SPANS,
    tls::{self, TlsSetupError},
};

/// What becomes of a span, as the metric says it.
pub(super) const RESULTS: [&str; 4] = ["sent", "rejected", "undelivered", "dropped"];
/// Requests in one message at most: some 700 KB.
const MOST: usize = 256;
/// How long the first of a message waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// Longest wait for the collector.
const PATIENCE: Duration = Duration::from_secs(5);
/// Wait before the second try; each further one is twice as long.
const BACK_OFF: Duration = Duration::from_secs(1);
/// A collector that asks for more time than this does not get it.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Tries of a message; some 15 seconds, in which the queue fills.
const TRIES: u32 = 5;
/// After the drain, what still waits is tried for this long.
const LAST_TRIES: Duration = Duration::from_secs(3);
/// Largest answer that is read, bytes.
const MAX_ANSWER: u64 = 64 << 10;

/// Where spans go.
pub(super) struct Collector {
    agent: Agent,
    url: String,
    resource: Resource,
}

/// Why a message was not taken.
enum Failure {
    /// It will not be, however often it is sent.
    Rejected(String),
    /// It may be later; the collector may have said when.
    Away(String, Option<Duration>),
}

impl Collector {
    pub(super) fn new(otlp: &Otlp) -> Result<Self, TlsSetupError> {
        let (agent, url) = match (&otlp.to, &otlp.ca) {
            (config::Collector::Loopback(url), _) => (plaintext(), url),
            (config::Collector::Https(url), Some(ca)) => {
                let identity = otlp.certificate.as_deref().zip(otlp.key.as_deref());
                (tls::client::https(ca, identity, PATIENCE)?, url)
            }
            (config::Collector::Https(_), None) => {
                return Err(TlsSetupError::Config("ca is missing".to_owned()));
            }
        };
        let mut instance = [0; 16];
        // One that could not be drawn only tells replicas apart less well.
        let _unfilled: Result<(), _> = rand::fill(&mut instance);
        let attributes = [
            ("service.name", "vitalgate"),
            ("service.version", env!("CARGO_PKG_VERSION")),
            ("service.instance.id", &hex::encode(instance)),
        ];
        Ok(Self {
            agent,
            url: url.clone(),
            resource: Resource {
                attributes: attributes.map(|(k, v)| KeyValue::new(k, v)).to_vec(),
            },
        })
    }

    fn message(&self, batch: &[Box<Traced>]) -> Vec<u8> {
        let mut spans = Vec::new();
        for traced in batch {
            traced.add_to(&mut spans);
        }
        let scope = InstrumentationScope {
            name: "vitalgate".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        };
        let scope_spans = ScopeSpans {
            scope: Some(scope),
            spans,
        };
        let resource_spans = ResourceSpans {
            resource: Some(self.resource.clone()),
            scope_spans: vec![scope_spans],
        };
        let request = ExportTraceServiceRequest {
            resource_spans: vec![resource_spans],
        };
        request.encode_to_vec()
    }

    /// Sends a message; says how many spans of it the collector did not want.
    fn send(&self, message: &[u8]) -> Result<u64, Failure> {
        let away = |error: ureq::Error| Failure::Away(one_line(&error), None);
        let request = self.agent.post(&self.url);
        let request = request.config().http_status_as_error(false).build();
        let mut answer = request
            .header("content-type", "application/x-protobuf")
            .send(message)
            .map_err(away)?;
        let status = answer.status();
        if !status.is_success() {
            let told = format!("the answer has status {status}");
            let later = answer.headers().get("retry-after");
            let later = later.and_then(|value| value.to_str().ok()?.parse().ok());
            return Err(match status {
                StatusCode::TOO_MANY_REQUESTS
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT => {
                    Failure::Away(told, later.map(Duration::from_secs))
                }
                _ => Failure::Rejected(told),
            });
        }
        let body = answer.body_mut().with_config().limit(MAX_ANSWER);
        // It took them: an answer that cannot be read says nothing else.
        let read = body.read_to_vec().unwrap_or_default();
        let parsed = ExportTraceServiceResponse::decode(read.as_slice()).unwrap_or_default();
        let rejected = parsed.partial_success.unwrap_or_default().rejected_spans;
        Ok(u64::try_from(rejected).unwrap_or_default())
    }
}

/// For a collector on this machine.
fn plaintext() -> Agent {
    let config = Agent::config_builder()
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(PATIENCE));
    config.build().into()
}

pub(super) struct Delivery {
    collector: Collector,
    waiting: Receiver<Box<Traced>>,
    /// Disconnected once the server has drained.
    closing: Receiver<Infallible>,
    closed_since: Option<Instant>,
    failing: bool,
}

impl Delivery {
    pub(super) fn new(
        collector: Collector,
        waiting: Receiver<Box<Traced>>,
        closing: Receiver<Infallible>,
    ) -> Self {
        Self {
            collector,
            waiting,
            closing,
            closed_since: None,
            failing: false,
        }
    }

    pub(super) fn run(mut self) {
        loop {
            let mut batch = Vec::with_capacity(MOST);
            select! {
                recv(self.waiting) -> traced => batch.extend(traced),
                recv(self.closing) -> _ => self.note_closed(),
            }
            if self.waiting.len() < MOST {
                self.pause(LINGER);
            }
            let room = MOST - batch.len();
            batch.extend(self.waiting.try_iter().take(room));
            if !batch.is_empty() {
                self.deliver(&batch);
            }
            if self.closed_since.is_some() && self.waiting.is_empty() {
                return;
            }
        }
    }

    /// Waits, or until the server has drained.
    fn pause(&mut self, length: Duration) {
        if self.closed_since.is_some() {
            return;
        }
        if self.closing.recv_timeout(length) == Err(RecvTimeoutError::Disconnected) {
            self.note_closed();
        }
    }

    fn note_closed(&mut self) {
        self.closed_since.get_or_insert_with(clock::monotonic);
    }

    /// Whether the server has drained and will not wait any longer.
    fn is_late(&self) -> bool {
        self.closed_since
            .is_some_and(|at| at.elapsed() >= LAST_TRIES)
    }

    /// Tries until it is taken, or not wanted, or there is no more time.
    fn deliver(&mut self, batch: &[Box<Traced>]) {
        let spans = count_u64(batch.iter().map(|traced| traced.spans()).sum());
        let add = |result: &'static str, spans| {
            TRACE_SPANS.with([result.into()]).increment(spans);
        };
        if self.is_late() {
            return add("undelivered", spans);
        }
        let message = self.collector.message(batch);
        let mut wait = BACK_OFF;
        for attempt in 1..=TRIES {
            match self.collector.send(&message) {
                Ok(rejected) => {
                    let rejected = rejected.min(spans);
                    add("sent", spans - rejected);
                    add("rejected", rejected);
                    if std::mem::take(&mut self.failing) {
                        tracing::info!("spans are collected again");
                    }
                    return;
                }
                Err(Failure::Rejected(error)) => {
                    self.complain(&error);
                    add("rejected", spans);
                    return;
                }
                Err(Failure::Away(error, later)) => {
                    self.complain(&error);
                    if attempt == TRIES || self.is_late() {
                        break;
                    }
                    let asked = later.unwrap_or_default().min(LONGEST_WAIT);
                    if self.closed_since.is_some() {
                        thread::sleep(BACK_OFF / 2);
                    } else {
                        self.pause(wait.max(asked));
                    }
                    wait *= 2;
                }
            }
        }
        add("undelivered", spans);
    }

    /// Once, until the collector is there again.
    fn complain(&mut self, error: &str) {
        if !std::mem::replace(&mut self.failing, true) {
            tracing::warn!(error, "spans not collected");
        }
    }
}
