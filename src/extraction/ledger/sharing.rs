//! A ledger beside the shared store: what is asked of the script there, what it answers, and what
//! happens while it is away.
//!
//! Comparing embeddings is work, and the store does one thing at a time for everybody. So each
//! server has the store's embeddings in its own ledger, compares there, and tells the script up to
//! which one it did ([`Told`]); the script compares the few that came since, and hands them over.

use std::sync::Arc;

use redis::{RedisWrite, ToRedisArgs};

use super::{
    ALARM, CROWD, Detail, EMBEDDINGS, Ledger, MULTITUDE, Nearby, PACE_BURST, PACE_MS, Query, Seen,
    Step, TRIED, Terms, UNBUDGETED, Verdict, Why, Window,
};
use crate::{
    extraction::{
        DECAY_SECONDS,
        embedding::NEAR,
        verdict::{Event, Events},
    },
    fleet::Names,
};

/// Embeddings that the script compares at most, unless it is told to compare all.
const FEW: u32 = 32;

/// As `enter.lua` writes it: how it ended, with what, whether it was charged, rows charged, step,
/// events, strikes, CUSUM; the list of embeddings, how many were ever put into it, and those that
/// the server does not have.
pub type Answer = (u8, i64, u8, u32, u8, u8, String, String, u64, u64, Vec<u8>);

/// Which of the store's embeddings a ledger has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Journal {
    /// Which list: it ends when a caller is pardoned, or the store loses it.
    epoch: u64,
    /// Of so many that were ever put into it.
    taken: u64,
}

/// What the script is told beside the row.
#[derive(Clone, Copy, Debug)]
pub struct Told {
    journal: Journal,
    nearby: Nearby,
    /// So many more it may compare by itself.
    few: u32,
}

/// What the script says.
#[derive(Debug)]
pub enum Said {
    /// How it judged.
    Verdict(Shared),
    /// Not yet: these have to be compared first.
    Behind(Places),
}

/// A verdict of the store, and the sums behind it.
#[derive(Debug)]
pub struct Shared {
    /// The verdict.
    pub verdict: Verdict,
    strikes: f64,
    cusum: f64,
    places: Places,
}

/// Embeddings that the store has and the ledger did not.
#[derive(Debug)]
pub struct Places {
    journal: Journal,
    new: Vec<Seen>,
}

impl Said {
    /// Reads the script's answer about a row that was judged by these terms; none when it is not
    /// one.
    pub fn read(answer: &Answer, terms: &Terms) -> Option<Self> {
        let (why, value, charged, used, step, events, strikes, cusum, epoch, taken, new) = answer;
        let new = new.chunks(Seen::LENGTH).map(Seen::read);
        let places = Places {
            journal: Journal {
                epoch: *epoch,
                taken: *taken,
            },
            new: new.collect::<Option<_>>()?,
        };
        let wait = u64::try_from(*value).unwrap_or_default();
        let outcome = match (*why, *value) {
            (0, 0) => Ok(Detail::Withheld),
            (0, 1) => Ok(Detail::Band),
            (0, 2) => Ok(Detail::Full),
            (1, _) => Err((Why::Exhausted, wait)),
            (2, _) => Err((Why::NearDuplicate, wait)),
            (3, _) => Err((Why::SlowedDown, wait)),
            (4, _) => Err((Why::Quarantined, wait)),
            (5, _) => return Some(Self::Behind(places)),
            _ => return None,
        };
        let sum = |text: &str| text.parse().ok().filter(|sum: &f64| sum.is_finite());
        Some(Self::Verdict(Shared {
            verdict: Verdict {
                outcome,
                charged: *charged == 1,
                used: *used,
                quota: terms.rows,
                step: *Step::ALL.get(usize::from(*step))?,
                events: Events::from_bits(*events),
            },
            strikes: sum(strikes)?,
            cusum: sum(cusum)?,
            places,
        }))
    }
}

/// One argument of the script.
#[derive(Debug)]
pub enum Argument {
    /// As they are.
    Bytes(Vec<u8>),
    /// In decimal.
    Number(f64),
}

impl ToRedisArgs for Argument {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        match self {
            Self::Bytes(bytes) => out.write_arg(bytes),
            // Shortest text that reads back as the same number.
            Self::Number(number) => out.write_arg(number.to_string().as_bytes()),
        }
    }
}

impl redis::ToSingleRedisArg for Argument {}

/// How things stood when the store went away.
#[derive(Clone, Copy, Debug)]
pub(super) struct Apart {
    /// Rows charged.
    used: u32,
    pub(super) strikes: f64,
    /// Unix seconds.
    since: u64,
}

/// What this server charged and found today.
#[derive(Debug)]
pub struct Debt {
    /// Fingerprints, as the store keeps them.
    pub rows: Vec<Vec<u8>>,
    /// Rows that the store had when it was last there, those of other servers among them.
    pub confirmed: u32,
    /// Rows that are charged, as far as this server knows. Some that came since may have been
    /// charged by others before.
    pub used: u32,
    /// Strikes that the store had, as far as this server knows.
    pub known: f64,
    /// Strikes that came while it was away.
    pub more: f64,
}

/// As the store keeps a fingerprint, and one with a mark: of the version that answered in full, or
/// that it gets its band at most.
fn written(fingerprint: u64, mark: Option<u8>) -> Vec<u8> {
    let mut bytes = fingerprint.to_be_bytes().to_vec();
    bytes.extend(mark);
    bytes
}

impl Ledger {
    /// Names of the store's keys on a day, made once.
    pub fn names(&mut self, day: u64, make: impl FnOnce() -> Names) -> Arc<Names> {
        match &self.names {
            Some(names) if names.are_of(day) => Arc::clone(names),
            _ => Arc::clone(self.names.insert(Arc::new(make()))),
        }
    }

    /// Compares a row with what this server has of the store's, before the store is asked for the
    /// `attempt`th time.
    pub fn tell(&mut self, query: &Query, terms: &Terms, attempt: u32, now: u64) -> Told {
        self.turn_day(now / 1000);
        let embeddings = u32::try_from(EMBEDDINGS).unwrap_or(u32::MAX);
        Told {
            journal: self.journal,
            nearby: self.nearby(query, terms, now / 1000),
            few: if attempt < 3 { FEW } else { embeddings },
        }
    }

    /// The script's arguments, in its order.
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds and counts are exact in a double"
    )]
    pub fn arguments(
        query: &Query,
        terms: &Terms,
        told: &Told,
        now: u64,
        take: &mut dyn FnMut(Argument),
    ) {
        let embedding = query.embedding.map(|e| e.bytes()).unwrap_or_default();
        take(Argument::Bytes(written(query.fingerprint, None)));
        let mark = Some(query.mark());
        take(Argument::Bytes(written(query.fingerprint, mark)));
        take(Argument::Bytes(embedding));
        let flag = |on: bool| if on { 1.0 } else { 0.0 };
        let last = Step::ALL
            .iter()
            .position(|s| *s == terms.clinical.last_step());
        for number in [
            flag(query.flagged),
            flag(query.answered),
            now as f64,
            terms.rows.map_or(-1.0, f64::from),
            f64::from(terms.near),
            terms.window as f64,
            terms.if_flagged,
            terms.if_passed,
            flag(terms.enforced),
            flag(terms.clinical.is_record_system()),
            last.unwrap_or_default() as f64,
            f64::from(NEAR),
            EMBEDDINGS as f64,
            CROWD as f64,
            MULTITUDE as f64,
            UNBUDGETED as f64,
            ALARM,
            PACE_MS as f64,
            PACE_BURST as f64,
            terms.near_strike,
            told.journal.epoch as f64,
            told.journal.taken as f64,
            f64::from(told.nearby.answered),
            told.nearby.first.map_or(-1.0, |first| first as f64),
            flag(told.nearby.flagged),
            f64::from(told.few),
            TRIED as f64,
        ] {
            take(Argument::Number(number));
        }
    }

    /// Takes in embeddings of other servers, and of requests of this one that ended first.
    pub fn catch_up(&mut self, places: &Places) {
        let Places { journal, new } = places;
        if journal.epoch == 0 {
            return;
        }
        if self.journal.epoch != journal.epoch {
            if self.journal.epoch != 0 {
                self.seen = Window::default();
            }
            self.journal = Journal {
                taken: 0,
                ..*journal
            };
        }
        let first = journal.taken.saturating_sub(new.len() as u64);
        let known = self.journal.taken.saturating_sub(first);
        let unknown = new
            .iter()
            .skip(usize::try_from(known).unwrap_or(usize::MAX));
        for seen in unknown {
            self.seen.push(*seen);
        }
        self.journal.taken = self.journal.taken.max(journal.taken);
    }

    /// Takes in what the store said about a row, so that this server can go on without it.
    pub fn mirror(&mut self, query: &Query, shared: &Shared, terms: &Terms, now: u64) {
        let seconds = now / 1000;
        self.turn_day(seconds);
        self.forget_old(terms, seconds);
        let verdict = &shared.verdict;
        match verdict.outcome {
            Ok(detail) if verdict.charged => {
                let near = verdict.events.contains(Event::NearDuplicate);
                let capped = near && terms.enforced;
                self.rows.insert(query, detail, capped, terms);
            }
            Ok(_) if self.rows.again(query, Detail::Full).is_some() => {}
            // Answered beyond the budget, or by a row that another server charged: then it is
            // not looked at.
            Ok(_) | Err((Why::NearDuplicate, _)) => {
                self.tried.insert(query);
            }
            Err(_) => {}
        }
        self.catch_up(&shared.places);
        self.follow(shared.verdict.used);
        self.apart = None;
        (self.strikes, self.strikes_at, self.cusum) = (shared.strikes, seconds, shared.cusum);
        self.told = shared.verdict.step;
    }

    /// Judges a row while the store is away: within this server's share of what was left of the
    /// budget, one in `replicas`. The store was last heard to have `heard` rows, which other
    /// servers may have put there.
    pub fn enter_apart(
        &mut self,
        query: &Query,
        terms: &Terms,
        (replicas, heard): (u32, u32),
        now: u64,
    ) -> Verdict {
        let seconds = now / 1000;
        self.turn_day(seconds);
        self.decay(terms.clinical, seconds);
        if self.apart.is_none() {
            self.follow(heard.max(self.used()));
        }
        let (used, strikes) = (self.used(), self.strikes);
        let apart = self.apart.get_or_insert(Apart {
            used,
            strikes,
            since: seconds,
        });
        let before = apart.used;
        let share = |limit: u32| before + limit.saturating_sub(before).div_ceil(replicas.max(1));
        let terms = Terms {
            rows: terms.rows.map(share),
            ..*terms
        };
        self.enter(query, &terms, now)
    }

    /// What the store has to be told once it is back: everything of today, since it may have come
    /// back without its memory. What it has already makes no difference.
    pub fn debt(&mut self, seconds: u64) -> Option<Debt> {
        self.turn_day(seconds);
        if self.rows.is_empty() && self.strikes <= 0.0 {
            return None;
        }
        let faded = |strikes: f64, since: u64| {
            #[expect(clippy::cast_precision_loss, reason = "only the recent past matters")]
            let passed = seconds.saturating_sub(since) as f64 / DECAY_SECONDS as f64;
            (strikes - passed).max(0.0)
        };
        let all = faded(self.strikes, self.strikes_at);
        let known = match self.apart {
            Some(apart) => faded(apart.strikes, apart.since).min(all),
            None => all,
        };
        let rows = self.rows.fingerprints().map(|row| written(row, None));
        let marked = self.rows.marked();
        let marked = marked.map(|(row, mark)| written(row, Some(mark)));
        Some(Debt {
            rows: rows.chain(marked).collect(),
            confirmed: self.confirmed(),
            used: self.used(),
            known,
            more: all - known,
        })
    }

    /// The store has been told, and has so many rows.
    pub fn settled(&mut self, used: u32) {
        let confirmed = self.confirmed();
        self.apart = None;
        self.elsewhere = used.max(confirmed).saturating_sub(self.rows.len());
    }

    /// The store has so many rows, own ones among them. Within a day there are never fewer than it
    /// had before.
    fn follow(&mut self, used: u32) {
        self.elsewhere = used.max(self.used()).saturating_sub(self.rows.len());
    }

    fn confirmed(&self) -> u32 {
        self.apart.map_or(self.used(), |apart| apart.used)
    }
}
