//! What is remembered, and when it is forgotten.

use std::thread;

use super::*;

fn asked<'a>(principal: &'a Arc<Principal>, action: Action, model: &'a str) -> Asked<'a> {
    Asked {
        principal,
        plane: place(action).0,
        action,
        resource: Resource::Model(model),
    }
}

fn clinician(models: &[&str]) -> Arc<Principal> {
    Arc::new(Principal::example("clinician", &[Role::Clinician], models))
}

#[test]
fn a_decision_is_remembered_as_it_was_made() {
    let authorizer = Authorizer::new(policy(SHIPPED_DEFAULT));
    let principal = clinician(&["sepsis"]);
    for (action, model, expected) in [
        (Action::Predict, "sepsis", None),
        (Action::Predict, "other", Some(Code::ModelNotPermitted)),
        (Action::Batch, "sepsis", Some(Code::Forbidden)),
    ] {
        let asked = asked(&principal, action, model);
        assert!(
            authorizer
                .in_force
                .load()
                .decisions
                .remembered(&asked)
                .is_none()
        );
        for _ in 0..2 {
            assert_eq!(
                code(authorizer.decide(&asked, 0)),
                expected,
                "{action:?} {model}"
            );
        }
        let in_force = authorizer.in_force.load();
        assert_eq!(
            in_force.decisions.remembered(&asked).map(code),
            Some(expected)
        );
        // The same question on the other plane, or about the server, is another question.
        let other = Asked {
            plane: Plane::Admin,
            ..asked
        };
        assert!(in_force.decisions.remembered(&other).is_none());
        let other = Asked {
            resource: Resource::Server,
            ..asked
        };
        assert!(in_force.decisions.remembered(&other).is_none());
    }
}

#[test]
fn what_depends_on_the_time_is_not_remembered() {
    let authorizer = Authorizer::new(policy(SHIPPED_DEFAULT));
    let principal = clinician(&["*"]);
    let asked = asked(&principal, Action::OverrideReview, "sepsis");
    assert_eq!(
        code(authorizer.decide(&asked, 0)),
        Some(Code::StepUpRequired)
    );
    assert!(
        authorizer
            .in_force
            .load()
            .decisions
            .remembered(&asked)
            .is_none()
    );
}

#[test]
fn another_policy_forgets_everything() {
    let authorizer = Authorizer::new(policy(SHIPPED_DEV));
    let principal = clinician(&["*"]);
    let asked = asked(&principal, Action::OverrideReview, "sepsis");
    assert_eq!(authorizer.decide(&asked, 0), Ok(()));
    authorizer.replace(policy(SHIPPED_DEFAULT));
    assert_eq!(
        code(authorizer.decide(&asked, 0)),
        Some(Code::StepUpRequired)
    );
    authorizer.replace(policy(SHIPPED_DEV));
    assert_eq!(authorizer.decide(&asked, 0), Ok(()));
}

#[test]
fn changed_claims_are_decided_anew() {
    let authorizer = Authorizer::new(policy(SHIPPED_DEFAULT));
    // One after the other at, most likely, the same address.
    for (models, expected) in [
        (["sepsis"], None),
        (["other"], Some(Code::ModelNotPermitted)),
        (["sepsis"], None),
    ] {
        let principal = clinician(&models);
        let asked = asked(&principal, Action::Predict, "sepsis");
        assert_eq!(code(authorizer.decide(&asked, 0)), expected, "{models:?}");
    }
}

#[test]
fn a_name_longer_than_any_model_s_is_not_remembered() {
    let authorizer = Authorizer::new(policy(SHIPPED_DEFAULT));
    let principal = clinician(&["*"]);
    let name = "m".repeat(129);
    let asked = asked(&principal, Action::Predict, &name);
    assert_eq!(authorizer.decide(&asked, 0), Ok(()));
    assert!(
        authorizer
            .in_force
            .load()
            .decisions
            .remembered(&asked)
            .is_none()
    );
}

#[test]
fn a_permission_to_read_is_none_to_predict() {
    let authorizer = Authorizer::new(policy(SHIPPED_DEFAULT));
    let evaluator = Principal::example("evaluator", &[Role::Evaluator], &["*"]);
    let evaluator = Arc::new(evaluator);
    let grant = |action| authorizer.authorize(Plane::Data, &evaluator, action, "sepsis");
    for action in [Action::ReadModel, Action::ReadScores, Action::ReadPrecise] {
        let let_in = grant(action).unwrap().lets_patients_in("sepsis");
        assert_eq!(let_in, Err(Code::Forbidden), "{action:?}");
    }
    let predict = grant(Action::Predict).unwrap();
    assert_eq!(predict.lets_patients_in("sepsis"), Ok(()));
    assert_eq!(
        predict.lets_patients_in("other"),
        Err(Code::ModelNotPermitted)
    );
}

/// Many callers, many names, and policies that change under them: never a wrong decision.
#[test]
fn decisions_stay_right_under_contention() {
    let authorizer = Authorizer::new(policy(SHIPPED_DEFAULT));
    thread::scope(|scope| {
        for caller in 0..4 {
            let authorizer = &authorizer;
            scope.spawn(move || {
                let own = format!("own-{caller}");
                let principal = clinician(&[&own]);
                for round in 0..2000 {
                    let other = format!("own-{}", (caller + 1 + round % 3) % 4);
                    let may = asked(&principal, Action::Predict, &own);
                    assert_eq!(authorizer.decide(&may, 0), Ok(()));
                    let not = asked(&principal, Action::Predict, &other);
                    assert_eq!(
                        code(authorizer.decide(&not, 0)),
                        Some(Code::ModelNotPermitted)
                    );
                }
            });
        }
        for _ in 0..20 {
            authorizer.replace(policy(SHIPPED_DEFAULT));
        }
    });
}
