//! Finds the patterns of signs that [`super::check_stability`] uses, and measures what they find.
//!
//! For each patient the worst corner upwards and downwards is searched for: the signs
//! of the effects of single pushes, then single flips as long as they help. Patients with similar
//! corners, of those who can be moved, are gathered (k-means), and the majority's signs of each group are a candidate, never
//! one patient's. Of the candidates those are kept that together move most of the patients who can
//! be moved, the most useful first, each with how far from the edge those patients are whom no
//! earlier one moves: it need not be tried on others.

use std::{cmp::Ordering, sync::Arc};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{MAX_PUSHES, Room, push};
use crate::{
    bundle::model::ModelSpec,
    clinical,
    evaluation::path::body,
    inference::{Engine, MemberOutput, ScoreError, Scored},
    row::Row,
    schema,
    screening::reference::{RawPush, RawStability},
};

mod groups;
mod measure;

use groups::groups;
use measure::MOST_DIMENSIONS;
pub use measure::{Edge, Measured};

/// Patients searched at most, drawn from all there are.
const MOST: usize = 5000;
/// Of the patients whom a pattern is kept for, so many lie within its reach.
const WITHIN: f64 = 0.98;
/// A pattern is the majority's of at least so many searches.
const GROUP: usize = 5;
/// Rows the networks are given at once.
const ROWS: usize = 4096;

/// Why nothing was fitted or measured.
#[derive(Debug, thiserror::Error)]
pub enum StabilityError {
    /// The networks.
    #[error(transparent)]
    Score(#[from] ScoreError),
    /// No feature declares an uncertainty.
    #[error("no feature of this model declares an uncertainty")]
    NoUncertainty,
    /// Nobody's prediction hangs on it.
    #[error("among these rows there are not enough predictions that hang on the uncertainty")]
    TooFew,
    /// Too many corners.
    #[error("more than {MOST_DIMENSIONS} features with an uncertainty: their corners are too many")]
    TooManyCorners,
}

/// Rows for the networks, and the mean of what the members make of each; NaN where one failed.
#[derive(Debug)]
pub struct Copies {
    inputs: Vec<f32>,
    means: Vec<f64>,
    members: f64,
}

impl Scored for Copies {
    fn inputs(&self) -> &[f32] {
        &self.inputs
    }

    fn set_output(&mut self, _: usize, row: usize, output: MemberOutput) {
        if let Some(mean) = self.means.get_mut(row) {
            *mean += match output {
                MemberOutput::Probability(p) => f64::from(p) / self.members,
                MemberOutput::Invalid | MemberOutput::Failed => f64::NAN,
            };
        }
    }
}

/// A model's networks and what they were asked about.
#[derive(Debug)]
pub struct Networks<'a> {
    spec: &'a Arc<ModelSpec>,
    engine: &'a Engine<Copies>,
}

/// A patient whose values get as far as the networks.
struct Case {
    /// What the networks are given.
    values: Vec<f64>,
    /// Features that were measured and have an uncertainty.
    movable: Vec<usize>,
    probability: f64,
}

impl<'a> Networks<'a> {
    /// Asks `engine`, which runs the members of `spec`.
    pub fn new(spec: &'a Arc<ModelSpec>, engine: &'a Engine<Copies>) -> Self {
        Self { spec, engine }
    }

    async fn means(&self, inputs: Vec<f32>) -> Result<Vec<f64>, ScoreError> {
        let width = self.spec.features.len();
        let mut means = Vec::with_capacity(inputs.len() / width);
        for part in inputs.chunks(ROWS * width) {
            let copies = Copies {
                means: vec![0.0; part.len() / width],
                inputs: part.to_vec(),
                members: count(self.spec.members.len()),
            };
            means.extend(self.engine.score(Box::new(copies)).await?.means);
        }
        Ok(means)
    }

    /// Those rows that no earlier stage rejects, and what is predicted for them.
    async fn cases<'r>(
        &self,
        rows: impl Iterator<Item = &'r [f64]>,
    ) -> Result<Vec<Case>, ScoreError> {
        let mut cases: Vec<Case> = rows.filter_map(|values| self.case(values)).collect();
        let inputs = cases.iter().flat_map(|case| single(&case.values));
        let means = self.means(inputs.collect()).await?;
        for (case, mean) in cases.iter_mut().zip(means) {
            case.probability = mean;
        }
        cases.retain(|case| case.probability.is_finite());
        Ok(cases)
    }

    fn case(&self, values: &[f64]) -> Option<Case> {
        let observed = schema::parse(self.spec, body(self.spec, values).as_bytes()).ok()?;
        let plausible = clinical::check_ranges(observed).ok()?;
        let row: Box<Row> = clinical::check_consistency(plausible).ok()?.into_row();
        let declared = self.spec.features.iter().enumerate();
        let movable =
            declared.filter(|(i, f)| f.uncertainty.is_some() && !row.imputed.contains(*i));
        Some(Case {
            values: row.values().to_vec(),
            movable: movable.map(|(index, _)| index).collect(),
            probability: f64::NAN,
        })
    }

    /// The case's values, pushed by these signs.
    fn pushed(&self, case: &Case, signs: &[i8], out: &mut Vec<f32>) {
        let at = out.len();
        out.extend(single(&case.values));
        for &index in &case.movable {
            let (Some(feature), Some(sign)) = (self.spec.features.get(index), signs.get(index))
            else {
                continue;
            };
            let value = case.values.get(index).copied().unwrap_or(f64::NAN);
            if let Some(slot) = out.get_mut(at + index) {
                *slot = narrow(push(feature, f64::from(*sign), value));
            }
        }
    }

    async fn probabilities(&self, case: &Case, signs: &[Vec<i8>]) -> Result<Vec<f64>, ScoreError> {
        let mut inputs = Vec::with_capacity(signs.len() * case.values.len());
        for signs in signs {
            self.pushed(case, signs, &mut inputs);
        }
        self.means(inputs).await
    }

    fn band(&self, probability: f64) -> usize {
        self.spec.harden(probability).1
    }

    /// The corner that raises (`direction` 1) or lowers (-1) the probability most, as far as flips
    /// of single signs find it, and the probability there.
    async fn climb(
        &self,
        case: &Case,
        direction: f64,
        usual: &[i8],
    ) -> Result<(Vec<i8>, f64), ScoreError> {
        let none = vec![0_i8; case.values.len()];
        let one = |index: usize, sign: i8| {
            let mut signs = none.clone();
            set(&mut signs, index, sign);
            signs
        };
        let singles: Vec<Vec<i8>> = case
            .movable
            .iter()
            .flat_map(|&index| [one(index, 1), one(index, -1)])
            .collect();
        let effects = self.probabilities(case, &singles).await?;
        let mut signs = none.clone();
        for (&index, pair) in case.movable.iter().zip(effects.chunks_exact(2)) {
            let effect = match pair {
                [up, down] => (up - down) * direction,
                _ => 0.0,
            };
            let sign = match effect {
                e if e > 0.0 => 1,
                e if e < 0.0 => -1,
                // A tree whose thresholds are elsewhere: as with most patients.
                _ => usual
                    .get(index)
                    .map_or(1, |s| if direction > 0.0 { *s } else { -s }),
            };
            set(&mut signs, index, sign);
        }
        let mut best = f64::NEG_INFINITY;
        for _ in 0..2 * case.movable.len() {
            let mut around = vec![signs.clone()];
            around.extend(case.movable.iter().map(|&index| {
                let mut flipped = signs.clone();
                let sign = flipped.get(index).copied().unwrap_or_default();
                set(&mut flipped, index, -sign);
                flipped
            }));
            let found = self.probabilities(case, &around).await?;
            let found = found.iter().map(|p| p * direction).enumerate();
            let Some((at, value)) = found.max_by(|(_, a), (_, b)| a.total_cmp(b)) else {
                break;
            };
            if value <= best {
                break;
            }
            best = value;
            signs.clone_from(around.get(at).unwrap_or(&none));
            if at == 0 {
                break;
            }
        }
        Ok((signs, best * direction))
    }

    /// The corners found upwards and downwards.
    async fn worst(&self, case: &Case, usual: &[i8]) -> Result<[(Vec<i8>, f64); 2], ScoreError> {
        let up = self.climb(case, 1.0, usual).await?;
        Ok([up, self.climb(case, -1.0, usual).await?])
    }

    /// The signs that raise most patients' probability.
    async fn usual(&self, cases: &[Case]) -> Result<Vec<i8>, ScoreError> {
        let mut signs = vec![0_i8; self.spec.features.len()];
        for (index, feature) in self.spec.features.iter().enumerate() {
            if feature.uncertainty.is_none() {
                continue;
            }
            let mut inputs = Vec::new();
            for case in cases {
                for sign in [1, -1] {
                    let mut one = vec![0_i8; signs.len()];
                    set(&mut one, index, sign);
                    self.pushed(case, &one, &mut inputs);
                }
            }
            let effects = self.means(inputs).await?;
            let total: f64 = effects
                .chunks_exact(2)
                .map(|pair| pair.first().unwrap_or(&0.0) - pair.last().unwrap_or(&0.0))
                .sum();
            set(&mut signs, index, if total < 0.0 { -1 } else { 1 });
        }
        Ok(signs)
    }

    /// Fits patterns to these rows, at most `most` of them.
    ///
    /// # Errors
    /// [`StabilityError`].
    pub async fn fit<'r>(
        &self,
        rows: impl Iterator<Item = &'r [f64]>,
        most: usize,
        seed: u64,
    ) -> Result<RawStability, StabilityError> {
        if self.spec.features.iter().all(|f| f.uncertainty.is_none()) {
            return Err(StabilityError::NoUncertainty);
        }
        let mut cases = self.cases(rows).await?;
        cases.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        cases.truncate(MOST);
        let usual = self.usual(&cases).await?;
        let mut corners = Vec::new();
        let mut unstable = Vec::new();
        for case in cases {
            let found = self.worst(&case, &usual).await?;
            let band = self.band(case.probability);
            if found.iter().any(|(_, p)| self.band(*p) != band) {
                corners.extend(found.map(|(signs, _)| signs));
                unstable.push(case);
            }
        }
        if unstable.len() < 2 * GROUP {
            return Err(StabilityError::TooFew);
        }
        let mut candidates = groups(&corners, seed);
        candidates.push(usual.iter().map(|s| -s).collect());
        candidates.push(usual);
        candidates.sort();
        candidates.dedup();
        let pushes = self.cover(&unstable, &candidates, most).await?;
        Ok(RawStability { pushes })
    }

    /// The candidates that together move most of these cases, the most useful first.
    async fn cover(
        &self,
        cases: &[Case],
        candidates: &[Vec<i8>],
        most: usize,
    ) -> Result<Vec<RawPush>, ScoreError> {
        let mut moves = vec![Vec::with_capacity(cases.len()); candidates.len()];
        for case in cases {
            let band = self.band(case.probability);
            let probabilities = self.probabilities(case, candidates).await?;
            for (moves, probability) in moves.iter_mut().zip(probabilities) {
                moves.push(self.band(probability).cmp(&band));
            }
        }
        let rooms = cases.iter().map(|c| Room::of(self.spec, c.probability));
        let rooms: Vec<Room> = rooms.collect();
        let mut covered = vec![false; cases.len()];
        let mut chosen = Vec::new();
        while chosen.len() < most.min(MAX_PUSHES) {
            let gain = |moves: &[Ordering]| {
                let new = moves.iter().zip(&covered);
                new.filter(|(moves, covered)| moves.is_ne() && !**covered)
                    .count()
            };
            let best = moves
                .iter()
                .zip(candidates)
                .max_by_key(|(moves, _)| gain(moves));
            let Some((moves, candidate)) = best.filter(|(moves, _)| gain(moves) > 0) else {
                break;
            };
            let new = || {
                let new = moves.iter().zip(&rooms).zip(&covered);
                new.filter(|(_, covered)| !**covered).map(|(new, _)| new)
            };
            let up = new().filter(|(moves, _)| moves.is_gt()).map(|(_, r)| r.up);
            let down = new()
                .filter(|(moves, _)| moves.is_lt())
                .map(|(_, r)| r.down);
            chosen.push(RawPush {
                signs: candidate.clone(),
                up: reach(up.collect()),
                down: reach(down.collect()),
            });
            for (covered, moved) in covered.iter_mut().zip(moves) {
                *covered |= moved.is_ne();
            }
        }
        Ok(chosen)
    }
}

/// What most of these are within, with as many digits as mean anything; 0 of none.
fn reach(mut rooms: Vec<f64>) -> f64 {
    rooms.sort_by(f64::total_cmp);
    (quantile(&rooms, WITHIN) * 1e4).ceil() / 1e4
}

fn set(signs: &mut [i8], index: usize, sign: i8) {
    if let Some(slot) = signs.get_mut(index) {
        *slot = sign;
    }
}

fn single(values: &[f64]) -> impl Iterator<Item = f32> {
    values.iter().map(|v| narrow(*v))
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the networks compute in float32"
)]
fn narrow(value: f64) -> f32 {
    value as f32
}

fn count(number: usize) -> f64 {
    u32::try_from(number).map_or(f64::INFINITY, f64::from)
}

/// The smallest number that at least a share `q` of `sorted` is not above.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let reached = (1..=sorted.len()).find(|n| count(*n) >= q * count(sorted.len()));
    let last = sorted.last().copied().unwrap_or_default();
    reached
        .and_then(|n| sorted.get(n - 1))
        .copied()
        .unwrap_or(last)
}
