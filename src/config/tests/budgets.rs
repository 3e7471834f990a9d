//! What a record system's budget has to be.

use super::*;
use crate::{
    authz::Role,
    config::{Budget, RowsPerDay},
};

const SAID: &str = "[budgets.ehr-system]\n";

fn only_problem(text: &str) -> (usize, String) {
    let mut problems = parse(text).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:?}");
    let problem = problems.remove(0);
    (problem.line, problem.message)
}

#[test]
fn a_record_system_is_always_limited() {
    let text = sample_with("rows_per_day = 3600\n", "rows_per_day = \"unlimited\"\n");
    let (line, message) = only_problem(&text);
    assert_eq!(line, line_of(&text, SAID));
    let expected = "budgets: ehr-system: rows_per_day of an ehr-system cannot be \"unlimited\". \
                    Beds × 24";
    assert!(message.starts_with(expected), "{message}");

    let roles = "roles = [\"ehr-system\"]\n";
    let own = format!("{roles}budget = {{ rows_per_day = \"unlimited\" }}\n");
    let (_, message) = only_problem(&sample_with(roles, &own));
    assert!(message.contains("cannot be \"unlimited\""), "{message}");
    let evaluator = "[budgets.evaluator]\nrows_per_day = \"unlimited\"\n";
    assert!(parse(&format!("{SAMPLE}\n{evaluator}")).is_ok());
}

#[test]
fn a_record_systems_budget_has_to_be_said() {
    let problems = problems("rows_per_day = 3600\n", "");
    let missing = |(_, message): &(usize, String)| message.contains("rows_per_day is missing");
    assert!(problems.iter().all(missing), "{problems:?}");
}

/// Other roles beside it give more rows, but not any number.
#[test]
fn a_record_system_with_another_role_is_limited() {
    let evaluator = "[budgets.evaluator]\nrows_per_day = \"unlimited\"\n";
    let budgets = parse(&format!("{SAMPLE}\n{evaluator}")).unwrap().budgets;
    let rows = |roles: &[Role]| budgets.limits(roles, &Budget::default()).rows_per_day;
    assert_eq!(rows(&[Role::Evaluator]), RowsPerDay::Unlimited);
    for roles in [
        &[Role::EhrSystem][..],
        &[Role::EhrSystem, Role::Evaluator][..],
    ] {
        assert_eq!(rows(roles), RowsPerDay::Limited(3600), "{roles:?}");
    }
}
