//! Which values speak most for a row's oddness.
//!
//! What detects knows nothing of how numbers go wrong in a hospital; what explains may. Beside
//! what the network says of a value (the log odds that it was replaced), it counts how much
//! likelier the value would be, given the others, had it been meant otherwise: in another unit
//! that the bundle accepts for it, or with the decimal point a place further. With T turning the
//! number into what was meant, and z the normal score,
//!
//! `log p(z(T x) | others) − log p(z(x) | others) + log (z′(T x) |T x|) − log (z′(x) |x|)`,
//!
//! the mixture's densities of the logarithm of the value, at the best T. It runs only for rows
//! that are flagged.

use crate::bundle::model::{Kind, ModelSpec};

use super::{
    curve::Curve,
    scratch::Scratch,
    screen::{CLIP, Screen},
};

/// How much a mistake that would explain the value counts beside the network's log odds, and
/// between which bounds, in nats.
const WEIGHT: f32 = 0.4;
const LEAST: f32 = -5.0;
const MOST: f32 = 20.0;
/// The same of the mixture's surprise.
const SURPRISE_WEIGHT: f32 = 0.25;
const MOST_SURPRISED: f32 = 12.0;

/// What one feature contributes to a row's oddness.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Driver {
    /// The feature's index.
    pub feature: usize,
    /// How much speaks for its value being wrong, in nats; comparable within a row.
    pub evidence: f32,
    /// The value typical of it given the others, in the declared unit.
    pub typical: f32,
}

/// How a feature's number may have been mistaken.
#[derive(Clone, Debug)]
pub(super) struct Mistakes {
    /// Slope and offset from the number to what was meant.
    meant: Vec<(f32, f32)>,
    /// Where values are expected: what was meant lies there.
    expected: (f32, f32),
}

impl Mistakes {
    /// Of each feature: numbers in the other units that are accepted for it, and decimal points a
    /// place too far left or right.
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the screen computes in float32"
    )]
    pub(super) fn of(spec: &ModelSpec) -> Vec<Self> {
        let features = spec.features.iter().map(|feature| {
            let units = feature.declared.other_units().into_iter().map(|unit| {
                let offset = unit.apply(0.0);
                ((unit.apply(1.0) - offset) as f32, offset as f32)
            });
            let slips = [(10.0, 0.0), (0.1, 0.0)];
            let is_quantity = feature.kind == Kind::Quantity;
            let meant = units.chain(slips).filter(|_| is_quantity);
            Self {
                meant: meant.collect(),
                expected: (feature.expected.min as f32, feature.expected.max as f32),
            }
        });
        features.collect()
    }
}

impl Screen {
    /// The features of the row that was last evaluated with `scratch`, those that speak most for
    /// its oddness first. Missing ones are left out.
    pub fn drivers(&self, scratch: &mut Scratch) -> Vec<Driver> {
        let mut drivers = Vec::with_capacity(self.features());
        let measured = |j: usize| scratch.missing.get(j).is_some_and(|m| *m <= 0.0);
        let measured: Vec<usize> = (0..self.features()).filter(|&j| measured(j)).collect();
        for feature in measured {
            let mistake = self.mistake(feature, scratch);
            let part = |of: &[f32]| of.get(feature).copied().unwrap_or_default();
            let [logits, _] = &scratch.hidden;
            let surprise = part(&scratch.surprise).min(MOST_SURPRISED);
            let expected = part(&scratch.z) - part(&scratch.y) / part(&self.diagonal);
            drivers.push(Driver {
                feature,
                evidence: part(logits) + SURPRISE_WEIGHT * surprise + WEIGHT * mistake,
                typical: self
                    .maps
                    .get(feature)
                    .map_or(f32::NAN, |map| map.inverse(expected.clamp(-4.0, 4.0))),
            });
        }
        drivers.sort_by(|a, b| b.evidence.total_cmp(&a.evidence));
        drivers
    }

    /// How much likelier a value would be had it been meant otherwise, in nats.
    fn mistake(&self, feature: usize, scratch: &mut Scratch) -> f32 {
        let (Some(map), Some(mistakes), Some(&z)) = (
            self.maps.get(feature),
            self.mistakes.get(feature),
            scratch.z.get(feature),
        ) else {
            return 0.0;
        };
        let value = map.inverse(z);
        let others = self
            .mixture
            .given_others(&scratch.z, feature, &mut scratch.products);
        let likely = |value: f32, z: f32| others.log_density(z) + log_slope(map, value);
        let own = likely(value, z);
        let (low, high) = mistakes.expected;
        let meant = mistakes
            .meant
            .iter()
            .map(|(slope, offset)| slope * value + offset);
        let meant = meant.filter(|value| low <= *value && *value <= high);
        meant
            .map(|value| likely(value, map.at(value).clamp(-CLIP, CLIP)) - own)
            .fold(LEAST, f32::max)
            .min(MOST)
    }
}

/// log of dz / d log x.
fn log_slope(map: &Curve, value: f32) -> f32 {
    let step = (value.abs() * 0.02).max(1e-3);
    let slope = (map.at(value + step) - map.at(value - step)) / (2.0 * step);
    (slope.max(1e-4) * value.abs().max(1e-3)).ln()
}
