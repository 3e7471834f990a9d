//! The commands of docs/incident-response.md work, in their order, and do what it says.

use std::{fs, process::Command};

use serde_json::Value;

use crate::harness::{BINARY, ICU_PATIENT, Server, Wire, client_at, post};

const DOCUMENT: &str = include_str!("../../docs/incident-response.md");

fn commands() -> Vec<&'static str> {
    let blocks = DOCUMENT.split("```console\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    lines.map(|line| line.strip_prefix("$ ").unwrap()).collect()
}

#[test]
fn every_step_is_a_command_that_works() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    let server = Server::dev(state);
    let predict = || {
        let identity = state.join("clients/clinician");
        let config = client_at(&state.join("ca.pem"), &identity);
        let mut wire = Wire::open(&server, &config);
        let path = "/v1/models/icu-mortality/predict";
        post(&mut wire, path, ICU_PATIENT.as_bytes())
    };
    assert_eq!(predict().status, 200);
    let admin = format!(
        "{BINARY} admin --url https://{} --state .vitalgate",
        server.admin
    );
    let mut statuses = Vec::new();
    for command in commands() {
        let here = command
            .replace("vitalgate audit ", &format!("{BINARY} audit "))
            .replace("vitalgate admin", &admin)
            .replace(".vitalgate", state.to_str().unwrap());
        let output = Command::new("sh").args(["-c", &here]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        println!("$ {command}\n{said}{errors}");
        assert!(output.status.success(), "{command}: {errors}");
        statuses.push((command, predict().status));
    }
    let after = |what: &str| {
        let found = statuses.iter().filter(|(c, _)| c.contains(what));
        found.map(|(_, status)| *status).collect::<Vec<_>>()
    };
    assert_eq!(after("quarantine model icu-mortality"), [503]);
    assert_eq!(after("load icu-mortality"), [503], "still quarantined");
    assert_eq!(after("release model icu-mortality"), [200]);
    let evidence = fs::read(state.join("evidence-2.json")).unwrap();
    let evidence: Value = serde_json::from_slice(&evidence).unwrap();
    let records = evidence["files"]["audit.jsonl"].as_str().unwrap();
    assert_eq!(records.matches("\"disposition\":\"announced\"").count(), 9);
    assert!(records.contains("ticket 4711: credentials stolen"));
}
