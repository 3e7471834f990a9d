//! [`Grant`] → [`Admission`]: may this request take up the server's time, before its body is read.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    authz::Grant,
    bundle::LoadedModel,
    containment::Containment,
    disposition::{Code, Refusal},
};

/// A place among the requests in flight, and the model version the request keeps to its end,
/// whatever is deployed meanwhile. Made only by [`Admitter::admit`]; given back when dropped.
#[derive(Debug)]
pub struct Admission {
    model: Arc<LoadedModel>,
    _place: OwnedSemaphorePermit,
}

impl Admission {
    /// The model the request was admitted to.
    pub fn model(&self) -> &Arc<LoadedModel> {
        &self.model
    }
}

/// Bounds the requests in flight over all callers, and keeps them from models that are stopped.
#[derive(Debug)]
pub struct Admitter {
    places: Arc<Semaphore>,
    capacity: usize,
    containment: Arc<Containment>,
}

impl Admitter {
    /// With this many places.
    pub fn new(places: usize, containment: Arc<Containment>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(places)),
            capacity: places,
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

    /// Takes a place for a request to `model`, which must be the one the grant names, and whose
    /// approval must not have run out, and which nobody has stopped.
    pub fn admit(&self, grant: &Grant, model: Arc<LoadedModel>) -> Result<Admission, Refusal> {
        grant.lets_patients_in(&model.spec().name)?;
        if !model.is_approved_now() {
            return Err(Code::PolicyExpired.into());
        }
        self.containment.check_model(&model)?;
        match Arc::clone(&self.places).try_acquire_owned() {
            Ok(place) => Ok(Admission {
                model,
                _place: place,
            }),
            Err(_) => Err(Code::Overloaded.into()),
        }
    }
}
