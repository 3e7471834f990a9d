//! What became of a row when it was charged.

use std::cmp::Ordering;

use super::{response::Step, terms::Terms};
use crate::disposition::Code;

/// How much of a prediction may leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// None: a person has to look.
    Withheld,
    /// Its band.
    Band,
    /// What the bundle releases.
    Full,
}

/// Why a row is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// The day's budget is spent.
    Exhausted,
    /// Too many rows like it were answered.
    NearDuplicate,
    /// The caller was slowed down, and this came too soon.
    SlowedDown,
    /// The caller may not ask about this model for the time being.
    Quarantined,
}

impl Why {
    /// As answers say it. Which pattern was found is in the audit record only.
    pub fn code(self) -> Code {
        match self {
            Self::Exhausted => Code::BudgetExhausted,
            Self::NearDuplicate | Self::SlowedDown => Code::SlowedDown,
            Self::Quarantined => Code::CallerQuarantined,
        }
    }
}

/// Something that operators are told: a metric, a line of the log, a word in the record of the
/// request that brought it about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Four fifths of a day's budget are spent.
    Alert,
    /// All of it.
    Exhausted,
    /// A row is too near to too many others.
    NearDuplicate,
    /// Too many distinct rows are flagged.
    FlagRate,
    /// The response went a step further, or several.
    Raised,
    /// It went back.
    Eased,
    /// The shared store is away: this replica's own share applies.
    StoreAway,
    /// It is back, and what was charged meanwhile is in it.
    StoreBack,
}

impl Event {
    /// Every event.
    pub const ALL: [Self; 8] = [
        Self::Alert,
        Self::Exhausted,
        Self::NearDuplicate,
        Self::FlagRate,
        Self::Raised,
        Self::Eased,
        Self::StoreAway,
        Self::StoreBack,
    ];

    /// As records and metrics write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Alert => "budget-alert",
            Self::Exhausted => "budget-exhausted",
            Self::NearDuplicate => "near-duplicate",
            Self::FlagRate => "flag-rate",
            Self::Raised => "response-raised",
            Self::Eased => "response-eased",
            Self::StoreAway => "store-away",
            Self::StoreBack => "store-back",
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Alert => 1,
            Self::Exhausted => 2,
            Self::NearDuplicate => 4,
            Self::FlagRate => 8,
            Self::Raised => 16,
            Self::Eased => 32,
            Self::StoreAway => 64,
            Self::StoreBack => 128,
        }
    }
}

/// A set of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Events(u8);

impl Events {
    /// Adds one.
    pub fn insert(&mut self, event: Event) {
        self.0 |= event.bit();
    }

    /// Whether one is in.
    pub fn contains(self, event: Event) -> bool {
        self.0 & event.bit() != 0
    }

    /// Whether none is in.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// All that are in.
    pub fn iter(self) -> impl Iterator<Item = Event> {
        Event::ALL.into_iter().filter(move |e| self.contains(*e))
    }

    pub(crate) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    /// Takes in all of another set.
    pub fn extend(&mut self, others: Self) {
        self.0 |= others.0;
    }

    pub(super) fn moved(&mut self, before: Step, after: Step) {
        match after.cmp(&before) {
            Ordering::Greater => self.insert(Event::Raised),
            Ordering::Less => self.insert(Event::Eased),
            Ordering::Equal => {}
        }
    }
}

/// Why a row is answered with less than the bundle releases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// By how far the response to the caller's queries is.
    Response,
    /// It is near to too many others.
    NearDuplicate,
    /// The day's budget is spent.
    Budget,
}

impl Limit {
    /// As records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Response => "response",
            Self::NearDuplicate => "near-duplicate",
            Self::Budget => "budget",
        }
    }
}

/// What became of a row when it was charged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How much may be answered; or why nothing is, and the seconds after which it is worth
    /// trying again (0: a person has to act).
    pub outcome: Result<Detail, (Why, u64)>,
    /// Whether it cost a row of the budget.
    pub charged: bool,
    /// Rows charged today.
    pub used: u32,
    /// How many may be: the budget; while the shared store is away, up to this server's share.
    pub quota: Option<u32>,
    /// How far the response is, shadow mode included.
    pub step: Step,
    /// What operators are told.
    pub events: Events,
}

impl Verdict {
    /// Why it is answered with less, where it is.
    pub(super) fn limit(&self, terms: &Terms) -> Option<Limit> {
        let detail = self.outcome.ok().filter(|detail| *detail < Detail::Full)?;
        Some(if terms.effect(self.step).detail() <= detail {
            Limit::Response
        } else if self.events.contains(Event::NearDuplicate) {
            Limit::NearDuplicate
        } else {
            Limit::Budget
        })
    }
}
