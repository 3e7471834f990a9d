//! What a policy is told of a principal.

use std::collections::{HashMap, HashSet};

use cedar_policy::{Entity, EntityUid, RestrictedExpression};

use super::{Role, policy::Names};
use crate::authn::Principal;

/// What a policy is told of a principal, but for the time.
#[derive(Clone, Debug)]
pub(super) struct Claims<'a> {
    pub(super) name: &'a str,
    pub(super) roles: &'a [Role],
    pub(super) models: &'a [String],
    pub(super) any_model: bool,
    pub(super) authentication: &'a str,
}

impl<'a> Claims<'a> {
    pub(super) fn of(principal: &'a Principal) -> Self {
        let models = principal.models();
        Self {
            name: principal.name(),
            roles: principal.roles(),
            models,
            any_model: models.iter().any(|name| name == "*"),
            authentication: principal.authentication(),
        }
    }

    /// The same principal, were it granted every model.
    pub(super) fn with_any_model(&self) -> Self {
        Self {
            any_model: true,
            ..self.clone()
        }
    }

    /// The same principal, did it show a token as well.
    pub(super) fn with_token(&self) -> Self {
        let authentication = match self.authentication {
            "mtls" => "mtls+jwt",
            other => other,
        };
        Self {
            authentication,
            ..self.clone()
        }
    }

    /// As an entity. Names go in as values and are never parsed, whatever is in them.
    pub(super) fn entity(&self, names: &Names) -> Option<Entity> {
        let models = self.models.iter().filter(|name| *name != "*");
        let models = models.map(|name| RestrictedExpression::new_entity_uid(names.model(name)));
        let attributes = HashMap::from([
            ("models".to_owned(), RestrictedExpression::new_set(models)),
            (
                "any_model".to_owned(),
                RestrictedExpression::new_bool(self.any_model),
            ),
        ]);
        let roles: HashSet<EntityUid> = self.roles.iter().map(|&r| names.role(r)).collect();
        Entity::new(names.principal(self.name), attributes, roles).ok()
    }
}
