//! What one caller has in hand, and what it has asked about.

use std::{
    collections::BTreeMap,
    num::NonZeroU32,
    sync::{Arc, Mutex, PoisonError},
};

use governor::{
    DefaultDirectRateLimiter, Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed},
};
use metrics::SharedString;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::shown::{Requests, Shown};
use crate::{
    authz::Role,
    config::CallerLimits,
    disposition::{Code, Refusal},
    extraction::{Clinical, Ledger},
};

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// A caller: its limits, its rate, its places, and for each model its ledger.
#[derive(Debug)]
pub struct Account {
    name: Box<str>,
    label: SharedString,
    limits: CallerLimits,
    clinical: Clinical,
    rate: Limiter,
    places: Arc<Semaphore>,
    ledgers: Arc<Mutex<BTreeMap<Box<str>, Ledger>>>,
}

impl Account {
    pub(super) fn new(
        name: &str,
        label: SharedString,
        limits: CallerLimits,
        roles: &[Role],
    ) -> Self {
        let at_least_one = |n: u32| NonZeroU32::new(n).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(at_least_one(limits.requests_per_second))
            .allow_burst(at_least_one(limits.burst));
        Self {
            name: name.into(),
            label,
            limits,
            clinical: Clinical::of(roles),
            rate: DefaultDirectRateLimiter::direct(quota).with_middleware(),
            places: Arc::new(Semaphore::new(
                usize::try_from(limits.concurrent_requests).unwrap_or(Semaphore::MAX_PERMITS),
            )),
            ledgers: Arc::default(),
        }
    }

    /// The same caller with other limits: what it asked about is not forgotten.
    pub(super) fn with(&self, limits: CallerLimits, roles: &[Role]) -> Self {
        Self {
            ledgers: Arc::clone(&self.ledgers),
            ..Self::new(&self.name, self.label.clone(), limits, roles)
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

    /// How far automatic consequences go.
    pub fn clinical(&self) -> Clinical {
        self.clinical
    }

    /// Counts a request against the rate.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub fn pace(&self, shown: &mut Shown) -> Result<(), Refusal> {
        let (burst, rate) = (self.limits.burst, self.limits.requests_per_second);
        match self.rate.check() {
            Ok(left) => {
                let remaining = left.remaining_burst_capacity();
                shown.requests = Some(Requests::new(burst, rate, remaining));
                Ok(())
            }
            Err(until) => {
                shown.requests = Some(Requests::new(burst, rate, 0));
                let wait = until.wait_time_from(DefaultClock::default().now());
                Err(Refusal::after(Code::RateLimited, wait))
            }
        }
    }

    /// Takes one of the caller's places.
    ///
    /// # Errors
    /// `TOO_MANY_AT_ONCE`.
    pub fn place(&self) -> Result<OwnedSemaphorePermit, Code> {
        let place = Arc::clone(&self.places).try_acquire_owned();
        place.map_err(|_| Code::TooManyAtOnce)
    }

    /// Works on what the caller asked about a model, over all its versions and paths.
    pub fn with_ledger<T>(&self, model: &str, work: impl FnOnce(&mut Ledger) -> T) -> T {
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        match ledgers.get_mut(model) {
            Some(ledger) => work(ledger),
            None => work(ledgers.entry(model.into()).or_default()),
        }
    }

    /// Looks at every model's ledger.
    pub(crate) fn each_ledger(&self, mut look: impl FnMut(&str, &mut Ledger)) {
        let mut ledgers = self.ledgers.lock().unwrap_or_else(PoisonError::into_inner);
        for (model, ledger) in ledgers.iter_mut() {
            look(model, ledger);
        }
    }

    /// Whether forgetting it would give nothing back: nothing in flight, and no ledger that says
    /// anything.
    pub(super) fn is_spent(&self, now: u64) -> bool {
        let mut blank = self.places.available_permits()
            == usize::try_from(self.limits.concurrent_requests).unwrap_or(usize::MAX);
        self.each_ledger(|_, ledger| blank &= ledger.is_blank(now));
        blank
    }
}
