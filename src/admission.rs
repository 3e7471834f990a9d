//! [`Grant`] → [`Admission`]: may this request take up the server's time, before its body is read.
//!
//! Three bounds, a caller's own before the one that all share, so that one noisy caller cannot
//! drain the others: its rate ([`Admitter::pace`], GCRA), its requests in flight, and then the
//! places that the server has; fewer of these are worked on at once, and the others wait for their
//! turn ([`Turns`]). A caller is who pays ([`Authenticator::payer`]): connections,
//! addresses and tokens of the same one are counted together.
//!
//! [`Authenticator::payer`]: crate::authn::Authenticator::payer

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    authn::Principal,
    authz::Grant,
    bundle::LoadedModel,
    config::Budgets,
    containment::Containment,
    disposition::{Code, Refusal},
    extraction::Clinical,
    urgency::{Priority, Urgency},
};

mod account;
mod accounts;
mod shown;
mod turns;

pub(crate) use account::Today;
pub use account::{Account, Place};
pub use accounts::{Accounts, UNLISTED};
pub use shown::{Requests, Rows, Shown};
pub use turns::{Turn, Turns};

/// A request that its caller's rate allows; made only by [`Admitter::pace`].
#[derive(Debug)]
pub struct Paced {
    account: Arc<Account>,
}

/// A place among the requests in flight, and the model version the request keeps to its end,
/// whatever is deployed meanwhile. Made only by [`Admitter::admit`]; given back when dropped.
#[derive(Debug)]
pub struct Admission {
    model: Arc<LoadedModel>,
    account: Arc<Account>,
    clinical: Clinical,
    _own: Place,
    _place: OwnedSemaphorePermit,
}

impl Admission {
    /// The model the request was admitted to.
    pub fn model(&self) -> &Arc<LoadedModel> {
        &self.model
    }

    /// Who pays for what the request learns.
    pub fn account(&self) -> &Arc<Account> {
        &self.account
    }

    /// How far automatic consequences go for who asks.
    pub fn clinical(&self) -> Clinical {
        self.clinical
    }
}

/// Bounds the requests in flight, of each caller and over all, and keeps them from models that
/// are stopped.
#[derive(Debug)]
pub struct Admitter {
    accounts: Accounts,
    places: Arc<Semaphore>,
    capacity: usize,
    turns: Arc<Turns>,
    containment: Arc<Containment>,
}

impl Admitter {
    /// With this many places, of which this many are active at once, and these budgets by role.
    pub fn new(
        places: usize,
        active: usize,
        budgets: Budgets,
        containment: Arc<Containment>,
    ) -> Self {
        Self {
            accounts: Accounts::new(budgets),
            places: Arc::new(Semaphore::new(places)),
            capacity: places,
            turns: Turns::new(active, places),
            containment,
        }
    }

    /// How many requests may be in flight at once.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// How many are.
    pub fn in_flight(&self) -> usize {
        self.capacity
            .saturating_sub(self.places.available_permits())
    }

    /// The callers that are known.
    pub fn accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// Counts a request against its caller's rate, whatever it asks for. What is left of the rate
    /// is noted in `shown`.
    ///
    /// # Errors
    /// `RATE_LIMITED`.
    pub fn pace(&self, payer: &Principal, shown: &mut Shown) -> Result<Paced, Refusal> {
        let account = self.accounts.of(payer);
        account.pace(shown)?;
        Ok(Paced { account })
    }

    /// Takes a place for a request to `model`, which must be the one the grant names, and whose
    /// approval must not have run out, and which nobody has stopped.
    ///
    /// # Errors
    /// `TOO_MANY_AT_ONCE` when the caller holds as many as it may, `OVERLOADED` when the server
    /// does, or why the model takes nobody in.
    pub fn admit(
        &self,
        grant: &Grant,
        Paced { account }: Paced,
        model: Arc<LoadedModel>,
        priority: Priority,
    ) -> Result<Admission, Refusal> {
        grant.lets_patients_in(&model.spec().name)?;
        if !model.is_approved_now() {
            return Err(Code::PolicyExpired.into());
        }
        self.containment.check_model(&model)?;
        let own = account.place()?;
        // The last places are for what is more urgent.
        if self.in_flight() >= priority.share(self.capacity) {
            return Err(Code::Overloaded.into());
        }
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Ok(Admission {
                model,
                // A clinician may ask through a gateway that pays.
                clinical: account
                    .clinical()
                    .or(Clinical::of(grant.principal().roles())),
                account,
                _own: own,
                _place: place,
            }),
            Err(_) => Err(Code::Overloaded.into()),
        }
    }

    /// Waits for the turn of an admitted request whose body is there.
    ///
    /// # Errors
    /// `OVERLOADED`, `DEADLINE_PASSED` or `CALLER_GONE`.
    pub async fn turn(
        &self,
        admission: &Admission,
        urgency: Urgency,
        gone: impl Future<Output = ()>,
    ) -> Result<Turn, Code> {
        let caller = admission.account.name();
        self.turns.take(caller, urgency, gone).await
    }
}
