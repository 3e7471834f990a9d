//! More than one factor, not long ago.

use super::*;

const MARKED: [(Role, Action); 5] = [
    (Role::Clinician, Action::OverrideReview),
    (Role::MlEngineer, Action::Deploy),
    (Role::MlEngineer, Action::Promote),
    (Role::Ops, Action::Quarantine),
    (Role::Compliance, Action::ReadAudit),
];

#[test]
fn fresh_is_enough_and_stale_or_missing_is_not() {
    let policy = policy(SHIPPED_DEFAULT);
    let factors = |multi_factor, auth_age| Factors {
        multi_factor,
        auth_age,
    };
    for (role, action) in MARKED {
        let roles = [role];
        let claims = Claims {
            authentication: "mtls+jwt",
            ..with_roles(&roles)
        };
        for (case, factors, expected) in [
            ("just now", factors(true, Some(0)), None),
            ("900 s ago", factors(true, Some(900)), None),
            (
                "901 s ago",
                factors(true, Some(901)),
                Some(Code::StepUpRequired),
            ),
            (
                "years ago",
                factors(true, Some(i64::MAX)),
                Some(Code::StepUpRequired),
            ),
            (
                "nobody knows when",
                factors(true, None),
                Some(Code::StepUpRequired),
            ),
            (
                "one factor",
                factors(false, Some(0)),
                Some(Code::StepUpRequired),
            ),
            ("a certificate", Factors::NONE, Some(Code::StepUpRequired)),
        ] {
            let verdict = judge(&policy, &question(&claims, action, factors));
            assert_eq!(code(verdict), expected, "{action:?}, {case}");
            let max_age = verdict.err().and_then(|refusal| refusal.max_age);
            assert_eq!(max_age, expected.map(|_| 900), "{action:?}, {case}");
        }
        assert!(policy.depends_on_time(action));
    }
}

/// Only whom it would help is told to step up.
#[test]
fn stepping_up_gives_no_rights() {
    let policy = policy(SHIPPED_DEFAULT);
    let roles = [Role::EhrSystem];
    let claims = with_roles(&roles);
    let asked = question(&claims, Action::OverrideReview, Factors::NONE);
    assert_eq!(code(judge(&policy, &asked)), Some(Code::Forbidden));
    let (roles, models) = ([Role::Clinician], ["sepsis".to_owned()]);
    let claims = Claims {
        models: &models,
        any_model: false,
        ..with_roles(&roles)
    };
    let asked = question(&claims, Action::OverrideReview, Factors::NONE);
    assert_eq!(code(judge(&policy, &asked)), Some(Code::ModelNotPermitted));
}

#[test]
fn only_decisions_that_read_the_age_depend_on_the_time() {
    let timed = |text: &str| -> Vec<Action> {
        let policy = policy(text);
        let timed = Action::ALL.into_iter();
        timed
            .filter(|&action| policy.depends_on_time(action))
            .collect()
    };
    assert_eq!(timed(SHIPPED_DEV), []);
    assert_eq!(timed(SHIPPED_DEFAULT), MARKED.map(|(_, action)| action));
    let permit = "permit (principal in Role::\"ops\", action == Action::\"predict\", resource)";
    assert_eq!(
        timed(&format!("{permit} when {{ context.multi_factor }};")),
        []
    );
    for condition in [
        "context has auth_age",
        "context has auth_age && context.auth_age < 60",
        "if context has auth_age then context[\"auth_age\"] == 7 else false",
        "[context].contains(context)",
        "context == context",
    ] {
        let text = format!("{permit} when {{ {condition} }};");
        assert_eq!(timed(&text), [Action::Predict], "{condition}");
    }
    let everywhere = "permit (principal, action, resource) unless { context has auth_age };";
    assert_eq!(timed(everywhere), Action::ALL);
}

#[test]
fn the_longest_age_that_will_do_is_told() {
    let roles = [Role::Ops];
    let claims = with_roles(&roles);
    for (condition, expected) in [
        ("context.multi_factor", None),
        ("context.multi_factor && context has auth_age", None),
        ("context has auth_age && context.auth_age <= 300", Some(300)),
        ("context has auth_age && context.auth_age < 300", Some(299)),
        (
            "context has auth_age && (context.auth_age < 60 || context.auth_age <= 3600)",
            Some(3600),
        ),
        ("context has auth_age && context.auth_age == 0", Some(0)),
    ] {
        let policy = policy(&format!(
            "permit (principal, action, resource) when {{ {condition} }};"
        ));
        let verdict = judge(
            &policy,
            &question(&claims, Action::Quarantine, Factors::NONE),
        );
        let refusal = verdict.unwrap_err();
        assert_eq!(
            (refusal.code, refusal.max_age),
            (Code::StepUpRequired, expected),
            "{condition}"
        );
    }
}
