//! A request stays in its caller's trace: in the answer, and in what is logged about it.

use std::fs;

use serde_json::Value;

use crate::harness::{ICU_PATIENT, Server, Site, Wire, client, request};

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PARENT: &str = "b7ad6b7169203331";

fn traced(traceparent: &str) -> String {
    format!("Content-Type: application/json\r\ntraceparent: {traceparent}\r\n")
}

#[test]
fn the_trace_comes_back_and_is_in_the_log() {
    let site = Site::administrable();
    let mut server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let given = format!("00-{TRACE}-{PARENT}-01");
    let path = "/v1/models/icu-mortality/predict";
    let mut ask = |headers: &str| {
        wire.send(&request("POST", path, headers, ICU_PATIENT.as_bytes()));
        wire.answer()
    };
    let answer = ask(&traced(&given));
    assert_eq!(answer.status, 200);
    let span = &answer.header("x-request-id").unwrap()[..16];
    let ours = format!("00-{TRACE}-{span}-01");
    assert_eq!(answer.header("traceparent"), Some(ours.as_str()));
    // What is no trace, or text that somebody would like to see in a log, is none.
    for none in ["00-patient-734921558-01", "CANARYHEADER", ""] {
        assert_eq!(ask(&traced(none)).header("traceparent"), None, "{none}");
    }
    assert_eq!(
        ask("Content-Type: application/json\r\n").header("traceparent"),
        None
    );

    // Something that is logged: a bundle that was changed since it was signed.
    let bundle = site
        .path()
        .join("repository/icu-mortality/1/bundle/README.md");
    fs::write(bundle, "changed").unwrap();
    let mut admin = Wire::admin(&server, &client(&site, "ml-engineer"));
    let load = "/admin/v1/models/icu-mortality/versions/1/load";
    admin.send(&request(
        "POST",
        load,
        &traced(&given),
        br#"{"reason": "drill"}"#,
    ));
    assert_eq!(admin.answer().code(), "LOAD_REFUSED");
    drop((wire, admin));
    server.stop();
    let log = server.log();
    let lines = log
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap());
    let of_ours: Vec<Value> = lines
        .filter(|line| line["span"]["trace_id"] == TRACE)
        .collect();
    assert!(!of_ours.is_empty(), "{log}");
    for line in &of_ours {
        assert_eq!(line["span"]["parent_id"], PARENT);
        println!("{line}");
    }
    assert!(!log.contains("CANARYHEADER") && !log.contains("734921558"));
}
