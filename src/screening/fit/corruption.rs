//! Corrupted copies of patients, for the network to tell from the patients themselves.
//!
//! Generic corruption knows nothing of how values go wrong in a hospital; templates (unit
//! errors, slips of the decimal point, swapped fields) are an option, and whoever judges a fit
//! has to say whether they were used. What [`crate::evaluation`] tries is separate.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use super::{Space, Trait, normal, pick_some};

/// How much a score must move for its value to count as replaced.
const NOTICEABLE: f32 = 0.05;

/// A corrupted copy in the making.
#[derive(Default)]
pub(super) struct Copy {
    /// Normal scores.
    pub(super) z: Vec<f32>,
    /// Whether each value was replaced.
    pub(super) replaced: Vec<bool>,
}

impl Copy {
    /// A faithful copy of row `row`.
    pub(super) fn of(&mut self, space: &Space, row: usize) {
        self.z.clear();
        self.z.extend_from_slice(space.scores(row));
        self.replaced.clear();
        self.replaced.resize(self.z.len(), false);
    }

    /// Corrupts it.
    pub(super) fn corrupt(
        &mut self,
        space: &Space,
        row: usize,
        templates: bool,
        rng: &mut ChaCha8Rng,
    ) {
        let own: Vec<f32> = self.z.clone();
        if templates && rng.random_bool(0.35) {
            self.template(space, row, rng);
        } else {
            self.generic(space, row, rng);
        }
        for ((replaced, z), own) in self.replaced.iter_mut().zip(&self.z).zip(&own) {
            *replaced = (z - own).abs() > NOTICEABLE;
        }
    }

    fn generic(&mut self, space: &Space, row: usize, rng: &mut ChaCha8Rng) {
        let d = self.z.len();
        let other = rng.random_range(0..space.len());
        let kind: f64 = rng.random();
        match kind {
            // Values of other patients, each of another one: a few, or most.
            k if k < 0.31 => {
                let count = if k < 0.25 {
                    rng.random_range(1..=4)
                } else {
                    rng.random_range(1..=d)
                };
                for j in pick_some(d, count, rng) {
                    let donor = rng.random_range(0..space.len());
                    self.z[j] = space.scores(donor)[j];
                }
            }
            // Scores pushed up or down.
            k if k < 0.42 => {
                for j in pick_some(d, rng.random_range(1..=4), rng) {
                    let push = rng.random_range(0.7..4.7) * sign(rng);
                    self.z[j] = space.snap(j, self.z[j] + push);
                }
            }
            // Several values of one other patient, neighbours or not.
            k if k < 0.52 => {
                let count = rng.random_range(3..=(d / 2).max(3));
                if rng.random_bool(0.5) {
                    let start = rng.random_range(0..d);
                    for step in 0..count.min(d) {
                        let j = (start + step) % d;
                        self.z[j] = space.scores(other)[j];
                    }
                } else {
                    for j in pick_some(d, count, rng) {
                        self.z[j] = space.scores(other)[j];
                    }
                }
            }
            // Values times or divided by anything from 1.3 to 300.
            k if k < 0.70 => {
                for j in pick_some(d, rng.random_range(1..=3), rng) {
                    self.alter(space, row, j, rng, |value, rng| {
                        let factor = rng.random_range(1.3_f32.ln()..300_f32.ln()).exp();
                        if rng.random_bool(0.5) {
                            value * factor
                        } else {
                            value / factor
                        }
                    });
                }
            }
            // Values shifted by some of their range.
            k if k < 0.75 => {
                for j in pick_some(d, rng.random_range(1..=3), rng) {
                    let spread = space.spread(j);
                    self.alter(space, row, j, rng, |value, rng| {
                        value + rng.random_range(0.3..3.0) * spread * sign(rng)
                    });
                }
            }
            // Scores a few conditional standard deviations from what the others suggest.
            k if k < 0.87 => {
                for j in pick_some(d, rng.random_range(1..=2), rng) {
                    let (mean, sd) = space.conditional(row, j);
                    let away = rng.random_range(2.0..7.0) * sign(rng);
                    self.z[j] = space.snap(j, mean + away * sd);
                }
            }
            // Everything more ordinary than it was.
            k if k < 0.95 => {
                let shrink = rng.random_range(0.0..0.5);
                for j in pick_some(d, rng.random_range(d.div_ceil(5)..=d), rng) {
                    self.z[j] = space.snap(j, self.z[j] * shrink);
                }
            }
            // The value of one field in another.
            _ => {
                let pair = pick_some(d, 2, rng);
                if let [a, b] = pair[..] {
                    let (from, to) = (space.raw(row)[a], space.raw(row)[b]);
                    self.set(space, b, from);
                    if rng.random_bool(0.4) {
                        self.set(space, a, to);
                    }
                }
            }
        }
    }

    /// What goes wrong in hospitals.
    fn template(&mut self, space: &Space, row: usize, rng: &mut ChaCha8Rng) {
        let d = self.z.len();
        let kind: f64 = rng.random();
        for _ in 0..12 {
            let j = rng.random_range(0..d);
            let value = space.raw(row)[j];
            let Trait { units, .. } = &space.traits[j];
            let done = if kind < 0.45 && !units.is_empty() {
                let (slope, offset) = units[rng.random_range(0..units.len())];
                self.set(space, j, (value - offset) / slope)
            } else if kind < 0.75 {
                self.set(
                    space,
                    j,
                    if rng.random_bool(0.5) {
                        value * 10.0
                    } else {
                        value / 10.0
                    },
                )
            } else {
                let other = rng.random_range(0..d);
                let there = space.raw(row)[other];
                other != j && self.set(space, other, value) && self.set(space, j, there)
            };
            if done {
                return;
            }
        }
    }

    /// Tries alterations of a value until one would pass the range check.
    fn alter(
        &mut self,
        space: &Space,
        row: usize,
        j: usize,
        rng: &mut ChaCha8Rng,
        alter: impl Fn(f32, &mut ChaCha8Rng) -> f32,
    ) {
        for _ in 0..8 {
            let value = alter(space.raw(row)[j], rng);
            if self.set(space, j, value) {
                return;
            }
        }
    }

    /// Puts a value in, unless the range check would stop it or it is missing.
    fn set(&mut self, space: &Space, j: usize, value: f32) -> bool {
        let rounded = space.traits[j].rounded(value);
        let passes = space.traits[j].accepts(rounded);
        if passes {
            self.z[j] = space.score(j, rounded);
        }
        passes
    }

    /// Noise on the scores, as of a measurement made twice.
    pub(super) fn jitter(&mut self, space: &Space, sd: f32, rng: &mut ChaCha8Rng) {
        for (z, continuous) in self.z.iter_mut().zip(&space.continuous) {
            if *continuous {
                *z += sd * normal(rng);
            }
        }
    }

    /// Hides some values: a patient in whom less was measured.
    pub(super) fn hide(&mut self, rng: &mut ChaCha8Rng) {
        let d = self.z.len();
        let few = (d * 3).div_ceil(10);
        let count = match rng.random::<f64>() {
            k if k < 0.22 => rng.random_range(1..=few),
            k if k < 0.31 => rng.random_range(few..=(d * 11).div_ceil(20)),
            _ => 0,
        };
        for j in pick_some(d, count, rng) {
            self.z[j] = f32::NAN;
            self.replaced[j] = false;
        }
    }
}

fn sign(rng: &mut ChaCha8Rng) -> f32 {
    if rng.random_bool(0.5) { 1.0 } else { -1.0 }
}
