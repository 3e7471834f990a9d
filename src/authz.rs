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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Score a patient.
    Predict,
    /// Let a prediction leave for an input that a screen flagged.
    OverrideReview,
    /// See the screens' scores beside an answer.
    ReadScores,
    /// See a prediction at full precision.
    ReadPrecise,
    /// Submit a batch of patients.
    Batch,
    /// Read a model's description or request schema.
    ReadModel,
    /// Load or unload a model version.
    Deploy,
    /// Give a model version a larger share of the requests.
    Promote,
    /// Stop a model or a caller, release it again, or make the server read-only.
    Quarantine,
    /// Read metrics and the effective configuration.
    ReadMetrics,
    /// Read the audit log's head and its records.
    ReadAudit,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 11] = [
        Self::Predict,
        Self::OverrideReview,
        Self::ReadScores,
        Self::ReadPrecise,
        Self::Batch,
        Self::ReadModel,
        Self::Deploy,
        Self::Promote,
        Self::Quarantine,
        Self::ReadMetrics,
        Self::ReadAudit,
    ];

    /// As audit records and policies write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Predict => "predict",
            Self::OverrideReview => "override-review",
            Self::ReadScores => "read-scores",
            Self::ReadPrecise => "read-precise",
            Self::Batch => "batch",
            Self::ReadModel => "read-model",
            Self::Deploy => "deploy",
            Self::Promote => "promote",
            Self::Quarantine => "quarantine",
            Self::ReadMetrics => "read-metrics",
            Self::ReadAudit => "read-audit",
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
    use Role as R;
    match action {
        Action::Predict => matches!(role, R::Clinician | R::EhrSystem | R::Evaluator),
        Action::OverrideReview => matches!(role, R::Clinician),
        Action::ReadScores | Action::ReadPrecise => matches!(role, R::Evaluator),
        Action::Batch => matches!(role, R::BatchSubmitter),
        Action::ReadModel => true,
        Action::Deploy | Action::Promote => matches!(role, R::MlEngineer),
        Action::Quarantine => matches!(role, R::Ops),
        Action::ReadMetrics => matches!(role, R::Ops | R::MlEngineer),
        Action::ReadAudit => matches!(role, R::Compliance),
    }
}
