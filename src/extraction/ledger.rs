//! What one caller asked about one model: the budget of its day, and what its queries look like.
//!
//! Keyed hashes and sums only, never a row. Exactly the same steps run as a script in the shared
//! store (`src/fleet/enter.lua`); a test holds one against the other.

use std::sync::Arc;

use super::{
    embedding::Embedding,
    response::{DECAY_SECONDS, Step},
    terms::{Clinical, Terms},
    verdict::{Detail, Event, Events, Verdict, Why},
};
use crate::fleet::Names;

/// Embeddings that are kept at most, newest first; enough for 200 patients every 2 hours. To
/// have one forgotten before its time, so many other rows have to be paid for.
pub const EMBEDDINGS: usize = 1024;
/// From so many embeddings on, one of them may be another patient's that is near by chance.
const CROWD: usize = 64;
/// And two, from so many on.
const MULTITUDE: usize = 512;
/// Fingerprints that are remembered of a caller without a budget.
const UNBUDGETED: usize = 4096;
/// ln 10⁴: streams of honest queries reach it once in more than 10⁴ starts (Wald).
const ALARM: f64 = 9.21;
/// What an alarm of the flag rate counts, in strikes; a near-duplicate counts one.
const ALARM_STRIKES: f64 = 4.0;
/// As many strikes are remembered: a quarantine ends by itself after eight hours.
const MOST_STRIKES: f64 = 24.0;
/// A slowed caller's rows: one in so many milliseconds, after so many at once.
const PACE_MS: u64 = 10_000;
/// Where a server's share of a budget is spent and the shared store is away, it is worth trying
/// again after so many seconds: the store may be back.
const APART_SECONDS: u64 = 30;
/// As many at once.
const PACE_BURST: u64 = 6;
const DAY: u64 = 86_400;

/// A row that is about to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Query {
    /// Its keyed fingerprint, 56 bits.
    pub fingerprint: u64,
    /// The version of the model that it is asked of.
    pub version: u32,
    /// Its embedding, where the model has a reference.
    pub embedding: Option<Embedding>,
    /// Whether a screen flagged or rejected it.
    pub flagged: bool,
    /// Whether a prediction follows: of a flagged row none does, unless the bundle attaches it to
    /// the review or somebody overrides.
    pub answered: bool,
}

impl Query {
    /// The same row, whose review somebody overrides: it is answered, so it is paid for as a row
    /// of its own and counts among those that are near each other, flagged or not.
    pub(super) fn overridden(self) -> Self {
        Self {
            fingerprint: !self.fingerprint & asked::FINGERPRINT,
            flagged: false,
            answered: true,
            ..self
        }
    }
}

mod asked;
mod patterns;
mod sharing;

use asked::{Asked, TRIED, Tried};
pub use patterns::Nearby;
use patterns::{Seen, Window};
use sharing::Apart;
pub use sharing::{Answer, Argument, Debt, Journal, Places, Said, Shared, Told};

/// What one caller asked about one model.
#[derive(Debug, Default)]
pub struct Ledger {
    day: u64,
    /// Rows that the shared store has of other servers.
    elsewhere: u32,
    /// How things stood when the store went away.
    apart: Option<Apart>,
    /// How much of the store's embeddings is in `seen`.
    journal: Journal,
    /// Names of the store's keys, worked out once a day.
    names: Option<Arc<Names>>,
    rows: Asked,
    seen: Window,
    cusum: f64,
    strikes: f64,
    strikes_at: u64,
    /// When the next row of a slowed caller is due, Unix milliseconds (GCRA's theoretical arrival
    /// time).
    pace: u64,
    tried: Tried,
    told_exhausted: bool,
    /// The step that operators were last told of.
    told: Step,
}

impl Ledger {
    /// Judges a row at `now`, Unix milliseconds, and counts it.
    pub fn enter(&mut self, query: &Query, terms: &Terms, now: u64) -> Verdict {
        let seconds = now / 1000;
        let (pays_with_bands, mut events) = (terms.clinical.is_record_system(), Events::default());
        self.turn_day(seconds);
        let before = self.decay(terms.clinical, seconds);
        if terms.effect(before) == Step::Quarantine {
            return self.verdict(Err((Why::Quarantined, 0)), terms, before, events);
        }
        // The same row again costs nothing and counts for nothing.
        let so_far = terms.effect(before).detail();
        if let Some(detail) = self.rows.again(query, so_far) {
            return self.verdict(Ok(detail), terms, before, events);
        }
        let exhausted = terms.rows.is_some_and(|limit| self.used() >= limit);
        if exhausted && !std::mem::replace(&mut self.told_exhausted, true) {
            events.insert(Event::Exhausted);
        }
        if exhausted && !pays_with_bands {
            let wait = self.until_more(seconds);
            return self.verdict(Err((Why::Exhausted, wait)), terms, before, events);
        }
        if exhausted && self.tried.has(query) {
            return self.verdict(Ok(so_far.min(Detail::Band)), terms, before, events);
        }
        let slowed = terms.effect(before) >= Step::SlowDown && !pays_with_bands;
        if slowed && let Some(wait) = self.wait(now) {
            return self.verdict(Err((Why::SlowedDown, wait)), terms, before, events);
        }
        let nearby = self.nearby(query, terms, seconds);
        let near = self.near_duplicate(&nearby, terms);
        let refused = near.filter(|_| terms.enforced && !pays_with_bands);
        if near.is_some() {
            if !self.tried.has(query) {
                events.insert(Event::NearDuplicate);
                self.strike(terms.near_strike);
            }
        } else if self.flag_rate(query, &nearby, terms) {
            events.insert(Event::FlagRate);
            self.strike(ALARM_STRIKES);
        }
        let after = self.step(terms.clinical);
        if exhausted || refused.is_some() {
            self.tried.insert(query);
        }
        if let Some(first) = refused {
            // A second later it is forgotten.
            let wait = (first + terms.window + 1).saturating_sub(seconds).max(1);
            return self.verdict(Err((Why::NearDuplicate, wait)), terms, after, events);
        }
        if slowed {
            self.advance(now);
        }
        // A near row of a record system is answered with its band.
        let capped = near.is_some() && terms.enforced;
        if !capped {
            self.remember_place(query, seconds);
        }
        let mut detail = terms.effect(after).detail();
        if exhausted || capped {
            detail = detail.min(Detail::Band);
        }
        if exhausted {
            return self.verdict(Ok(detail), terms, after, events);
        }
        self.rows.insert(query, detail, capped, terms);
        if terms
            .rows
            .is_some_and(|limit| self.used() == alert_at(limit))
        {
            events.insert(Event::Alert);
        }
        Verdict {
            charged: true,
            ..self.verdict(Ok(detail), terms, after, events)
        }
    }

    /// Distinct rows charged today.
    pub fn used(&self) -> u32 {
        self.rows.len().saturating_add(self.elsewhere)
    }

    /// The same on a day, in days since the epoch.
    pub fn used_on(&mut self, day: u64) -> u32 {
        self.turn_day(day * DAY);
        self.used()
    }

    /// How far the automatic response is, with what has decayed by `seconds`.
    pub fn current(&mut self, clinical: Clinical, seconds: u64) -> Step {
        self.turn_day(seconds);
        self.decay(clinical, seconds)
    }

    /// Forgets what speaks against the caller; its budget stays spent. Whether there was anything.
    pub fn pardon(&mut self) -> bool {
        let any = self.strikes > 0.0 || self.cusum > 0.0;
        (self.strikes, self.cusum, self.pace) = (0.0, 0.0, 0);
        self.seen = Window::default();
        self.tried = Tried::default();
        self.rows.forget_marks();
        self.journal = Journal::default();
        if let Some(apart) = &mut self.apart {
            apart.strikes = 0.0;
        }
        any
    }

    /// Whether it says nothing that a new one would not.
    pub fn is_blank(&mut self, seconds: u64) -> bool {
        self.turn_day(seconds);
        let decayed = seconds.saturating_sub(self.strikes_at) / DECAY_SECONDS;
        self.used() == 0 && (self.strikes <= 0.0 || decayed > 24)
    }

    /// A new day: new keys, so old fingerprints and embeddings are of no use.
    fn turn_day(&mut self, seconds: u64) {
        let day = seconds / DAY;
        if day != self.day {
            self.day = day;
            self.rows = Asked::default();
            self.seen = Window::default();
            self.tried = Tried::default();
            (self.elsewhere, self.apart, self.told_exhausted) = (0, None, false);
        }
    }

    fn decay(&mut self, clinical: Clinical, seconds: u64) -> Step {
        let passed = seconds.saturating_sub(self.strikes_at);
        self.strikes_at = self.strikes_at.max(seconds);
        #[expect(clippy::cast_precision_loss, reason = "only the recent past matters")]
        let faded = passed as f64 / DECAY_SECONDS as f64;
        self.strikes = (self.strikes - faded).max(0.0);
        self.step(clinical)
    }

    fn step(&self, clinical: Clinical) -> Step {
        Step::at(self.strikes).min(clinical.last_step())
    }

    fn strike(&mut self, strikes: f64) {
        self.strikes = (self.strikes + strikes).min(MOST_STRIKES);
    }

    /// Seconds that a slowed caller has to wait, if it has to.
    fn wait(&self, now: u64) -> Option<u64> {
        let allowed = now + PACE_MS * (PACE_BURST - 1);
        (self.pace > allowed).then(|| (self.pace - allowed).div_ceil(1000))
    }

    /// Seconds until a spent budget is worth asking again: until midnight, or until the store, which
    /// may have more, may be back.
    fn until_more(&self, seconds: u64) -> u64 {
        let until_midnight = DAY - seconds % DAY;
        match self.apart {
            Some(_) => until_midnight.min(APART_SECONDS),
            None => until_midnight,
        }
    }

    fn advance(&mut self, now: u64) {
        self.pace = self.pace.max(now) + PACE_MS;
    }

    fn remember_place(&mut self, query: &Query, seconds: u64) {
        if let Some(seen) = Seen::of(query, seconds) {
            self.seen.push(seen);
        }
    }

    fn verdict(
        &mut self,
        outcome: Result<Detail, (Why, u64)>,
        terms: &Terms,
        step: Step,
        mut events: Events,
    ) -> Verdict {
        events.moved(std::mem::replace(&mut self.told, step), step);
        Verdict {
            outcome,
            charged: false,
            used: self.used(),
            quota: terms.rows,
            step,
            events,
        }
    }
}

/// Rows at which operators are told: four fifths of the budget.
fn alert_at(limit: u32) -> u32 {
    (u64::from(limit) * 4)
        .div_ceil(5)
        .try_into()
        .unwrap_or(limit)
}

#[cfg(test)]
mod tests;
