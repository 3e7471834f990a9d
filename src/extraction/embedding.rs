//! How near two rows are, told from keyed bits and not from the rows.
//!
//! A secure binary embedding (Boufounos and Rane, "Secure binary embeddings for privacy
//! preserving nearest neighbors", WIFS 2011): a row's normal scores z are projected in 256
//! secret directions, a secret dither is added, and of each sum only the parity of the interval
//! it falls into is kept. The share of differing bits grows with the distance of two rows as
//! long as that is small, and says nothing beyond: rows further apart than [`STEP`] differ in
//! half of the bits, like coins. Without the key, which changes with the day, the bits of one
//! row say nothing of it.
//!
//! Distance is in standard deviations of the model's patients, root mean square over the
//! features: 20 features that each moved by half a standard deviation are .5 apart. A value that
//! was not measured counts as typical.

use aws_lc_rs::hmac;
use zeroize::Zeroize;

use crate::screening::Screen;

/// Directions, and bits of an embedding.
const BITS: usize = 256;
/// Length of an interval: four times the distance that counts as near.
const STEP: f32 = 2.0;
/// Even, and above what any sum is below zero (scores end at 8, features at 128): what follows the
/// point can be cut off, which costs less than to round down.
const ABOVE_ZERO: f32 = 128.0;
/// Rows with at most so many different bits are near. Measured on stays of patients in intensive
/// care: .94 of pairs up to .4 apart are found and .0001 of pairs of different patients.
pub(super) const NEAR: u32 = 48;

/// A row as its embedding: 256 bits, wherever it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding(pub [u32; BITS / 32]);

impl Embedding {
    /// Bytes in the shared store.
    pub(super) const LENGTH: usize = BITS / 8;

    /// As the shared store keeps it.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_be_bytes()).collect()
    }

    /// Reads what the shared store keeps.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; Self::LENGTH] = bytes.try_into().ok()?;
        let mut words = [0; BITS / 32];
        for (word, four) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u32::from_be_bytes(*four);
        }
        Some(Self(words))
    }

    /// Whether two rows of the same day and model are near each other. One half of the bits tells
    /// of nearly all that are not.
    pub fn is_near(&self, other: &Self) -> bool {
        let (half, rest) = self.0.split_at(BITS / 64);
        let (other_half, other_rest) = other.0.split_at(BITS / 64);
        let differ = differing(half, other_half);
        differ <= NEAR && differ + differing(rest, other_rest) <= NEAR
    }
}

fn differing(some: &[u32], others: &[u32]) -> u32 {
    let bits = some.iter().zip(others);
    bits.map(|(a, b)| (a ^ b).count_ones()).sum()
}

/// Secret directions for one model's features and one day.
pub struct Embedder {
    /// For each feature its part of each direction.
    columns: Vec<[f32; BITS]>,
    dither: [f32; BITS],
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").finish_non_exhaustive()
    }
}

impl Embedder {
    /// Derives the directions from a key. A feature's part depends on its name, so that versions
    /// of a model that differ in some features embed the same row nearly alike.
    pub fn new<'a>(key: &hmac::Key, features: impl ExactSizeIterator<Item = &'a str>) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "at most 128 features")]
        let scale = (STEP * (features.len() as f32).sqrt()).recip();
        let columns = features.map(|name| {
            let mut context = hmac::Context::with_key(key);
            context.update(b"direction ");
            context.update(name.as_bytes());
            let signs = context.sign();
            let sign = |bit: usize| signs.as_ref().get(bit / 8).map_or(0, |b| b >> (bit % 8)) & 1;
            std::array::from_fn(|bit| if sign(bit) == 1 { scale } else { -scale })
        });
        let columns = columns.collect();
        let mut dither = [0.0; BITS];
        for (block, part) in (0u8..).zip(dither.chunks_mut(16)) {
            let tag = hmac::sign(key, &[b"dither ".as_slice(), &[block]].concat());
            for (value, pair) in part.iter_mut().zip(tag.as_ref().chunks_exact(2)) {
                let pair = pair
                    .iter()
                    .fold(0u16, |all, byte| (all << 8) | u16::from(*byte));
                *value = f32::from(pair) / 65536.0;
            }
        }
        Self { columns, dither }
    }

    /// The embedding of a row, by the screen's map to normal scores; a value that was not measured
    /// is NaN.
    pub fn embed(&self, screen: &Screen, values: impl IntoIterator<Item = f64>) -> Embedding {
        let mut sums = self.dither;
        for ((feature, value), column) in values.into_iter().enumerate().zip(&self.columns) {
            #[expect(clippy::cast_possible_truncation, reason = "scores are float32")]
            let mut value = value as f32;
            if !value.is_nan()
                && let Some(mut score) = screen.score(feature, value)
            {
                for (sum, direction) in sums.iter_mut().zip(column) {
                    *sum += score * direction;
                }
                score.zeroize();
            }
            value.zeroize();
        }
        let mut words = [0u32; BITS / 32];
        for (word, sums) in words.iter_mut().zip(sums.chunks(32)) {
            for (bit, sum) in sums.iter().enumerate() {
                #[expect(clippy::cast_possible_truncation, reason = "the integer part")]
                let interval = (sum + ABOVE_ZERO) as i32;
                *word |= u32::from(interval & 1 == 1) << bit;
            }
        }
        sums.zeroize();
        Embedding(words)
    }
}
