//! [`Consensus`] → [`Hardened`]: releases no more about the model than the bundle allows.
//!
//! The members' mean is rounded to the declared precision, deterministically (noise would
//! average out over repeated queries), and the band is read off the *rounded* value: band edges
//! lie between two released values, so the band tells nothing more.

use std::sync::Arc;

use crate::{
    bundle::model::ModelSpec,
    consensus::Consensus,
    disposition::ReviewReason,
    phi::Phi,
    review::{Clearance, Confirmed, Handling, Opened},
    screening::Oddness,
    units::round_to_step,
};

/// A prediction that may leave; made only by [`release`].
#[derive(Debug)]
pub struct Hardened {
    /// The model that predicted.
    pub spec: Arc<ModelSpec>,
    probability: Phi<f64>,
    band: usize,
    /// Why it was allowed to be computed.
    pub clearance: Clearance,
    /// Reasons for review, when attached.
    pub reasons: Vec<ReviewReason>,
    /// What was done to the input.
    pub handling: Handling,
    /// How odd the row is, where the model has a reference.
    pub oddness: Option<Box<Phi<Oddness>>>,
    /// The override that let it leave, if one did.
    pub confirmed: Option<Confirmed>,
    /// The review that it is attached to.
    pub opened: Option<Box<Opened>>,
}

impl Hardened {
    /// The released probability, a multiple of the declared precision.
    pub fn probability(&self) -> &Phi<f64> {
        &self.probability
    }

    /// Name of the band.
    pub fn band(&self) -> &str {
        self.spec
            .outcome
            .bands
            .get(self.band)
            .map_or("", |b| b.name.as_str())
    }
}

/// Hardens the output of a row whose members agreed.
pub fn release(consensus: Consensus) -> Hardened {
    let (mut row, clearance, mean) = consensus.into_parts();
    let spec = Arc::clone(row.spec());
    let released = round_to_step(*mean.expose(), spec.output.precision).value;
    let bands = &spec.outcome.bands;
    let band = bands
        .iter()
        .position(|b| b.below.is_none_or(|edge| released < edge))
        .unwrap_or(bands.len().saturating_sub(1));
    Hardened {
        probability: Phi::new(released),
        band,
        clearance,
        reasons: std::mem::take(&mut row.reasons),
        handling: Handling::of(&row),
        oddness: row.oddness.take().map(Box::new),
        confirmed: row.confirmed.take(),
        opened: None,
        spec,
    }
}

#[cfg(test)]
mod tests;
