//! What the servers of one installation share, through Valkey or Redis: what callers have asked
//! (budgets, fingerprints, query patterns), and who and what is quarantined.
//!
//! A row is judged by one script in one round trip, atomically, so that callers gain nothing by
//! asking several servers at once. Keys name callers by keyed hash; what they hold are keyed
//! hashes and sums, never a row. When the store does not answer in time it is away: each server
//! then counts by itself, within its share of what is left of each budget, neither open nor
//! closed. A loop finds out when it is back, puts into it what was charged meanwhile, and only
//! then is it used again.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use aws_lc_rs::{hmac, rand};
use redis::{ErrorKind, RedisError, Script, aio::ConnectionManager};
use tokio::sync::Notify;

use self::{connection::connect, settlement::Heard};
use crate::{
    admission::Accounts,
    audit::Identifiers,
    clock,
    config::Store,
    containment::{Containment, SharedChange},
    error_chain::one_line,
    extraction::{Answer, Event, Events, Ledger, Query, Said, Terms, Told},
    phi::scrub,
};

mod connection;
mod settlement;
#[cfg(test)]
mod tests;

pub use connection::{FleetError, client};

/// Longest wait for the store on the request path.
const ON_PATH: Duration = Duration::from_millis(250);
/// Longest wait for it elsewhere.
const BESIDE: Duration = Duration::from_secs(2);
/// How often quarantines are compared, and the store is looked for when it is away.
const TICK: Duration = Duration::from_millis(500);
/// Rounds without an answer after which it is connected to anew.
const PATIENCE: u32 = 4;
/// Fingerprints in one settlement.
const SETTLED: usize = 1000;
const DAY: u64 = 86_400;

/// A caller and a model, by keyed hash.
type Tag = [u8; 16];

/// Names of a caller's and model's keys on one day.
#[derive(Debug)]
pub struct Names {
    day: u64,
    tag: Tag,
    /// As `enter.lua` takes them.
    keys: [String; 5],
    /// Of how many rows of the day the store has no fingerprint.
    unknown: String,
}

impl Names {
    /// Whether they are those of a day, in days since the epoch.
    pub fn are_of(&self, day: u64) -> bool {
        self.day == day
    }
}

fn random_text() -> String {
    let mut text = [0u8; 16];
    // All zero if it could not be drawn: a flush is then found by requests only.
    let _unfilled: Result<(), _> = rand::fill(&mut text);
    hex::encode(text)
}

/// The store, as this server sees it.
pub struct Fleet {
    store: Store,
    connection: ArcSwap<ConnectionManager>,
    /// Rounds in a row in which it did not answer.
    missed: AtomicU32,
    /// What the store had to remember when it was last asked.
    memory: ArcSwap<String>,
    key: hmac::Key,
    replicas: u32,
    enter: Script,
    settle: Script,
    stopped: Script,
    spent: Script,
    heard: Heard,
    /// When this server started, Unix milliseconds.
    started: u64,
    up: AtomicBool,
    /// Whether it was ever reached: it is no news that it is away before.
    met: AtomicBool,
    /// Events that the next record tells.
    news: AtomicU8,
    unsettled: AtomicBool,
    changed: Notify,
}

impl std::fmt::Debug for Fleet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

impl Fleet {
    /// Makes ready; connects when it is first used. Within a runtime.
    ///
    /// # Errors
    /// When a file is not good.
    pub fn new(store: &Store, identifiers: &Identifiers) -> Result<Self, FleetError> {
        Ok(Self {
            store: store.clone(),
            connection: ArcSwap::from_pointee(connect(store)?),
            missed: AtomicU32::new(0),
            memory: ArcSwap::default(),
            key: identifiers.lasting_key("shared store"),
            replicas: store.replicas.max(1),
            enter: Script::new(include_str!("fleet/enter.lua")),
            settle: Script::new(include_str!("fleet/settle.lua")),
            stopped: Script::new(include_str!("fleet/stopped.lua")),
            spent: Script::new(include_str!("fleet/spent.lua")),
            heard: Heard::default(),
            started: u64::try_from(clock::since_epoch().as_millis()).unwrap_or_default(),
            up: AtomicBool::new(false),
            met: AtomicBool::new(false),
            news: AtomicU8::new(0),
            unsettled: AtomicBool::new(false),
            changed: Notify::new(),
        })
    }

    /// Whether it answers.
    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    /// Has a change of what is quarantined told to the others at once.
    pub fn tell(&self) {
        self.changed.notify_one();
    }

    /// Servers that share it.
    pub fn replicas(&self) -> u32 {
        self.replicas
    }

    /// What has happened to the store since somebody asked.
    pub fn news(&self) -> Events {
        Events::from_bits(self.news.swap(0, Ordering::AcqRel))
    }

    /// Notes that a row was charged apart from the store.
    pub fn owe(&self) {
        self.unsettled.store(true, Ordering::Release);
    }

    /// Judges a row for all servers; none when the store is away.
    pub async fn enter(
        &self,
        names: &Names,
        query: &Query,
        terms: &Terms,
        told: &Told,
        now: u64,
    ) -> Option<Said> {
        if !self.is_up() {
            return None;
        }
        let mut call = self.enter.prepare_invoke();
        for key in &names.keys {
            call.key(key);
        }
        Ledger::arguments(query, terms, told, now, &mut |argument| {
            call.arg(argument);
        });
        let mut connection = self.connection();
        let answer = tokio::time::timeout(ON_PATH, call.invoke_async(&mut connection));
        let answer: Result<Result<Answer, RedisError>, _> = answer.await;
        match answer {
            Ok(Ok(answer)) => {
                let said = Said::read(&answer, terms)?;
                if let Said::Verdict(shared) = &said
                    && terms.rows.is_some()
                {
                    self.heard.note(names, shared.verdict.used);
                }
                Some(said)
            }
            Ok(Err(error)) => {
                self.lost(&one_line(&error));
                None
            }
            Err(_elapsed) => {
                self.lost("it does not answer in time");
                None
            }
        }
    }

    /// How many rows of a caller any server was last told that the store has.
    pub fn heard(&self, names: &Names) -> u32 {
        self.heard.of(names)
    }

    /// Keeps quarantines alike on all servers, and finds out when the store is away and back.
    /// Never ends.
    pub async fn keep(&self, accounts: &Accounts, containment: &Containment) {
        loop {
            self.look(accounts, containment).await;
            // A change is told at once, and the others' are looked for now and then.
            let _told_or_time = tokio::time::timeout(TICK, self.changed.notified()).await;
        }
    }

    /// One round of [`Fleet::keep`].
    pub async fn look(&self, accounts: &Accounts, containment: &Containment) {
        let exchange = self.exchange(accounts, containment);
        let settled = match tokio::time::timeout(BESIDE, exchange).await {
            Ok(Ok(())) => self.settle(accounts).await,
            Ok(Err(error)) => Err(error),
            Err(_elapsed) => Err((ErrorKind::Io, "it does not answer in time").into()),
        };
        match settled {
            Ok(()) => return self.found(),
            Err(error) => self.lost(&one_line(&error)),
        }
        if self.missed.fetch_add(1, Ordering::AcqRel) % PATIENCE == PATIENCE - 1 {
            self.connect_anew();
        }
    }

    /// A manager keeps a connection that was refused, of a password say, for good. The password
    /// is read again, too.
    fn connect_anew(&self) {
        match scrub::block_in_place(|| connect(&self.store)) {
            Ok(connection) => self.connection.store(Arc::new(connection)),
            Err(error) => tracing::error!(
                cause = one_line(&error),
                "the shared store cannot be used as configured"
            ),
        }
    }

    /// Notes that it has fewer rows of a caller than this server put there: it has lost its
    /// memory, and is told again before it is asked again.
    pub fn forgot(&self) {
        self.lost("it has lost its memory");
    }

    async fn exchange(
        &self,
        accounts: &Accounts,
        containment: &Containment,
    ) -> Result<(), RedisError> {
        let changes = containment.unshared();
        let mut call = self.stopped.prepare_invoke();
        // Another one each time, so that a store emptied between two rounds never has the old one.
        call.key("vitalgate:stopped").arg(random_text());
        for change in &changes {
            call.arg(&change.subject).arg(change.at).arg(change.text());
        }
        let mut connection = self.connection();
        let known: Vec<(String, String)> = call.invoke_async(&mut connection).await?;
        containment.shared(&changes);
        for change in &changes {
            self.told_release(change);
        }
        containment.miss(&known.iter().map(|(subject, _)| subject.clone()).collect());
        let memory = known.iter().find(|(subject, _)| subject == "memory");
        let memory = memory.map(|(_, memory)| memory.clone()).unwrap_or_default();
        let before = self.memory.swap(Arc::new(memory.clone()));
        if *before != memory {
            self.owe();
        }
        let known = known.iter();
        let known = known.filter_map(|(subject, text)| SharedChange::read(subject, text));
        let known: Vec<_> = known.collect();
        self.tell_pardons().await?;
        self.hear_releases(&known, accounts);
        // Writes to the disk when something changed.
        scrub::block_in_place(|| containment.learn(known));
        self.compare_spent().await
    }

    fn connection(&self) -> ConnectionManager {
        ConnectionManager::clone(&self.connection.load())
    }

    /// Names of a caller's and model's keys; the braces keep them on one node of a cluster.
    pub fn names(&self, caller: &str, model: &str, day: u64) -> Names {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(caller.as_bytes());
        context.update(&[0]);
        context.update(model.as_bytes());
        let mut tag = Tag::default();
        for (byte, of) in tag.iter_mut().zip(context.sign().as_ref()) {
            *byte = *of;
        }
        let of = hex::encode(tag);
        Names {
            day,
            tag,
            keys: [
                format!("vitalgate:{{{of}}}:rows:{day}"),
                format!("vitalgate:{{{of}}}:state"),
                format!("vitalgate:{{{of}}}:seen:{day}"),
                format!("vitalgate:{{{of}}}:marked:{day}"),
                format!("vitalgate:{{{of}}}:tried:{day}"),
            ],
            unknown: format!("vitalgate:{{{of}}}:unknown:{day}"),
        }
    }

    fn found(&self) {
        self.missed.store(0, Ordering::Release);
        if !self.up.swap(true, Ordering::AcqRel) {
            tracing::info!("the shared store answers");
            if self.met.swap(true, Ordering::AcqRel) {
                self.note(Event::StoreBack);
            }
        }
    }

    fn lost(&self, why: &str) {
        let was_up = self.up.swap(false, Ordering::AcqRel);
        if was_up || !self.met.swap(true, Ordering::AcqRel) {
            let share = self.replicas;
            tracing::error!(
                why,
                share,
                "THE SHARED STORE IS AWAY: this server counts by itself, within its share"
            );
            self.note(Event::StoreAway);
            self.owe();
            // Look for it soon.
            self.tell();
        }
    }

    fn note(&self, event: Event) {
        let mut events = Events::default();
        events.insert(event);
        self.news.fetch_or(events.bits(), Ordering::AcqRel);
    }
}
