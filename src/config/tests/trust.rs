//! A release policy and all that belongs to it, or plain keys.

use super::*;

/// The `[trust]` section, replaced as a whole.
fn with_trust(section: &str) -> String {
    let start = SAMPLE.find("[trust]").unwrap();
    let end = SAMPLE.find("# A model version to serve").unwrap();
    format!("{}[trust]\n{section}\n{}", &SAMPLE[..start], &SAMPLE[end..])
}

#[test]
fn trust_is_a_policy_or_keys() {
    let keys = parse(&with_trust("keys = [\"a.pub\"]")).unwrap().trust;
    assert_eq!(keys, Trust::Keys(vec!["/etc/vitalgate/a.pub".into()]));
    let whole =
        "policy = \"p\"\npolicy_keys = [\"a\", \"b\"]\npolicy_threshold = 2\nmin_serial = 7";
    let Trust::Policy(policy) = parse(&with_trust(whole)).unwrap().trust else {
        panic!("not a policy");
    };
    assert_eq!((policy.threshold, policy.min_serial), (2, 7));
    assert_eq!(policy.state, None);

    let more = |line: &str| format!("{whole}\n{line}");
    let missing = "trust: policy is missing (or keys, for trying out)";
    for (section, wrong) in [
        (String::new(), vec![missing]),
        (whole.replace("policy = \"p\"\n", ""), vec![missing]),
        (
            "keys = []".to_owned(),
            vec!["trust: keys: name at least one public key"],
        ),
        (
            more("keys = [\"a\"]"),
            vec!["trust: policy and keys are given; choose one"],
        ),
        (
            "keys = [\"a\"]\nmin_serial = 1\nstate = \"s\"".to_owned(),
            vec![
                "trust: min_serial goes with policy, not keys",
                "trust: state goes with policy, not keys",
            ],
        ),
        (
            "policy = \"p\"".to_owned(),
            vec![
                "trust: policy_keys is missing",
                "trust: policy_threshold is missing",
                "trust: min_serial is missing",
            ],
        ),
        (
            whole.replace("threshold = 2", "threshold = 3"),
            vec!["trust: policy_threshold is 3, of 2 policy_keys"],
        ),
        (
            whole.replace("threshold = 2", "threshold = 0"),
            vec!["trust: policy_threshold is 0, of 2 policy_keys"],
        ),
        (
            whole.replace("serial = 7", "serial = 0"),
            vec!["trust: min_serial must be above 0"],
        ),
    ] {
        let found = parse(&with_trust(&section)).unwrap_err();
        let messages: Vec<&str> = found.iter().map(|p| p.message.as_str()).collect();
        assert_eq!(messages, wrong, "{section}");
        assert!(found.iter().all(|p| p.line > 0), "{found:?}");
    }
}
