//! When to say that a policy is about to expire.

use time::{Duration, OffsetDateTime};

/// What is left of a policy, in the steps at which operators are told. Each is worse than the
/// one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// More than 30 days.
    Fine,
    /// At most 30 days.
    Month,
    /// At most 7 days.
    Week,
    /// At most 1 day.
    Day,
    /// Nothing.
    Expired,
}

/// What is left of a policy at a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remaining {
    /// The step it is in.
    pub notice: Notice,
    /// Until the next step; none once it has expired.
    pub until_next: Option<Duration>,
}

impl Remaining {
    /// Of a policy that expires at `expires`.
    pub fn at(now: OffsetDateTime, expires: OffsetDateTime) -> Self {
        let left = expires - now;
        let (notice, next) = if left <= Duration::ZERO {
            (Notice::Expired, None)
        } else if left <= Duration::days(1) {
            (Notice::Day, Some(Duration::ZERO))
        } else if left <= Duration::days(7) {
            (Notice::Week, Some(Duration::days(1)))
        } else if left <= Duration::days(30) {
            (Notice::Month, Some(Duration::days(7)))
        } else {
            (Notice::Fine, Some(Duration::days(30)))
        };
        Self {
            notice,
            until_next: next.map(|next| left - next),
        }
    }
}
