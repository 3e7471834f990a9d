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

use crate::{bundle::model::MAX_FEATURES, screening::Screen};

/// Directions, and bits of an embedding.
const BITS: usize = 256;
/// Sums that are worked out at a time: as many as processors have registers for.
const LANES: usize = 32;
/// Length of an interval: four times the distance that counts as near.
const STEP: f32 = 2.0;
/// Patients whose features go along with each other differ in fewer ways, and more of them are near
/// each other by chance: below so many independent ones, near is nearer.
const INDEPENDENT: f32 = 8.0;
/// Even, and above what any sum is below zero (scores end at 8, features at 128): what follows the
/// point can be cut off, which costs less than to round down.
const ABOVE_ZERO: f32 = 256.0;
/// Rows with at most so many different bits are near. Measured on stays of patients in intensive
/// care: .94 of pairs up to .4 apart are found and .0001 of pairs of different patients. (Where
/// features go along with each other, .4 is less: [`INDEPENDENT`].)
pub(super) const NEAR: u32 = 48;

/// A row as its embedding: 256 bits, wherever it is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedding(pub [u64; BITS / 64]);

/// One half of the bits. Of rows far from each other about half of them differ, so that it tells
/// of nearly all that they are not near.
pub(super) type Half = [u64; BITS / 128];

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
        let mut words = [0; BITS / 64];
        for (word, eight) in words.iter_mut().zip(bytes.as_chunks().0) {
            *word = u64::from_be_bytes(*eight);
        }
        Some(Self(words))
    }

    /// Both halves.
    pub(super) fn halves(&self) -> [Half; 2] {
        let [a, b, c, d] = self.0;
        [[a, b], [c, d]]
    }
}

/// In how many bits two halves differ. Rows are near when both halves together differ in at most
/// [`NEAR`].
pub(super) fn differing([a, b]: Half, [c, d]: Half) -> u32 {
    (a ^ c).count_ones() + (b ^ d).count_ones()
}

/// Secret directions for one model's features and one day.
pub struct Embedder {
    features: usize,
    /// [`LANES`] directions after another, and of these each feature's part.
    directions: Vec<[f32; LANES]>,
    dither: [[f32; LANES]; BITS / LANES],
}

impl std::fmt::Debug for Embedder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Embedder").finish_non_exhaustive()
    }
}

impl Embedder {
    /// Derives the directions from a key. A feature's part depends on its name, so that versions
    /// of a model that differ in some features embed the same row nearly alike.
    pub fn new<'a>(
        key: &hmac::Key,
        screen: &Screen,
        features: impl ExactSizeIterator<Item = &'a str>,
    ) -> Self {
        let alike = (screen.independent() / INDEPENDENT).sqrt().min(1.0);
        #[expect(clippy::cast_precision_loss, reason = "at most 128 features")]
        let scale = (STEP * alike * (features.len() as f32).sqrt()).recip();
        let tags = features.map(|name| {
            let mut context = hmac::Context::with_key(key);
            context.update(b"direction ");
            context.update(name.as_bytes());
            context.sign()
        });
        let tags: Vec<hmac::Tag> = tags.take(MAX_FEATURES).collect();
        let of = |tag: &hmac::Tag, bit: usize| {
            let byte = tag.as_ref().get(bit / 8).copied().unwrap_or_default();
            if byte >> (bit % 8) & 1 == 1 {
                scale
            } else {
                -scale
            }
        };
        let block = |first: usize| {
            let lanes = move |tag| std::array::from_fn(|lane| of(tag, first + lane));
            tags.iter().map(lanes)
        };
        let directions = (0..BITS).step_by(LANES).flat_map(block).collect();
        let mut dither = [[0.0; LANES]; BITS / LANES];
        for (block, part) in (0u8..).zip(dither.as_flattened_mut().chunks_mut(16)) {
            let tag = hmac::sign(key, &[b"dither ".as_slice(), &[block]].concat());
            for (value, pair) in part.iter_mut().zip(tag.as_ref().as_chunks().0) {
                *value = f32::from(u16::from_be_bytes(*pair)) / 65536.0;
            }
        }
        Self {
            features: tags.len(),
            directions,
            dither,
        }
    }

    /// The embedding of a row, by the screen's map to normal scores; a value that was not measured
    /// is NaN.
    pub fn embed(&self, screen: &Screen, values: impl IntoIterator<Item = f64>) -> Embedding {
        let mut scores = [0.0; MAX_FEATURES];
        let scores = scores.get_mut(..self.features).unwrap_or_default();
        for ((feature, value), score) in values.into_iter().enumerate().zip(&mut *scores) {
            #[expect(clippy::cast_possible_truncation, reason = "scores are float32")]
            let mut value = value as f32;
            if !value.is_nan() {
                *score = screen.score(feature, value).unwrap_or_default();
            }
            value.zeroize();
        }
        let mut words = [0; BITS / 64];
        let blocks = self.directions.chunks(self.features.max(1));
        for (at, (directions, dither)) in blocks.zip(&self.dither).enumerate() {
            let bits = parities(directions, scores, *dither);
            if let Some(word) = words.get_mut(at * LANES / 64) {
                *word |= u64::from(bits) << (at * LANES % 64);
            }
        }
        scores.zeroize();
        Embedding(words)
    }
}

/// Of each of these directions whether the interval that the row falls into is odd.
fn parities(directions: &[[f32; LANES]], scores: &[f32], mut sums: [f32; LANES]) -> u32 {
    for (score, direction) in scores.iter().zip(directions) {
        for (sum, part) in sums.iter_mut().zip(direction) {
            *sum += score * part;
        }
    }
    let bits = sums.iter().enumerate().fold(0, |bits, (lane, sum)| {
        #[expect(clippy::cast_possible_truncation, reason = "the integer part")]
        let interval = (sum + ABOVE_ZERO) as i32;
        bits | u32::from(interval & 1 == 1) << lane
    });
    sums.zeroize();
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Share of near ones among pairs of different patients, over several days' directions.
    fn near_by_chance(reference: &[u8], patients: &str) -> f64 {
        let screen = Screen::new(&serde_json::from_slice(reference).unwrap()).unwrap();
        let mut lines = patients.lines();
        let names: Vec<&str> = lines.next().unwrap().split(',').collect();
        let names = names.iter().take(screen.features()).copied();
        let rows: Vec<Vec<f64>> = lines
            .map(|l| {
                l.split(',')
                    .map(|v| v.parse().unwrap_or(f64::NAN))
                    .collect()
            })
            .collect();
        let (mut near, mut pairs) = (0u32, 0u32);
        for day in 0..10 {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &[day; 32]);
            let names: Vec<&str> = names.clone().collect();
            let embedder = Embedder::new(&key, &screen, names.into_iter());
            let rows = rows
                .iter()
                .map(|row| embedder.embed(&screen, row.iter().copied()));
            let rows: Vec<Embedding> = rows.collect();
            for (at, one) in rows.iter().enumerate() {
                for other in rows.iter().take(at) {
                    let [a, b] = one.halves();
                    let [c, d] = other.halves();
                    near += u32::from(differing(a, c) + differing(b, d) <= NEAR);
                    pairs += 1;
                }
            }
        }
        f64::from(near) / f64::from(pairs)
    }

    /// Also where many features say the same: of 200 patients a person asks about, four must not be
    /// near another one.
    #[test]
    fn different_patients_are_hardly_ever_near_each_other() {
        for (model, reference, patients) in [
            (
                "icu-mortality",
                include_bytes!("../../models/icu-mortality/bundle/reference.json").as_slice(),
                include_str!("../../models/icu-mortality/synthetic.csv"),
            ),
            (
                "breast-cancer",
                include_bytes!("../../models/breast-cancer/bundle/reference.json").as_slice(),
                include_str!("../../models/breast-cancer/patients.csv"),
            ),
        ] {
            let share = near_by_chance(reference, patients);
            println!("{model}: {share}");
            assert!(share < 0.001, "{model}: {share}");
        }
    }
}
