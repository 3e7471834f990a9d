//! What an operator stops, stops: at once, on open connections, over a restart, and on record.

use std::fs;

use serde_json::Value;

use crate::harness::{
    Answer, ICU_PATIENT, Record, Server, Site, Wire, admin, change, change_with, client, codes,
    post, request, run_to_end,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
const QUARANTINE: &str = "/admin/v1/models/icu-mortality/quarantine";
const RELEASE: &str = "/admin/v1/models/icu-mortality/release";

fn predict(wire: &mut Wire) -> Answer {
    post(wire, PREDICT, ICU_PATIENT.as_bytes())
}

/// Status and code of an answer that should be a refusal.
fn refusal(answer: &Answer) -> (u16, String) {
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{}",
        answer.head
    );
    (answer.status, answer.code())
}

fn model_state(server: &Server, site: &Site, name: &str) -> String {
    let models = admin(server, site, "ops", "GET", "/admin/v1/models").json();
    let found = models["models"].as_array().unwrap().iter();
    let mut found = found.filter(|m| m["name"] == name);
    found.next().unwrap()["state"].as_str().unwrap().to_owned()
}

/// The records of changes: target, disposition, status, reason.
fn changes(records: &[Record]) -> Vec<(String, String, Value, String)> {
    let text = |record: &Record, name: &str| record[name].as_str().unwrap_or_default().to_owned();
    let changes = records.iter().filter(|r| r.get("target").is_some());
    changes
        .map(|r| {
            let status = r["status"].clone();
            (
                text(r, "target"),
                text(r, "disposition"),
                status,
                text(r, "reason"),
            )
        })
        .collect()
}

#[test]
fn a_quarantined_model_is_silent_until_it_is_released() {
    let site = Site::administrable();
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let mut open = Wire::open(&server, &clinician);
    assert_eq!(predict(&mut open).status, 200);
    // Admitted before, decided after.
    let bytes = request(
        "POST",
        PREDICT,
        "Content-Type: application/json\r\n",
        ICU_PATIENT.as_bytes(),
    );
    let (first, second) = bytes.split_at(bytes.len() - 100);
    let mut in_flight = Wire::open(&server, &clinician);
    in_flight.send(first);
    assert_eq!(
        predict(&mut open).status,
        200,
        "the other one was read by now"
    );

    let answer = change(&server, &site, "ops", QUARANTINE, "drift alert #12");
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    let quarantined = answer.json();
    assert_eq!(quarantined["state"], "quarantined");
    assert_eq!(quarantined["changed"], true);
    assert_eq!(quarantined["quarantine"]["by"], "ops");
    let refused = predict(&mut open);
    assert_eq!(refusal(&refused), (503, "MODEL_QUARANTINED".to_owned()));
    assert_eq!(refused.header("retry-after"), Some("60"));
    in_flight.send(second);
    assert_eq!(
        refusal(&in_flight.answer()),
        (503, "MODEL_QUARANTINED".to_owned())
    );
    // Only the model: others answer, and its description is read.
    let mut wire = Wire::open(&server, &clinician);
    wire.send(&request("GET", "/v1/models/icu-mortality", "", b""));
    assert_eq!(wire.answer().status, 200);
    assert_eq!(model_state(&server, &site, "icu-mortality"), "quarantined");
    assert_eq!(model_state(&server, &site, "breast-cancer"), "serving");
    let (status, ready) = server.health("/readyz").unwrap();
    assert_eq!(
        (status, &ready["models"][1]["quarantined"]),
        (200, &Value::Bool(true))
    );
    let again = change(&server, &site, "second-ops", QUARANTINE, "me too").json();
    assert_eq!(
        (&again["changed"], &again["quarantine"]["by"]),
        (&Value::Bool(false), &"ops".into())
    );

    server.stop();
    let before = server.records();
    drop((open, in_flight, wire));
    let mut server = Server::start(&site);
    assert!(
        server.log().contains("model is quarantined"),
        "{}",
        server.log()
    );
    let mut open = Wire::open(&server, &clinician);
    assert_eq!(refusal(&predict(&mut open)).1, "MODEL_QUARANTINED");
    let released = change(&server, &site, "ops", RELEASE, "recalibrated");
    assert_eq!(released.json()["state"], "released");
    drop(open);
    let mut open = Wire::open(&server, &clinician);
    assert_eq!(predict(&mut open).json()["disposition"], "predicted");
    server.stop();
    let records = server.records();
    let own: Vec<_> = changes(&records[before.len()..]);
    let released = |disposition: &str, status: Value| {
        let target = "release model icu-mortality".to_owned();
        (
            target,
            disposition.to_owned(),
            status,
            "recalibrated".to_owned(),
        )
    };
    assert_eq!(
        own,
        [
            released("announced", Value::Null),
            released("answered", 200.into())
        ]
    );
    assert_eq!(changes(&before)[0].0, "quarantine model icu-mortality");
    assert_eq!(changes(&before)[0].3, "drift alert #12");
}

#[test]
fn a_version_is_quarantined_by_itself() {
    let site = Site::administrable();
    let server = Server::start(&site);
    let version = "/admin/v1/models/icu-mortality/versions/1";
    let answer = change(
        &server,
        &site,
        "ops",
        &format!("{version}/quarantine"),
        "bad batch",
    );
    assert_eq!(answer.json()["version"], 1);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    // It is not passed over for another one: a roll-back is a decision of its own.
    assert_eq!(refusal(&predict(&mut wire)).1, "MODEL_QUARANTINED");
    let still = change(&server, &site, "ops", RELEASE, "wrong one").json();
    assert_eq!(still["changed"], false);
    assert_eq!(still["state"], "quarantined", "the version is still held");
    let answer = change(
        &server,
        &site,
        "ops",
        &format!("{version}/release"),
        "right one",
    );
    assert_eq!(answer.json()["changed"], true);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    assert_eq!(predict(&mut wire).status, 200);
}

#[test]
fn a_quarantined_caller_is_refused_on_its_next_request() {
    let site = Site::administrable();
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let mut open = Wire::open(&server, &clinician);
    assert_eq!(predict(&mut open).status, 200);
    let quarantine = "/admin/v1/callers/clinician/quarantine";
    let answer = change(&server, &site, "ops", quarantine, "stolen laptop");
    assert_eq!(answer.json()["state"], "quarantined");
    assert_eq!(
        refusal(&predict(&mut open)),
        (403, "CALLER_QUARANTINED".to_owned())
    );
    let mut wire = Wire::open(&server, &clinician);
    wire.send(&request("GET", "/v1/models", "", b""));
    assert_eq!(refusal(&wire.answer()).1, "CALLER_QUARANTINED");
    let ehr = "/v1/models/breast-cancer";
    let mut wire = Wire::open(&server, &client(&site, "ehr"));
    wire.send(&request("GET", ehr, "", b""));
    assert_eq!(wire.answer().status, 200, "nobody else is stopped");

    // An operator who is stopped cannot release anybody, and nobody stops themselves.
    let itself = "/admin/v1/callers/second-ops/quarantine";
    let answer = change(&server, &site, "second-ops", itself, "oops");
    assert_eq!(refusal(&answer), (409, "SELF_QUARANTINE".to_owned()));
    assert_eq!(
        change(&server, &site, "ops", itself, "key on a stick").status,
        200
    );
    let release = "/admin/v1/callers/clinician/release";
    let answer = change(&server, &site, "second-ops", release, "let me");
    assert_eq!(refusal(&answer).1, "CALLER_QUARANTINED");
    assert_eq!(
        change(&server, &site, "ops", release, "laptop found").status,
        200
    );
    let mut wire = Wire::open(&server, &clinician);
    assert_eq!(predict(&mut wire).status, 200);
    let callers = admin(&server, &site, "ops", "GET", "/admin/v1/callers").json();
    let stopped = callers["callers"].as_array().unwrap().iter();
    let stopped: Vec<_> = stopped.filter(|c| c["state"] == "quarantined").collect();
    assert_eq!(
        (stopped.len(), &stopped[0]["name"]),
        (1, &"second-ops".into())
    );
    server.stop();
    let refused = server.records();
    let refused = refused
        .iter()
        .filter(|r| codes(r) == ["CALLER_QUARANTINED"]);
    assert!(refused.clone().all(|r| r["principal"].is_string()));
    assert_eq!(refused.count(), 3);
}

#[test]
fn a_slip_is_not_taken_for_a_quarantine() {
    let site = Site::administrable();
    let server = Server::start(&site);
    for (path, status, code) in [
        (
            "/admin/v1/models/icu-mortalty/quarantine",
            404,
            "UNKNOWN_MODEL",
        ),
        (
            "/admin/v1/models/icu-mortality/versions/7/quarantine",
            404,
            "UNKNOWN_VERSION",
        ),
        (
            "/admin/v1/models/icu-mortality/versions/01/quarantine",
            404,
            "UNKNOWN_VERSION",
        ),
        (
            "/admin/v1/models/..%2Fkeys/quarantine",
            404,
            "UNKNOWN_MODEL",
        ),
        (
            "/admin/v1/models/icu-mortality/release/",
            404,
            "UNKNOWN_PATH",
        ),
        (
            "/admin/v1/callers/clinican/quarantine",
            404,
            "UNKNOWN_CALLER",
        ),
        (
            "/admin/v1/models/icu-mortalty/release",
            404,
            "UNKNOWN_MODEL",
        ),
        ("/admin/v1/callers/clinican/release", 404, "UNKNOWN_CALLER"),
        (
            "/admin/v1/models/icu-mortality/versions/9/load",
            404,
            "NOT_IN_REPOSITORY",
        ),
        (
            "/admin/v1/models/icu-mortality/versions/9/unload",
            404,
            "UNKNOWN_VERSION",
        ),
        ("/admin/v1/state", 405, "METHOD_NOT_ALLOWED"),
        ("/v1/models/icu-mortality/predict", 404, "UNKNOWN_PATH"),
    ] {
        let who = if path.ends_with("load") {
            "ml-engineer"
        } else {
            "ops"
        };
        let answer = change(&server, &site, who, path, "a slip");
        assert_eq!(refusal(&answer), (status, code.to_owned()), "{path}");
    }
    assert_nothing_changed(&server, &site);
}

fn assert_nothing_changed(server: &Server, site: &Site) {
    let models = admin(server, site, "ops", "GET", "/admin/v1/models").json();
    assert_eq!(models["quarantines"], Value::Array(Vec::new()));
    assert!(
        changes(&server.records()).is_empty(),
        "nothing was announced"
    );
}

#[test]
fn a_change_says_why_or_is_not_made() {
    let site = Site::administrable();
    let server = Server::start(&site);
    for body in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"reason": "ab"}"#,
        r#"{"reason": "line\nbreak"}"#,
        r#"{"reason": 7}"#,
        r#"{"reason": "fine", "on": true}"#,
        r#"{"reason": "fine", "reason": "twice"}"#,
        r#"{"reason": "fine", "patient": "x"}"#,
    ] {
        let answer = change_with(&server, &site, "ops", QUARANTINE, body);
        assert_eq!(
            refusal(&answer),
            (400, "INVALID_CHANGE".to_owned()),
            "{body}"
        );
    }
    let answer = change_with(
        &server,
        &site,
        "ops",
        "/admin/v1/read-only",
        r#"{"reason": "fine"}"#,
    );
    assert_eq!(refusal(&answer).1, "INVALID_CHANGE");
    let mut wire = Wire::admin(&server, &client(&site, "ops"));
    wire.send(&request("POST", QUARANTINE, "", br#"{"reason": "fine"}"#));
    assert_eq!(
        refusal(&wire.answer()),
        (415, "UNSUPPORTED_MEDIA_TYPE".to_owned())
    );
    let large = format!(r#"{{"reason": "{}"}}"#, "x".repeat(100_000));
    let answer = change_with(&server, &site, "ops", QUARANTINE, &large);
    assert_eq!(refusal(&answer), (413, "BODY_TOO_LARGE".to_owned()));
    assert_nothing_changed(&server, &site);
}

#[test]
fn a_damaged_state_file_keeps_the_server_from_starting() {
    let site = Site::administrable();
    let mut server = Server::start(&site);
    assert_eq!(
        change(&server, &site, "ops", QUARANTINE, "drill").status,
        200
    );
    server.stop();
    let file = site.path().join("admin/incident-controls.json");
    let whole = fs::read(&file).unwrap();
    for damaged in [&b""[..], &whole[..whole.len() - 3], b"{}\n"] {
        fs::write(&file, damaged).unwrap();
        let config = site.config_file();
        let output = run_to_end(&["serve", "--config", config.to_str().unwrap()]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(
            said.contains("incident-controls.json") && said.contains("quarantined"),
            "{said}"
        );
    }
    fs::write(&file, whole).unwrap();
    let server = Server::start(&site);
    assert_eq!(model_state(&server, &site, "icu-mortality"), "quarantined");
}
