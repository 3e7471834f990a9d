//! [`Cleared`] → [`Scores`] (inference) → [`Consensus`] (the members agree).

use std::sync::Arc;

use crate::{
    bundle::model::Degraded,
    disposition::{Code, ReviewReason, Words},
    inference::{Engine, MemberOutput, ScoreError},
    phi::Phi,
    review::{self, Clearance, Cleared, Withheld},
    row::Row,
    screening::{Agreement, Screen},
};

/// The members' outputs for one row; made only by [`score`].
#[derive(Debug)]
pub struct Scores {
    row: Box<Row>,
}

/// The members agree, or somebody answers for it that they do not; made only by [`agree`].
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

/// A member that gave no usable output for this input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Its index in the bundle.
    pub member: usize,
    /// How it was lost.
    pub cause: Loss,
    /// It answered for the row itself; what it was lost on is a copy of the row, pushed within
    /// measurement uncertainty.
    pub on_copy: bool,
}

impl Lost {
    /// The member, if its output is nothing usable.
    pub(crate) fn by(member: usize, output: MemberOutput, on_copy: bool) -> Option<Self> {
        let cause = match output {
            MemberOutput::Probability(_) => return None,
            MemberOutput::Invalid => Loss::Invalid,
            MemberOutput::Failed => Loss::Failed,
        };
        Some(Self {
            member,
            cause,
            on_copy,
        })
    }
}

/// How a member was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loss {
    /// The network failed on the input.
    Failed,
    /// Its output is no probability: not finite, or outside 0 to 1.
    Invalid,
}

impl Loss {
    /// Each.
    pub const ALL: [Self; 2] = [Self::Failed, Self::Invalid];

    /// As metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Invalid => "invalid",
        }
    }
}

/// The members that gave nothing usable, among all outputs for one row.
fn lost(outputs: &[MemberOutput]) -> Box<[Lost]> {
    let outputs = outputs.iter().enumerate();
    let lost = outputs.filter_map(|(member, output)| Lost::by(member, *output, false));
    lost.collect()
}

/// Runs the networks on a cleared row.
pub async fn score(engine: &Engine<Row>, cleared: Cleared) -> Result<Scores, ScoreError> {
    let (row, _) = cleared.into_parts();
    engine.score(row).await.map(|row| Scores { row })
}

/// Takes the members' mean when enough of them answered and their logits lie within the conformal
/// bound: the fitted one, else the one that the bundle declares. A lost member is never silently
/// left out of the ensemble: the bundle says how many may be lost and what that leads to, and the
/// answer and the record name them.
pub fn agree(screen: Option<&Screen>, scores: Scores) -> Result<Consensus, Withheld> {
    let Scores { mut row } = scores;
    let spec = Arc::clone(row.spec());
    let probabilities = probabilities(row.outputs());
    row.lost = lost(row.outputs());
    let (answered, members) = (probabilities.expose().len(), row.outputs().len());
    let degraded = spec.agreement.map(|a| a.degraded).unwrap_or_default();
    if answered < spec.quorum() {
        row.reasons.push(ReviewReason::new(
            Code::MemberFailed,
            Vec::new(),
            Words::NoQuorum,
        ));
        // There is nothing to attach, and nothing that an override would lead to.
        return Err(review::withhold(row, false));
    }
    if answered < members && degraded == Degraded::Review {
        row.reasons.push(ReviewReason::new(
            Code::MemberFailed,
            Vec::new(),
            Words::Degraded,
        ));
    }
    let spread = logit_spread(probabilities.expose());
    let fitted = screen.and_then(Screen::agreement).map(Agreement::bound);
    let bound = fitted.or(spec.agreement.map(|a| a.max_logit_spread));
    if bound.is_some_and(|bound| spread > bound) {
        row.reasons.push(ReviewReason::new(
            Code::Disagreement,
            Vec::new(),
            Words::Disagreement,
        ));
    }
    if members > 1 {
        row.spread = Some(Phi::new(spread));
    }
    let mean = Phi::new(mean(probabilities.expose()));
    let (row, clearance) = review::decide(row)?;
    Ok(Consensus {
        row,
        clearance,
        mean,
    })
}

/// What the members gave that is a probability.
pub(crate) fn probabilities<'o>(
    outputs: impl IntoIterator<Item = &'o MemberOutput>,
) -> Phi<Vec<f64>> {
    let outputs = outputs.into_iter();
    // As many as there can be: growing would leave a copy behind.
    let most = outputs.size_hint().1.unwrap_or_default();
    let mut probabilities = Phi::new(Vec::with_capacity(most));
    for output in outputs {
        if let MemberOutput::Probability(p) = output {
            probabilities.expose_mut().push(f64::from(*p));
        }
    }
    probabilities
}

pub(crate) fn mean(probabilities: &[f64]) -> f64 {
    let count = u32::try_from(probabilities.len()).unwrap_or(u32::MAX);
    probabilities.iter().sum::<f64>() / f64::from(count)
}

/// Largest difference between two members, in logits; probabilities are clipped to
/// `[1e-6, 1 - 1e-6]` as in the calibration of the bound.
pub fn logit_spread(probabilities: &[f64]) -> f64 {
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
