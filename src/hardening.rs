//! [`Stable`] → [`Hardened`]: releases no more about the model than the bundle allows.
//!
//! The members' mean is rounded to the declared precision, deterministically (noise would
//! average out over repeated queries), and the band is read off the *rounded* value: band edges
//! lie between two released values, so the band tells nothing more. Who may `read-precise` gets
//! six decimals; who has asked too much gets the band alone.

use std::sync::Arc;

use crate::{
    authz::{Action, Grant},
    bundle::model::ModelSpec,
    consensus::Lost,
    containment::Uncontained,
    disposition::ReviewReason,
    extraction::{Charged, Detail},
    phi::Phi,
    review::{Clearance, Confirmed, Handling, Opened},
    screening::Oddness,
    stability::{Stability, Stable},
    units::round_to_step,
};

/// The step of a prediction at full precision: below it a float32 says nothing.
const PRECISE: f64 = 1e-6;

/// A prediction that may leave; made only by [`release`].
#[derive(Debug)]
pub struct Hardened {
    /// The model that predicted.
    pub spec: Arc<ModelSpec>,
    probability: Option<Phi<f64>>,
    precision: f64,
    band: usize,
    /// Why it was allowed to be computed.
    pub clearance: Clearance,
    /// Reasons for review, when attached.
    pub reasons: Vec<ReviewReason>,
    /// What was done to the input.
    pub handling: Handling,
    /// How odd the row is, where the model has a reference.
    pub oddness: Option<Box<Phi<Oddness>>>,
    /// Whether it hangs on measurement uncertainty.
    pub stability: Stability,
    /// Largest difference of two networks' logits, where there are two.
    pub spread: Option<Phi<f64>>,
    /// The networks that gave no usable output.
    pub lost: Box<[Lost]>,
    /// The override that let it leave, if one did.
    pub confirmed: Option<Confirmed>,
    /// The review that it is attached to.
    pub opened: Option<Box<Opened>>,
}

impl Hardened {
    /// The released probability, a multiple of the precision; none where only the band leaves.
    pub fn probability(&self) -> Option<&Phi<f64>> {
        self.probability.as_ref()
    }

    /// The step that the probability is a multiple of, where there is one.
    pub fn precision(&self) -> Option<f64> {
        self.probability.as_ref().map(|_| self.precision)
    }

    /// Name of the band.
    pub fn band(&self) -> &str {
        self.spec.band(self.band)
    }
}

/// Hardens the output of a row whose stability was looked at, that was paid for, and whose model and
/// caller nobody has stopped meanwhile. `precise` is the caller's permission to see more, if it
/// has it.
pub fn release(
    stable: Stable,
    charged: &Charged,
    _uncontained: Uncontained,
    precise: Option<&Grant>,
) -> Hardened {
    let (mut row, clearance, mean, stability) = stable.into_parts();
    let spec = Arc::clone(row.spec());
    let (released, band) = spec.harden(*mean.expose());
    let permitted = precise
        .is_some_and(|grant| grant.action() == Action::ReadPrecise && grant.model() == spec.name);
    let (probability, precision) = match (charged.detail(), permitted) {
        (Detail::Withheld | Detail::Band, _) => (None, spec.output.precision),
        (Detail::Full, false) => (Some(Phi::new(released)), spec.output.precision),
        (Detail::Full, true) => {
            let fine = round_to_step(*mean.expose(), PRECISE).value;
            (Some(Phi::new(fine)), PRECISE)
        }
    };
    Hardened {
        probability,
        precision,
        band,
        clearance,
        reasons: std::mem::take(&mut row.reasons),
        handling: Handling::of(&row),
        oddness: row.oddness.take().map(Box::new),
        stability,
        spread: row.spread.take(),
        lost: std::mem::take(&mut row.lost),
        confirmed: row.confirmed.take(),
        opened: None,
        spec,
    }
}

#[cfg(test)]
pub(crate) mod tests;
