//! What servers tell each other beside the request path: what they charged while the store was
//! away, whom somebody released, and how much of each budget is spent.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, PoisonError, atomic::Ordering},
};

use redis::RedisError;

use super::{BESIDE, DAY, Fleet, Names, SETTLED, Tag};
use crate::{admission::Accounts, clock, containment::SharedChange};

/// What this server and the others told each other of callers.
#[derive(Debug, Default)]
pub(super) struct Heard {
    spent: Mutex<Spent>,
    /// Callers that were released, with their models, and the store not told.
    pardons: Mutex<BTreeMap<String, Vec<String>>>,
    /// When each caller was last released, Unix milliseconds.
    releases: Mutex<BTreeMap<String, u64>>,
}

/// Rows of a day that the store has, by caller and model.
#[derive(Debug, Default)]
struct Spent {
    day: u64,
    heard: HashMap<Tag, u32>,
    /// What it told this server since the others were told.
    fresh: HashMap<Tag, u32>,
}

impl Spent {
    fn turn_day(&mut self, day: u64) {
        if self.day != day {
            *self = Self {
                day,
                ..Self::default()
            };
        }
    }
}

impl Heard {
    fn with_spent<T>(&self, day: u64, work: impl FnOnce(&mut Spent) -> T) -> T {
        let mut spent = self.spent.lock().unwrap_or_else(PoisonError::into_inner);
        spent.turn_day(day);
        work(&mut spent)
    }

    /// Notes how many rows of a budget the store says are charged.
    pub(super) fn note(&self, names: &Names, used: u32) {
        self.with_spent(names.day, |spent| spent.fresh.insert(names.tag, used));
    }

    /// As many as any server was told.
    pub(super) fn of(&self, names: &Names) -> u32 {
        self.with_spent(names.day, |spent| {
            let of = |told: &HashMap<Tag, u32>| told.get(&names.tag).copied().unwrap_or_default();
            of(&spent.heard).max(of(&spent.fresh))
        })
    }

    /// Whether it is news that a caller was released at a time.
    fn is_news(&self, caller: &str, at: u64) -> bool {
        let mut releases = self.releases.lock().unwrap_or_else(PoisonError::into_inner);
        let last = releases.entry(caller.to_owned()).or_default();
        let is_news = at > *last;
        *last = at.max(*last);
        is_news
    }
}

impl Fleet {
    /// Forgets what speaks against a caller, for all servers: at once, or when the store is back.
    pub async fn pardon(&self, caller: &str, models: Vec<String>) {
        {
            let pardons = self.heard.pardons.lock();
            let mut pardons = pardons.unwrap_or_else(PoisonError::into_inner);
            pardons.insert(caller.to_owned(), models);
        }
        let told = tokio::time::timeout(BESIDE, self.tell_pardons()).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::warn!("the shared store is told of a release when it is back");
        }
    }

    /// Tells the store of releases that it was not told of.
    pub(super) async fn tell_pardons(&self) -> Result<(), RedisError> {
        let pardons = self.heard.pardons.lock();
        let pardons = pardons.unwrap_or_else(PoisonError::into_inner).clone();
        let day = clock::since_epoch().as_secs() / DAY;
        for (caller, models) in pardons {
            let mut command = redis::cmd("DEL");
            for model in &models {
                let [_, state, seen, marked, tried] = &self.names(&caller, model, day).keys;
                command.arg(state).arg(seen).arg(marked).arg(tried);
            }
            if !models.is_empty() {
                command.exec_async(&mut self.connection()).await?;
            }
            let pardons = self.heard.pardons.lock();
            let mut pardons = pardons.unwrap_or_else(PoisonError::into_inner);
            if pardons.get(&caller) == Some(&models) {
                pardons.remove(&caller);
            }
        }
        Ok(())
    }

    /// Notes that others learn a release from this server.
    pub(super) fn told_release(&self, change: &SharedChange) {
        if let Some(caller) = change.released_caller() {
            self.heard.is_news(caller, change.at);
        }
    }

    /// Forgets what speaks here against callers whom another server released.
    pub(super) fn hear_releases(&self, known: &[SharedChange], accounts: &Accounts) {
        let since = known.iter().filter(|change| change.at > self.started);
        for change in since {
            if let Some(caller) = change.released_caller()
                && self.heard.is_news(caller, change.at)
                && let Some(account) = accounts.named(caller)
            {
                account.each_ledger(|_, ledger| {
                    ledger.pardon();
                });
            }
        }
    }

    /// Tells other servers how much of budgets is spent, and hears it from them: one that never
    /// asked the store about a caller must not give it a fresh share once the store is away.
    pub(super) async fn compare_spent(&self) -> Result<(), RedisError> {
        let day = clock::since_epoch().as_secs() / DAY;
        let fresh = self.heard.with_spent(day, |spent| spent.fresh.clone());
        let mut call = self.spent.prepare_invoke();
        call.key(format!("vitalgate:spent:{day}"));
        for (tag, used) in &fresh {
            call.arg(&tag[..]).arg(*used);
        }
        let all: Vec<(Vec<u8>, u32)> = call.invoke_async(&mut self.connection()).await?;
        let all = all.into_iter();
        let told = all.filter_map(|(tag, used)| Some((Tag::try_from(tag).ok()?, used)));
        self.heard.with_spent(day, |spent| {
            // A store that lost its memory says less than before.
            for (tag, used) in told {
                let heard = spent.heard.entry(tag).or_default();
                *heard = used.max(*heard);
            }
            spent.fresh.retain(|tag, used| fresh.get(tag) != Some(used));
        });
        Ok(())
    }

    /// Puts into the store what this server charged today, if there is anything that it may not
    /// have. Each command has its time; all of them may take longer than a round.
    pub(super) async fn settle(&self, accounts: &Accounts) -> Result<(), RedisError> {
        if !self.unsettled.swap(false, Ordering::AcqRel) {
            return Ok(());
        }
        let settled = self.settle_all(accounts).await;
        if settled.is_err() {
            self.owe();
        }
        settled
    }

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
                let names = self.names(account.name(), &model, seconds / DAY);
                let [rows, state, _, marked, _] = &names.keys;
                let mut rest = debt.rows.as_slice();
                let used: u32 = loop {
                    let (part, more) = rest.split_at(rest.len().min(SETTLED));
                    rest = more;
                    let mut call = self.settle.prepare_invoke();
                    call.key(rows).key(state).key(marked).key(&names.unknown);
                    // With the last part, since they are added to what is there.
                    let strikes = if rest.is_empty() {
                        [debt.known, debt.more]
                    } else {
                        [0.0; 2]
                    };
                    call.arg(&strikes).arg(seconds);
                    call.arg(debt.confirmed).arg(debt.used);
                    for fingerprint in part {
                        call.arg(&fingerprint[..]);
                    }
                    let used = call.invoke_async(&mut self.connection()).await?;
                    if rest.is_empty() {
                        break used;
                    }
                };
                account.with_ledger(&model, |ledger| ledger.settled(used));
            }
        }
        Ok(())
    }
}
