//! What a caller learns about a model is paid for, and asking otherwise gains nothing.

use std::sync::Arc;

use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Record, Server, Site, Wire, admin, change, client, codes, icu_patients, post, request,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";

/// A site whose clinician may ask about so many rows a day, and else as the defaults say.
fn site(rows: u32) -> Site {
    let mut site = Site::administrable();
    let of_role = "[budgets.clinician]\nrows_per_day = \"unlimited\"\n\
                   requests_per_second = 1000000\nburst = 1000000\nconcurrent_requests = 1000000\n\
                   patterns = \"shadow\"\n";
    site.configure(
        of_role,
        &format!("[budgets.clinician]\nrows_per_day = {rows}\n"),
    );
    site
}

/// Synthetic patients that are predicted.
fn patients() -> Vec<Value> {
    icu_patients()
}

fn ask(wire: &mut Wire, path: &str, patient: &Value) -> Answer {
    post(wire, path, patient.to_string().as_bytes())
}

fn parameter(field: &str, item: &str, name: &str) -> Option<u64> {
    let item = field
        .split(", ")
        .find(|i| i.starts_with(&format!("\"{item}\"")))?;
    let value = item
        .split(';')
        .find_map(|p| p.strip_prefix(&format!("{name}=")));
    value?.parse().ok()
}

fn left(answer: &Answer) -> u64 {
    let field = answer
        .header("ratelimit")
        .unwrap_or_else(|| panic!("{}", answer.head));
    parameter(field, "rows", "r").unwrap_or_else(|| panic!("{field}"))
}

#[test]
fn a_budget_is_spent_once_whatever_the_way() {
    let mut site = site(6);
    let files = crate::harness::model_source("icu-mortality");
    let model = String::from_utf8(files["model.json"].clone()).unwrap();
    let second = model.replacen("\"version\": 1", "\"version\": 2", 1);
    assert_ne!(model, second);
    let mut files = files;
    files.insert("model.json".to_owned(), second.into_bytes());
    site.add_bundle("icu-mortality", 2, files);
    let mut server = Server::start(&site);
    let clinician: Arc<ClientConfig> = client(&site, "clinician");
    let patients = patients();
    let versions = [
        PREDICT,
        "/v1/models/icu-mortality/versions/1/predict",
        "/v1/models/icu-mortality/versions/2/predict",
    ];
    let mut first = None;
    for (turn, patient) in patients.iter().take(6).enumerate() {
        // A connection of its own each, another version, another encounter.
        let mut patient = patient.clone();
        patient["context"] = json!({"encounter": format!("e-{turn}"), "patient": "p"});
        let mut wire = Wire::open(&server, &clinician);
        let answer = ask(&mut wire, versions[turn % 3], &patient);
        assert_eq!(answer.status, 200, "{}", answer.head);
        assert_eq!(left(&answer), 5 - u64::try_from(turn).unwrap());
        let policy = answer.header("ratelimit-policy").unwrap();
        assert_eq!(policy, "\"requests\";q=1000;w=2, \"rows\";q=6;w=86400");
        first.get_or_insert(answer);
    }
    let mut wire = Wire::open(&server, &clinician);
    for (turn, path) in versions.into_iter().enumerate() {
        let mut patient = patients[6 + turn].clone();
        patient["context"] = json!({"encounter": "fresh"});
        let refused = ask(&mut wire, path, &patient);
        assert_eq!(
            (refused.status, refused.code()),
            (429, "BUDGET_EXHAUSTED".to_owned())
        );
        let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=86_400).contains(&wait));
        assert_eq!(left(&refused), 0);
    }
    // The same row, however it is written, is free and gets the same answer.
    let again = ask(&mut wire, versions[0], &patients[0]);
    let same = |answer: &Answer| answer.json()["prediction"].clone();
    assert_eq!((again.status, left(&again)), (200, 0));
    assert_eq!(same(&again), same(&first.unwrap()));
    // Another model has a budget of its own.
    let other = crate::harness::breast_cancer_patients().remove(0);
    let answer = ask(&mut wire, "/v1/models/breast-cancer/predict", &other);
    assert_eq!((answer.status, left(&answer)), (200, 5));

    let callers = admin(&server, &site, "ops", "GET", "/admin/v1/callers").json();
    let callers = callers["callers"].as_array().unwrap().iter();
    let shown = callers.clone().find(|c| c["name"] == "clinician").unwrap();
    assert_eq!(shown["queries"][1]["model"], "icu-mortality");
    assert_eq!(shown["queries"][1]["rows"], 6);
    assert_eq!(shown["queries"][1]["budget"], 6);
    server.stop();
    let records = server.records();
    let events: Vec<&str> = records
        .iter()
        .filter_map(|r| r.get("events")?.as_array()?.first()?.as_str())
        .collect();
    assert_eq!(events, ["budget-alert", "budget-exhausted"]);
    let refused: Vec<&Record> = records
        .iter()
        .filter(|r| codes(r) == ["BUDGET_EXHAUSTED"])
        .collect();
    assert_eq!(refused.len(), 3);
    assert!(server.log().contains("budget-alert"), "{}", server.log());
}

#[test]
fn predictions_attached_to_reviews_are_counted_among_near_rows() {
    let mut site = site(50);
    let mut files = crate::harness::model_source("icu-mortality");
    let mut model: Value = serde_json::from_slice(&files["model.json"]).unwrap();
    model["version"] = json!(2);
    model["review"]["policy"] = json!("attach");
    files.insert("model.json".to_owned(), model.to_string().into_bytes());
    site.add_bundle("icu-mortality", 2, files);
    let server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let mut patient = patients().remove(0);
    patient["observations"]["temperature"] = json!(24.5);
    let mut answers = (80..90).map(|rate| {
        patient["observations"]["heart_rate"] = json!(rate);
        let path = "/v1/models/icu-mortality/versions/2/predict";
        ask(&mut wire, path, &patient)
    });
    for _ in 0..2 {
        let answer = answers.next().unwrap();
        assert_eq!(answer.json()["disposition"], "review");
        assert!(answer.json()["prediction"].is_object());
    }
    let refused = answers.find(|a| a.status == 429).unwrap();
    assert_eq!(refused.code(), "SLOWED_DOWN");
}

/// Beyond its budget a record system has bands, and the record says that this is why.
#[test]
fn a_record_system_beyond_its_budget_has_bands_and_the_record_says_why() {
    let mut site = Site::administrable();
    let of_role = "[budgets.ehr-system]\nrows_per_day = 1000000\n\
                   requests_per_second = 1000000\nburst = 1000000\nconcurrent_requests = 1000000\n\
                   patterns = \"shadow\"\n";
    site.configure(of_role, "[budgets.ehr-system]\nrows_per_day = 2\n");
    let mut server = Server::start(&site);
    let path = "/v1/models/breast-cancer/predict";
    let mut wire = Wire::open(&server, &client(&site, "ehr"));
    for (turn, patient) in crate::harness::breast_cancer_patients()
        .iter()
        .take(4)
        .enumerate()
    {
        let answer = ask(&mut wire, path, patient);
        let prediction = &answer.json()["prediction"];
        assert_eq!(
            prediction["probability"].is_number(),
            turn < 2,
            "{turn}: {}",
            answer.json()
        );
        assert!(prediction["band"].is_string());
    }
    // What was answered in full is answered so again.
    let again = ask(
        &mut wire,
        path,
        &crate::harness::breast_cancer_patients()[0],
    );
    assert!(again.json()["prediction"]["probability"].is_number());
    let metrics = admin(&server, &site, "ops", "GET", "/metrics");
    let metrics = String::from_utf8(metrics.body).unwrap();
    let used = "vitalgate_budget_used_ratio{caller=\"ehr\",model=\"breast-cancer\"}";
    let used = metrics.lines().find_map(|line| line.strip_prefix(used));
    assert_eq!(used, Some(" 1"));
    server.stop();
    let records = server.records();
    let predicted = records.iter().filter(|r| r["disposition"] == "predicted");
    let limited = predicted.map(|r| r.get("limited").and_then(Value::as_str));
    let expected = [None, None, Some("budget"), Some("budget"), None];
    assert_eq!(limited.collect::<Vec<_>>(), expected);
}

#[test]
fn what_a_screen_stops_is_charged_and_what_is_no_row_is_not() {
    let site = site(50);
    let server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let known = patients().remove(0);
    // The row that is known already costs nothing, and its answer tells what is left.
    let mut left = || {
        let answer = ask(&mut wire, PREDICT, &known);
        parameter(answer.header("ratelimit").unwrap(), "rows", "r").unwrap()
    };
    assert_eq!((left(), left()), (49, 49));
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let mut patient = known.clone();
    for (name, value, status, costs) in [
        ("heart_rate", json!(88), 200, 1),
        ("heart_rate", json!(88), 200, 0),
        // To a person, and rejected: both tell where a limit is.
        ("temperature", json!(24.5), 200, 1),
        ("temperature", json!(99), 422, 1),
        // No rows of the model.
        ("temperature", json!("warm"), 422, 0),
        ("temprature", json!(37), 422, 0),
    ] {
        let before = left();
        patient["observations"][name] = value;
        assert_eq!(ask(&mut wire, PREDICT, &patient).status, status, "{name}");
        assert_eq!(before - left(), costs, "{name}");
    }
}

#[test]
fn steps_around_a_patient_are_slowed_and_an_operator_sees_and_releases_it() {
    let site = site(200);
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let mut wire = Wire::open(&server, &clinician);
    let patient = patients().remove(0);
    let step = |by: i64| {
        let mut patient = patient.clone();
        let rate = patient["observations"]["heart_rate"].as_f64().unwrap();
        patient["observations"]["heart_rate"] =
            json!(rate.trunc() + f64::from(i32::try_from(by).unwrap()));
        patient
    };
    let statuses: Vec<u16> = (0..9)
        .map(|by| ask(&mut wire, PREDICT, &step(by)).status)
        .collect();
    assert_eq!(statuses[..4], [200; 4]);
    assert_eq!(statuses[4..], [429; 5], "{statuses:?}");
    let refused = ask(&mut wire, PREDICT, &step(9));
    assert_eq!(refused.code(), "SLOWED_DOWN");
    assert!(
        refused
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 60
    );
    // By now it gets bands, also for another patient.
    let other = ask(&mut wire, PREDICT, &patients()[1]);
    assert_eq!(other.status, 200);
    let prediction = &other.json()["prediction"];
    assert_eq!(prediction["limited"], "bands-only");
    assert!(prediction["probability"].is_null() && prediction["band"].is_string());

    let show = || {
        let callers = admin(&server, &site, "ops", "GET", "/admin/v1/callers").json();
        let callers = callers["callers"].as_array().unwrap().clone();
        let found = callers.into_iter().find(|c| c["name"] == "clinician");
        found.unwrap()["queries"][0]["response"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(show(), "bands-only");
    let metrics = admin(&server, &site, "ops", "GET", "/metrics");
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(
        metrics.contains("vitalgate_callers_limited{step=\"bands-only\"} 1"),
        "{metrics}"
    );
    let release = "/admin/v1/callers/clinician/release";
    let answer = change(&server, &site, "ops", release, "an honest trial");
    assert_eq!(
        (answer.status, &answer.json()["changed"]),
        (200, &Value::Bool(true))
    );
    assert_eq!(show(), "none");
    let other = ask(&mut wire, PREDICT, &patients()[2]);
    assert!(other.json()["prediction"]["probability"].is_number());
    server.stop();
    let records = server.records();
    let has = |event: &str| {
        records.iter().any(|r| {
            r.get("events")
                .is_some_and(|e| e.as_array().unwrap().contains(&json!(event)))
        })
    };
    for event in ["near-duplicate", "response-raised", "response-eased"] {
        assert!(has(event), "{event}");
    }
    assert!(
        records
            .iter()
            .any(|r| r.get("response") == Some(&json!("bands-only")))
    );
}

#[test]
fn a_caller_has_a_rate_and_places_of_its_own() {
    let mut site = site(200);
    site.configure(
        "[budgets.clinician]\n",
        "[budgets.clinician]\nrequests_per_second = 1\nburst = 3\nconcurrent_requests = 1\n",
    );
    let server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let mut wire = Wire::open(&server, &clinician);
    let get = |wire: &mut Wire| {
        wire.send(&request("GET", "/v1/models", "", b""));
        wire.answer()
    };
    let answers: Vec<Answer> = (0..8).map(|_| get(&mut wire)).collect();
    let refused = answers
        .iter()
        .find(|a| a.status == 429)
        .expect("a burst of three");
    assert_eq!(refused.code(), "RATE_LIMITED");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(
        refused.header("ratelimit-policy"),
        Some("\"requests\";q=3;w=3")
    );
    // Somebody else is not concerned.
    let mut other = Wire::open(&server, &client(&site, "ehr"));
    assert_eq!(get(&mut other).status, 200);
    std::thread::sleep(std::time::Duration::from_secs(4));
    // One request whose body is on its way holds the only place.
    let body = patients().remove(0).to_string();
    let headers = "Content-Type: application/json\r\n";
    let bytes = request("POST", PREDICT, headers, body.as_bytes());
    let (most, rest) = bytes.split_at(bytes.len() - 10);
    let mut holding = Wire::open(&server, &clinician);
    holding.send(most);
    std::thread::sleep(std::time::Duration::from_millis(500));
    let refused = post(
        &mut Wire::open(&server, &clinician),
        PREDICT,
        body.as_bytes(),
    );
    assert_eq!(
        (refused.status, refused.code()),
        (429, "TOO_MANY_AT_ONCE".to_owned())
    );
    holding.send(rest);
    assert_eq!(holding.answer().status, 200);
}
