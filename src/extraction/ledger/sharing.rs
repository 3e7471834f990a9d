//! A ledger beside the shared store: what is asked of the script there, what it answers, and what
//! happens while it is away.

use redis::{RedisWrite, ToRedisArgs};

use super::{
    ALARM, CROWD, Detail, EMBEDDINGS, Ledger, MULTITUDE, PACE_BURST, PACE_MS, Query, Seen, Step,
    Terms, UNBUDGETED, Verdict, Why, stamp,
};
use crate::extraction::{embedding::NEAR, verdict::Events};

/// A verdict of the store, and the sums behind it.
#[derive(Clone, Copy, Debug)]
pub struct Shared {
    /// The verdict.
    pub verdict: Verdict,
    strikes: f64,
    cusum: f64,
}

impl Shared {
    /// Reads the script's answer; none when it is not one.
    pub fn read(
        (why, value, charged, used, step, events): (u8, i64, u8, u32, u8, u8),
        strikes: &str,
        cusum: &str,
    ) -> Option<Self> {
        let wait = u64::try_from(value).unwrap_or_default();
        let outcome = match (why, value) {
            (0, 0) => Ok(Detail::Withheld),
            (0, 1) => Ok(Detail::Band),
            (0, 2) => Ok(Detail::Full),
            (1, _) => Err((Why::Exhausted, wait)),
            (2, _) => Err((Why::NearDuplicate, wait)),
            (3, _) => Err((Why::SlowedDown, wait)),
            (4, _) => Err((Why::Quarantined, wait)),
            _ => return None,
        };
        Some(Self {
            verdict: Verdict {
                outcome,
                charged: charged == 1,
                used,
                step: *Step::ALL.get(usize::from(step))?,
                events: Events::from_bits(events),
            },
            strikes: strikes.parse().ok()?,
            cusum: cusum.parse().ok()?,
        })
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

/// What this server charged and found today.
#[derive(Debug)]
pub struct Debt {
    /// Fingerprints.
    pub rows: Vec<u64>,
    /// Strikes.
    pub strikes: f64,
}

impl Ledger {
    /// The script's arguments, in its order.
    #[expect(
        clippy::cast_precision_loss,
        reason = "milliseconds and counts are exact in a double"
    )]
    pub fn arguments(query: &Query, terms: &Terms, now: u64, take: &mut dyn FnMut(Argument)) {
        let embedding = query.embedding.map(|e| e.bytes()).unwrap_or_default();
        take(Argument::Bytes(query.fingerprint.to_be_bytes().to_vec()));
        take(Argument::Bytes(embedding));
        let flag = |on: bool| if on { 1.0 } else { 0.0 };
        let last = Step::ALL
            .iter()
            .position(|s| *s == terms.clinical.last_step());
        for number in [
            flag(query.flagged),
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
        ] {
            take(Argument::Number(number));
        }
    }

    /// Takes in what the store said about a row, so that this server can go on without it.
    pub fn mirror(&mut self, query: &Query, shared: &Shared, terms: &Terms, now: u64) {
        let seconds = now / 1000;
        self.turn_day(seconds);
        self.forget_old(terms, seconds);
        if shared.verdict.charged {
            self.remember(query, terms, seconds);
        }
        self.follow(shared.verdict.used);
        (self.strikes, self.strikes_at, self.cusum) = (shared.strikes, seconds, shared.cusum);
        self.told = shared.verdict.step;
    }

    /// Judges a row while the store is away: within this server's share of what was left of the
    /// budget, one in `replicas`.
    pub fn enter_apart(
        &mut self,
        query: &Query,
        terms: &Terms,
        replicas: u32,
        now: u64,
    ) -> Verdict {
        self.turn_day(now / 1000);
        let used = self.used();
        let before = *self.apart.get_or_insert(used);
        let share = |limit: u32| before + limit.saturating_sub(before).div_ceil(replicas.max(1));
        let terms = Terms {
            rows: terms.rows.map(share),
            ..*terms
        };
        self.enter(query, &terms, now)
    }

    /// Rows of today that were charged here.
    pub fn charged_here(&mut self, seconds: u64) -> u32 {
        self.turn_day(seconds);
        u32::try_from(self.rows.len()).unwrap_or(u32::MAX)
    }

    /// What the store has to be told once it is back: everything of today, since it may have come
    /// back without its memory. What it has already makes no difference.
    pub fn debt(&mut self, seconds: u64) -> Option<Debt> {
        self.turn_day(seconds);
        (!self.rows.is_empty() || self.strikes > 0.0).then(|| Debt {
            rows: self.rows.iter().copied().collect(),
            strikes: self.strikes,
        })
    }

    /// The store has been told, and has so many rows.
    pub fn settled(&mut self, used: u32) {
        self.apart = None;
        self.follow(used);
    }

    /// The store has so many rows, own ones among them.
    fn follow(&mut self, used: u32) {
        let own = u32::try_from(self.rows.len()).unwrap_or(u32::MAX);
        self.elsewhere = used.saturating_sub(own);
    }
}

impl Seen {
    pub(super) fn of(query: &Query, seconds: u64) -> Option<Self> {
        Some(Self {
            at: stamp(seconds, query.flagged),
            bits: query.embedding?,
        })
    }
}
