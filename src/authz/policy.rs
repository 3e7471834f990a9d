//! An access policy: Cedar text that holds against the schema.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

use cedar_policy::{
    Authorizer as Cedar, Decision, Effect, EntityId, EntityTypeName, EntityUid, Policy, PolicyId,
    PolicySet, Schema, ValidationMode, Validator,
};
use miette::Diagnostic;
use thiserror::Error;

use super::{
    Action, Plane, Role,
    question::{Factors, Question},
    survey::Survey,
};
use crate::{error_chain::printable, named_file};

mod time;
use time::Timing;

/// Who may do what, where the configuration names no policy: `schemas/default.cedar`.
pub const SHIPPED_DEFAULT: &str = include_str!("../../schemas/default.cedar");
/// Who may do what under `vitalgate dev`, whose certificates are enough: `schemas/dev.cedar`.
pub const SHIPPED_DEV: &str = include_str!("../../schemas/dev.cedar");
const SCHEMA: &str = include_str!("../../schemas/vitalgate.cedarschema");

/// Largest policy or schema file, bytes.
const MAX_FILE: u64 = 1 << 20;

/// One thing wrong with an access policy or its schema, or worth a second look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyProblem {
    /// From 1; 0 when it concerns the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for PolicyProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

/// Why there is no access policy to put in force.
#[derive(Debug, Error)]
pub enum AccessPolicyError {
    /// A file could not be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The policy or the schema.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is no policy, or does not hold against the schema.
    #[error("{}", listed(.0))]
    Faulty(Vec<PolicyProblem>),
}

fn listed(problems: &[PolicyProblem]) -> String {
    let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
    list.join("; ")
}

/// An access policy that holds against its schema.
#[derive(Debug)]
pub struct AccessPolicy {
    policies: PolicySet,
    schema: Schema,
    names: Names,
    timing: Timing,
    warnings: Vec<PolicyProblem>,
}

impl AccessPolicy {
    /// The shipped default.
    pub fn shipped() -> Result<Self, AccessPolicyError> {
        Self::parse(SHIPPED_DEFAULT)
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, AccessPolicyError> {
        Self::parse(&read(path)?)
    }

    /// Reads a file, and holds it against another schema than the program's own.
    pub fn load_against(path: &Path, schema: &Path) -> Result<Self, AccessPolicyError> {
        let text = read(schema)?;
        let schema = parse_schema(&text, &format!("{}: ", schema.display()))?;
        Self::parse_against(&read(path)?, schema)
    }

    /// Reads a policy.
    pub fn parse(text: &str) -> Result<Self, AccessPolicyError> {
        Self::parse_against(text, parse_schema(SCHEMA, "schema: ")?)
    }

    fn parse_against(text: &str, schema: Schema) -> Result<Self, AccessPolicyError> {
        let faulty = AccessPolicyError::Faulty;
        let policies: PolicySet = text
            .parse()
            .map_err(|error: cedar_policy::ParseErrors| faulty(problems("", &error, text)))?;
        let policies = by_their_ids(policies).map_err(|problem| faulty(vec![problem]))?;
        let validator = Validator::new(schema.clone());
        let found = validator.validate(&policies, ValidationMode::Strict);
        let mut wrong: Vec<PolicyProblem> = found
            .validation_errors()
            .flat_map(|error| problems("", error, text))
            .chain(without_effect(&policies, text))
            .collect();
        if !wrong.is_empty() {
            wrong.sort_by_key(|problem| problem.line);
            return Err(faulty(wrong));
        }
        let names = Names::new().ok_or_else(|| faulty(Vec::new()))?;
        let mut policy = Self {
            timing: Timing::of(&policies),
            policies,
            schema,
            names,
            warnings: Vec::new(),
        };
        policy.warnings = found
            .validation_warnings()
            .flat_map(|warning| problems("", warning, text))
            .chain(Survey::of(&policy).warnings())
            .collect();
        Ok(policy)
    }

    /// What is allowed but worth a second look, such as models beyond a principal's list.
    pub fn warnings(&self) -> &[PolicyProblem] {
        &self.warnings
    }

    /// How many policies it is made of.
    pub fn count(&self) -> usize {
        self.policies.num_of_policies()
    }

    /// Whether some policy speaks of one principal or one model by name, which no table of roles
    /// shows.
    pub fn is_particular(&self) -> bool {
        let named = |uid: &EntityUid| {
            *uid.type_name() == self.names.principal_type
                || *uid.type_name() == self.names.model_type
        };
        self.policies
            .policies()
            .any(|policy| policy.entity_literals().iter().any(named))
    }

    /// Whether a decision about the action may change as time goes by.
    pub(super) fn depends_on_time(&self, action: Action) -> bool {
        self.timing.depends(action)
    }

    /// Whether it permits this. Default deny; a policy that cannot be evaluated denies too, since
    /// Cedar would pass over a forbid that fails.
    pub(super) fn permits(&self, question: &Question<'_>) -> bool {
        let Some((request, entities)) = question.put(&self.names, &self.schema) else {
            return false;
        };
        let response = Cedar::new().is_authorized(&request, &self.policies, &entities);
        let mut errors = response.diagnostics().errors().peekable();
        if let Some(error) = errors.peek() {
            tracing::error!(%error, "the access policy failed; denied");
            return false;
        }
        response.decision() == Decision::Allow
    }

    /// How long ago more than one factor may have been shown for the question to be answered with
    /// yes: the longest of the ages that the policy itself names; none when any would do.
    pub(super) fn longest_age(&self, question: &Question<'_>) -> Option<u32> {
        let permits = |age: i64| self.permits(&question.with(Factors::fresh(age)));
        if permits(i64::from(u32::MAX)) {
            return None;
        }
        let ages = self.timing.ages(question.action);
        ages.into_iter()
            .find(|&age| permits(i64::from(age)))
            .or(Some(0))
    }
}

fn parse_schema(text: &str, prefix: &str) -> Result<Schema, AccessPolicyError> {
    match Schema::from_cedarschema_str(text) {
        Ok((schema, _warnings)) => Ok(schema),
        Err(error) => Err(AccessPolicyError::Faulty(problems(prefix, &error, text))),
    }
}

/// Names policies by their `@id`, so that a message can.
fn by_their_ids(policies: PolicySet) -> Result<PolicySet, PolicyProblem> {
    if policies.num_of_templates() > 0 {
        return Ok(policies);
    }
    let named = policies
        .policies()
        .map(|policy| match policy.annotation("id") {
            Some(id) if !id.is_empty() => policy.new_id(PolicyId::new(id)),
            _ => policy.clone(),
        });
    PolicySet::from_policies(named).map_err(|error| PolicyProblem {
        line: 0,
        message: printable(&error.to_string()),
    })
}

/// What is well-formed and yet cannot be meant.
fn without_effect(policies: &PolicySet, text: &str) -> Vec<PolicyProblem> {
    let mut found: Vec<PolicyProblem> = policies
        .templates()
        .map(|template| PolicyProblem {
            line: line_of(text, &template.to_string()),
            message: "a template has no effect here; write the principal or resource out".into(),
        })
        .collect();
    let permits = |policy: &Policy| policy.effect() == Effect::Permit;
    if found.is_empty() && !policies.policies().any(permits) {
        // More likely a file cut short than an intention.
        found.push(PolicyProblem {
            line: 0,
            message: "it permits nothing to anybody".into(),
        });
    }
    found
}

/// Reads a file of bounded size.
fn read(path: &Path) -> Result<String, AccessPolicyError> {
    named_file::read_text(path, MAX_FILE).map_err(|source| AccessPolicyError::Unreadable {
        path: path.to_path_buf(),
        source,
    })
}

/// What a diagnostic and those related to it say, each with the line it points at.
fn problems(prefix: &str, diagnostic: &dyn Diagnostic, text: &str) -> Vec<PolicyProblem> {
    let label = diagnostic.labels().and_then(|mut labels| labels.next());
    let words = label.as_ref().and_then(|label| label.label());
    let words = words.map(|words| format!(": {words}"));
    let help = diagnostic.help().map(|help| format!(" ({help})"));
    let message = [Some(format!("{prefix}{diagnostic}")), words, help];
    let message: String = message.into_iter().flatten().collect();
    let first = PolicyProblem {
        line: label.map_or(0, |label| line_at(text, label.offset())),
        message: printable(&message),
    };
    let related = diagnostic.related().into_iter().flatten();
    [first]
        .into_iter()
        .chain(related.flat_map(|other| problems(prefix, other, text)))
        .collect()
}

fn line_at(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|&b| b == b'\n').count()
}

fn line_of(text: &str, part: &str) -> usize {
    text.find(part).map_or(0, |offset| line_at(text, offset))
}

/// The schema's names, as Cedar holds them.
#[derive(Debug)]
pub(super) struct Names {
    principal_type: EntityTypeName,
    model_type: EntityTypeName,
    role_type: EntityTypeName,
    plane_type: EntityTypeName,
    authentication_type: EntityTypeName,
    action_type: EntityTypeName,
    server: EntityUid,
}

impl Names {
    fn new() -> Option<Self> {
        let server: EntityTypeName = "Server".parse().ok()?;
        Some(Self {
            principal_type: "Principal".parse().ok()?,
            model_type: "Model".parse().ok()?,
            role_type: "Role".parse().ok()?,
            plane_type: "Plane".parse().ok()?,
            authentication_type: "Authentication".parse().ok()?,
            action_type: "Action".parse().ok()?,
            server: EntityUid::from_type_name_and_id(server, EntityId::new("vitalgate")),
        })
    }

    pub(super) fn principal(&self, name: &str) -> EntityUid {
        uid(&self.principal_type, name)
    }

    pub(super) fn model(&self, name: &str) -> EntityUid {
        uid(&self.model_type, name)
    }

    pub(super) fn role(&self, role: Role) -> EntityUid {
        uid(&self.role_type, role.as_str())
    }

    pub(super) fn plane(&self, plane: Plane) -> EntityUid {
        uid(&self.plane_type, plane.as_str())
    }

    pub(super) fn authentication(&self, name: &str) -> EntityUid {
        uid(&self.authentication_type, name)
    }

    pub(super) fn action(&self, action: Action) -> EntityUid {
        uid(&self.action_type, action.as_str())
    }

    pub(super) fn server(&self) -> EntityUid {
        self.server.clone()
    }
}

fn uid(kind: &EntityTypeName, id: &str) -> EntityUid {
    EntityUid::from_type_name_and_id(kind.clone(), EntityId::new(id))
}
