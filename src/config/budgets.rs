//! `[budgets]`: what one caller may ask for, by role; a principal's own `budget` says more.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Deserializer, Serialize, de};
use toml::de::DeTable;

use super::{
    issuers::IssuerConfig,
    principals::PrincipalConfig,
    reader::{Reader, field},
};
use crate::authz::Role;

/// Distinct rows a day of a caller whose role has no other budget.
const ROWS_PER_DAY: u32 = 200;
/// The largest budget that is counted; each of its rows takes memory.
const MOST_ROWS: u32 = 1_000_000;
/// The largest rate, burst and number of places.
const MOST: u32 = 1_000_000;

/// Distinct rows of one model that one caller may ask about in a day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowsPerDay {
    /// So many.
    Limited(u32),
    /// Any number: `"unlimited"`, for who measures models.
    Unlimited,
}

impl RowsPerDay {
    /// The limit, where there is one.
    pub fn limit(self) -> Option<u32> {
        match self {
            Self::Limited(rows) => Some(rows),
            Self::Unlimited => None,
        }
    }
}

impl<'de> Deserialize<'de> for RowsPerDay {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Rows;
        impl de::Visitor<'_> for Rows {
            type Value = RowsPerDay;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "1 to {MOST_ROWS}, or \"unlimited\"")
            }

            fn visit_i64<E: de::Error>(self, rows: i64) -> Result<RowsPerDay, E> {
                let limited = u32::try_from(rows)
                    .ok()
                    .filter(|r| (1..=MOST_ROWS).contains(r));
                limited
                    .map(RowsPerDay::Limited)
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(rows), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<RowsPerDay, E> {
                match text {
                    "unlimited" => Ok(RowsPerDay::Unlimited),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Rows)
    }
}

/// What becomes of what the query patterns find.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Patterns {
    /// The caller is answered less, step by step.
    Enforce,
    /// It is recorded and counted, and nothing else changes.
    Shadow,
}

/// A budget as it is written: of a role, or a principal's own. What is left out is the role's, or
/// the default.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Distinct rows of each model in a UTC day.
    pub rows_per_day: Option<RowsPerDay>,
    /// Requests a second, in the long run.
    pub requests_per_second: Option<u32>,
    /// Requests at once, before the rate counts.
    pub burst: Option<u32>,
    /// Requests held at once.
    pub concurrent_requests: Option<u32>,
    /// Whether query patterns have consequences.
    pub patterns: Option<Patterns>,
}

/// What one caller may ask for; nothing is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallerLimits {
    /// Distinct rows of each model in a UTC day.
    pub rows_per_day: RowsPerDay,
    /// Requests a second, in the long run.
    pub requests_per_second: u32,
    /// Requests at once, before the rate counts.
    pub burst: u32,
    /// Requests held at once.
    pub concurrent_requests: u32,
    /// Whether query patterns have consequences.
    pub patterns: Patterns,
}

impl CallerLimits {
    /// Of a caller about whom the configuration says nothing.
    pub const DEFAULT: Self = Self {
        rows_per_day: RowsPerDay::Limited(ROWS_PER_DAY),
        requests_per_second: 500,
        burst: 1000,
        concurrent_requests: 256,
        patterns: Patterns::Enforce,
    };

    fn with(self, budget: &Budget) -> Self {
        Self {
            rows_per_day: budget.rows_per_day.unwrap_or(self.rows_per_day),
            requests_per_second: budget
                .requests_per_second
                .unwrap_or(self.requests_per_second),
            burst: budget.burst.unwrap_or(self.burst),
            concurrent_requests: budget
                .concurrent_requests
                .unwrap_or(self.concurrent_requests),
            patterns: budget.patterns.unwrap_or(self.patterns),
        }
    }
}

/// `[budgets]`: a [`Budget`] for each role that has one.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(transparent)]
pub struct Budgets(BTreeMap<Role, Budget>);

impl Budgets {
    /// What a caller with these roles and this budget of its own may ask for. Of several roles
    /// with a budget the one with the most rows counts, as with what roles may do.
    pub fn limits(&self, roles: &[Role], own: &Budget) -> CallerLimits {
        let of_roles = self.0.iter().filter(|(role, _)| roles.contains(role));
        // A record system is limited, whatever it is beside that.
        let of_roles = of_roles.filter(|(role, budget)| {
            **role == Role::EhrSystem
                || !roles.contains(&Role::EhrSystem)
                || budget.rows_per_day != Some(RowsPerDay::Unlimited)
        });
        let of_roles = of_roles.map(|(_, budget)| CallerLimits::DEFAULT.with(budget));
        let rows = |limits: &CallerLimits| limits.rows_per_day.limit().map_or(u64::MAX, u64::from);
        let largest = of_roles.max_by_key(rows);
        largest.unwrap_or(CallerLimits::DEFAULT).with(own)
    }

    /// For a server that is measured: everybody's queries are looked at, and nobody is refused.
    pub fn for_measuring() -> Self {
        let budget = Budget {
            rows_per_day: Some(RowsPerDay::Unlimited),
            requests_per_second: Some(MOST),
            burst: Some(MOST),
            concurrent_requests: Some(MOST),
            patterns: Some(Patterns::Shadow),
        };
        Self(Role::ALL.map(|role| (role, budget.clone())).into())
    }

    fn says_rows(&self, role: Role) -> bool {
        self.0
            .get(&role)
            .is_some_and(|budget| budget.rows_per_day.is_some())
    }
}

impl Reader<'_> {
    /// No number is right for every hospital, so a record system's budget is asked for.
    pub(super) fn check_budgets(
        &mut self,
        table: &DeTable<'_>,
        budgets: &Budgets,
        principals: &[PrincipalConfig],
        issuers: &[IssuerConfig],
    ) {
        for (role, budget) in &budgets.0 {
            let at = field(table, "budgets", role.as_str());
            let line = at.map_or(0, |at| self.line(at));
            let place = format!("budgets: {}", role.as_str());
            self.check_budget(line, &place, budget);
            self.check_record_system(line, &place, *role == Role::EhrSystem, budget);
        }
        for principal in principals {
            let (line, name) = (principal.line, format!("principal {}", principal.name));
            self.check_budget(line, &format!("{name}: budget"), &principal.budget);
            let is_record_system = principal.roles.contains(&Role::EhrSystem);
            self.check_record_system(line, &name, is_record_system, &principal.budget);
            let asked = is_record_system && principal.budget.rows_per_day.is_none();
            if asked && !budgets.says_rows(Role::EhrSystem) {
                self.problem_at_line(line, &missing(&name));
            }
        }
        for issuer in issuers {
            let maps = issuer.roles.as_ref();
            let maps = maps.is_some_and(|m| m.roles.values().any(|r| *r == Role::EhrSystem));
            if maps && !budgets.says_rows(Role::EhrSystem) {
                self.problem_at_line(issuer.line, &missing(&format!("issuer {}", issuer.name)));
            }
        }
    }

    /// What it asks for is a hospital; without a limit its credential is the model.
    fn check_record_system(
        &mut self,
        line: usize,
        place: &str,
        is_record_system: bool,
        budget: &Budget,
    ) {
        if is_record_system && budget.rows_per_day == Some(RowsPerDay::Unlimited) {
            let problem = "rows_per_day of an ehr-system cannot be \"unlimited\"";
            self.problem_at_line(line, &format!("{place}: {problem}. {RULE}"));
        }
    }

    fn check_budget(&mut self, line: usize, place: &str, budget: &Budget) {
        for (name, value) in [
            ("requests_per_second", budget.requests_per_second),
            ("burst", budget.burst),
            ("concurrent_requests", budget.concurrent_requests),
        ] {
            if value.is_some_and(|v| !(1..=MOST).contains(&v)) {
                self.problem_at_line(line, &format!("{place}: {name} must be 1 to {MOST}"));
            }
        }
    }
}

fn missing(whose: &str) -> String {
    format!(
        "{whose}: an ehr-system needs a budget: rows_per_day is missing, here or in \
         [budgets.ehr-system]. {RULE}"
    )
}

/// How many rows a day are right for a record system.
const RULE: &str =
    "Beds × 24 / hours between scorings × 1.5, so 3600 for 200 beds scored every 2 hours";
