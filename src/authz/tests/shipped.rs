//! The shipped policies, role by role and action by action.

use std::sync::LazyLock;

use proptest::{collection::vec, prelude::*};

use super::*;

/// Who may do what, by hand: `y` yes, `s` with step-up (without, under the policy of `dev`).
/// Columns as in [`Role::ALL`].
const MATRIX: [(Action, &str); 12] = [
    (Action::Predict, "yyy...."),
    (Action::PredictStat, "yyy...."),
    (Action::OverrideReview, "s......"),
    (Action::ReadScores, "..y...."),
    (Action::ReadPrecise, "..y...."),
    (Action::Batch, "......y"),
    (Action::ReadModel, "yyyyyyy"),
    (Action::Deploy, "...s..."),
    (Action::Promote, "...s..."),
    (Action::Quarantine, "....s.."),
    (Action::ReadMetrics, "...yyy."),
    (Action::ReadAudit, ".....s."),
];

#[test]
fn every_role_may_do_what_the_matrix_says_and_nothing_else() {
    for (name, policy) in shipped() {
        assert!(
            policy.warnings().is_empty(),
            "{name}: {:?}",
            policy.warnings()
        );
        assert!(!policy.is_particular());
        for (action, row) in MATRIX {
            for (role, expected) in Role::ALL.into_iter().zip(row.chars()) {
                let roles = [role];
                let claims = with_roles(&roles);
                let asked = question(&claims, action, Factors::NONE);
                let (bare, fresh) = (
                    judge(&policy, &asked),
                    judge(&policy, &asked.with(Factors::fresh(0))),
                );
                let found = match (bare, fresh) {
                    (Ok(()), Ok(())) => 'y',
                    (Err(refusal), Ok(())) => {
                        assert_eq!(refusal.code, Code::StepUpRequired);
                        's'
                    }
                    (Err(bare), Err(fresh)) => {
                        assert_eq!(
                            (bare, fresh),
                            (Code::Forbidden.into(), Code::Forbidden.into())
                        );
                        '.'
                    }
                    (Ok(()), Err(refusal)) => panic!("more factors are worth less: {refusal:?}"),
                };
                let expected = if name == "dev" && expected == 's' {
                    'y'
                } else {
                    expected
                };
                assert_eq!(found, expected, "{name}: {role:?}, {action:?}");
            }
        }
    }
}

#[test]
fn the_survey_finds_the_same() {
    for (name, policy) in shipped() {
        let survey = Survey::of(&policy);
        let found: Vec<(Action, String)> = survey
            .rows
            .iter()
            .map(|row| {
                assert_eq!(row.place, None, "{name}: {:?} differs by place", row.action);
                let cells = row.cells.iter().map(|cell| match cell {
                    Cell::Never => '.',
                    Cell::Always => 'y',
                    Cell::StepUp(Some(900)) => 's',
                    Cell::Sometimes | Cell::StepUp(_) => panic!("{name}: {cell:?}"),
                });
                (row.action, cells.collect())
            })
            .collect();
        let expected = MATRIX.map(|(action, row)| {
            let row = if name == "dev" {
                row.replace('s', "y")
            } else {
                row.to_owned()
            };
            (action, row)
        });
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn without_a_role_nothing_is_permitted() {
    for (name, policy) in shipped() {
        let claims = with_roles(&[]);
        for action in Action::ALL {
            let asked = question(&claims, action, Factors::fresh(0));
            assert_eq!(
                code(judge(&policy, &asked)),
                Some(Code::Forbidden),
                "{name}: {action:?}"
            );
        }
    }
}

/// Roles that a token or a file may name and the schema does not.
#[test]
fn an_unknown_role_is_not_a_role() {
    for text in [
        "\"nurse\"",
        "\"Clinician\"",
        "\"\"",
        "\"clinician \"",
        "\"superuser\"",
    ] {
        assert!(serde_json::from_str::<Role>(text).is_err(), "{text}");
    }
    let names: Vec<String> = Role::ALL
        .iter()
        .map(|r| format!("\"{}\"", r.as_str()))
        .collect();
    for (name, role) in names.iter().zip(Role::ALL) {
        assert_eq!(serde_json::from_str::<Role>(name).unwrap(), role);
        // And it is one of the schema's: a policy may speak of it.
        policy(&format!(
            "permit (principal in Role::{name}, action, resource);"
        ));
    }
}

#[test]
fn no_set_of_roles_may_do_what_none_of_its_roles_may() {
    for (name, policy) in shipped() {
        for action in Action::ALL {
            let permitted = |roles: &[Role]| {
                let claims = with_roles(roles);
                policy.permits(&question(&claims, action, Factors::fresh(0)))
            };
            let single = Role::ALL.map(|role| permitted(&[role]));
            for set in 0..1_u32 << Role::ALL.len() {
                let has = |index: usize| set & (1 << index) != 0;
                let roles: Vec<Role> = (0..Role::ALL.len())
                    .filter(|&i| has(i))
                    .map(|i| Role::ALL[i])
                    .collect();
                let expected = (0..Role::ALL.len()).any(|i| has(i) && single[i]);
                assert_eq!(
                    permitted(&roles),
                    expected,
                    "{name}: {action:?} by {roles:?}"
                );
            }
        }
    }
}

#[test]
fn a_principal_has_its_own_models_only() {
    let models = ["icu-mortality".to_owned(), "sepsis".to_owned()];
    for (name, policy) in shipped() {
        for (action, row) in MATRIX {
            for (role, cell) in Role::ALL.into_iter().zip(row.chars()) {
                let roles = [role];
                let claims = Claims {
                    models: &models,
                    any_model: false,
                    ..with_roles(&roles)
                };
                let asked = question(&claims, action, Factors::fresh(0));
                let Resource::Model(_) = asked.resource else {
                    continue;
                };
                let own = judge(&policy, &asked);
                let other = |resource| judge(&policy, &Question { resource, ..asked });
                for model in ["breast-cancer", "icu-mortality ", "ICU-mortality", "*", ""] {
                    let found = code(other(Resource::Model(model)));
                    let expected = match cell {
                        '.' => Code::Forbidden,
                        _ => Code::ModelNotPermitted,
                    };
                    assert_eq!(
                        found,
                        Some(expected),
                        "{name}: {role:?} {action:?} {model:?}"
                    );
                }
                assert_eq!(own.is_ok(), cell != '.', "{name}: {role:?} {action:?}");
            }
        }
    }
}

#[test]
fn what_runs_the_server_is_not_asked_on_the_data_plane() {
    let everything = with_roles(&Role::ALL);
    for (name, policy) in shipped() {
        for action in Action::ALL {
            let asked = question(&everything, action, Factors::fresh(0));
            assert!(policy.permits(&asked), "{name}: {action:?}");
            let (plane, _) = place(action);
            let on_data = Question {
                plane: Plane::Data,
                ..asked
            };
            assert_eq!(
                policy.permits(&on_data),
                plane == Plane::Data,
                "{name}: {action:?}"
            );
        }
    }
}

#[test]
fn an_action_is_done_only_on_what_the_schema_says() {
    let everything = with_roles(&Role::ALL);
    let open = policy("permit (principal, action, resource);");
    for (action, resource) in [
        (Action::Predict, Resource::Server),
        (Action::ReadScores, Resource::Server),
        (Action::ReadAudit, Resource::Model("icu-mortality")),
        (Action::ReadMetrics, Resource::Model("icu-mortality")),
    ] {
        let asked = question(&everything, action, Factors::fresh(0));
        assert!(open.permits(&asked));
        assert!(!open.permits(&Question { resource, ..asked }), "{action:?}");
    }
}

const INJECTIONS: [&str; 8] = [
    "\"",
    "x\" in Role::\"ops",
    "\"); permit(principal, action, resource); //",
    "Principal::\"admin\"",
    "admin\u{0}",
    "\u{202e}nimda",
    "аdmin",
    "\\u{61}dmin",
];

/// Names are values: whatever is in one, it is another name and nothing else.
#[test]
fn a_hostile_name_is_just_another_name() {
    let text =
        format!("permit (principal == Principal::\"admin\", action, resource);\n{SHIPPED_DEV}");
    let policy = policy(&text);
    let long = "admin".repeat(200_000);
    for name in INJECTIONS.into_iter().chain([long.as_str(), "", "admin "]) {
        let claims = Claims {
            name,
            ..with_roles(&[])
        };
        let asked = question(&claims, Action::Quarantine, Factors::fresh(0));
        assert!(!policy.permits(&asked), "{name:.40?}");
        // Nor does it stand in the way of what the roles say.
        let claims = Claims {
            name,
            ..with_roles(&[Role::Ops])
        };
        let asked = question(&claims, Action::Quarantine, Factors::NONE);
        assert!(policy.permits(&asked), "{name:.40?}");
    }
    let admin = Claims {
        name: "admin",
        ..with_roles(&[])
    };
    assert!(policy.permits(&question(&admin, Action::Quarantine, Factors::NONE)));
}

static DEFAULT: LazyLock<AccessPolicy> = LazyLock::new(|| policy(SHIPPED_DEFAULT));

proptest! {

    /// Any name and any list of models: only the models listed, byte for byte.
    #[test]
    fn any_name_and_any_models(name in ".*", models in vec("[^*]{1,12}", 0..4), other in ".*") {
        let claims = Claims {
            name: &name,
            models: &models,
            any_model: false,
            ..with_roles(&[Role::Clinician])
        };
        let asked = question(&claims, Action::Predict, Factors::NONE);
        for model in &models {
            let resource = Resource::Model(model);
            let found = DEFAULT.permits(&Question { resource, ..asked });
            prop_assert!(found);
        }
        let resource = Resource::Model(&other);
        let found = DEFAULT.permits(&Question { resource, ..asked });
        prop_assert_eq!(found, models.contains(&other));
    }
}
