//! Values that are possible, expected and consistent, and yet nobody's: a person looks, and is told
//! where.

use serde_json::{Value, json};

use crate::harness::{ICU_PATIENT, Server, Site, Wire, client, post};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
const CHANNELS: [&str; 4] = ["replaced", "surprise", "density", "prototype"];

/// The patient with one value changed.
fn with(feature: &str, value: Value) -> Vec<u8> {
    let mut patient: Value = serde_json::from_str(ICU_PATIENT).unwrap();
    patient["observations"][feature] = value;
    patient.to_string().into_bytes()
}

/// A site with somebody who may read scores beside those who may not.
fn site() -> Site {
    let mut site = Site::new();
    site.config = site.config.replacen(
        "roles = [\"ops\"]\nmodels = [\"none\"]",
        "roles = [\"evaluator\"]\nmodels = [\"*\"]",
        1,
    );
    assert!(site.config.contains("evaluator"), "{}", site.config);
    site
}

#[test]
fn what_stands_out_is_named_with_what_would_be_typical() {
    let site = Site::new();
    let mut server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let body = post(&mut wire, PREDICT, &with("hematocrit", json!(10))).json();
    assert_eq!(body["disposition"], "review", "{body}");
    assert_eq!(body["screening"]["distribution"], "review");
    assert_eq!(body["screening"]["ranges"], "pass");
    assert!(body.get("prediction").is_none() && body.get("scores").is_none());
    let [reason] = body["reasons"].as_array().unwrap().as_slice() else {
        panic!("{body}")
    };
    assert_eq!(reason["code"], "ATYPICAL");
    assert_eq!(reason["feature"], "hematocrit");
    assert_eq!(reason["pointer"], "/observations/hematocrit");
    assert_eq!(
        reason["message"],
        "Haematocrit 10 %: with the other values about 31 % would be typical; check the decimal \
         point or the unit"
    );
    let finding = json!({"feature": "hematocrit", "value": 10.0, "typical": 31.0, "unit": "%"});
    assert_eq!(reason["findings"], json!([finding]));
    // Neither the code nor the words say how it was found.
    let text = body.to_string();
    assert!(
        CHANNELS.iter().all(|channel| !text.contains(channel)),
        "{text}"
    );

    drop(wire);
    server.stop();
    let records = server.records();
    assert_eq!(records[0]["codes"], json!(["ATYPICAL"]));
    assert_eq!(records[0]["features"], json!(["hematocrit"]));
    let channel = records[0]["atypical"].as_str().unwrap();
    assert!(CHANNELS.contains(&channel), "{channel}");
    for text in [server.audit_text(), server.log()] {
        assert!(
            !text.contains("typical;") && !text.contains("Haematocrit"),
            "{text}"
        );
    }
}

#[test]
fn values_are_told_in_the_unit_they_came_in() {
    let site = Site::new();
    let server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let glucose = json!({"value": 51.1, "unit": "mmol/L"});
    let body = post(&mut wire, PREDICT, &with("glucose", glucose)).json();
    let reason = &body["reasons"][0];
    assert_eq!(reason["code"], "ATYPICAL", "{body}");
    let finding = &reason["findings"][0];
    assert_eq!(finding["feature"], "glucose");
    assert_eq!(finding["unit"], "mmol/L");
    assert!(
        (finding["value"].as_f64().unwrap() - 51.1).abs() < 1e-9,
        "{finding}"
    );
    let typical = finding["typical"].as_f64().unwrap();
    assert!((4.0..10.0).contains(&typical), "{finding}");
    let message = reason["message"].as_str().unwrap();
    assert!(message.starts_with("Glucose 51.1 mmol/L: "), "{message}");
}

#[test]
fn scores_are_for_those_who_may_read_them() {
    let site = site();
    let server = Server::start(&site);
    let scores = |who: &str, body: &[u8]| -> Option<Value> {
        let mut wire = Wire::open(&server, &client(&site, who));
        let answer = post(&mut wire, PREDICT, body);
        assert_eq!(answer.status, 200, "{answer:?}");
        answer
            .json()
            .get("scores")
            .map(|s| s["distribution"].clone())
    };
    let (ordinary, odd) = (ICU_PATIENT.as_bytes(), with("hematocrit", json!(10)));
    assert_eq!(scores("clinician", ordinary), None);
    assert_eq!(scores("clinician", &odd), None);
    let (ordinary, odd) = (
        scores("nobody", ordinary).unwrap(),
        scores("nobody", &odd).unwrap(),
    );
    assert!(ordinary["p"].as_f64().unwrap() > 0.01, "{ordinary}");
    assert!(odd["p"].as_f64().unwrap() <= 0.01, "{odd}");
    for scores in [ordinary, odd] {
        assert_eq!(scores.as_object().unwrap().len(), 5, "{scores}");
        let probable = |channel: &&str| (0.0..=1.0).contains(&scores[channel].as_f64().unwrap());
        assert!(CHANNELS.iter().all(probable), "{scores}");
    }
}

#[test]
fn a_value_that_was_filled_in_is_no_evidence() {
    let site = site();
    let server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "nobody"));
    let p = |wire: &mut Wire, magnesium: Value| {
        let body = post(wire, PREDICT, &with("magnesium", magnesium)).json();
        assert_eq!(body["disposition"], "predicted", "{body}");
        assert_eq!(body["screening"]["distribution"], "pass");
        (body["screening"]["imputed"].clone(), body["scores"].clone())
    };
    let (imputed, lacking) = p(&mut wire, Value::Null);
    assert_eq!(imputed, json!(["magnesium"]));
    // What the bundle fills in is 2; were it taken for measured, the scores would be these.
    let (imputed, measured) = p(&mut wire, json!(2));
    assert_eq!(imputed, Value::Null);
    assert_ne!(lacking, measured);
}
