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
use redis::{
    Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, Script,
    TlsCertificates,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use tokio::sync::Notify;

use crate::{
    admission::Accounts,
    audit::{Identifiers, KeyError, read_secret},
    clock,
    config::Store,
    containment::{Containment, SharedChange},
    error_chain::one_line,
    extraction::{Event, Events, Ledger, Query, Shared, Terms},
    named_file::{self, LARGEST_CREDENTIAL},
};

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

/// Why the store cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The file of roots cannot be read.
    #[error("{path}: {source}")]
    Roots {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file of the password.
    #[error(transparent)]
    Password(#[from] KeyError),
    /// The address, the user or the roots.
    #[error("store: {0}")]
    Client(#[from] RedisError),
}

/// The configured store, not connected yet.
///
/// # Errors
/// When a file is not good.
pub fn client(store: &Store) -> Result<Client, FleetError> {
    let root = named_file::read(&store.ca, LARGEST_CREDENTIAL);
    let root = root.map_err(|source| FleetError::Roots {
        path: store.ca.clone(),
        source,
    })?;
    let password = read_secret(&store.password)?;
    let password = String::from_utf8_lossy(password.trim_ascii());
    let address = ConnectionAddr::TcpTls {
        host: store.url.host.clone(),
        port: store.url.port,
        insecure: false,
        tls_params: None,
    };
    let user = RedisConnectionInfo::default()
        .set_username(&store.url.user)
        .set_password(&password)
        .set_db(store.url.database)
        .set_skip_set_lib_name();
    let info = address.into_connection_info()?.set_redis_settings(user);
    let roots = TlsCertificates {
        client_tls: None,
        root_cert: Some(root),
    };
    Ok(Client::build_with_tls(info, roots)?)
}

/// Connects when it is first used, and again when the connection breaks.
fn connect(store: &Store) -> Result<ConnectionManager, FleetError> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(TICK)
        .set_connection_timeout(Some(BESIDE))
        .set_response_timeout(Some(ON_PATH));
    Ok(ConnectionManager::new_lazy_with_config(
        client(store)?,
        config,
    )?)
}

fn random_name() -> String {
    let mut name = [0u8; 16];
    // All zero if it could not be drawn: a flush is then found by requests only.
    let _unfilled: Result<(), _> = rand::fill(&mut name);
    hex::encode(name)
}

/// The store, as this server sees it.
pub struct Fleet {
    store: Store,
    connection: ArcSwap<ConnectionManager>,
    /// Rounds in a row in which it did not answer.
    missed: AtomicU32,
    /// Random; what a store without a memory is given to remember.
    name: String,
    /// What the store had to remember when it was last asked.
    memory: ArcSwap<String>,
    key: hmac::Key,
    replicas: u32,
    enter: Script,
    settle: Script,
    stopped: Script,
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
            name: random_name(),
            memory: ArcSwap::default(),
            key: identifiers.lasting_key("shared store"),
            replicas: store.replicas.max(1),
            enter: Script::new(include_str!("fleet/enter.lua")),
            settle: Script::new(include_str!("fleet/settle.lua")),
            stopped: Script::new(include_str!("fleet/stopped.lua")),
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
        caller: &str,
        model: &str,
        query: &Query,
        terms: &Terms,
        now: u64,
    ) -> Option<Shared> {
        if !self.is_up() {
            return None;
        }
        let [rows, state, seen] = self.names(caller, model, now / 1000 / DAY);
        let mut call = self.enter.prepare_invoke();
        call.key(rows).key(state).key(seen);
        Ledger::arguments(query, terms, now, &mut |argument| {
            call.arg(argument);
        });
        let mut connection = self.connection();
        let answer = tokio::time::timeout(ON_PATH, call.invoke_async(&mut connection));
        let answer: Result<Result<Answer, RedisError>, _> = answer.await;
        match answer {
            Ok(Ok((why, value, charged, used, step, events, strikes, cusum))) => {
                Shared::read((why, value, charged, used, step, events), &strikes, &cusum)
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

    /// Forgets what speaks against a caller, for all servers.
    pub async fn pardon(&self, caller: &str, models: &[String]) {
        let mut command = redis::cmd("DEL");
        for model in models {
            let [_, state, seen] = self.names(caller, model, clock::since_epoch().as_secs() / DAY);
            command.arg(state).arg(seen);
        }
        let mut connection = self.connection();
        let answer = tokio::time::timeout(BESIDE, command.exec_async(&mut connection)).await;
        if !matches!(answer, Ok(Ok(()))) {
            tracing::warn!("the shared store was not told of a release: it may come back");
        }
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
        match tokio::time::timeout(BESIDE, self.exchange(accounts, containment)).await {
            Ok(Ok(())) => return self.found(),
            Ok(Err(error)) => self.lost(&one_line(&error)),
            Err(_elapsed) => self.lost("it does not answer in time"),
        }
        if self.missed.fetch_add(1, Ordering::AcqRel) % PATIENCE == PATIENCE - 1 {
            self.connect_anew();
        }
    }

    /// A manager keeps a connection that was refused, of a password say, for good. The password
    /// is read again, too.
    fn connect_anew(&self) {
        match tokio::task::block_in_place(|| connect(&self.store)) {
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
        call.key("vitalgate:stopped").arg(&self.name);
        for change in &changes {
            call.arg(&change.subject).arg(change.at).arg(change.text());
        }
        let mut connection = self.connection();
        let known: Vec<(String, String)> = call.invoke_async(&mut connection).await?;
        containment.shared(&changes);
        containment.miss(&known.iter().map(|(subject, _)| subject.clone()).collect());
        let memory = known.iter().find(|(subject, _)| subject == "memory");
        let memory = memory.map(|(_, memory)| memory.clone()).unwrap_or_default();
        let before = self.memory.swap(Arc::new(memory.clone()));
        if *before != memory {
            self.owe();
        }
        let known = known
            .iter()
            .filter_map(|(subject, text)| SharedChange::read(subject, text));
        // Writes to the disk when something changed.
        tokio::task::block_in_place(|| containment.learn(known));
        if self.unsettled.swap(false, Ordering::AcqRel) {
            let settled = self.settle_all(accounts).await;
            if settled.is_err() {
                self.owe();
            }
            settled?;
        }
        Ok(())
    }

    /// Puts into the store what this server charged today.
    async fn settle_all(&self, accounts: &Accounts) -> Result<(), RedisError> {
        let seconds = clock::since_epoch().as_secs();
        for account in accounts.all() {
            let mut owed = Vec::new();
            account.each_ledger(|model, ledger| {
                if let Some(debt) = ledger.debt(seconds) {
                    owed.push((model.to_owned(), debt));
                }
            });
            for (model, debt) in owed {
                let [rows, state, _] = self.names(account.name(), &model, seconds / DAY);
                let mut used = 0u32;
                // Once even if no row was charged: there may be strikes.
                let mut rest = debt.rows.as_slice();
                loop {
                    let (part, more) = rest.split_at(rest.len().min(SETTLED));
                    let mut call = self.settle.prepare_invoke();
                    call.key(&rows).key(&state).arg(debt.strikes).arg(seconds);
                    for fingerprint in part {
                        call.arg(&fingerprint.to_be_bytes()[..]);
                    }
                    let mut connection = self.connection();
                    used = used.max(call.invoke_async(&mut connection).await?);
                    rest = more;
                    if rest.is_empty() {
                        break;
                    }
                }
                account.with_ledger(&model, |ledger| ledger.settled(used));
            }
        }
        Ok(())
    }

    fn connection(&self) -> ConnectionManager {
        ConnectionManager::clone(&self.connection.load())
    }

    /// Names of a caller's and model's keys; the braces keep them on one node of a cluster.
    fn names(&self, caller: &str, model: &str, day: u64) -> [String; 3] {
        let mut context = hmac::Context::with_key(&self.key);
        context.update(caller.as_bytes());
        context.update(&[0]);
        context.update(model.as_bytes());
        let tag = hex::encode(context.sign().as_ref().get(..16).unwrap_or_default());
        [
            format!("vitalgate:{{{tag}}}:rows:{day}"),
            format!("vitalgate:{{{tag}}}:state"),
            format!("vitalgate:{{{tag}}}:seen:{day}"),
        ]
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

/// As `enter.lua` writes it.
type Answer = (u8, i64, u8, u32, u8, u8, String, String);

#[cfg(test)]
mod tests;
