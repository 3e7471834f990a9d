//! The rows of a day that were charged, by fingerprint, and which of them were answered in full.

use std::{
    collections::HashSet,
    hash::{BuildHasherDefault, Hash, Hasher},
};

use super::{Query, Terms, UNBUDGETED};
use crate::extraction::Detail;

/// The bits of a fingerprint: chance meets twice among 10⁶ rows in 10⁵ days.
pub(super) const FINGERPRINT: u64 = (1 << 56) - 1;

/// A fingerprint, and below it the version that answered the row in full; 0 if none did. In eight
/// bytes, because a caller may have thousands.
#[derive(Clone, Copy, Debug)]
struct Row(u64);

impl Row {
    fn new(fingerprint: u64, in_full: u8) -> Self {
        Self(fingerprint << 8 | u64::from(in_full))
    }

    fn fingerprint(self) -> u64 {
        self.0 >> 8
    }

    fn in_full(self) -> u8 {
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

    pub(super) fn has(&self, query: &Query) -> bool {
        self.0.contains(&Row::new(query.fingerprint, 0))
    }

    /// Whether the same version answered it in full.
    pub(super) fn has_in_full(&self, query: &Query) -> bool {
        let row = self.0.get(&Row::new(query.fingerprint, 0));
        row.is_some_and(|row| row.in_full() == query.mark())
    }

    /// Notes a row that was charged and answered so.
    pub(super) fn insert(&mut self, query: &Query, detail: Detail, terms: &Terms) {
        if terms.rows.is_none() && self.0.len() >= UNBUDGETED {
            self.0.clear();
        }
        let in_full = detail == Detail::Full && query.answered;
        let mark = if in_full { query.mark() } else { 0 };
        self.0.insert(Row::new(query.fingerprint, mark));
    }

    pub(super) fn fingerprints(&self) -> impl Iterator<Item = u64> {
        self.0.iter().map(|row| row.fingerprint())
    }

    /// Fingerprints with the mark of the version that answered in full, where one did.
    pub(super) fn in_full(&self) -> impl Iterator<Item = (u64, u8)> {
        let in_full = self.0.iter().filter(|row| row.in_full() > 0);
        in_full.map(|row| (row.fingerprint(), row.in_full()))
    }
}

impl Query {
    /// Which version is asked, in a byte that is not 0. Of 256 versions a day two look alike.
    pub(super) fn mark(&self) -> u8 {
        u8::try_from(self.version % 255 + 1).unwrap_or(u8::MAX)
    }
}
