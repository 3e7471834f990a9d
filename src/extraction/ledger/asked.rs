//! The rows of a day that were charged, by fingerprint, and how they are answered again; and those
//! that were tried in vain.

use std::{
    collections::{HashSet, VecDeque},
    hash::{BuildHasherDefault, Hash, Hasher},
};

use super::{Query, Terms, UNBUDGETED};
use crate::extraction::Detail;

/// The bits of a fingerprint: chance meets twice among 10⁶ rows in 10⁵ days.
pub(super) const FINGERPRINT: u64 = (1 << 56) - 1;

/// The mark of a row that is answered with its band at most, whoever asks again.
const BAND: u8 = u8::MAX;
/// Rows that are remembered as tried.
pub(super) const TRIED: usize = 1024;

/// A fingerprint, and below it a mark: the version that answered the row in full, [`BAND`], or 0
/// for a row whose answer goes by how far the response is. In eight bytes, because a caller may
/// have thousands.
#[derive(Clone, Copy, Debug)]
struct Row(u64);

impl Row {
    fn new(fingerprint: u64, mark: u8) -> Self {
        Self(fingerprint << 8 | u64::from(mark))
    }

    fn fingerprint(self) -> u64 {
        self.0 >> 8
    }

    fn mark(self) -> u8 {
        self.0.to_le_bytes()[0]
    }
}

impl PartialEq for Row {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprint() == other.fingerprint()
    }
}

impl Eq for Row {}

impl Hash for Row {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The table looks at the lowest and at the highest bits.
        state.write_u64(self.fingerprint() ^ (self.fingerprint() << 8));
    }
}

/// Fingerprints are hashes already.
#[derive(Debug, Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 << 8) | u64::from(*byte);
        }
    }
    fn write_u64(&mut self, value: u64) {
        self.0 = value;
    }
}

/// The charged rows of a day.
#[derive(Debug, Default)]
pub(super) struct Asked(HashSet<Row, BuildHasherDefault<AsItIs>>);

impl Asked {
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.0.len()).unwrap_or(u32::MAX)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How a row that was charged is answered again, if it was: what a version answered in full
    /// it answers so again, what got its band for being near to others gets no more, and the rest
    /// goes by how far the response is `now`.
    pub(super) fn again(&self, query: &Query, now: Detail) -> Option<Detail> {
        let row = self.0.get(&Row::new(query.fingerprint, 0))?;
        Some(match row.mark() {
            BAND => now.min(Detail::Band),
            mark if mark == query.mark() => Detail::Full,
            _ => now,
        })
    }

    /// Notes a row that was charged and answered so; with its band at most from now on, if it is
    /// `capped`.
    pub(super) fn insert(&mut self, query: &Query, detail: Detail, capped: bool, terms: &Terms) {
        if terms.rows.is_none() && self.0.len() >= UNBUDGETED {
            self.0.clear();
        }
        let mark = match detail {
            _ if capped => BAND,
            Detail::Full if query.answered => query.mark(),
            Detail::Withheld | Detail::Band | Detail::Full => 0,
        };
        self.0.insert(Row::new(query.fingerprint, mark));
    }

    /// From now on how every row is answered again goes by how far the response is.
    pub(super) fn forget_marks(&mut self) {
        let rows = self.0.drain();
        self.0 = rows.map(|row| Row::new(row.fingerprint(), 0)).collect();
    }

    pub(super) fn fingerprints(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|row| row.fingerprint())
    }

    /// Fingerprints with their marks, where they have one.
    pub(super) fn marked(&self) -> impl Iterator<Item = (u64, u8)> {
        let marked = self.0.iter().filter(|row| row.mark() > 0);
        marked.map(|row| (row.fingerprint(), row.mark()))
    }
}

/// The rows of a day that were not charged: refused as near-duplicates, or answered beyond the
/// budget. Trying one again is no other attempt. The last ones, oldest first.
#[derive(Debug, Default)]
pub(super) struct Tried(VecDeque<u64>);

impl Tried {
    pub(super) fn has(&self, query: &Query) -> bool {
        self.0.contains(&query.fingerprint)
    }

    /// Notes one; whether it is new.
    pub(super) fn insert(&mut self, query: &Query) -> bool {
        if self.has(query) {
            return false;
        }
        if self.0.len() >= TRIED {
            self.0.pop_front();
        }
        self.0.push_back(query.fingerprint);
        true
    }
}

impl Query {
    /// Which version is asked, in a byte that is neither 0 nor [`BAND`]. Of 255 versions a day two
    /// look alike.
    pub(super) fn mark(&self) -> u8 {
        u8::try_from(self.version % 254 + 1).unwrap_or(1)
    }
}
