//! What the scan looks for: texts and numbers that only canary patients have.

use std::collections::HashMap;

use serde::Serialize;

/// What a pattern is the trace of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Trace {
    /// Part of an identifier, as text.
    Identifier,
    /// Part of a decimal number, as text.
    Decimal,
    /// A value as it was sent, f64.
    SentF64,
    /// A value rounded to its precision, f64.
    RoundedF64,
    /// A single number of a network, f32.
    SingleF32,
    /// Two neighbouring inputs of a network, f32.
    InputF32,
    /// Two neighbouring numbers that a network computed, f32: standardised values, activations.
    ActivationF32,
    /// Two neighbouring numbers that the distribution screen computed, f32.
    ScreenF32,
    /// The members' mean, f64.
    MeanF64,
    /// Planted for the control, to see that numbers are seen.
    Planted,
}

/// Where a pattern comes from: its trace, and the kind of request.
pub(super) type Origin = (Trace, &'static str);

/// Singles are four bytes: of too many, one would turn up by chance.
const MAX_SINGLES: usize = 64;
const FILTER_BITS: u32 = 24;

/// The patterns, ready to be found in one pass.
pub(super) struct Patterns {
    /// Eight bytes at any offset: what every identifier contains, and every decimal number.
    texts: [u64; 2],
    /// Eight bytes at offsets divisible by four.
    words: HashMap<u64, Origin>,
    /// Four bytes at offsets divisible by four.
    singles: HashMap<u32, Origin>,
    /// Bloom filter of `words`: most of memory is decided by one bit.
    filter: Vec<u64>,
}

impl Patterns {
    /// Looks for two texts: what every identifier and every decimal number of the run contains.
    pub(super) fn new(identifier: [u8; 8], decimal: [u8; 8]) -> Self {
        Self {
            texts: [identifier, decimal].map(u64::from_le_bytes),
            words: HashMap::new(),
            singles: HashMap::new(),
            filter: vec![0; 1 << (FILTER_BITS - 6)],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.texts.len() + self.words.len() + self.singles.len()
    }

    pub(super) fn word(&mut self, word: u64, origin: Origin) {
        let (slot, bit) = place(word);
        if let Some(bits) = self.filter.get_mut(slot) {
            *bits |= bit;
        }
        self.words.entry(word).or_insert(origin);
    }

    /// A double, unless it is one that programs have for other reasons: few digits in binary.
    pub(super) fn double(&mut self, value: f64, origin: Origin) {
        if value.is_finite() && value.to_bits() & 0xffff_ffff != 0 {
            self.word(value.to_bits(), origin);
        }
    }

    /// Every two neighbours, unless neither is distinctive.
    pub(super) fn floats(&mut self, values: &[f32], origin: Origin) {
        for pair in values.windows(2) {
            if let [a, b] = pair
                && (is_distinctive(*a) || is_distinctive(*b))
                && *a != 0.0
                && *b != 0.0
            {
                self.word(
                    u64::from(a.to_bits()) | u64::from(b.to_bits()) << 32,
                    origin,
                );
            }
        }
    }

    /// A float by itself.
    pub(super) fn single(&mut self, value: f32, kind: &'static str) {
        if is_distinctive(value) && self.singles.len() < MAX_SINGLES {
            let origin = (Trace::SingleF32, kind);
            self.singles.entry(value.to_bits()).or_insert(origin);
        }
    }

    /// A float to be found in the control, beyond the limit on singles.
    pub(super) fn planted_single(&mut self, bits: u32) {
        self.singles.insert(bits, (Trace::SingleF32, "control"));
    }

    /// What starts at a place in memory: the next eight bytes, and whether its address is
    /// divisible by four.
    #[inline]
    pub(super) fn at(&self, word: u64, aligned: bool) -> Option<Origin> {
        if aligned {
            let (slot, bit) = place(word);
            if self.filter.get(slot).is_some_and(|bits| bits & bit != 0)
                && let Some(origin) = self.words.get(&word)
            {
                return Some(*origin);
            }
            #[expect(clippy::cast_possible_truncation, reason = "the first four bytes")]
            if let Some(origin) = self.singles.get(&(word as u32)) {
                return Some(*origin);
            }
        }
        // Compared with both at once: this is done at every byte.
        let [identifier, decimal] = self.texts;
        if word == identifier {
            Some((Trace::Identifier, "any"))
        } else if word == decimal {
            Some((Trace::Decimal, "any"))
        } else {
            None
        }
    }

    /// Looks no longer for what was found before a single request was sent: it is no trace.
    pub(super) fn forget(&mut self, found: &[(u64, Origin)]) {
        for (word, (trace, _)) in found {
            #[expect(clippy::cast_possible_truncation, reason = "the first four bytes")]
            if *trace == Trace::SingleF32 {
                self.singles.remove(&(*word as u32));
            } else {
                // Texts are drawn at random; one that is there by chance makes the run fail.
                self.words.remove(word);
            }
        }
    }
}

/// Slot and bit of a word in the filter (Fibonacci hashing).
#[inline]
fn place(word: u64) -> (usize, u64) {
    let hash = (word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - FILTER_BITS)) as usize;
    (hash >> 6, 1 << (hash & 63))
}

fn is_distinctive(value: f32) -> bool {
    value.is_finite() && value.to_bits() & 0xfff != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_is_found_and_forgotten() {
        let mut patterns = Patterns::new(*b"abcdefgh", *b"12345678");
        patterns.double(37.123_456_789, (Trace::SentF64, "whole"));
        patterns.floats(&[0.1, 3.3, 0.0, 7.0, 8.0], (Trace::InputF32, "whole"));
        patterns.single(0.3, "whole");
        assert_eq!(patterns.len(), 2 + 1 + 1 + 1, "no zeros, nothing round");
        let pair = u64::from(0.1f32.to_bits()) | u64::from(3.3f32.to_bits()) << 32;
        let text = u64::from_le_bytes(*b"12345678");
        let found = [
            (37.123_456_789f64.to_bits(), Trace::SentF64),
            (pair, Trace::InputF32),
            (u64::from(0.3f32.to_bits()), Trace::SingleF32),
        ];
        for (word, trace) in found {
            assert_eq!(patterns.at(word, true), Some((trace, "whole")));
            assert_eq!(patterns.at(word, false), None);
            patterns.forget(&[(word, (trace, "whole"))]);
            assert_eq!(patterns.at(word, true), None);
        }
        for aligned in [true, false] {
            assert_eq!(patterns.at(text, aligned), Some((Trace::Decimal, "any")));
        }
    }
}
