//! Where an issuer's keys come from: a file, or an HTTPS address that a thread of its own fetches.
//!
//! No request ever fetches anything itself. One that names a key we do not have may ask the
//! thread to look for it, and waits a moment; how often that happens is bounded, and the more
//! seldom the less it helped, so that made-up names cause no storm. When the address cannot be
//! reached, the keys we have are good for a bounded time and no longer.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use arc_swap::ArcSwapOption;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use tokio::sync::watch;

use super::keyset::{KeySet, KeySetError, LARGEST, VerifyingKey};
use crate::{
    clock,
    config::{IssuerConfig, KeyLocation},
    disposition::Code,
    error_chain::one_line,
    named_file,
    reload::Outcomes,
    tls,
};

/// Longest wait for an answer of the address.
const FETCH_TIME: Duration = Duration::from_secs(5);
/// Longest wait of a request for a key that it needs.
const REQUEST_WAITS: Duration = Duration::from_secs(3);
/// Least time between two fetches that requests asked for, when they help; when they do not,
/// it doubles up to the other.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_mins(5);
/// First wait after a failed fetch; it doubles with each further one, up to the other.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LAST_RETRY: Duration = Duration::from_mins(1);

/// The keys of one issuer.
#[derive(Debug)]
pub(super) struct KeySource {
    issuer: String,
    location: KeyLocation,
    held: Arc<ArcSwapOption<Held>>,
    fetcher: Option<Fetcher>,
}

#[derive(Debug)]
struct Held {
    set: KeySet,
    since: Instant,
}

/// The other end of the fetching thread, which ends when this is dropped.
#[derive(Debug)]
struct Fetcher {
    ask: Sender<()>,
    attempts: watch::Receiver<u64>,
    gate: Mutex<Gate>,
}

/// Lets few requests ask.
#[derive(Debug)]
struct Gate {
    closed_until: Instant,
    pause: Duration,
    /// The number of the attempt that was asked for last.
    asked: u64,
}

impl KeySource {
    /// Reads the file, or starts to fetch.
    pub(super) fn open(
        issuer: &str,
        location: &KeyLocation,
        outcomes: &Outcomes,
    ) -> Result<Arc<Self>, KeySetError> {
        let held = Arc::new(ArcSwapOption::empty());
        let fetcher = match location {
            KeyLocation::File(_) => None,
            KeyLocation::Https { .. } => Some(
                Fetcher::start(issuer, location, &held, outcomes.clone())
                    .map_err(|problem| error(issuer, location, problem))?,
            ),
        };
        let source = Self {
            issuer: issuer.to_owned(),
            location: location.clone(),
            held,
            fetcher,
        };
        source.reload_file()?;
        Ok(Arc::new(source))
    }

    pub(super) fn location(&self) -> &KeyLocation {
        &self.location
    }

    pub(super) fn file(&self) -> Option<&Path> {
        match &self.location {
            KeyLocation::File(path) => Some(path),
            KeyLocation::Https { .. } => None,
        }
    }

    /// Reads the file again, if it is one.
    pub(super) fn reload_file(&self) -> Result<(), KeySetError> {
        let Some(path) = self.file() else {
            return Ok(());
        };
        let set = read(path).map_err(|problem| error(&self.issuer, &self.location, problem))?;
        self.hold(set);
        Ok(())
    }

    fn hold(&self, set: KeySet) {
        let since = clock::monotonic();
        self.held.store(Some(Arc::new(Held { set, since })));
    }

    /// A key that is known now.
    ///
    /// # Errors
    /// [`Code::KeysUnavailable`] when no keys are, or were fetched too long ago.
    pub(super) fn known(&self, kid: &str) -> Result<Option<Arc<VerifyingKey>>, Code> {
        let held = self.held.load();
        let held = held.as_ref().ok_or(Code::KeysUnavailable)?;
        if let KeyLocation::Https { keep, .. } = &self.location
            && held.since.elapsed() > *keep
        {
            return Err(Code::KeysUnavailable);
        }
        Ok(held.set.get(kid).cloned())
    }

    /// A key, looked for once if it is not known.
    pub(super) async fn find(&self, kid: &str) -> Result<Arc<VerifyingKey>, Code> {
        let unknown = match self.known(kid) {
            Ok(Some(key)) => return Ok(key),
            Ok(None) => Code::TokenKeyUnknown,
            Err(code) => code,
        };
        let fetcher = self.fetcher.as_ref().ok_or(unknown)?;
        let (attempt, mine) = fetcher.ask().ok_or(unknown)?;
        let mut attempts = fetcher.attempts.clone();
        let answered = attempts.wait_for(|done| *done >= attempt);
        // Too late, or the thread is gone: what is known by now decides.
        drop(tokio::time::timeout(REQUEST_WAITS, answered).await);
        let found = self.known(kid);
        if mine {
            fetcher.learn(matches!(found, Ok(Some(_))));
        }
        found?.ok_or(Code::TokenKeyUnknown)
    }
}

impl Fetcher {
    fn start(
        issuer: &str,
        location: &KeyLocation,
        held: &Arc<ArcSwapOption<Held>>,
        outcomes: Outcomes,
    ) -> Result<Self, String> {
        let (ask, asked) = bounded(1);
        let (done, attempts) = watch::channel(0);
        let fetching = Fetching {
            issuer: issuer.to_owned(),
            location: location.clone(),
            held: Arc::clone(held),
            outcomes,
            asked,
            done,
        };
        thread::Builder::new()
            .name("jwks".to_owned())
            .spawn(move || fetching.run())
            .map_err(|e| e.to_string())?;
        let gate = Gate {
            closed_until: clock::monotonic(),
            pause: SHORTEST_PAUSE,
            // Whoever comes before the first attempt is done waits for it.
            asked: 1,
        };
        Ok(Self {
            ask,
            attempts,
            gate: Mutex::new(gate),
        })
    }

    /// The attempt to wait for, and whether it is this request's own; none when there were
    /// enough lately.
    fn ask(&self) -> Option<(u64, bool)> {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        let done = *self.attempts.borrow();
        if gate.asked > done {
            return Some((gate.asked, false));
        }
        let now = clock::monotonic();
        if now < gate.closed_until {
            return None;
        }
        gate.closed_until = now + gate.pause;
        gate.asked = done + 1;
        // One that is waiting already does as well.
        let _full: Result<(), _> = self.ask.try_send(());
        Some((gate.asked, true))
    }

    fn learn(&self, helped: bool) {
        let mut gate = self.gate.lock().unwrap_or_else(PoisonError::into_inner);
        gate.pause = if helped {
            SHORTEST_PAUSE
        } else {
            (gate.pause * 2).min(LONGEST_PAUSE)
        };
        gate.closed_until = clock::monotonic() + gate.pause;
    }
}

/// What the thread has.
struct Fetching {
    issuer: String,
    location: KeyLocation,
    held: Arc<ArcSwapOption<Held>>,
    outcomes: Outcomes,
    asked: Receiver<()>,
    done: watch::Sender<u64>,
}

impl Fetching {
    fn run(self) {
        let KeyLocation::Https {
            url, ca, refresh, ..
        } = &self.location
        else {
            return;
        };
        let (name, mut failures) = (format!("key set of issuer {}", self.issuer), 0u32);
        loop {
            let wait = match fetch(url, ca) {
                Ok(set) => {
                    if failures > 0 || self.held.load().is_none() {
                        tracing::info!(issuer = self.issuer, keys = set.len(), "key set fetched");
                    }
                    let since = clock::monotonic();
                    self.held.store(Some(Arc::new(Held { set, since })));
                    self.outcomes.note(&name, Ok(()));
                    failures = 0;
                    *refresh
                }
                Err(problem) => {
                    tracing::error!(
                        issuer = self.issuer,
                        url,
                        error = problem,
                        "KEY SET NOT FETCHED: the keys known are good for a while"
                    );
                    self.outcomes.note(&name, Err(problem));
                    let retry = FIRST_RETRY * 2u32.saturating_pow(failures.min(10));
                    failures += 1;
                    retry.min(LAST_RETRY).min(*refresh)
                }
            };
            self.done.send_modify(|done| *done += 1);
            match self.asked.recv_timeout(wait) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

fn fetch(url: &str, ca: &Path) -> Result<KeySet, String> {
    let agent = tls::client::https(ca, None, FETCH_TIME).map_err(|e| e.to_string())?;
    let told = |e: ureq::Error| one_line(&e);
    let mut response = agent
        .get(url)
        .header("accept", "application/jwk-set+json, application/json")
        .call()
        .map_err(told)?;
    if response.status() != 200 {
        return Err(format!("the answer has status {}", response.status()));
    }
    let body = response.body_mut().with_config().limit(LARGEST);
    KeySet::parse(&body.read_to_vec().map_err(told)?)
}

/// Whether an issuer's files can be read: its key set, or the roots its address is trusted by.
/// The address itself is not asked.
///
/// # Errors
/// What is wrong with them.
pub fn check(issuer: &IssuerConfig) -> Result<(), KeySetError> {
    let result = match &issuer.keys {
        KeyLocation::File(path) => read(path).map(drop),
        KeyLocation::Https { ca, .. } => tls::certificates(ca).map(drop).map_err(|e| e.to_string()),
    };
    result.map_err(|problem| error(&issuer.name, &issuer.keys, problem))
}

fn read(path: &Path) -> Result<KeySet, String> {
    let json = named_file::read(path, LARGEST).map_err(|e| e.to_string())?;
    KeySet::parse(&json)
}

fn error(issuer: &str, location: &KeyLocation, problem: String) -> KeySetError {
    let location = match location {
        KeyLocation::File(path) => path.display().to_string(),
        KeyLocation::Https { url, .. } => url.clone(),
    };
    KeySetError {
        issuer: issuer.to_owned(),
        location,
        problem,
    }
}
