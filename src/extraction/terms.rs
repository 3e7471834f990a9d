//! By which rules a caller's queries are judged.

use crate::{
    authz::Role,
    bundle::model::QueriesSpec,
    config::{CallerLimits, Patterns},
};

use super::response::Step;

/// How far automatic consequences may go, by what the caller does for patients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clinical {
    /// A hospital's record system: a unit must not go silent, so it is answered with bands where
    /// others are refused.
    RecordSystem,
    /// A person at the bedside: quarantine is for people to decide.
    Person,
    /// Nobody waits at a bedside.
    No,
}

impl Clinical {
    /// Of a caller with these roles.
    pub fn of(roles: &[Role]) -> Self {
        if roles.contains(&Role::EhrSystem) {
            Self::RecordSystem
        } else if roles.contains(&Role::Clinician) {
            Self::Person
        } else {
            Self::No
        }
    }

    /// The more clinical of both: of who pays, and of who asks.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::RecordSystem, _) | (_, Self::RecordSystem) => Self::RecordSystem,
            (Self::Person, _) | (_, Self::Person) => Self::Person,
            (Self::No, Self::No) => Self::No,
        }
    }

    /// Whether it gets bands where others are refused.
    pub fn is_record_system(self) -> bool {
        self == Self::RecordSystem
    }

    /// The last step that is taken without a person.
    pub fn last_step(self) -> Step {
        match self {
            Self::RecordSystem | Self::Person => Step::BandsOnly,
            Self::No => Step::Quarantine,
        }
    }
}

/// By which rules a caller's queries about a model are judged.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Distinct rows a day, where there is a limit.
    pub rows: Option<u32>,
    /// Near rows within the window that honest use brings.
    pub near: u32,
    /// The window, seconds.
    pub window: u64,
    /// What one more counts, in strikes.
    pub near_strike: f64,
    /// What a flagged row adds to the CUSUM: ln(p1/p0).
    pub if_flagged: f64,
    /// What another adds: ln((1-p1)/(1-p0)).
    pub if_passed: f64,
    /// Whether query patterns have consequences.
    pub enforced: bool,
    /// How far these go.
    pub clinical: Clinical,
}

/// The window in which near rows are counted, hours.
const WINDOW_HOURS: f64 = 6.0;
/// Rows a day of a caller for whom a near-duplicate is a whole strike. Some honest rows are near
/// others by chance, one in a thousand as measured, so the more rows the more of them: what counts
/// is their share. A caller who spends all of any budget on near rows gets 200 strikes.
const FEW_ROWS: f64 = 200.0;
/// But so much at least: 50 near rows are a strike whatever the budget, since an attack needs no
/// more for a large one. At a million rows a day chance brings .8 strikes an hour, and one fades.
const LEAST_STRIKE: f64 = 0.02;
/// The share of flagged rows of whoever probes a model (or three times what is honest).
const PROBING: f64 = 0.15;

impl Terms {
    /// For a caller with these limits, and a model that is used as its bundle says.
    pub fn new(limits: &CallerLimits, clinical: Clinical, queries: &QueriesSpec) -> Self {
        let p0 = queries.review_rate;
        let p1 = PROBING.max(3.0 * p0).min(0.9);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small, as the bundle loader checked"
        )]
        Self {
            rows: limits.rows_per_day.limit(),
            near: (WINDOW_HOURS / queries.rescoring_hours).ceil() as u32,
            near_strike: limits.rows_per_day.limit().map_or(1.0, |rows| {
                (FEW_ROWS / f64::from(rows)).clamp(LEAST_STRIKE, 1.0)
            }),
            window: (WINDOW_HOURS * 3600.0) as u64,
            if_flagged: (p1 / p0).ln(),
            if_passed: ((1.0 - p1) / (1.0 - p0)).ln(),
            enforced: limits.patterns == Patterns::Enforce,
            clinical,
        }
    }

    /// What a step means for the caller: nothing in shadow mode.
    pub(super) fn effect(&self, step: Step) -> Step {
        if self.enforced { step } else { Step::None }
    }
}

#[cfg(test)]
mod tests {
    use super::{Clinical, Terms};
    use crate::{
        bundle::model::QueriesSpec,
        config::{CallerLimits, RowsPerDay},
    };

    #[test]
    fn a_near_row_weighs_by_the_budget_it_is_part_of() {
        let strike = |rows: u32| {
            let limits = CallerLimits {
                rows_per_day: RowsPerDay::Limited(rows),
                ..CallerLimits::DEFAULT
            };
            Terms::new(&limits, Clinical::No, &QueriesSpec::default()).near_strike
        };
        for (rows, expected) in [
            (10, 1.0),
            (200, 1.0),
            (400, 0.5),
            (10_000, 0.02),
            (1_000_000, 0.02),
        ] {
            assert!((strike(rows) - expected).abs() < 1e-12, "{rows}");
        }
    }

    /// A clinician behind a gateway is no less at a bedside.
    #[test]
    fn the_more_clinical_of_two_counts() {
        for (one, other, both) in [
            (Clinical::No, Clinical::Person, Clinical::Person),
            (Clinical::Person, Clinical::No, Clinical::Person),
            (Clinical::No, Clinical::RecordSystem, Clinical::RecordSystem),
            (Clinical::No, Clinical::No, Clinical::No),
        ] {
            assert_eq!(one.or(other), both);
        }
    }
}
