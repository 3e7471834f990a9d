//! What a request leaves behind: who, what, which stages, how long. Never a value.

use std::{
    cell::RefCell,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use aws_lc_rs::rand;

use crate::{
    admission::Shown,
    answer::Language,
    audit::Identifier,
    authn::Principal,
    authz::{Action, Grant},
    bundle::LoadedModel,
    clock,
    drift::Sighting,
    extraction::{Events, Limit, Step},
    review::Tag,
    screening::Channel,
    trace::Trace,
    urgency::Priority,
};

/// The stages of the request path, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Certificate → principal.
    Authenticate,
    /// Principal → grant.
    Authorize,
    /// Grant → admission.
    Admit,
    /// Admission → the whole body.
    Receive,
    /// The whole body → its turn to be worked on.
    Wait,
    /// Body → observations.
    Parse,
    /// Observations with a claim → observations whose review is overridden.
    Confirm,
    /// Observations → plausible.
    Ranges,
    /// Plausible → consistent.
    Consistency,
    /// Consistent → compared with the model's patients.
    Distribution,
    /// Screened → charged.
    Charge,
    /// Compared → cleared.
    Clear,
    /// Cleared → scores.
    Infer,
    /// Scores → consensus.
    Agree,
    /// Consensus → held against measurement uncertainty.
    Stability,
    /// Held against it → hardened.
    Harden,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 16] = [
        Self::Authenticate,
        Self::Authorize,
        Self::Admit,
        Self::Receive,
        Self::Wait,
        Self::Parse,
        Self::Confirm,
        Self::Ranges,
        Self::Consistency,
        Self::Distribution,
        Self::Charge,
        Self::Clear,
        Self::Infer,
        Self::Agree,
        Self::Stability,
        Self::Harden,
    ];

    /// Its place in [`Stage::ALL`].
    pub fn index(self) -> usize {
        self as usize
    }

    /// As audit records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Authenticate => "authenticate",
            Self::Authorize => "authorize",
            Self::Admit => "admit",
            Self::Receive => "receive",
            Self::Wait => "wait",
            Self::Parse => "parse",
            Self::Confirm => "confirm",
            Self::Ranges => "ranges",
            Self::Consistency => "consistency",
            Self::Distribution => "distribution",
            Self::Charge => "charge",
            Self::Clear => "clear",
            Self::Infer => "infer",
            Self::Agree => "agree",
            Self::Stability => "stability",
            Self::Harden => "harden",
        }
    }
}

/// Ids drawn at once: a call of the generator costs more than sixteen bytes of it.
const DRAWN: usize = 64;

thread_local! {
    /// Ids of the next requests. They name requests, and are no secret.
    static IDS: RefCell<Vec<[u8; 16]>> = const { RefCell::new(Vec::new()) };
}

/// An id that could not be drawn is all zero: it only names the request.
fn draw_id() -> [u8; 16] {
    IDS.with_borrow_mut(|ids| {
        if ids.is_empty() {
            let mut drawn = [[0; 16]; DRAWN];
            if rand::fill(drawn.as_flattened_mut()).is_ok() {
                ids.extend_from_slice(&drawn);
            }
        }
        ids.pop().unwrap_or_default()
    })
}

/// Follows one request.
#[derive(Debug)]
pub struct Trail {
    /// Random, 128 bits, hex; in the answer and in the record.
    pub id: String,
    /// The peer's address.
    pub source: SocketAddr,
    /// The caller's trace, if it sent one.
    pub trace: Option<Trace>,
    /// The language that the answer is written in.
    pub language: Language,
    /// Whether a person's browser asked, so that the answer is a page.
    pub console: bool,
    /// How urgent it is, where that was said.
    pub priority: Priority,
    /// What was asked, once known.
    pub action: Option<Action>,
    /// Who asked, once known.
    pub principal: Option<Arc<Principal>>,
    /// The clinician for whom the principal acts, if its token or an authorised header says: an
    /// identifier of staff, never of a patient.
    pub on_behalf_of: Option<String>,
    /// Who pays, where that is another: who holds the connection's certificate.
    pub payer: Option<Arc<Principal>>,
    /// What an administrator's call was about: a model, a caller.
    pub target: Option<String>,
    /// Why an administrator called, or a review is overridden, in a code or a few words.
    pub reason: Option<String>,
    /// The model that judged, once known.
    pub model: Option<Arc<LoadedModel>>,
    /// Fingerprint of the input, once it was read.
    pub input: Option<Identifier>,
    /// Tag of the input, for the token of its review.
    pub tag: Option<Tag>,
    /// The review that was opened, or is overridden, by its token's hash.
    pub review: Option<Identifier>,
    /// Whether the same override was answered before.
    pub repeated: bool,
    /// Pseudonym of the patient or encounter, where one was named.
    pub patient: Option<Identifier>,
    /// Permission to see the screens' scores, if the caller has it.
    pub scores: Option<Grant>,
    /// What the answer shows of the caller's limits.
    pub shown: Shown,
    /// What operators are told about the caller's queries.
    pub events: Events,
    /// How far the response to them is.
    pub step: Step,
    /// Why the answer may tell less than the bundle releases, where it may.
    pub limit: Option<Limit>,
    /// Which part of the distribution screen found the input atypical; not for the caller.
    pub atypical: Option<Channel>,
    /// The input's bins, to be counted once it is decided.
    pub sighting: Option<Sighting>,
    started: Instant,
    stages: Vec<(Stage, Duration)>,
    last: Instant,
}

impl Trail {
    /// Starts now.
    pub fn start(source: SocketAddr) -> Self {
        let started = clock::monotonic();
        Self {
            id: hex::encode(draw_id()),
            source,
            trace: None,
            language: Language::default(),
            console: false,
            priority: Priority::default(),
            action: None,
            principal: None,
            on_behalf_of: None,
            payer: None,
            target: None,
            reason: None,
            model: None,
            input: None,
            tag: None,
            review: None,
            repeated: false,
            patient: None,
            scores: None,
            shown: Shown::default(),
            events: Events::default(),
            step: Step::None,
            limit: None,
            atypical: None,
            sighting: None,
            stages: Vec::with_capacity(Stage::ALL.len()),
            started,
            last: started,
        }
    }

    /// Notes that `stage` ended now, with whatever result, and passes the result on.
    pub fn mark<T>(&mut self, stage: Stage, result: T) -> T {
        let now = clock::monotonic();
        self.stages.push((stage, now.duration_since(self.last)));
        self.last = now;
        result
    }

    /// When the request arrived.
    pub fn started(&self) -> Instant {
        self.started
    }

    /// Time since the start.
    pub fn elapsed(&self) -> Duration {
        clock::monotonic().duration_since(self.started)
    }

    /// Stages passed, and how long each took.
    pub fn stages(&self) -> &[(Stage, Duration)] {
        &self.stages
    }
}
