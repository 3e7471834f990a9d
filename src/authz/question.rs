//! One question to a policy.

use cedar_policy::{Context, Entities, Request, RestrictedExpression, Schema};

use super::{Action, Plane, claims::Claims, policy::Names};
use crate::authn::Principal;

/// How far the clock of whoever issued a token may be ahead of ours, seconds.
const SKEW: i64 = 60;

/// What an action is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Resource<'a> {
    /// Models of a name.
    Model(&'a str),
    /// The server, where no model is named.
    Server,
}

/// How well a person was authenticated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors {
    pub(super) multi_factor: bool,
    /// Seconds ago.
    pub(super) auth_age: Option<i64>,
}

impl Factors {
    pub(super) const NONE: Self = Self {
        multi_factor: false,
        auth_age: None,
    };

    /// More than one, this many seconds ago.
    pub(super) fn fresh(age: i64) -> Self {
        Self {
            multi_factor: true,
            auth_age: Some(age),
        }
    }

    /// As the principal's token says.
    pub(super) fn of(principal: &Principal, now: i64) -> Self {
        let age = principal.auth_time().map(|then| now.saturating_sub(then));
        Self {
            multi_factor: principal.multi_factor(),
            // An authentication that is yet to come is none.
            auth_age: age.filter(|&age| age >= -SKEW).map(|age| age.max(0)),
        }
    }
}

/// One question to a policy.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) claims: &'a Claims<'a>,
    pub(super) plane: Plane,
    pub(super) action: Action,
    pub(super) resource: Resource<'a>,
    pub(super) factors: Factors,
}

impl Question<'_> {
    /// The same, were the person authenticated otherwise.
    pub(super) fn with(&self, factors: Factors) -> Self {
        Self { factors, ..*self }
    }

    /// In Cedar's terms, held against the schema; none for what it does not foresee (an action
    /// on what it is never done to).
    pub(super) fn put(&self, names: &Names, schema: &Schema) -> Option<(Request, Entities)> {
        let Factors {
            multi_factor,
            auth_age,
        } = self.factors;
        let entity = RestrictedExpression::new_entity_uid;
        let authentication = names.authentication(self.claims.authentication);
        let known = [
            ("plane", entity(names.plane(self.plane))),
            ("authentication", entity(authentication)),
            ("multi_factor", RestrictedExpression::new_bool(multi_factor)),
        ];
        let age = auth_age.map(|age| ("auth_age", RestrictedExpression::new_long(age)));
        let pairs = known.into_iter().chain(age);
        let context = Context::from_pairs(pairs.map(|(k, v)| (k.to_owned(), v))).ok()?;
        let resource = match self.resource {
            Resource::Model(name) => names.model(name),
            Resource::Server => names.server(),
        };
        let request = Request::new(
            names.principal(self.claims.name),
            names.action(self.action),
            resource,
            context,
            Some(schema),
        );
        let entities = Entities::from_entities([self.claims.entity(names)?], None);
        Some((request.ok()?, entities.ok()?))
    }
}
