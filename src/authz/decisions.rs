//! Decisions already made under one policy.
//!
//! A fixed number of places, each holding the last decision that fell on it; readers and writers
//! take no lock, and a caller that asks for many names can only make others' decisions be made
//! again. A principal is recognised by its address, which a place keeps from being used again: a
//! principal whose claims changed is another one.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use arc_swap::ArcSwapOption;

use super::{Action, Plane, question::Resource};
use crate::{authn::Principal, disposition::Refusal};

/// Decisions remembered at most; a power of two.
const PLACES: usize = 4096;
/// Longest model name of a decision that is remembered, bytes: names come from callers.
const LONGEST_NAME: usize = 128;

/// What is decided about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) principal: &'a Arc<Principal>,
    pub(super) plane: Plane,
    pub(super) action: Action,
    pub(super) resource: Resource<'a>,
}

#[derive(Debug)]
struct Decision {
    principal: Arc<Principal>,
    plane: Plane,
    action: Action,
    /// The model's name; none for the server.
    model: Option<Box<str>>,
    verdict: Result<(), Refusal>,
}

impl Decision {
    fn answers(&self, asked: &Asked<'_>) -> bool {
        let resource = match &self.model {
            Some(name) => Resource::Model(name),
            None => Resource::Server,
        };
        Arc::ptr_eq(&self.principal, asked.principal)
            && (self.plane, self.action, resource) == (asked.plane, asked.action, asked.resource)
    }
}

/// Decisions already made.
#[derive(Debug)]
pub(super) struct Decisions {
    places: Box<[ArcSwapOption<Decision>]>,
    /// Keyed at random, so that nobody can aim at another's place.
    hasher: RandomState,
}

impl Default for Decisions {
    fn default() -> Self {
        Self {
            places: (0..PLACES).map(|_| ArcSwapOption::empty()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Decisions {
    /// The decision, if it was made before.
    pub(super) fn remembered(&self, asked: &Asked<'_>) -> Option<Result<(), Refusal>> {
        let decision = self.place(asked)?.load();
        let decision = decision.as_ref().filter(|d| d.answers(asked))?;
        Some(decision.verdict)
    }

    /// Keeps a decision, and passes it on.
    pub(super) fn remember(
        &self,
        asked: &Asked<'_>,
        verdict: Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let model = match asked.resource {
            Resource::Model(name) if name.len() > LONGEST_NAME => return verdict,
            Resource::Model(name) => Some(name.into()),
            Resource::Server => None,
        };
        if let Some(place) = self.place(asked) {
            place.store(Some(Arc::new(Decision {
                principal: Arc::clone(asked.principal),
                plane: asked.plane,
                action: asked.action,
                model,
                verdict,
            })));
        }
        verdict
    }

    fn place(&self, asked: &Asked<'_>) -> Option<&ArcSwapOption<Decision>> {
        let who = Arc::as_ptr(asked.principal).addr();
        let key = (who, asked.plane, asked.action, asked.resource);
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash).ok()? & (PLACES - 1);
        self.places.get(index)
    }
}
