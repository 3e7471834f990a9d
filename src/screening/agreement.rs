//! How far a model's networks may disagree about a patient.
//!
//! The largest difference between two members' logits is compared with the same differences of
//! patients whom the networks had not seen: conformal, like [`super::Calibration`], so that a
//! patient of the same population is flagged with probability `alpha`.

use super::{ReferenceError, reference::RawAgreement};

/// Most patients that are read.
const MAX_SPREADS: usize = 100_000;

/// A calibrated bound.
#[derive(Clone, Debug)]
pub struct Agreement {
    alpha: f64,
    bound: f64,
    spreads: Vec<f32>,
}

impl Agreement {
    pub(super) fn new(raw: &RawAgreement) -> Result<Self, ReferenceError> {
        let wrong = |problem: &str| ReferenceError::invalid("agreement", problem);
        if !(raw.alpha > 0.0 && raw.alpha < 0.5) {
            return Err(wrong("alpha must lie above 0 and below 0.5"));
        }
        let spreads = &raw.calibration;
        let ascending = spreads.iter().zip(spreads.iter().skip(1));
        if spreads.len() > MAX_SPREADS
            || spreads.iter().any(|s| !(s.is_finite() && *s >= 0.0))
            || ascending.clone().any(|(a, b)| a > b)
        {
            return Err(wrong(
                "calibration: at most 100000, ascending, none below 0",
            ));
        }
        let agreement = Self {
            alpha: raw.alpha,
            bound: raw.bound,
            spreads: spreads.clone(),
        };
        // A bound below what the patients say would flag more of them than alpha, one far above
        // none: only that of these patients is theirs.
        if !(raw.bound.is_finite() && raw.bound >= 0.0)
            || agreement.p(raw.bound.next_up()) > raw.alpha
        {
            return Err(wrong("bound: more than alpha of the patients lie above it"));
        }
        Ok(agreement)
    }

    /// The share of in-distribution patients that is flagged.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// Largest accepted difference between two members' logits.
    pub fn bound(&self) -> f64 {
        self.bound
    }

    /// The conformal p-value of a difference: `(1 + patients who differ as much) / (n + 1)`.
    pub fn p(&self, spread: f64) -> f64 {
        let below = self.spreads.partition_point(|s| f64::from(*s) < spread);
        super::ratio(1 + self.spreads.len() - below, 1 + self.spreads.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::float_cmp, reason = "the very numbers")]
    fn a_bound_flags_alpha_of_the_patients_it_came_from() {
        let calibration: Vec<f32> = (1_u16..=199).map(|i| f32::from(i) / 100.0).collect();
        let raw = |bound, alpha| RawAgreement {
            alpha,
            bound,
            calibration: calibration.clone(),
        };
        let found = Agreement::new(&raw(1.981, 0.01)).unwrap();
        assert_eq!(found.p(1.985), 0.01);
        assert_eq!(found.p(0.0), 1.0);
        assert!(found.p(1.975) > 0.01);
        assert!(Agreement::new(&raw(1.5, 0.01)).is_err(), "flags a quarter");
        assert!(Agreement::new(&raw(f64::NAN, 0.01)).is_err());
        assert!(
            Agreement::new(&raw(2.0, 0.001)).is_err(),
            "too few patients"
        );
    }
}
