//! Decisions already made under one policy.
//!
//! A fixed number of places, each holding the last decision that fell on it; readers and writers
//! take no lock, and a caller that asks for many names can only make others' decisions be made
//! again. A principal is recognised by its address, which a place keeps from being used again: a
//! principal whose claims changed is another one. A model is recognised by a keyed digest of its
//! name: names come from callers' paths, and what a caller wrote there must not stay in memory.

use std::{
    hash::{BuildHasher, RandomState},
    sync::Arc,
};

use arc_swap::ArcSwapOption;
use aws_lc_rs::{hmac, rand};

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

/// What a decision is about, without its name.
#[derive(Debug)]
enum About {
    Server,
    Model(hmac::Tag),
}

impl PartialEq for About {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Server, Self::Server) => true,
            (Self::Model(a), Self::Model(b)) => a.as_ref() == b.as_ref(),
            (Self::Server, Self::Model(_)) | (Self::Model(_), Self::Server) => false,
        }
    }
}

#[derive(Debug)]
struct Decision {
    principal: Arc<Principal>,
    plane: Plane,
    action: Action,
    about: About,
    verdict: Result<(), Refusal>,
}

impl Decision {
    fn answers(&self, asked: &Asked<'_>, about: &About) -> bool {
        Arc::ptr_eq(&self.principal, asked.principal)
            && (self.plane, self.action) == (asked.plane, asked.action)
            && self.about == *about
    }
}

/// Decisions already made.
#[derive(Debug)]
pub(super) struct Decisions {
    places: Box<[ArcSwapOption<Decision>]>,
    /// Keyed at random, so that nobody can aim at another's place.
    hasher: RandomState,
    /// Makes the digests of names. Without randomness nothing is remembered.
    names: Option<hmac::Key>,
}

impl Default for Decisions {
    fn default() -> Self {
        let mut key = [0u8; 32];
        let drawn = rand::fill(&mut key);
        Self {
            names: drawn.ok().map(|()| hmac::Key::new(hmac::HMAC_SHA256, &key)),
            places: (0..PLACES).map(|_| ArcSwapOption::empty()).collect(),
            hasher: RandomState::new(),
        }
    }
}

impl Decisions {
    /// The decision, if it was made before.
    pub(super) fn remembered(&self, asked: &Asked<'_>) -> Option<Result<(), Refusal>> {
        let about = self.about(asked)?;
        let decision = self.place(asked)?.load();
        let decision = decision.as_ref();
        let decision = decision.filter(|d| d.answers(asked, &about))?;
        Some(decision.verdict)
    }

    /// Keeps a decision, and passes it on.
    pub(super) fn remember(
        &self,
        asked: &Asked<'_>,
        verdict: Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        if let (Some(about), Some(place)) = (self.about(asked), self.place(asked)) {
            place.store(Some(Arc::new(Decision {
                principal: Arc::clone(asked.principal),
                plane: asked.plane,
                action: asked.action,
                about,
                verdict,
            })));
        }
        verdict
    }

    /// What it is about; none when this is not to be remembered.
    fn about(&self, asked: &Asked<'_>) -> Option<About> {
        match asked.resource {
            Resource::Model(name) if name.len() > LONGEST_NAME => None,
            Resource::Model(name) => {
                let key = self.names.as_ref()?;
                Some(About::Model(hmac::sign(key, name.as_bytes())))
            }
            Resource::Server => Some(About::Server),
        }
    }

    fn place(&self, asked: &Asked<'_>) -> Option<&ArcSwapOption<Decision>> {
        let who = Arc::as_ptr(asked.principal).addr();
        let key = (who, asked.plane, asked.action, asked.resource);
        let hash = self.hasher.hash_one(key);
        let index = usize::try_from(hash).ok()? & (PLACES - 1);
        self.places.get(index)
    }
}
