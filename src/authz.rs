//! [`Principal`] → [`Grant`]: may this principal do this, to this model? Default deny.

use std::sync::Arc;

use serde::Deserialize;

use crate::{authn::Principal, disposition::Code};

/// What a principal is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// A person at the bedside.
    Clinician,
    /// A hospital's record system.
    EhrSystem,
    /// Measures models before approval.
    Evaluator,
    /// Signs, deploys and rolls back models.
    MlEngineer,
    /// Runs the server.
    Ops,
    /// Verifies the audit log.
    Compliance,
    /// Submits batches.
    BatchSubmitter,
}

/// What a principal asks to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Score a patient.
    Predict,
    /// Read a model's description or request schema.
    ReadModel,
}

impl Action {
    /// As audit records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::ReadModel => "read-model",
        }
    }
}

/// Permission for one action on one model name; made only by [`authorize`].
#[derive(Debug)]
pub struct Grant {
    principal: Arc<Principal>,
    model: String,
}

impl Grant {
    /// Who was granted it.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }
}

/// Decides. The model's existence plays no part, so a refusal does not reveal it.
pub fn authorize(principal: &Arc<Principal>, action: Action, model: &str) -> Result<Grant, Code> {
    if !may(principal, action) {
        return Err(Code::Forbidden);
    }
    if !principal.uses(model) {
        return Err(Code::ModelNotPermitted);
    }
    Ok(Grant {
        principal: Arc::clone(principal),
        model: model.to_owned(),
    })
}

/// Whether one of the principal's roles includes the action.
pub fn may(principal: &Principal, action: Action) -> bool {
    principal.roles().iter().any(|&role| permits(role, action))
}

fn permits(role: Role, action: Action) -> bool {
    match action {
        Action::Predict => matches!(role, Role::Clinician | Role::EhrSystem | Role::Evaluator),
        Action::ReadModel => match role {
            Role::Clinician
            | Role::EhrSystem
            | Role::Evaluator
            | Role::MlEngineer
            | Role::Ops
            | Role::Compliance
            | Role::BatchSubmitter => true,
        },
    }
}
