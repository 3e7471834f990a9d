//! What the table of `vitalgate policy check` says of policies other than the shipped ones.

use super::*;

/// The rows of one action: where, and the clinician's cell.
fn rows(text: &str, action: Action) -> Vec<(Option<(Plane, &'static str)>, Cell)> {
    let survey = Survey::of(&policy(text));
    let rows = survey.rows.into_iter().filter(|row| row.action == action);
    rows.map(|row| (row.place, row.cells[0])).collect()
}

#[test]
fn an_action_that_differs_by_place_has_a_row_for_each() {
    let on_admin = "permit (principal in Role::\"clinician\", action, resource is Server)\n\
                    when { context.plane == Plane::\"admin\" };";
    assert_eq!(
        rows(on_admin, Action::ReadModel),
        [
            (Some((Plane::Data, "model")), Cell::Never),
            (Some((Plane::Data, "server")), Cell::Never),
            (Some((Plane::Admin, "model")), Cell::Never),
            (Some((Plane::Admin, "server")), Cell::Always),
        ]
    );
    assert_eq!(rows(on_admin, Action::Predict), [(None, Cell::Never)]);
}

#[test]
fn how_the_caller_was_authenticated_may_matter() {
    let permit = |condition: &str| {
        format!(
            "permit (principal in Role::\"clinician\", action, resource) when {{ {condition} }};"
        )
    };
    for (condition, cell) in [
        (
            "context.authentication == Authentication::\"mtls\"",
            Cell::Sometimes,
        ),
        (
            "context.authentication != Authentication::\"jwt\"",
            Cell::Sometimes,
        ),
        ("context.multi_factor", Cell::StepUp(None)),
        (
            "context.multi_factor && context has auth_age && context.auth_age < 60",
            Cell::StepUp(Some(59)),
        ),
    ] {
        assert_eq!(
            rows(&permit(condition), Action::Predict),
            [(None, cell)],
            "{condition}"
        );
    }
    assert!(
        AccessPolicy::parse(&permit(
            "context.authentication == Authentication::\"MTLS\""
        ))
        .is_err()
    );
}

/// Who comes with a certificate alone can step up to both.
#[test]
fn a_token_beside_the_certificate_can_be_asked_for() {
    let both = policy(
        "permit (principal, action, resource)\n\
         when { context.authentication == Authentication::\"mtls+jwt\" && context.multi_factor };",
    );
    for (authentication, expected) in [
        ("mtls", Code::StepUpRequired),
        ("jwt", Code::Forbidden),
        ("mtls+jwt", Code::StepUpRequired),
    ] {
        let claims = Claims {
            authentication,
            ..with_roles(&[])
        };
        let asked = question(&claims, Action::Deploy, Factors::NONE);
        assert_eq!(
            code(judge(&both, &asked)),
            Some(expected),
            "{authentication}"
        );
    }
}

#[test]
fn what_is_said_of_single_names_is_not_in_the_table() {
    for (text, expected) in [
        (
            "permit (principal == Principal::\"ada\", action, resource);",
            true,
        ),
        (
            "permit (principal, action, resource == Model::\"sepsis\");",
            true,
        ),
        (
            "permit (principal in Role::\"ops\", action, resource is Model);",
            false,
        ),
    ] {
        assert_eq!(policy(text).is_particular(), expected, "{text}");
    }
}
