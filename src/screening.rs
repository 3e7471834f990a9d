//! Is this row like the patients the model was made for? [`Consistent`] → [`InDistribution`].
//!
//! Every value may lie within its range and no rule be broken, and yet the row be nobody: a
//! haematocrit of 3.4, a creatinine in another unit, two fields swapped. The bundle's
//! `reference.json` describes the patients the model was made for ([`mod@reference`]); [`Screen`]
//! compares a row with them in four ways ([`Channel`]), and [`Calibration`] makes of that one
//! conformal p-value. A row at or below the reference's alpha goes to a person, with the values
//! that stand out and what would be typical given the others.
//!
//! Which channel fired is not said in answers: who attacks a model would learn from it what to
//! change. It is in the audit record.

use std::cell::RefCell;

use zeroize::Zeroize;

use crate::{bundle::model::ModelSpec, clinical::Consistent, phi::Phi, review, row::Row};

mod agreement;
mod calibration;
mod channel;
mod curve;
mod dense;
mod drivers;
mod explain;
mod mixture;
pub mod reference;
mod scratch;
mod screen;

#[cfg(feature = "tools")]
pub mod fit;

#[cfg(test)]
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::many_single_char_names,
    reason = "small numbers, and zero is zero"
)]
mod tests;

use self::reference::{FORMAT, MAX_BYTES, RawReference};
pub use self::{
    agreement::Agreement,
    calibration::{Calibration, Judgement},
    channel::{CHANNELS, Channel},
    curve::Curve,
    drivers::Driver,
    reference::ReferenceError,
    scratch::Scratch,
    screen::{SWEEPS, Screen},
};

/// Compared with the model's patients; made only by [`check_distribution`].
#[derive(Debug)]
pub struct InDistribution(Box<Row>);

impl InDistribution {
    pub(crate) fn into_row(self) -> Box<Row> {
        self.0
    }

    /// Whether any screen so far asks for a person.
    pub fn is_flagged(&self) -> bool {
        !self.0.reasons.is_empty()
    }

    /// Whether a prediction follows, flagged or not.
    pub fn leads_on(&self) -> bool {
        review::leads_on(&self.0)
    }

    pub(crate) fn row(&self) -> &Row {
        &self.0
    }

    /// Whether somebody with the right to it overrides what asks for a person.
    pub fn is_overridden(&self) -> bool {
        self.0.confirmed.is_some()
    }

    /// The channel that found the row atypical: for the audit record, never for the caller.
    pub fn atypical(&self) -> Option<Channel> {
        let oddness = self.0.oddness.as_ref()?.expose();
        oddness.flagged.then_some(oddness.driver)
    }
}

/// How odd a row is. Derived from a patient's values, so it lives in a [`Phi`].
#[derive(Debug)]
pub struct Oddness {
    /// The conformal p-value that decided.
    pub p: f64,
    /// Each channel's own, in the order of [`Channel::ALL`].
    pub channels: [f64; CHANNELS],
    driver: Channel,
    flagged: bool,
}

impl Zeroize for Oddness {
    fn zeroize(&mut self) {
        self.p.zeroize();
        self.channels.zeroize();
        self.driver = Channel::Replaced;
        self.flagged.zeroize();
    }
}

thread_local! {
    /// Grows with the first row of a thread; no row allocates after that.
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Wipes a thread's working memory whichever way the work with it ends.
struct Wiped<'s>(&'s mut Scratch);

impl Drop for Wiped<'_> {
    fn drop(&mut self) {
        self.0.wipe();
    }
}

/// Compares a row with the patients the model was made for; without a fitted reference, nothing
/// is compared and the answer says so.
pub fn check_distribution(screen: Option<&Screen>, consistent: Consistent) -> InDistribution {
    let mut row = consistent.into_row();
    if let Some(screen) = screen {
        SCRATCH.with_borrow_mut(|scratch| {
            let wiped = Wiped(scratch);
            let scratch = &mut *wiped.0;
            // A value filled in by the bundle's policy is no evidence of anything.
            let values = row.values().iter().enumerate();
            let measured = values.map(|(index, value)| {
                if row.imputed.contains(index) {
                    f64::NAN
                } else {
                    *value
                }
            });
            let judgement = screen.judge(measured, scratch);
            if judgement.flagged {
                let reason = explain::reason(&row, &screen.drivers(scratch));
                row.reasons.push(reason);
            }
            row.oddness = Some(Phi::new(Oddness {
                p: judgement.p,
                channels: judgement.channels,
                driver: judgement.channel(),
                flagged: judgement.flagged,
            }));
        });
    }
    InDistribution(row)
}

impl Screen {
    /// Reads a bundle's `reference.json`: `None` for format 1, which describes the features one
    /// by one and has nothing to compare a row with.
    pub fn parse(bytes: &[u8], spec: &ModelSpec) -> Result<Option<Self>, ReferenceError> {
        /// What every format has.
        #[derive(serde::Deserialize)]
        struct Head {
            format: u32,
        }
        if bytes.len() > MAX_BYTES {
            return Err(ReferenceError::TooLarge);
        }
        match serde_json::from_slice::<Head>(bytes)?.format {
            1 => return Ok(None),
            FORMAT => {}
            other => return Err(ReferenceError::Format(other)),
        }
        let raw: RawReference = serde_json::from_slice(bytes)?;
        // A version that changes neither networks nor features may keep what an earlier one was
        // compared with; whoever signs the bundle vouches for that.
        if raw.name != spec.name {
            let fitted = format!(
                "fitted for another model, {} version {}",
                raw.name, raw.version
            );
            return Err(ReferenceError::OtherModel(fitted));
        }
        let names = raw.features.iter().map(|f| f.name.as_str());
        if !names.eq(spec.features.iter().map(|f| f.name.as_str())) {
            let other = "fitted for other features, or in another order".to_owned();
            return Err(ReferenceError::OtherModel(other));
        }
        let mut screen = Self::new(&raw)?;
        screen.mistakes = drivers::Mistakes::of(spec);
        Ok(Some(screen))
    }
}

/// A share of a count.
fn ratio(part: usize, whole: usize) -> f64 {
    let number = |n| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    number(part) / number(whole)
}
