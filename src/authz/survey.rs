//! Who may do what under a policy, found by asking it: every role, every action, on every plane
//! and resource the action is done on.

use std::collections::BTreeSet;

use super::{
    AccessPolicy, Action, Plane, PolicyProblem, Role,
    claims::Claims,
    judge,
    question::{Factors, Question, Resource},
};
use crate::disposition::Code;

/// Ways to be authenticated, as audit records write them.
const AUTHENTICATIONS: [&str; 3] = ["mtls", "jwt", "mtls+jwt"];
/// Names that no policy is likely to speak of.
const SOMEBODY: &str = "(any principal)";
const SOME_MODEL: &str = "(any model)";

/// Whether a role may do something, somewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// No.
    Never,
    /// Yes, however it was authenticated.
    Always,
    /// Yes, when authenticated in one way and not in another.
    Sometimes,
    /// Once more than one factor was shown, at most this many seconds ago where that matters.
    StepUp(Option<u32>),
}

/// What one action is permitted to.
#[derive(Debug)]
pub struct Row {
    /// What is done.
    pub action: Action,
    /// Where: which listener, and to a model or to the server; none when that makes no difference.
    pub place: Option<(Plane, &'static str)>,
    /// For each role, in the order of [`Role::ALL`].
    pub cells: Vec<Cell>,
}

/// Who may do what under a policy.
#[derive(Debug)]
pub struct Survey {
    /// By action, in the order of [`Action::ALL`].
    pub rows: Vec<Row>,
    warnings: Vec<PolicyProblem>,
}

impl Survey {
    /// Asks the policy.
    pub fn of(policy: &AccessPolicy) -> Self {
        let mut rows = Vec::new();
        for action in Action::ALL {
            let mut places: Vec<Row> = places(action)
                .map(|(plane, resource, kind)| Row {
                    action,
                    place: Some((plane, kind)),
                    cells: Role::ALL
                        .map(|role| cell(policy, &[role], plane, action, resource))
                        .to_vec(),
                })
                .collect();
            let same = places.windows(2).all(|w| match w {
                [a, b] => a.cells == b.cells,
                _ => true,
            });
            if same {
                places.truncate(1);
                for row in &mut places {
                    row.place = None;
                }
            }
            rows.append(&mut places);
        }
        Self {
            rows,
            warnings: warnings(policy),
        }
    }

    /// What a policy should hardly permit.
    pub(super) fn warnings(self) -> Vec<PolicyProblem> {
        self.warnings
    }
}

/// Where an action is done, and to what.
fn places(action: Action) -> impl Iterator<Item = (Plane, Resource<'static>, &'static str)> {
    use Action as A;
    let planes: &[Plane] = match action {
        A::Predict
        | A::PredictStat
        | A::OverrideReview
        | A::ReadScores
        | A::ReadPrecise
        | A::Batch => &[Plane::Data],
        A::ReadModel => &[Plane::Data, Plane::Admin],
        A::Deploy | A::Promote | A::Quarantine | A::ReadMetrics | A::ReadAudit => &[Plane::Admin],
    };
    let model = (Resource::Model(SOME_MODEL), "model");
    let server = (Resource::Server, "server");
    let resources = match action {
        A::Predict
        | A::PredictStat
        | A::OverrideReview
        | A::ReadScores
        | A::ReadPrecise
        | A::Batch => vec![model],
        A::ReadModel | A::Deploy | A::Promote | A::Quarantine => vec![model, server],
        A::ReadMetrics | A::ReadAudit => vec![server],
    };
    planes.iter().flat_map(move |&plane| {
        let resources = resources.clone();
        resources.into_iter().map(move |(r, kind)| (plane, r, kind))
    })
}

fn claims<'a>(roles: &'a [Role], any_model: bool, authentication: &'a str) -> Claims<'a> {
    Claims {
        name: SOMEBODY,
        roles,
        models: &[],
        any_model,
        authentication,
    }
}

fn cell(
    policy: &AccessPolicy,
    roles: &[Role],
    plane: Plane,
    action: Action,
    resource: Resource<'_>,
) -> Cell {
    let asked = AUTHENTICATIONS.map(|authentication| {
        let claims = claims(roles, true, authentication);
        let question = Question {
            claims: &claims,
            plane,
            action,
            resource,
            factors: Factors::NONE,
        };
        match judge(policy, &question) {
            Ok(()) => Cell::Always,
            Err(refusal) if refusal.code == Code::StepUpRequired => Cell::StepUp(refusal.max_age),
            Err(_) => Cell::Never,
        }
    });
    let [first, ..] = asked;
    if asked.iter().all(|cell| *cell == first) {
        first
    } else {
        Cell::Sometimes
    }
}

fn warnings(policy: &AccessPolicy) -> Vec<PolicyProblem> {
    let permitted = |roles: &[Role], any_model: bool, resources: &[&str]| -> Vec<&'static str> {
        let named = Action::ALL.into_iter().filter(|&action| {
            places(action).any(|(plane, resource, kind)| {
                let claims = claims(roles, any_model, AUTHENTICATIONS[0]);
                let question = Question {
                    claims: &claims,
                    plane,
                    action,
                    resource,
                    factors: Factors::fresh(0),
                };
                resources.contains(&kind) && policy.permits(&question)
            })
        });
        named.map(Action::as_str).collect()
    };
    let warning = |message: String| PolicyProblem { line: 0, message };
    let mut warnings = Vec::new();
    let nobody = permitted(&[], true, &["model", "server"]);
    if !nobody.is_empty() {
        warnings.push(warning(format!(
            "a principal without any role may: {}",
            nobody.join(", ")
        )));
    }
    let beyond: BTreeSet<&str> = Role::ALL
        .into_iter()
        .flat_map(|role| permitted(&[role], false, &["model"]))
        .collect();
    if !beyond.is_empty() {
        let beyond: Vec<&str> = beyond.into_iter().collect();
        warnings.push(warning(format!(
            "models that a principal was not granted are open to it for: {}",
            beyond.join(", ")
        )));
    }
    warnings
}
