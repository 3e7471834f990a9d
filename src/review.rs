//! Clears an input for inference, or ends its path for a person to look: [`InDistribution`] →
//! [`Cleared`].
//!
//! A review may be overridden: its answer has a token ([`Reviews`]), and a person with the right
//! to it sends the same input with the token and a coded reason ([`Claim`]). Of the review nothing
//! is kept.

use std::sync::Arc;

use crate::{
    bundle::model::{ModelSpec, ReviewPolicy},
    consensus::Lost,
    disposition::ReviewReason,
    phi::Phi,
    row::{FeatureSet, Row},
    screening::{InDistribution, Oddness},
};

mod claim;
mod token;
pub use claim::{Claim, OverrideReason};
pub use token::{Confirmed, Opened, Reviews, Tag};

/// Why inference may run; there is no other way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clearance {
    /// No screen found a reason for review.
    Clear,
    /// A reason was found, and the bundle's policy attaches the prediction to the review.
    Attached,
    /// A reason was found, and a person with the right to do so overrides it.
    Overridden,
}

/// May be scored; made only by [`clear`].
#[derive(Debug)]
pub struct Cleared {
    row: Box<Row>,
    clearance: Clearance,
}

impl Cleared {
    pub(crate) fn into_parts(self) -> (Box<Row>, Clearance) {
        (self.row, self.clearance)
    }
}

/// A person has to look, and no prediction leaves. Holds reasons, no values.
#[derive(Debug)]
pub struct Withheld {
    /// Whose rules asked for review.
    pub spec: Arc<ModelSpec>,
    /// At least one.
    pub reasons: Vec<ReviewReason>,
    /// What was done to the input.
    pub handling: Box<Handling>,
    /// How odd the row is, where the model has a reference.
    pub oddness: Option<Box<Phi<Oddness>>>,
    /// The networks that gave no usable output.
    pub lost: Box<[Lost]>,
    /// The networks were held against each other, and agree: what asks for review comes after it.
    pub(crate) agreed: bool,
    /// Whether an override would lead to a prediction.
    pub(crate) predictable: bool,
    /// The review, where it may be overridden.
    pub opened: Option<Box<Opened>>,
}

/// What was done to the input before screening, by feature.
#[derive(Clone, Copy, Debug)]
pub struct Handling {
    /// Rounded to measurement precision.
    pub rounded: FeatureSet,
    /// Converted from another unit.
    pub converted: FeatureSet,
    /// Filled in as the bundle declares.
    pub imputed: FeatureSet,
}

impl Handling {
    pub(crate) fn of(row: &Row) -> Self {
        Self {
            rounded: row.rounded,
            converted: row.converted,
            imputed: row.imputed,
        }
    }
}

/// Whether [`decide`] lets a row go on.
pub(crate) fn leads_on(row: &Row) -> bool {
    row.confirmed.is_some()
        || row.reasons.is_empty()
        || row.spec().review.policy == ReviewPolicy::Attach
}

/// Ends the path of a row with reasons for review, unless somebody overrides them or the policy
/// attaches predictions.
pub(crate) fn decide(row: Box<Row>) -> Result<(Box<Row>, Clearance), Withheld> {
    if row.confirmed.is_some() {
        return Ok((row, Clearance::Overridden));
    }
    if row.reasons.is_empty() {
        return Ok((row, Clearance::Clear));
    }
    match row.spec().review.policy {
        ReviewPolicy::Attach => Ok((row, Clearance::Attached)),
        ReviewPolicy::Withhold => Err(withhold(row, true)),
    }
}

/// Ends a row's path; its values are wiped here. `predictable` says whether there would be a
/// prediction, if somebody overrode the review.
pub(crate) fn withhold(mut row: Box<Row>, predictable: bool) -> Withheld {
    Withheld {
        spec: Arc::clone(row.spec()),
        reasons: std::mem::take(&mut row.reasons),
        handling: Box::new(Handling::of(&row)),
        oddness: row.oddness.take().map(Box::new),
        lost: std::mem::take(&mut row.lost),
        agreed: false,
        predictable,
        opened: None,
    }
}

/// Ends the path of a row for a reason that is not the row's, whatever the policy of the model.
pub(crate) fn withhold_for(screened: InDistribution, reason: ReviewReason) -> Withheld {
    let mut row = screened.into_row();
    row.reasons.push(reason);
    withhold(row, true)
}

/// Decides whether the networks may see this input.
pub fn clear(screened: InDistribution) -> Result<Cleared, Withheld> {
    decide(screened.into_row()).map(|(row, clearance)| Cleared { row, clearance })
}
