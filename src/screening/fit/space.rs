//! The patients in normal scores.

use std::collections::BTreeMap;

use nalgebra::DMatrix;

use super::{FitError, Patient, Trait, gaussian::Gaussian, narrow, narrow_rows};
use crate::screening::{SWEEPS, curve::Curve, reference::RawMarginal, screen::CLIP};

/// The patients in normal scores, and what describes them.
pub(super) struct Space {
    pub(super) traits: Vec<Trait>,
    maps: Vec<Curve>,
    pub(super) continuous: Vec<bool>,
    spreads: Vec<f32>,
    pub(super) mean: Vec<f32>,
    pub(super) omega: Vec<Vec<f32>>,
    raw: Vec<Vec<f32>>,
    z: Vec<Vec<f32>>,
    /// Rows of each patient.
    pub(super) groups: Vec<Vec<usize>>,
}

/// Scores of all rows (one a row, filled in), and the normal distribution that they have.
pub(super) fn space(
    traits: &[Trait],
    marginals: &[RawMarginal],
    rows: &[&Patient],
) -> Result<(Space, Gaussian, DMatrix<f64>), FitError> {
    let d = traits.len();
    let maps: Option<Vec<Curve>> = marginals.iter().map(|m| Curve::through(&m.knots)).collect();
    let maps = maps.ok_or(FitError::Degenerate("marginals"))?;
    let scores = |p: &&Patient| -> Vec<f32> {
        let pairs = p.values.iter().zip(&maps);
        pairs
            .map(|(v, map)| {
                if v.is_nan() {
                    *v
                } else {
                    map.at(*v).clamp(-CLIP, CLIP)
                }
            })
            .collect()
    };
    let z: Vec<Vec<f32>> = rows.iter().map(scores).collect();
    let mut filled = DMatrix::from_fn(rows.len(), d, |i, j| f64::from(z[i][j]));
    filled.apply(|v| {
        if v.is_nan() {
            *v = 0.0;
        }
    });
    // What is missing takes its conditional mean under the first estimate, for the second.
    let mut gaussian = Gaussian::ledoit_wolf(&filled).ok_or(FitError::Degenerate("covariance"))?;
    for (i, scores) in z.iter().enumerate() {
        if scores.iter().any(|v| v.is_nan()) {
            let mut row: Vec<f64> = scores.iter().map(|v| f64::from(*v)).collect();
            gaussian.fill(&mut row);
            for (j, value) in row.iter().enumerate() {
                filled[(i, j)] = *value;
            }
        }
    }
    gaussian = Gaussian::ledoit_wolf(&filled).ok_or(FitError::Degenerate("covariance"))?;
    let quantile =
        |knots: &[(f32, f32)], z: f32| Curve::through(knots).map_or(0.0, |curve| curve.inverse(z));
    let spread = |m: &RawMarginal| quantile(&m.knots, 1.28) - quantile(&m.knots, -1.28);
    let mut groups = BTreeMap::<u64, Vec<usize>>::new();
    for (index, row) in rows.iter().enumerate() {
        groups.entry(row.group).or_default().push(index);
    }
    let space = Space {
        traits: traits.to_vec(),
        continuous: marginals.iter().map(|m| m.knots.len() > 16).collect(),
        spreads: marginals.iter().map(spread).collect(),
        mean: gaussian.mean.iter().map(|m| narrow(*m)).collect(),
        omega: narrow_rows(&gaussian.precision),
        raw: rows.iter().map(|p| p.values.clone()).collect(),
        groups: groups.into_values().collect(),
        maps,
        z,
    };
    Ok((space, gaussian, filled))
}

impl Space {
    pub(super) fn len(&self) -> usize {
        self.z.len()
    }

    pub(super) fn scores(&self, row: usize) -> &[f32] {
        &self.z[row]
    }

    pub(super) fn raw(&self, row: usize) -> &[f32] {
        &self.raw[row]
    }

    pub(super) fn spread(&self, feature: usize) -> f32 {
        self.spreads[feature]
    }

    pub(super) fn score(&self, feature: usize, value: f32) -> f32 {
        self.maps[feature].at(value).clamp(-CLIP, CLIP)
    }

    /// The score of the value nearest to a wished-for score that a patient could have.
    pub(super) fn snap(&self, feature: usize, z: f32) -> f32 {
        if z.is_nan() {
            return z;
        }
        let (low, high) = self.traits[feature].expected;
        let value = self.maps[feature].inverse(z.clamp(-CLIP, CLIP));
        let value = self.traits[feature].rounded(value).clamp(low, high);
        self.score(feature, value)
    }

    /// Mean and standard deviation of a score given the others of a row.
    pub(super) fn conditional(&self, row: usize, feature: usize) -> (f32, f32) {
        let omega = &self.omega[feature];
        let z = self.scores(row);
        let parts = omega.iter().zip(z).zip(&self.mean);
        let y: f32 = parts
            .map(|((o, z), m)| if z.is_nan() { 0.0 } else { o * (z - m) })
            .sum();
        let own = if z[feature].is_nan() {
            self.mean[feature]
        } else {
            z[feature]
        };
        (own - y / omega[feature], omega[feature].sqrt().recip())
    }

    /// What the network reads, as the screen makes it.
    pub(super) fn network_input(&self, z: &[f32], input: &mut [f32]) {
        let d = z.len();
        let absent: Vec<usize> = (0..d).filter(|&j| z[j].is_nan()).collect();
        let mut centred: Vec<f32> = z
            .iter()
            .zip(&self.mean)
            .map(|(z, m)| if z.is_nan() { 0.0 } else { z - m })
            .collect();
        let mut y = vec![0.0_f32; d];
        for (row, c) in self.omega.iter().zip(&centred) {
            for (y, o) in y.iter_mut().zip(row) {
                *y += o * c;
            }
        }
        for _ in 0..if absent.is_empty() { 0 } else { SWEEPS } {
            for &j in &absent {
                let step = -y[j] / self.omega[j][j];
                centred[j] += step;
                for (y, o) in y.iter_mut().zip(&self.omega[j]) {
                    *y += o * step;
                }
            }
        }
        for j in 0..d {
            let missing = z[j].is_nan();
            let r = if missing {
                0.0
            } else {
                y[j] / self.omega[j][j].sqrt()
            };
            input[j] = centred[j] + self.mean[j];
            input[d + j] = r;
            input[2 * d + j] = (r * r).min(36.0) * 0.25;
            input[3 * d + j] = f32::from(u8::from(missing));
        }
    }
}
