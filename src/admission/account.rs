//! What one caller has in hand, and what it has asked about.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU32, Ordering},
    },
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};
use metrics::SharedString;

use super::shown::{Requests, Shown};
use crate::{
    authz::Role,
    config::CallerLimits,
    disposition::{Code, Refusal},
    extraction::{Clinical, Ledger, Step},
};

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// A caller: its limits, its rate, its places, and for each model its ledger.
#[derive(Debug)]
pub struct Account {
    name: Box<str>,
    label: SharedString,
    limits: CallerLimits,
    clinical: Clinical,
    spent: Arc<Spent>,
}

/// What a caller has asked about one model today.
#[derive(Debug)]
pub(crate) struct Today {
    /// The model.
    pub(crate) model: String,
    /// Distinct rows.
    pub(crate) rows: u32,
    /// How far the response to it is.
    pub(crate) step: Step,
}

/// What a caller has taken. Another of its tokens may have other roles, and so other limits, but
/// each limit counts all that the caller asks.
#[derive(Debug, Default)]
struct Spent {
    rates: RwLock<Vec<Rate>>,
    in_flight: AtomicU32,
    ledgers: Mutex<BTreeMap<Box<str>, Ledger>>,
}

/// One of a caller's rates.
#[derive(Debug)]
struct Rate {
    per_second: u32,
    burst: u32,
    limiter: Limiter,
}

impl Rate {
    fn new(per_second: u32, burst: u32) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(per_second)).allow_burst(at_least_one(burst));
        Self {
            per_second,
            burst,
            limiter: DefaultDirectRateLimiter::direct(quota).with_middleware(),
        }
    }

    fn is_of(&self, limits: &CallerLimits) -> bool {
        self.per_second == limits.requests_per_second && self.burst == limits.burst
    }
}

impl Spent {
    /// Sees that there is a rate for these limits. One beside others starts without its burst,
    /// so that other roles are not another one.
    fn have_rate(&self, limits: &CallerLimits) {
        let mut rates = self.rates.write().unwrap_or_else(PoisonError::into_inner);
        if rates.iter().any(|rate| rate.is_of(limits)) {
            return;
        }
        let rate = Rate::new(limits.requests_per_second, limits.burst);
        if !rates.is_empty()
            && let Some(all_but_one) = NonZeroU32::new(limits.burst.saturating_sub(1))
        {
            let _taken = rate.limiter.check_n(all_but_one);
        }
        // Limits of before a reload are counted no longer once there are many.
        if rates.len() >= MOST_RATES {
            rates.remove(0);
        }
        rates.push(rate);
    }
}

/// Rates of one caller at most: more than roles give.
const MOST_RATES: usize = 64;

/// A place among a caller's requests in flight; given back when dropped.
#[derive(Debug)]
pub struct Place(Arc<Spent>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Account {
    pub(super) fn new(
        name: &str,
        label: SharedString,
        limits: CallerLimits,
        roles: &[Role],
    ) -> Self {
        Self::of(name, label, limits, roles, Arc::default())
    }

    /// The same caller with other limits: what it has taken and asked about is not forgotten.
    pub(super) fn with(&self, limits: CallerLimits, roles: &[Role]) -> Self {
        let spent = Arc::clone(&self.spent);
        Self::of(&self.name, self.label.clone(), limits, roles, spent)
    }

    fn of(
        name: &str,
        label: SharedString,
        limits: CallerLimits,
        roles: &[Role],
        spent: Arc<Spent>,
    ) -> Self {
        spent.have_rate(&limits);
        Self {
            name: name.into(),
            label,
            limits,
            clinical: Clinical::of(roles),
            spent,
        }
    }

    pub(super) fn is(&self, limits: &CallerLimits, roles: &[Role]) -> bool {
        self.limits == *limits && self.clinical == Clinical::of(roles)
    }

    /// The caller's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As metrics name it.
    pub fn label(&self) -> SharedString {
        self.label.clone()
    }

    /// What it may ask for.
    pub fn limits(&self) -> &CallerLimits {
        &self.limits
    }

    /// How far automatic consequences go for its own requests.
    pub fn clinical(&self) -> Clinical {
        self.clinical
    }

    /// Counts a request against the rate.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub fn pace(&self, shown: &mut Shown) -> Result<(), Refusal> {
        let (burst, rate) = (self.limits.burst, self.limits.requests_per_second);
        let rates = self.spent.rates.read();
        let rates = rates.unwrap_or_else(PoisonError::into_inner);
        let own = rates.iter().find(|rate| rate.is_of(&self.limits));
        match own.map(|own| own.limiter.check()) {
            Some(Ok(left)) => {
                for other in rates.iter().filter(|rate| !rate.is_of(&self.limits)) {
                    // It counts what it can; its own requests it refuses by itself.
                    let _counted = other.limiter.check();
                }
                let remaining = left.remaining_burst_capacity();
                shown.requests = Some(Requests::new(burst, rate, remaining));
                Ok(())
            }
            Some(Err(until)) => {
                shown.requests = Some(Requests::new(burst, rate, 0));
                let wait = until.wait_time_from(DefaultClock::default().now());
                Err(Refusal::after(Code::RateLimited, wait))
            }
            // Limits of before a reload, of which there were too many.
            None => Err(Code::RateLimited.into()),
        }
    }

    /// Takes one of the caller's places.
    ///
    /// # Errors
    /// `TOO_MANY_AT_ONCE`.
    pub fn place(&self) -> Result<Place, Code> {
        let most = self.limits.concurrent_requests;
        let one_more = |taken: u32| (taken < most).then_some(taken + 1);
        let in_flight = &self.spent.in_flight;
        let taken = in_flight.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more);
        taken
            .map(|_| Place(Arc::clone(&self.spent)))
            .map_err(|_| Code::TooManyAtOnce)
    }

    /// Works on what the caller asked about a model, over all its versions and paths.
    pub fn with_ledger<T>(&self, model: &str, work: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledgers = self
            .spent
            .ledgers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        match ledgers.get_mut(model) {
            Some(ledger) => work(ledger),
            None => work(ledgers.entry(model.into()).or_default()),
        }
    }

    /// Looks at every model's ledger.
    pub(crate) fn each_ledger(&self, mut look: impl FnMut(&str, &mut Ledger)) {
        let mut ledgers = self
            .spent
            .ledgers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        for (model, ledger) in ledgers.iter_mut() {
            look(model, ledger);
        }
    }

    /// What it has asked about each model today, at `now` in seconds since the epoch.
    pub(crate) fn asked(&self, now: u64) -> Vec<Today> {
        let mut asked = Vec::new();
        self.each_ledger(|model, ledger| {
            // The step first: where a day has begun, it begins here too.
            let step = ledger.current(self.clinical, now);
            asked.push(Today {
                model: model.to_owned(),
                rows: ledger.used(),
                step,
            });
        });
        asked
    }

    /// Whether forgetting it would give nothing back: nothing in flight, and no ledger that says
    /// anything.
    pub(super) fn is_spent(&self, now: u64) -> bool {
        let mut blank = self.spent.in_flight.load(Ordering::Acquire) == 0;
        self.each_ledger(|_, ledger| blank &= ledger.is_blank(now));
        blank
    }
}
