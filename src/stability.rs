//! Would the decision be another within measurement uncertainty? [`Consensus`] → [`Stable`].
//!
//! A value as measured is not the true one. Where the prediction lies close to the edge of a band,
//! the same patient may be in another band by the instruments' uncertainty alone, and who reads the
//! answer should know. So the networks are given copies of the row, pushed by fixed patterns of
//! signs within each feature's declared uncertainty, in one batch; a copy in another band names the
//! prediction unstable.
//!
//! The worst case is a corner of a box with as many dimensions as there are measured features, and
//! finite differences say nothing about trees. The patterns are therefore fitted: offline, corners
//! that move patients near an edge across it are searched for, and the few that together find
//! most of them are shipped in `reference.json` ([`RawStability`], by `fit`). A copy is a corner,
//! so what is named unstable is.

use std::sync::Arc;

use crate::{
    bundle::model::{Feature, ModelSpec, StabilityPolicy},
    consensus::{self, Consensus, Lost},
    disposition::{Code, ReviewReason, Words},
    inference::{Engine, MemberOutput, ScoreError},
    phi::Phi,
    review::{self, Clearance, Withheld},
    row::Row,
    screening::{
        Screen,
        reference::{RawPush, RawStability, ReferenceError},
    },
};

#[cfg(feature = "tools")]
pub mod fit;

/// Patterns evaluated for a row at most.
pub const MAX_PUSHES: usize = 64;

/// Logits; from a probability of .0001 to .7.
const MAX_REACH: f64 = 10.0;

/// Fitted patterns of signs, checked.
#[derive(Clone, Debug)]
pub struct Pushes(Vec<RawPush>);

impl Pushes {
    /// Checks what a reference says.
    pub(crate) fn new(raw: &RawStability, features: usize) -> Result<Self, ReferenceError> {
        let invalid = |problem: &str| ReferenceError::invalid("stability", problem);
        if raw.pushes.is_empty() || raw.pushes.len() > MAX_PUSHES {
            return Err(invalid("1 to 64 pushes"));
        }
        for push in &raw.pushes {
            let signs = &push.signs;
            if signs.len() != features || !signs.iter().all(|sign| (-1..=1).contains(sign)) {
                return Err(invalid("signs must be one of -1, 0, 1 a feature"));
            }
            let reaches = [push.up, push.down];
            if !reaches.iter().all(|r| (0.0..=MAX_REACH).contains(r))
                || reaches.iter().all(|r| *r <= 0.0)
            {
                return Err(invalid("up and down must be 0 to 10 logits, one above 0"));
            }
        }
        Ok(Self(raw.pushes.clone()))
    }

    /// The signs of those patterns that may move a prediction with so much `room` to the edges.
    fn within(&self, room: Room) -> Vec<&[i8]> {
        let reaching = self.0.iter().filter(|push| room.reached_by(push));
        reaching.map(|push| push.signs.as_slice()).collect()
    }
}

/// How far the edges of a prediction's band are, in logits: what measurement uncertainty moves is
/// about as much of a logit anywhere, and less of a probability the smaller that is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Room {
    pub(crate) up: f64,
    pub(crate) down: f64,
}

impl Room {
    /// Infinite where the band has no edge.
    pub(crate) fn of(spec: &ModelSpec, probability: f64) -> Self {
        let logit = |p: f64| (p / (1.0 - p)).ln();
        let at = logit(probability);
        let edges = spec.outcome.bands.iter().filter_map(|band| band.below);
        let wide = Self {
            up: f64::INFINITY,
            down: f64::INFINITY,
        };
        edges.fold(wide, |room, edge| match logit(edge) - at {
            above if above > 0.0 => Self {
                up: room.up.min(above),
                ..room
            },
            below => Self {
                down: room.down.min(-below),
                ..room
            },
        })
    }

    pub(crate) fn reached_by(self, push: &RawPush) -> bool {
        let reached = |reach: f64, room: f64| reach > 0.0 && reach >= room;
        reached(push.up, self.up) || reached(push.down, self.down)
    }
}

/// A value of this feature, pushed by `sign` times its standard uncertainty; never to what cannot
/// be.
pub(crate) fn push(feature: &Feature, sign: f64, value: f64) -> f64 {
    let uncertainty = feature.uncertainty.as_ref().map_or(0.0, |u| u.at(value));
    let pushed = value + sign * uncertainty;
    pushed.clamp(feature.possible.min, feature.possible.max)
}

/// What became of the stability of a prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stability {
    /// The bundle asks for no such screen, or has nothing fitted for it.
    NotConfigured,
    /// A network that answered for the row did not for a copy of it. A screen that was not run has
    /// not passed.
    NotRun,
    /// No edge is near, or no push crosses one.
    Holds,
    /// Bands from the one to the other are within measurement uncertainty.
    Range(usize, usize),
}

/// Looked at; made only by [`check_stability`].
#[derive(Debug)]
pub struct Stable {
    row: Box<Row>,
    clearance: Clearance,
    mean: Phi<f64>,
    stability: Stability,
}

impl Stable {
    pub(crate) fn into_parts(self) -> (Box<Row>, Clearance, Phi<f64>, Stability) {
        (self.row, self.clearance, self.mean, self.stability)
    }
}

/// How a row's path ends here.
#[derive(Debug)]
pub enum Ended {
    /// A person has to look: the bundle's policy for what is unstable.
    Withheld(Withheld),
    /// The networks could not be asked again. A screen that was not run has not passed.
    Unscored(ScoreError),
}

/// Pushes a row whose prediction is near the edge of a band, and compares.
pub async fn check_stability(
    engine: &Engine<Row>,
    screen: Option<&Screen>,
    consensus: Consensus,
) -> Result<Stable, Ended> {
    let (row, clearance, mean) = consensus.into_parts();
    let spec = Arc::clone(row.spec());
    let policy = spec.stability.policy;
    let pushes = screen
        .and_then(Screen::stability)
        .filter(|_| policy != StabilityPolicy::Off);
    let Some(pushes) = pushes else {
        let stability = Stability::NotConfigured;
        return Ok(Stable {
            row,
            clearance,
            mean,
            stability,
        });
    };
    let signs = pushes.within(Room::of(&spec, *mean.expose()));
    if signs.is_empty() {
        return Ok(Stable {
            row,
            clearance,
            mean,
            stability: Stability::Holds,
        });
    }
    let row = pushed(engine, &spec, &signs, row).await;
    let row = row.map_err(Ended::Unscored)?;
    judge(row, clearance, mean).map_err(Ended::Withheld)
}

/// What the networks' answers for the copies lead to.
fn judge(mut row: Box<Row>, mut clearance: Clearance, mean: Phi<f64>) -> Result<Stable, Withheld> {
    let spec = Arc::clone(row.spec());
    let reviews = spec.stability.policy == StabilityPolicy::Review;
    let lost = lost_on_copies(&row);
    let (low, high) = bands(&spec, &row, *mean.expose());
    let (stability, reason) = if low != high {
        let reason = (Code::Unstable, Words::Unstable);
        (Stability::Range(low, high), Some(reason))
    } else if lost.is_empty() {
        (Stability::Holds, None)
    } else {
        let reason = (Code::MemberFailed, Words::Unlooked);
        (Stability::NotRun, reviews.then_some(reason))
    };
    if !lost.is_empty() {
        row.lost = row.lost.iter().copied().chain(lost).collect();
    }
    if let Some((code, words)) = reason {
        row.reasons.push(ReviewReason::new(code, Vec::new(), words));
        if reviews {
            (row, clearance) = review::decide(row).map_err(|withheld| Withheld {
                agreed: true,
                ..withheld
            })?;
        }
    }
    // From here on the prediction leaves, and with it its bands.
    for reason in &mut row.reasons {
        if reason.words == Words::Unstable {
            reason.words = Words::UnstableBetween { low, high };
        }
    }
    Ok(Stable {
        row,
        clearance,
        mean,
        stability,
    })
}

async fn pushed(
    engine: &Engine<Row>,
    spec: &ModelSpec,
    signs: &[&[i8]],
    mut row: Box<Row>,
) -> Result<Box<Row>, ScoreError> {
    let imputed = row.imputed;
    row.push(signs, |index, value| {
        match spec.features.get(index) {
            // What was filled in was not measured.
            Some(feature) if !imputed.contains(index) => {
                [-1.0, 0.0, 1.0].map(|sign| push(feature, sign, value))
            }
            _ => [value; 3],
        }
    });
    engine.score(row).await
}

/// Members that answered for the row itself and not for every copy of it.
fn lost_on_copies(row: &Row) -> Vec<Lost> {
    let own = row.outputs().iter().enumerate();
    let answered = own.filter(|(_, output)| matches!(output, MemberOutput::Probability(_)));
    let lost = answered.filter_map(|(member, _)| {
        let mut copies = row.pushed_outputs().filter_map(|copy| copy.get(member));
        copies.find_map(|output| Lost::by(member, *output, true))
    });
    lost.collect()
}

/// Lowest and highest band of the row and its copies. The members asked are those that answered
/// for the row itself: the mean of others would differ for another reason.
fn bands(spec: &ModelSpec, row: &Row, mean: f64) -> (usize, usize) {
    let (_, band) = spec.harden(mean);
    // As many as one copy needs; wiped behind the last.
    let mut probabilities = Phi::new(Vec::with_capacity(row.outputs().len()));
    row.pushed_outputs()
        .fold((band, band), |(low, high), outputs| {
            let probabilities = probabilities.expose_mut();
            probabilities.clear();
            for (output, own) in outputs.iter().zip(row.outputs()) {
                match (own, output) {
                    (MemberOutput::Probability(_), MemberOutput::Probability(p)) => {
                        probabilities.push(f64::from(*p));
                    }
                    // A member that is lost on this copy: it says nothing.
                    (MemberOutput::Probability(_), _) => return (low, high),
                    (MemberOutput::Invalid | MemberOutput::Failed, _) => {}
                }
            }
            let (_, band) = spec.harden(consensus::mean(probabilities));
            (low.min(band), high.max(band))
        })
}

#[cfg(test)]
pub(crate) mod tests;
