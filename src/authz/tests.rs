use super::*;

mod faulty;
mod remembered;
mod shipped;
mod step_up;
mod surveyed;

fn policy(text: &str) -> AccessPolicy {
    AccessPolicy::parse(text).unwrap()
}

fn shipped() -> [(&'static str, AccessPolicy); 2] {
    [
        ("default", policy(SHIPPED_DEFAULT)),
        ("dev", policy(SHIPPED_DEV)),
    ]
}

/// A principal with a certificate and models of any name.
fn with_roles(roles: &[Role]) -> Claims<'_> {
    Claims {
        name: "somebody",
        roles,
        models: &[],
        any_model: true,
        authentication: "mtls",
    }
}

/// Where an action is done, and to what.
fn place(action: Action) -> (Plane, Resource<'static>) {
    match action {
        Action::Predict
        | Action::PredictStat
        | Action::OverrideReview
        | Action::ReadScores
        | Action::ReadPrecise
        | Action::Batch
        | Action::ReadModel => (Plane::Data, Resource::Model("icu-mortality")),
        Action::Deploy | Action::Promote | Action::Quarantine => {
            (Plane::Admin, Resource::Model("icu-mortality"))
        }
        Action::ReadMetrics | Action::ReadAudit => (Plane::Admin, Resource::Server),
    }
}

/// The question whether `claims` may do `action` where it is done.
fn question<'a>(claims: &'a Claims<'a>, action: Action, factors: Factors) -> Question<'a> {
    let (plane, resource) = place(action);
    Question {
        claims,
        plane,
        action,
        resource,
        factors,
    }
}

fn code(verdict: Result<(), Refusal>) -> Option<Code> {
    verdict.err().map(|refusal| refusal.code)
}
