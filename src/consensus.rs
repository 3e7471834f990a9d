//! [`Cleared`] → [`Scores`] (inference) → [`Consensus`] (the members agree).

use crate::{
    disposition::{Code, ReviewReason},
    inference::{Engine, MemberOutput, ScoreError},
    phi::Phi,
    review::{self, Clearance, Cleared, Withheld},
    row::Row,
};

/// The members' outputs for one row; made only by [`score`].
#[derive(Debug)]
pub struct Scores {
    row: Box<Row>,
    clearance: Clearance,
}

/// The members agree; made only by [`agree`].
#[derive(Debug)]
pub struct Consensus {
    row: Box<Row>,
    clearance: Clearance,
    mean: Phi<f64>,
}

impl Consensus {
    /// The members' mean.
    pub(crate) fn mean(&self) -> &Phi<f64> {
        &self.mean
    }

    pub(crate) fn into_parts(self) -> (Box<Row>, Clearance, Phi<f64>) {
        (self.row, self.clearance, self.mean)
    }
}

/// Runs the networks on a cleared row.
pub async fn score(engine: &Engine<Row>, cleared: Cleared) -> Result<Scores, ScoreError> {
    let (row, clearance) = cleared.into_parts();
    engine.score(row).await.map(|row| Scores { row, clearance })
}

/// Takes the members' mean when all of them answered and their logits lie within the bundle's
/// conformal bound. A lost member is never silently left out of the ensemble.
pub fn agree(scores: Scores) -> Result<Consensus, Withheld> {
    let Scores {
        mut row,
        mut clearance,
    } = scores;
    let mut probabilities = Phi::new(Vec::with_capacity(row.outputs().len()));
    for output in row.outputs() {
        if let MemberOutput::Probability(p) = output {
            probabilities.expose_mut().push(f64::from(*p));
        }
    }
    let all = probabilities.expose().len() == row.outputs().len();
    if !all {
        row.reasons.push(ReviewReason::new(
            Code::MemberFailed,
            Vec::new(),
            "a network of this model gave no usable output for this input; judge without the \
             model",
        ));
        // There is nothing to attach.
        return Err(review::withhold(row, false));
    }
    if let Some(bound) = row.spec().agreement
        && logit_spread(probabilities.expose()) > bound.max_logit_spread
    {
        row.reasons.push(ReviewReason::new(
            Code::Disagreement,
            Vec::new(),
            "the networks of this model disagree about this patient more than they did about the \
             patients they were calibrated on; judge without the model",
        ));
        (row, clearance) = review::decide(row)?;
    }
    let count = f64::from(u32::try_from(probabilities.expose().len()).unwrap_or(u32::MAX));
    let mean = Phi::new(probabilities.expose().iter().sum::<f64>() / count);
    Ok(Consensus {
        row,
        clearance,
        mean,
    })
}

/// Largest difference between two members, in logits; probabilities are clipped to
/// `[1e-6, 1 - 1e-6]` as in the calibration of the bound.
fn logit_spread(probabilities: &[f64]) -> f64 {
    let logits = probabilities.iter().map(|p| {
        let p = p.clamp(1e-6, 1.0 - 1e-6);
        (p / (1.0 - p)).ln()
    });
    let (low, high) = logits.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), l| {
        (low.min(l), high.max(l))
    });
    high - low
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the very number is what is tested")]
pub(crate) mod tests;
