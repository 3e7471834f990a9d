//! A version is deployed beside what serves, judged as at a start, and no request notices.

use std::fs;

use serde_json::json;

use crate::harness::{
    Answer, ICU_PATIENT, Server, Site, Wire, admin, change, change_with, client, model_source,
    post, request,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
const VERSION: &str = "/admin/v1/models/icu-mortality/versions";

/// Has version 2 in its repository, which the configuration does not serve.
fn site() -> Site {
    let mut site = Site::administrable();
    let config = site.config.clone();
    let mut files = model_source("icu-mortality");
    for name in ["model.json", "reference.json"] {
        let first = String::from_utf8(files[name].clone()).unwrap();
        let second = first.replacen("\"version\": 1", "\"version\": 2", 1);
        assert_ne!(first, second, "{name}");
        files.insert(name.to_owned(), second.into_bytes());
    }
    site.add_bundle("icu-mortality", 2, files);
    site.config = config;
    site
}

fn version(answer: &Answer) -> u64 {
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    answer.json()["model"]["version"].as_u64().unwrap()
}

#[test]
fn a_request_keeps_the_version_it_was_admitted_to() {
    let site = site();
    let server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let mut open = Wire::open(&server, &clinician);
    let predict = |wire: &mut Wire| post(wire, PREDICT, ICU_PATIENT.as_bytes());
    assert_eq!(version(&predict(&mut open)), 1);
    let headers = "Content-Type: application/json\r\n";
    let bytes = request("POST", PREDICT, headers, ICU_PATIENT.as_bytes());
    let (first, second) = bytes.split_at(bytes.len() - 100);
    let mut in_flight = Wire::open(&server, &clinician);
    in_flight.send(first);
    assert_eq!(version(&predict(&mut open)), 1, "the other was read by now");

    let load = |who: &str| {
        change(
            &server,
            &site,
            who,
            &format!("{VERSION}/2/load"),
            "new release",
        )
    };
    assert_eq!(
        (load("ops").status, load("ops").code()),
        (403, "FORBIDDEN".to_owned())
    );
    let answer = load("ml-engineer");
    assert_eq!(answer.status, 200, "{:?}", answer.json());
    assert_eq!(answer.json()["loaded"]["state"], "serving");
    assert_eq!(answer.json()["replaced"], json!(null));
    assert_eq!(version(&predict(&mut open)), 2, "the highest one");
    // Its model leaves while it waits, and is still the one that answers.
    let unload = |v: u32| {
        let path = format!("{VERSION}/{v}/unload");
        change(&server, &site, "ml-engineer", &path, "old release")
    };
    assert_eq!(unload(1).status, 200);
    assert_eq!(
        (unload(1).status, unload(1).code()),
        (404, "UNKNOWN_VERSION".to_owned())
    );
    in_flight.send(second);
    assert_eq!(version(&in_flight.answer()), 1);
    // Back again, and away with the new one.
    let path = format!("{VERSION}/1/load");
    assert_eq!(
        change(&server, &site, "ml-engineer", &path, "roll back").status,
        200
    );
    assert_eq!(unload(2).status, 200);
    assert_eq!(version(&predict(&mut open)), 1);
    let again = change(&server, &site, "ml-engineer", &path, "once more").json();
    assert!(again["replaced"].as_str().unwrap().starts_with("sha256:"));
    assert_eq!(version(&predict(&mut open)), 1);
}

#[test]
fn what_a_start_would_refuse_is_refused_and_what_serves_goes_on() {
    let site = site();
    let server = Server::start(&site);
    let network = site
        .path()
        .join("repository/icu-mortality/2/bundle/members/gbdt.onnx");
    let mut bytes = fs::read(&network).unwrap();
    bytes[1000] ^= 1;
    fs::write(&network, &bytes).unwrap();
    let path = format!("{VERSION}/2/load");
    let load = || change(&server, &site, "ml-engineer", &path, "new release");
    let answer = load();
    assert_eq!(
        (answer.status, answer.code()),
        (409, "LOAD_REFUSED".to_owned())
    );
    let cause = answer.json()["cause"].as_str().unwrap().to_owned();
    assert!(cause.contains("gbdt.onnx"), "{cause}");
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    assert_eq!(
        version(&post(&mut wire, PREDICT, ICU_PATIENT.as_bytes())),
        1
    );
    let models = admin(&server, &site, "ops", "GET", "/admin/v1/models").json();
    assert_eq!(models["models"].as_array().unwrap().len(), 2);
    bytes[1000] ^= 1;
    fs::write(&network, &bytes).unwrap();

    let read_only = |on: bool| {
        let body = json!({"on": on, "reason": "freeze"}).to_string();
        change_with(&server, &site, "ops", "/admin/v1/read-only", &body)
    };
    assert_eq!(read_only(true).json()["read_only"]["by"], "ops");
    assert_eq!(
        (load().status, load().code()),
        (409, "READ_ONLY".to_owned())
    );
    // Predictions go on, and so do quarantines.
    assert_eq!(
        version(&post(&mut wire, PREDICT, ICU_PATIENT.as_bytes())),
        1
    );
    let quarantine = "/admin/v1/models/icu-mortality/quarantine";
    assert_eq!(
        change(&server, &site, "ops", quarantine, "drill").status,
        200
    );
    assert_eq!(read_only(false).json()["read_only"], json!(null));
    let answer = load();
    assert_eq!(
        answer.json()["loaded"]["state"],
        "quarantined",
        "as every version"
    );
}

/// Every endpoint, and who may call it.
#[test]
fn least_privilege() {
    let site = site();
    let server = Server::start(&site);
    let reads = ["state", "models", "callers", "config"].map(|r| format!("/admin/v1/{r}"));
    let everybody = ["clinician", "ehr", "ops", "ml-engineer", "compliance"];
    let may = |path: &str, who: &str| match path {
        p if p.contains("/audit/") => who == "compliance",
        _ => ["ops", "ml-engineer", "compliance"].contains(&who),
    };
    let audit = ["head", "records?last=5"].map(|r| format!("/admin/v1/audit/{r}"));
    for path in reads.iter().chain(&audit).chain([&"/metrics".to_owned()]) {
        for who in everybody {
            let answer = admin(&server, &site, who, "GET", path);
            let expected = if may(path, who) { 200 } else { 403 };
            assert_eq!(answer.status, expected, "{who} {path}");
        }
    }
    for (path, only) in [
        ("/admin/v1/models/icu-mortality/quarantine", "ops"),
        ("/admin/v1/models/icu-mortality/release", "ops"),
        ("/admin/v1/callers/nobody/quarantine", "ops"),
        ("/admin/v1/callers/nobody/release", "ops"),
        (
            "/admin/v1/models/icu-mortality/versions/2/load",
            "ml-engineer",
        ),
        (
            "/admin/v1/models/icu-mortality/versions/2/unload",
            "ml-engineer",
        ),
    ] {
        for who in everybody {
            let answer = change(&server, &site, who, path, "a drill");
            let expected = if who == only { 200 } else { 403 };
            assert_eq!(answer.status, expected, "{who} {path}: {:?}", answer.json());
        }
    }
}
