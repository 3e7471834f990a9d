//! [`Principal`] → [`Grant`]: may this principal do this, to this model? Default deny.
//!
//! Who may do what is a Cedar policy ([`AccessPolicy`]), not code: the shipped one or the
//! operator's own, held against the schema in `schemas/vitalgate.cedarschema` before it is in
//! force. A decision costs some microseconds, so it is remembered; one that depends on the time
//! (how long ago a person showed more than one factor) never is.

use std::sync::Arc;

use arc_swap::ArcSwap;
use serde::Deserialize;

use crate::{
    authn::Principal,
    clock,
    disposition::{Code, Refusal},
};

mod claims;
mod decisions;
mod policy;
mod question;
mod survey;

use claims::Claims;
use decisions::{Asked, Decisions};
pub use policy::{AccessPolicy, AccessPolicyError, PolicyProblem, SHIPPED_DEFAULT, SHIPPED_DEV};
use question::{Factors, Question, Resource};
pub use survey::{Cell, Row, Survey};

/// What a principal is.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
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

impl Role {
    /// Every role.
    pub const ALL: [Self; 7] = [
        Self::Clinician,
        Self::EhrSystem,
        Self::Evaluator,
        Self::MlEngineer,
        Self::Ops,
        Self::Compliance,
        Self::BatchSubmitter,
    ];

    /// As the configuration and policies write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clinician => "clinician",
            Self::EhrSystem => "ehr-system",
            Self::Evaluator => "evaluator",
            Self::MlEngineer => "ml-engineer",
            Self::Ops => "ops",
            Self::Compliance => "compliance",
            Self::BatchSubmitter => "batch-submitter",
        }
    }
}

/// What a principal asks to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Score a patient.
    Predict,
    /// Score a patient before others.
    PredictStat,
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
    pub const ALL: [Self; 12] = [
        Self::Predict,
        Self::PredictStat,
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
            Self::PredictStat => "predict-stat",
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

/// The listener that was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plane {
    /// Predictions and descriptions.
    Data,
    /// What runs the server.
    Admin,
}

impl Plane {
    /// As policies write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Data => "data",
            Self::Admin => "admin",
        }
    }
}

/// Permission for one action on one model name; made only by [`Authorizer::authorize`].
#[derive(Debug)]
pub struct Grant {
    principal: Arc<Principal>,
    action: Action,
    model: String,
}

impl Grant {
    /// Who was granted it.
    pub fn principal(&self) -> &Principal {
        &self.principal
    }

    /// What was granted.
    pub fn action(&self) -> Action {
        self.action
    }

    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Whether patients may be given to a model of this name: a permission to read about a model
    /// is none to use it.
    pub(crate) fn lets_patients_in(&self, model: &str) -> Result<(), Code> {
        let uses = [Action::Predict, Action::OverrideReview, Action::Batch];
        if model != self.model {
            Err(Code::ModelNotPermitted)
        } else if uses.contains(&self.action) {
            Ok(())
        } else {
            Err(Code::Forbidden)
        }
    }
}

#[cfg(test)]
impl Grant {
    /// As if the policy had permitted it.
    pub(crate) fn example(action: Action, model: &str) -> Self {
        Self {
            principal: Arc::new(Principal::example("somebody", &[], &["*"])),
            action,
            model: model.to_owned(),
        }
    }
}

/// A policy and what it decided so far. They are replaced together, so that no decision outlives
/// the policy it came from.
#[derive(Debug)]
struct InForce {
    policy: AccessPolicy,
    decisions: Decisions,
}

/// Decides by the policy in force.
#[derive(Debug)]
pub struct Authorizer {
    in_force: ArcSwap<InForce>,
}

impl Authorizer {
    /// Puts a policy in force.
    pub fn new(policy: AccessPolicy) -> Self {
        Self {
            in_force: ArcSwap::from_pointee(InForce::new(policy)),
        }
    }

    /// Puts another policy in force, from the next decision on.
    pub fn replace(&self, policy: AccessPolicy) {
        self.in_force.store(Arc::new(InForce::new(policy)));
    }

    /// May the principal do this to models of this name? Their existence plays no part, so a
    /// refusal does not reveal it.
    ///
    /// # Errors
    /// `FORBIDDEN`, `MODEL_NOT_PERMITTED` or `STEP_UP_REQUIRED`, whichever would have to change.
    pub fn authorize(
        &self,
        plane: Plane,
        principal: &Arc<Principal>,
        action: Action,
        model: &str,
    ) -> Result<Grant, Refusal> {
        let asked = Asked {
            principal,
            plane,
            action,
            resource: Resource::Model(model),
        };
        self.decide(&asked, now())?;
        Ok(Grant {
            principal: Arc::clone(principal),
            action,
            model: model.to_owned(),
        })
    }

    /// May the principal do this, where no model is named?
    ///
    /// # Errors
    /// `FORBIDDEN` or `STEP_UP_REQUIRED`.
    pub fn authorize_server(
        &self,
        plane: Plane,
        principal: &Arc<Principal>,
        action: Action,
    ) -> Result<(), Refusal> {
        let asked = Asked {
            principal,
            plane,
            action,
            resource: Resource::Server,
        };
        self.decide(&asked, now())
    }

    fn decide(&self, asked: &Asked<'_>, now: i64) -> Result<(), Refusal> {
        let in_force = self.in_force.load();
        if in_force.policy.depends_on_time(asked.action) {
            return in_force.judge(asked, now);
        }
        in_force.decisions.remembered(asked).unwrap_or_else(|| {
            in_force
                .decisions
                .remember(asked, in_force.judge(asked, now))
        })
    }
}

impl InForce {
    fn new(policy: AccessPolicy) -> Self {
        Self {
            policy,
            decisions: Decisions::default(),
        }
    }

    fn judge(&self, asked: &Asked<'_>, now: i64) -> Result<(), Refusal> {
        judge(
            &self.policy,
            &Question {
                claims: &Claims::of(asked.principal),
                plane: asked.plane,
                action: asked.action,
                resource: asked.resource,
                factors: Factors::of(asked.principal, now),
            },
        )
    }
}

/// Asks the policy; when it says no, asks what would have to change.
fn judge(policy: &AccessPolicy, question: &Question<'_>) -> Result<(), Refusal> {
    if policy.permits(question) {
        return Ok(());
    }
    let with_token = question.claims.with_token();
    let stepped_up = Question {
        claims: &with_token,
        factors: Factors::fresh(0),
        ..*question
    };
    if policy.permits(&stepped_up) {
        return Err(Refusal {
            max_age: policy.longest_age(&stepped_up),
            ..Code::StepUpRequired.into()
        });
    }
    let granted = with_token.with_any_model();
    let with_model = Question {
        claims: &granted,
        ..stepped_up
    };
    Err(match question.resource {
        Resource::Model(_) if policy.permits(&with_model) => Code::ModelNotPermitted.into(),
        Resource::Model(_) | Resource::Server => Code::Forbidden.into(),
    })
}

/// Unix seconds.
fn now() -> i64 {
    i64::try_from(clock::since_epoch().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
