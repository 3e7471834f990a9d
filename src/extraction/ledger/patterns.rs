//! What one row is beside those before it: near to too many, or one more that is flagged.

use std::collections::VecDeque;

use super::{ALARM, CROWD, EMBEDDINGS, Ledger, MULTITUDE, Query, Terms};
use crate::extraction::{
    Embedding,
    embedding::{Half, NEAR, differing},
};

/// In a stamp: the row was flagged.
const FLAGGED: u32 = 1;
/// In a stamp: a prediction followed.
const ANSWERED: u32 = 2;

/// An embedding as it is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    /// Unix seconds, whose lowest two bits say what the row was.
    at: u32,
    bits: Embedding,
}

/// The embeddings that are kept, oldest first, in columns: each new row is compared with all of
/// them, and of most no more than the first half has to be looked at.
#[derive(Debug, Default)]
pub(super) struct Window {
    stamps: VecDeque<u32>,
    first_halves: VecDeque<Half>,
    second_halves: VecDeque<Half>,
}

/// The kept rows that are near to one, of those that matter to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nearby {
    /// How many were answered with a prediction, if a prediction follows this one.
    pub answered: u32,
    /// When the first of these came, Unix seconds.
    pub first: Option<u64>,
    /// Whether one was flagged, if this one is.
    pub flagged: bool,
}

impl Seen {
    /// Bytes in the shared store.
    pub(super) const LENGTH: usize = 4 + Embedding::LENGTH;

    pub(super) fn of(query: &Query, seconds: u64) -> Option<Self> {
        let seconds = u32::try_from(seconds).unwrap_or(u32::MAX);
        let flagged = if query.flagged { FLAGGED } else { 0 };
        let answered = if query.answered { ANSWERED } else { 0 };
        Some(Self {
            at: (seconds & !(FLAGGED | ANSWERED)) | flagged | answered,
            bits: query.embedding?,
        })
    }

    /// Reads what the store keeps.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (at, bits) = bytes.split_first_chunk()?;
        Some(Self {
            at: u32::from_be_bytes(*at),
            bits: Embedding::read(bits)?,
        })
    }
}

impl Window {
    pub(super) fn len(&self) -> usize {
        self.stamps.len()
    }

    /// Keeps one more, and at most so many.
    pub(super) fn push(&mut self, seen: Seen) {
        if self.len() >= EMBEDDINGS {
            self.pop();
        }
        let [first, second] = seen.bits.halves();
        self.stamps.push_back(seen.at);
        self.first_halves.push_back(first);
        self.second_halves.push_back(second);
    }

    fn pop(&mut self) {
        self.stamps.pop_front();
        self.first_halves.pop_front();
        self.second_halves.pop_front();
    }

    /// Looks at the stamps of all that are near to one, oldest first.
    fn near_to(&self, bits: Embedding, mut look: impl FnMut(u32)) {
        let [first, _] = bits.halves();
        let (older, newer) = self.first_halves.as_slices();
        // All of the time is spent here: nothing in the loop but what nearly every row needs.
        for (start, halves) in [(0, older), (older.len(), newer)] {
            for (at, half) in (start..).zip(halves) {
                if differing(first, *half) <= NEAR
                    && let Some(stamp) = self.if_near(at, bits)
                {
                    look(stamp);
                }
            }
        }
    }

    /// The stamp of one whose first half is near, if all of it is.
    #[cold]
    fn if_near(&self, at: usize, bits: Embedding) -> Option<u32> {
        let [first, second] = bits.halves();
        let in_first = differing(first, *self.first_halves.get(at)?);
        let in_second = differing(second, *self.second_halves.get(at)?);
        (in_first + in_second <= NEAR).then_some(*self.stamps.get(at)?)
    }
}

impl Ledger {
    /// Looks at the kept rows that are near. Two kinds matter: answered ones to a row that a
    /// prediction follows, since what comes after another may be its correction; and flagged ones
    /// to a flagged row.
    pub(super) fn nearby(&mut self, query: &Query, terms: &Terms, seconds: u64) -> Nearby {
        self.forget_old(terms, seconds);
        let mut nearby = Nearby::default();
        let Some(Seen { at: kind, bits }) = Seen::of(query, 0) else {
            return nearby;
        };
        self.seen.near_to(bits, |stamp| {
            nearby.flagged |= stamp & kind & FLAGGED != 0;
            if stamp & kind & ANSWERED != 0 {
                nearby.answered += 1;
                nearby.first.get_or_insert(u64::from(stamp));
            }
        });
        nearby
    }

    pub(super) fn forget_old(&mut self, terms: &Terms, seconds: u64) {
        while let Some(oldest) = self.seen.stamps.front()
            && u64::from(*oldest) + terms.window < seconds
        {
            self.seen.pop();
        }
    }

    /// When the first of too many near rows came, if there are too many.
    pub(super) fn near_duplicate(&self, nearby: &Nearby, terms: &Terms) -> Option<u64> {
        let allowed = terms.near
            + u32::from(self.seen.len() >= CROWD)
            + u32::from(self.seen.len() >= MULTITUDE);
        nearby.first.filter(|_| nearby.answered > allowed)
    }

    /// Page's CUSUM of the flags over distinct rows. Another version of a row that was flagged is
    /// not another flag: somebody is correcting it.
    pub(super) fn flag_rate(&mut self, query: &Query, nearby: &Nearby, terms: &Terms) -> bool {
        if query.flagged && nearby.flagged {
            return false;
        }
        let step = if query.flagged {
            terms.if_flagged
        } else {
            terms.if_passed
        };
        self.cusum = (self.cusum + step).max(0.0);
        if self.cusum < ALARM {
            return false;
        }
        self.cusum = 0.0;
        true
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::digest::{SHA256, digest};

    use super::*;

    /// Also when the newest lie before the oldest in memory.
    #[test]
    fn a_near_one_is_found_wherever_it_is_kept() {
        let mut window = Window::default();
        let mut kept = Vec::new();
        for at in (0u32..).step_by(4).take(EMBEDDINGS + 300) {
            let bits = digest(&SHA256, &at.to_be_bytes());
            let bits = Embedding::read(bits.as_ref()).unwrap();
            window.push(Seen { at, bits });
            kept.push((at, bits));
        }
        assert!(!window.first_halves.as_slices().1.is_empty());
        let (forgotten, kept) = kept.split_at(300);
        let near_to = |Embedding([a, b, c, d])| {
            // As many other bits as may be, most of them in the first half.
            let bits = Embedding([a ^ 0xffff_ffff_ffff, b, c, d]);
            let mut found = Vec::new();
            window.near_to(bits, |stamp| found.push(stamp));
            window.near_to(Embedding([bits.0[0], b, c, d ^ 1]), |_| panic!("49"));
            found
        };
        for (at, bits) in kept {
            assert_eq!(near_to(*bits), [*at]);
        }
        for (_, bits) in forgotten {
            assert!(near_to(*bits).is_empty());
        }
    }
}
