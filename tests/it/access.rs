//! Who may do what is a policy: the file named is the one in force, and a bad one serves nobody.

use std::{fs, path::Path, process::Output};

use serde_json::Value;
use vitalgate::authz::{SHIPPED_DEFAULT, SHIPPED_DEV};

use crate::harness::{
    Answer, Book, ICU_PATIENT, Server, Site, Wire, client, post, request, run_to_end, wait_until,
};

const SECTION: &str = "[authorization]\npolicy = \"access.cedar\"\n\n";

fn site_with(policy: &str) -> Site {
    let mut site = Site::new();
    site.config
        .insert_str(site.config.find("[audit]").unwrap(), SECTION);
    fs::write(site.path().join("access.cedar"), policy).unwrap();
    site
}

/// Asks once, over a connection of its own.
fn ask(server: &Server, site: &Site, who: &str, request: &[u8]) -> Answer {
    let mut wire = Wire::open(server, &client(site, who));
    wire.send(request);
    wire.answer()
}

#[test]
fn the_policy_named_is_in_force() {
    let site = site_with(
        "forbid (principal, action == Action::\"predict\", resource == Model::\"icu-mortality\")\n\
         unless { principal == Principal::\"ops\" };\n\
         permit (principal, action, resource) when { principal.any_model };\n",
    );
    let server = Server::start(&site);
    let log = server.log();
    assert!(
        log.contains("access.cedar") && log.contains("without any role"),
        "{log}"
    );
    let predict = |model: &str| {
        let (path, body) = (
            format!("/v1/models/{model}/predict"),
            ICU_PATIENT.as_bytes(),
        );
        request("POST", &path, "Content-Type: application/json\r\n", body)
    };
    for (who, model, status, code) in [
        ("clinician", "icu-mortality", 403, "FORBIDDEN"),
        ("ops", "icu-mortality", 200, ""),
        // Wrong for this model, but the policy lets it in.
        ("clinician", "breast-cancer", 422, "REJECTED_INPUT"),
        ("ehr", "breast-cancer", 403, "MODEL_NOT_PERMITTED"),
    ] {
        let answer = ask(&server, &site, who, &predict(model));
        assert_eq!(answer.status, status, "{who}, {model}");
        if status != 200 {
            assert_eq!(answer.code(), code, "{who}, {model}");
        }
    }
    let list = request("GET", "/v1/models", "", b"");
    assert_eq!(ask(&server, &site, "nobody", &list).code(), "FORBIDDEN");
    let models = ask(&server, &site, "ops", &list).json();
    assert_eq!(models["models"].as_array().unwrap().len(), 2);
}

/// A policy may ask anything to be stepped up to; a certificate falls short, and is told how.
#[test]
fn a_certificate_is_no_step_up() {
    let text = SHIPPED_DEFAULT.replace("[Action::\"override-review\",", "[Action::\"predict\",");
    assert_ne!(text, SHIPPED_DEFAULT);
    let (site, mut book) = (site_with(&text), Book::default());
    let mut server = Server::start(&site);
    for model in ["icu-mortality", "no-such-model"] {
        let mut wire = Wire::open(&server, &client(&site, "clinician"));
        let answer = post(
            &mut wire,
            &format!("/v1/models/{model}/predict"),
            ICU_PATIENT.as_bytes(),
        );
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "STEP_UP_REQUIRED")
        );
        assert_eq!(
            answer.header("www-authenticate").unwrap(),
            "Bearer error=\"insufficient_user_authentication\", \
             error_description=\"More than one factor is required\", max_age=\"900\""
        );
        book.expect(model, wire.source, &["401 STEP_UP_REQUIRED"]);
        // Whom it would not help is not told.
        let mut wire = Wire::open(&server, &client(&site, "ops"));
        let answer = post(
            &mut wire,
            &format!("/v1/models/{model}/predict"),
            ICU_PATIENT.as_bytes(),
        );
        assert_eq!(answer.code(), "FORBIDDEN");
        assert!(answer.header("www-authenticate").is_none());
        book.expect(model, wire.source, &["403 FORBIDDEN"]);
    }
    book.close(&mut server);
}

/// Whole, as an operator should: a file that is written in place is seen half-written.
fn replace(site: &Site, policy: &str) {
    let path = site.path().join("access.cedar");
    let staged = path.with_extension("new");
    fs::write(&staged, policy).unwrap();
    fs::rename(staged, path).unwrap();
}

/// On one connection, open all the while.
#[test]
fn a_changed_policy_is_in_force_without_a_restart_and_a_bad_one_is_not() {
    let site = site_with(SHIPPED_DEV);
    let server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let mut ask = || {
        wire.send(&request("GET", "/v1/models/icu-mortality/schema", "", b""));
        let answer = wire.answer();
        match answer.status {
            200 => "described".to_owned(),
            _ => answer.code(),
        }
    };
    assert_eq!(ask(), "described");
    let forbid = "forbid (principal in Role::\"clinician\", action, resource);\n";
    replace(&site, &format!("{forbid}{SHIPPED_DEV}"));
    wait_until("the new policy", || ask() == "FORBIDDEN");

    replace(&site, &SHIPPED_DEV.replace("clinician", "clinican"));
    wait_until("the bad policy to be refused", || {
        server.log().contains("NOT RELOADED")
    });
    let log = server.log();
    let line = log.lines().find(|l| l.contains("NOT RELOADED")).unwrap();
    assert!(
        line.contains("access policy") && line.contains("clinican"),
        "{line}"
    );
    assert_eq!(ask(), "FORBIDDEN", "a bad policy took effect");

    replace(&site, SHIPPED_DEV);
    wait_until("the mended policy", || ask() == "described");
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_bad_policy_starts_nothing_and_is_found_by_check() {
    let bad = "permit (principal, action, resource)\nwhen { principal.salary > 10 };\n";
    let site = site_with(bad);
    let config = site.config_file();
    let config = config.to_str().unwrap();
    let output = run_to_end(&["serve", "--config", config]);
    assert_eq!(output.status.code(), Some(3));
    let said = stderr(&output);
    assert!(
        said.contains("access.cedar: line 2: ") && said.contains("salary"),
        "{said}"
    );
    let output = run_to_end(&["check", "--config", config, "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let message = found["problems"][0]["message"].as_str().unwrap();
    assert!(message.contains("access.cedar: line 2: "), "{message}");
    fs::remove_file(site.path().join("access.cedar")).unwrap();
    let output = run_to_end(&["serve", "--config", config]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        stderr(&output).contains("access.cedar"),
        "{}",
        stderr(&output)
    );
}

fn policy_check(arguments: &[&str]) -> (Option<i32>, String) {
    let output = run_to_end(&[&["policy", "check"], arguments].concat());
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    (output.status.code(), text)
}

#[test]
fn policy_check_prints_who_may_do_what() {
    let schemas = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas");
    let path = |name: &str| schemas.join(name).to_str().unwrap().to_owned();
    let (default, dev) = (path("default.cedar"), path("dev.cedar"));
    let (status, table) = policy_check(&[&default]);
    assert_eq!(status, Some(0), "{table}");
    // What the operators' guide shows is what it prints.
    let guide = include_str!("../../docs/operating.md");
    let shown = table.replace(&default, "schemas/default.cedar");
    assert!(
        guide.contains(&shown),
        "docs/operating.md does not show:\n{shown}"
    );
    let (status, table) = policy_check(&[&dev, "--schema", &path("vitalgate.cedarschema")]);
    assert_eq!(status, Some(0));
    assert!(!table.contains("step-up"), "{table}");
    let (status, json) = policy_check(&[&default, "--json"]);
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!((status, &found["valid"]), (Some(0), &Value::Bool(true)));
    let actions = found["actions"].as_array().unwrap();
    let deploy = actions
        .iter()
        .find(|row| row["action"] == "deploy")
        .unwrap();
    let expected = serde_json::json!({"permitted": true, "step_up": true, "max_age": 900});
    assert_eq!(deploy["roles"]["ml-engineer"], expected);
    assert_eq!(deploy["roles"]["clinician"]["permitted"], false);

    let directory = tempfile::tempdir().unwrap();
    let bad = directory.path().join("bad.cedar");
    let bad = bad.to_str().unwrap();
    fs::write(
        bad,
        format!("{SHIPPED_DEV}\npermit (principal in Role::\"nurse\", action, resource);"),
    )
    .unwrap();
    let line = 2 + SHIPPED_DEV.lines().count();
    let (status, text) = policy_check(&[bad]);
    assert_eq!(status, Some(1));
    assert!(
        text.starts_with(&format!("{bad}: line {line}: ")) && text.contains("nurse"),
        "{text}"
    );
    let (status, json) = policy_check(&[bad, "--json"]);
    let found: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (status, &found["problems"][0]["line"]),
        (Some(1), &line.into())
    );
    let missing = directory.path().join("missing.cedar");
    assert_eq!(policy_check(&[missing.to_str().unwrap()]).0, Some(3));
    assert_eq!(policy_check(&[&default, "--schema", bad]).0, Some(1));
}
