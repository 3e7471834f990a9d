//! A network that gives no usable output is never silently left out: what then is the bundle's to
//! say, and the answer, the metrics and the record name it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::harness::{Server, Site, Wire, admin, client, codes, post};

const PREDICT: &str = "/v1/models/pair/predict";
/// The network `faulty` fails on the first, and answers the second with NaN.
const FAILING: &str = r#"{"observations": {"class": 17, "size": 1}}"#;
const NAN: &str = r#"{"observations": {"class": 1, "size": -1}}"#;
const GOOD: &str = r#"{"observations": {"class": 3, "size": 1}}"#;

/// The bundle of a network that fails on purpose and one that does not: see `tests/fixtures`.
fn pair(agreement: &Value) -> BTreeMap<String, Vec<u8>> {
    let feature = |name: &str| {
        let range = json!({"min": -100, "max": 100});
        json!({"name": name, "title": name, "kind": "quantity", "unit": "1", "missing": "reject",
            "possible": range, "expected": range})
    };
    let member = |name: &str| {
        json!({"name": name, "file": format!("members/{name}.onnx"),
            "input": "features", "output": "probability"})
    };
    let model = json!({
        "format": 1, "name": "pair", "version": 1, "title": "One of two fails on purpose",
        "intended_use": "A test.",
        "features": [feature("class"), feature("size")],
        "members": [member("faulty"), member("steady")],
        "agreement": agreement,
        "outcome": {"name": "nothing", "bands": [{"name": "low", "below": 0.45}, {"name": "high"}]},
        "output": {"precision": 0.1},
        "review": {"policy": "withhold", "max_missing": 0},
        "known_answers": [{"name": "a", "inputs": [2, 1],
            "outputs": {"faulty": 0.25, "steady": 0.5}, "tolerance": 0.0001}],
    });
    let faulty = include_bytes!("../fixtures/faulty/faulty.onnx").to_vec();
    let steady = include_bytes!("../fixtures/steady/steady.onnx").to_vec();
    BTreeMap::from([
        ("model.json".to_owned(), model.to_string().into_bytes()),
        ("members/faulty.onnx".to_owned(), faulty),
        ("members/steady.onnx".to_owned(), steady),
        ("README.md".to_owned(), b"# Pair\n".to_vec()),
    ])
}

fn serve(agreement: &Value) -> (Site, Server) {
    let mut site = Site::administrable();
    site.add_bundle("pair", 1, pair(agreement));
    let server = Server::start(&site);
    (site, server)
}

fn ask(server: &Server, site: &Site, body: &str) -> Value {
    let mut wire = Wire::open(server, &client(site, "clinician"));
    post(&mut wire, PREDICT, body.as_bytes()).json()
}

fn metrics(server: &Server, site: &Site) -> String {
    let answer = admin(server, site, "ops", "GET", "/metrics");
    String::from_utf8(answer.body).unwrap()
}

#[test]
fn without_a_quorum_there_is_no_prediction_and_nothing_to_override() {
    // All are needed where the bundle does not say how many.
    let (site, mut server) = serve(&json!({"max_logit_spread": 20, "alpha": 0.01}));
    assert_eq!(ask(&server, &site, GOOD)["screening"]["agreement"], "pass");
    for body in [FAILING, NAN] {
        let answer = ask(&server, &site, body);
        assert_eq!(answer["disposition"], "review", "{answer}");
        assert_eq!(answer["reasons"][0]["code"], "MEMBER_FAILED");
        assert_eq!(answer["lost_members"], json!(["faulty"]));
        assert!(answer.get("prediction").is_none() && answer.get("review").is_none());
    }
    let text = metrics(&server, &site);
    for cause in ["failed", "invalid"] {
        let lost = format!(
            "vitalgate_lost_members_total{{model=\"pair\",version=\"1\",member=\"faulty\",cause=\"{cause}\"}} 1"
        );
        assert!(text.contains(&lost), "{lost} is not in {text}");
    }
    server.stop();
    let records = server.records();
    assert!(records[0].get("lost_members").is_none());
    for record in &records[1..3] {
        assert_eq!(record["lost_members"], json!(["faulty"]));
        assert_eq!(codes(record), ["MEMBER_FAILED"]);
    }
}

#[test]
fn a_quorum_is_annotated_where_the_bundle_says_so() {
    let agreement =
        json!({"max_logit_spread": 20, "alpha": 0.01, "quorum": 1, "degraded": "annotate"});
    let (site, mut server) = serve(&agreement);
    let answer = ask(&server, &site, FAILING);
    assert_eq!(answer["disposition"], "predicted", "{answer}");
    // What is left is `steady` alone: sigmoid(0).
    assert_eq!(answer["prediction"]["probability"], 0.5);
    assert_eq!(answer["lost_members"], json!(["faulty"]));
    assert_eq!(answer["screening"]["agreement"], "degraded");
    server.stop();
    let record = &server.records()[0];
    assert_eq!(record["lost_members"], json!(["faulty"]));
    assert_eq!(record["disposition"], "predicted");
}

#[test]
fn a_quorum_is_reviewed_by_default_and_may_be_overridden() {
    let (site, server) = serve(&json!({"max_logit_spread": 20, "alpha": 0.01, "quorum": 1}));
    let answer = ask(&server, &site, NAN);
    assert_eq!(answer["disposition"], "review", "{answer}");
    assert_eq!(answer["lost_members"], json!(["faulty"]));
    let mut body: Value = serde_json::from_str(NAN).unwrap();
    body["review"] = json!({"token": answer["review"]["token"],
        "reason_code": "CONFIRMED_BY_CLINICIAN"});
    let answer = ask(&server, &site, &body.to_string());
    assert_eq!(answer["overridden"], true, "{answer}");
    assert_eq!(answer["lost_members"], json!(["faulty"]));
    assert_eq!(answer["prediction"]["band"], "low");
}

#[test]
fn what_nobody_has_confirmed_is_said_apart() {
    let mut site = Site::administrable();
    let mut files = pair(&json!({"max_logit_spread": 20, "alpha": 0.01, "quorum": 1}));
    let mut model: Value = serde_json::from_slice(&files["model.json"]).unwrap();
    model["features"][0]["expected"] = json!({"min": -100, "max": 10});
    files.insert("model.json".to_owned(), model.to_string().into_bytes());
    site.add_bundle("pair", 1, files);
    let mut server = Server::start(&site);
    let overridden = |review: &Value, body: &str| {
        let mut body: Value = serde_json::from_str(body).unwrap();
        body["review"] = json!({"token": review["review"]["token"],
            "reason_code": "CONFIRMED_BY_CLINICIAN"});
        ask(&server, &site, &body.to_string())
    };
    // The networks were not asked; only after the override is it known that one fails.
    let review = ask(&server, &site, FAILING);
    assert_eq!(review["reasons"].as_array().unwrap().len(), 1, "{review}");
    assert_eq!(review["reasons"][0]["code"], "OUTSIDE_EXPECTED");
    let answer = overridden(&review, FAILING);
    assert_eq!(answer["overridden"], true, "{answer}");
    assert_eq!(answer["unconfirmed"], json!(["MEMBER_FAILED"]));
    assert_eq!(answer["reasons"][1]["code"], "MEMBER_FAILED");
    // Here the review itself said so.
    let review = ask(&server, &site, NAN);
    assert_eq!(review["reasons"][0]["code"], "MEMBER_FAILED", "{review}");
    let answer = overridden(&review, NAN);
    assert_eq!(answer["overridden"], true, "{answer}");
    assert!(answer.get("unconfirmed").is_none());
    server.stop();
    let records = server.records();
    assert_eq!(records[1]["unconfirmed"], json!(["MEMBER_FAILED"]));
    assert!(records[3].get("unconfirmed").is_none());
}
