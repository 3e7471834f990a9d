//! `audit export --fhir`, judged by two FHIR libraries that know nothing of us.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use crate::harness::{BINARY, ICU_PATIENT, Server, Site, Wire, client, post, request};

const PREDICT: &str = "/v1/models/icu-mortality/predict";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A path below `target/` that `make test` installs; CI must not skip it.
#[expect(clippy::disallowed_methods, reason = "set by whoever runs the tests")]
fn installed(path: &str) -> Option<PathBuf> {
    let path = root().join("target").join(path);
    if path.exists() {
        return Some(path);
    }
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    let name = path.display();
    assert!(!ci, "{name} is not installed, and CI must not skip it");
    println!("skipped: {name} is not installed (`make test` does)");
    None
}

#[track_caller]
fn accepts(program: &mut Command, log: &Path) {
    let output = program.arg(log).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    print!("{}", String::from_utf8_lossy(&output.stdout));
}

/// Events of everything that a log can have: each disposition, a stranger, a patient.
fn exported(site: &Site) -> PathBuf {
    let mut server = Server::start(site);
    let mut wire = Wire::open(&server, &client(site, "clinician"));
    let named = ICU_PATIENT.trim_end().strip_suffix('}').unwrap();
    let named = format!("{named}, \"context\": {{\"patient\": \"mrn-4711\"}}}}");
    let flagged = include_str!("../../models/icu-mortality/examples/review.json");
    assert_eq!(post(&mut wire, PREDICT, named.as_bytes()).status, 200);
    assert_eq!(post(&mut wire, PREDICT, flagged.as_bytes()).status, 200);
    assert_eq!(
        post(&mut wire, PREDICT, b"{\"observations\": {\"x\": 1}}").status,
        422
    );
    wire.send(&request("GET", "/v1/models", "", b""));
    assert_eq!(wire.answer().status, 200);
    let mut other = Wire::open(&server, &client(site, "ops"));
    assert_eq!(
        post(&mut other, PREDICT, ICU_PATIENT.as_bytes()).status,
        403
    );
    let stranger = crate::harness::client_of(site, None, rustls::ALL_VERSIONS);
    // With TLS 1.3 a client may believe that it was let in.
    if let Ok(mut wire) = Wire::try_open(&server, &stranger) {
        wire.rest();
    }
    drop((wire, other));
    server.stop();
    let out = site.path().join("events.ndjson");
    let export = || {
        Command::new(BINARY)
            .args(["audit", "export", "--fhir"])
            .arg(site.path().join("audit"))
            .arg("--out")
            .arg(&out)
            .status()
            .unwrap()
    };
    assert_eq!(export().code(), Some(0));
    assert_eq!(export().code(), Some(3), "it never overwrites");
    out
}

#[test]
fn two_fhir_libraries_accept_every_event() {
    let site = Site::new();
    let out = exported(&site);
    let text = fs::read_to_string(&out).unwrap();
    let events: Vec<Value> = text
        .lines()
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    assert_eq!(events.len(), 6);
    let outcomes: Vec<&str> = events
        .iter()
        .map(|e| e["outcome"].as_str().unwrap())
        .collect();
    assert_eq!(outcomes, ["0", "0", "4", "0", "4", "8"]);
    let patient = &events[0]["entity"][2]["what"]["identifier"];
    assert_eq!(patient["system"], "urn:vitalgate:patient-pseudonym");
    assert!(!text.contains("mrn-4711"));
    assert_eq!(events[5]["type"]["code"], "110114");
    // The event leads to its record.
    let record = fs::read_to_string(site.path().join("audit/audit.jsonl")).unwrap();
    let first = record.lines().next().unwrap();
    let hash = hex::encode(vitalgate::audit::chain::line_hash(first.as_bytes()));
    assert_eq!(events[0]["entity"][0]["detail"][0]["valueString"], hash);

    if let Some(python) = installed("test-venv/bin/python") {
        let script = root().join("tests/fhir/validate.py");
        accepts(Command::new(python).arg(script), &out);
    }
    if let Some(modules) = installed("test-npm/node_modules") {
        let script = root().join("tests/fhir/validate.cjs");
        accepts(Command::new("node").arg(script).arg(modules), &out);
    }
}
