//! Policies that are refused, and policies that fail.

use super::*;

fn problems(text: &str) -> Vec<PolicyProblem> {
    match AccessPolicy::parse(text) {
        Err(AccessPolicyError::Faulty(problems)) => problems,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (case, text, line, words) in [
        (
            "syntax",
            "\npermit (principal, action, resource)",
            2,
            "unexpected end",
        ),
        (
            "a role nobody has",
            "permit (principal in Role::\"nurse\", action, resource);",
            1,
            "nurse",
        ),
        (
            "an action nobody does",
            "permit (principal, action == Action::\"predikt\", resource);",
            1,
            "predikt",
        ),
        (
            "an attribute",
            "permit (principal, action, resource)\nwhen { context.mfa };",
            2,
            "mfa",
        ),
        (
            "a type",
            "permit (principal, action, resource)\nwhen { context.plane == \"admin\" };",
            2,
            "not compatible",
        ),
        (
            "an unguarded attribute",
            "permit (principal, action, resource)\n\nwhen { context.auth_age < 9 };",
            3,
            "has auth_age",
        ),
        (
            "a template",
            "permit (principal, action, resource);\npermit (principal == ?principal, action, resource);",
            2,
            "template",
        ),
        ("nothing", "", 0, "permits nothing"),
        (
            "only a forbid",
            "// cut short\nforbid (principal, action, resource);",
            0,
            "permits nothing",
        ),
        (
            "one id twice",
            "@id(\"a\")\npermit (principal, action, resource);\n@id(\"a\")\nforbid (principal, action, resource);",
            0,
            "`a`",
        ),
    ] {
        let found = problems(text);
        println!("{case}: {}", found[0]);
        assert_eq!(found[0].line, line, "{case}: {found:?}");
        assert!(found[0].message.contains(words), "{case}: {found:?}");
    }
    let several = "permit (principal in Role::\"nurse\", action, resource);\n\
                   permit (principal, action == Action::\"x\", resource);";
    let lines: Vec<usize> = problems(several).iter().map(|p| p.line).collect();
    assert_eq!(lines, [1, 2]);
}

#[test]
fn no_text_stops_the_program() {
    for text in [
        "\u{0}",
        "permit",
        "((((",
        &"(".repeat(20_000),
        "@id(\"",
        "\u{feff}permit(principal,action,resource);",
    ] {
        drop(AccessPolicy::parse(text));
    }
}

/// Cedar passes over a policy whose evaluation fails; a forbid must not be lost that way.
#[test]
fn a_policy_that_fails_denies() {
    let roles = [Role::Ops];
    let claims = with_roles(&roles);
    let failing = policy(
        "permit (principal, action, resource);\n\
         forbid (principal, action, resource)\n\
         when { context has auth_age && context.auth_age + 9223372036854775807 < 0 };",
    );
    let asked = question(&claims, Action::Quarantine, Factors::NONE);
    assert!(failing.permits(&asked), "without an age nothing overflows");
    assert!(failing.permits(&asked.with(Factors::fresh(0))));
    assert!(!failing.permits(&asked.with(Factors::fresh(1))));
}

#[test]
fn what_is_too_open_is_warned_of() {
    let open = policy("permit (principal, action == Action::\"predict\", resource);");
    let warnings: Vec<String> = open.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(
        warnings,
        [
            "a principal without any role may: predict",
            "models that a principal was not granted are open to it for: predict",
        ]
    );
}

#[test]
fn a_bad_file_keeps_the_policy_in_force() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("access.cedar");
    let put = |text: &[u8]| std::fs::write(&file, text).unwrap();
    put(SHIPPED_DEV.as_bytes());
    let authorizer = Authorizer::new(AccessPolicy::load(&file).unwrap());
    let ops = Arc::new(Principal::example("ops", &[Role::Ops], &["*"]));
    let may = || {
        authorizer
            .authorize_server(Plane::Admin, &ops, Action::Quarantine)
            .is_ok()
    };
    assert!(may());
    let cut = &SHIPPED_DEV.as_bytes()[..SHIPPED_DEV.len() / 2];
    let huge = vec![b' '; (1 << 20) + 1];
    for bad in [b"" as &[u8], b"permit (", &[0xff, 0xfe], cut, &huge] {
        put(bad);
        let error = AccessPolicy::load(&file).unwrap_err();
        println!("{error}");
        assert!(may(), "a file that was refused changed something");
    }
    std::fs::remove_file(&file).unwrap();
    let error = AccessPolicy::load(&file).unwrap_err();
    assert!(error.to_string().contains("access.cedar"), "{error}");
    put(SHIPPED_DEFAULT.as_bytes());
    authorizer.replace(AccessPolicy::load(&file).unwrap());
    assert!(!may(), "the production policy asks for step-up");
}
