//! What fitted patterns find of what an exhaustive search finds.

use serde::Serialize;

use super::{Case, Networks, ROWS, StabilityError, count, narrow, single};
use crate::{
    inference::ScoreError,
    screening::reference::RawStability,
    stability::{Room, push},
};

/// Corners are searched exhaustively for so many features at most.
pub(super) const MOST_DIMENSIONS: usize = 20;

/// What patterns find of what an exhaustive search over corners finds.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Measured {
    /// Rows that were predicted; every one is searched, however far from an edge.
    pub rows: usize,
    /// Patterns there are.
    pub pushes: usize,
    /// Predictions within reach of at least one.
    pub near: usize,
    /// Patterns tried on a row, on average over all.
    pub tried: f64,
    /// Predictions whose band is another at some corner.
    pub unstable: usize,
    /// Of these, predictions within reach of a pattern.
    pub unstable_near: usize,
    /// Predictions that the patterns name.
    pub named: usize,
    /// The same by the edge that is nearest.
    pub edges: Vec<Edge>,
}

/// Those whose nearest edge is this.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Edge {
    /// The edge, a probability.
    pub at: f64,
    /// Predictions whose band is another at some corner.
    pub unstable: usize,
    /// Of these, predictions that the patterns name.
    pub named: usize,
}

impl Measured {
    /// The share of all unstable predictions that is named.
    pub fn share(&self) -> f64 {
        count(self.named) / count(self.unstable)
    }
}

impl Networks<'_> {
    /// Holds these patterns against every corner, for each row.
    ///
    /// # Errors
    /// [`StabilityError`].
    pub async fn measure<'r>(
        &self,
        rows: impl Iterator<Item = &'r [f64]>,
        stability: &RawStability,
    ) -> Result<Measured, StabilityError> {
        let cases = self.cases(rows).await?;
        let usual = self.usual(&cases).await?;
        let edges = self.spec.outcome.bands.iter().filter_map(|band| band.below);
        let mut measured = Measured {
            rows: cases.len(),
            pushes: stability.pushes.len(),
            edges: edges
                .map(|at| Edge {
                    at,
                    ..Edge::default()
                })
                .collect(),
            ..Measured::default()
        };
        for case in &cases {
            let band = self.band(case.probability);
            let room = Room::of(self.spec, case.probability);
            let tried = stability.pushes.iter().filter(|p| room.reached_by(p));
            let tried: Vec<Vec<i8>> = tried.map(|push| push.signs.clone()).collect();
            let near = !tried.is_empty();
            let pushed = self.probabilities(case, &tried).await?;
            let named = pushed.iter().any(|p| self.band(*p) != band);
            measured.tried += count(tried.len()) / count(cases.len());
            // The climb finds quickly what the search would find late.
            let unstable = named
                || self.climb_differs(case, &usual, band).await?
                || self.some_corner_differs(case, band).await?;
            measured.near += usize::from(near);
            measured.unstable += usize::from(unstable);
            measured.unstable_near += usize::from(unstable && near);
            measured.named += usize::from(named);
            let away = |edge: &&mut Edge| (edge.at - case.probability).abs();
            let nearest = measured.edges.iter_mut();
            if let Some(edge) = nearest.min_by(|a, b| away(a).total_cmp(&away(b))) {
                edge.unstable += usize::from(unstable);
                edge.named += usize::from(named);
            }
        }
        Ok(measured)
    }

    async fn climb_differs(
        &self,
        case: &Case,
        usual: &[i8],
        band: usize,
    ) -> Result<bool, ScoreError> {
        let found = self.worst(case, usual).await?;
        Ok(found.iter().any(|(_, p)| self.band(*p) != band))
    }

    /// Whether at any corner of the uncertainties the band is another. (A pattern that moved the
    /// case is a corner already.)
    async fn some_corner_differs(&self, case: &Case, band: usize) -> Result<bool, StabilityError> {
        let dimensions = case.movable.len();
        if dimensions > MOST_DIMENSIONS {
            return Err(StabilityError::TooManyCorners);
        }
        let base: Vec<f32> = single(&case.values).collect();
        let ends: Vec<(usize, f32, f32)> = case
            .movable
            .iter()
            .filter_map(|&index| {
                let (feature, value) = (self.spec.features.get(index)?, case.values.get(index)?);
                let end = |sign| narrow(push(feature, sign, *value));
                Some((index, end(-1.0), end(1.0)))
            })
            .collect();
        let corners = 1_usize << dimensions;
        for first in (0..corners).step_by(ROWS) {
            let mut inputs = Vec::with_capacity(ROWS * base.len());
            for corner in first..corners.min(first + ROWS) {
                let at = inputs.len();
                inputs.extend_from_slice(&base);
                for (bit, (index, low, high)) in ends.iter().enumerate() {
                    if let Some(slot) = inputs.get_mut(at + index) {
                        *slot = if corner >> bit & 1 == 1 { *high } else { *low };
                    }
                }
            }
            if self
                .means(inputs)
                .await?
                .iter()
                .any(|p| self.band(*p) != band)
            {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
