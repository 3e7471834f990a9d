//! A flagged input is predicted only when somebody with the right to it says, on the record, that
//! the input is right; and only that input, by that model, in time.

use serde_json::{Value, json};

use crate::harness::{
    Answer, ICU_PATIENT, Server, Site, Wire, client, codes, model_source, post, request, wait_until,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
const FIRST: &str = "/v1/models/icu-mortality/versions/1/predict";
const SECOND: &str = "/v1/models/icu-mortality/versions/2/predict";

/// A patient whom two screens flag.
fn flagged() -> Value {
    let mut patient: Value = serde_json::from_str(ICU_PATIENT).unwrap();
    patient["observations"]["temperature"] = json!(24.5);
    patient
}

/// As `patient`, with a review to override.
fn overriding(patient: &Value, token: &str, reason: &str) -> Value {
    let mut patient = patient.clone();
    patient["review"] = json!({"token": token, "reason_code": reason});
    patient
}

/// A record system that may predict and not override, a clinician who may do both and name
/// somebody, and a second version of the model.
fn site() -> Site {
    let mut site = Site::administrable();
    site.configure(
        "roles = [\"ehr-system\"]\nmodels = [\"breast-cancer\"]",
        "roles = [\"ehr-system\"]\nmodels = [\"*\"]",
    );
    site.configure(
        "roles = [\"clinician\"]\nmodels = [\"*\"]",
        "roles = [\"clinician\"]\nmodels = [\"*\"]\nnames_clinician = true",
    );
    let mut files = model_source("icu-mortality");
    let mut model: Value = serde_json::from_slice(&files["model.json"]).unwrap();
    model["version"] = json!(2);
    files.insert("model.json".to_owned(), model.to_string().into_bytes());
    site.add_bundle("icu-mortality", 2, files);
    site
}

fn ask(server: &Server, site: &Site, who: &str, path: &str, body: &Value) -> Answer {
    let mut wire = Wire::open(server, &client(site, who));
    post(&mut wire, path, body.to_string().as_bytes())
}

/// The token of a review that the record system gets.
fn token(server: &Server, site: &Site, path: &str, patient: &Value) -> String {
    let answer = ask(server, site, "ehr", path, patient).json();
    assert_eq!(answer["disposition"], "review", "{answer}");
    assert!(answer.get("prediction").is_none() && answer.get("overridden").is_none());
    answer["review"]["token"].as_str().unwrap().to_owned()
}

#[test]
fn another_principal_overrides_and_both_are_on_record() {
    let site = site();
    let mut server = Server::start(&site);
    let review = ask(&server, &site, "ehr", FIRST, &flagged()).json();
    let offered = &review["review"];
    let token = offered["token"].as_str().unwrap();
    assert!(offered["expires"].as_str().unwrap().ends_with('Z'));
    let reasons = offered["reason_codes"].as_array().unwrap();
    for reason in reasons.iter().chain(reasons.first()) {
        let body = overriding(&flagged(), token, reason.as_str().unwrap());
        let mut wire = Wire::open(&server, &client(&site, "clinician"));
        let headers = "Content-Type: application/json\r\nX-On-Behalf-Of: dr-jones\r\n";
        wire.send(&request(
            "POST",
            FIRST,
            headers,
            body.to_string().as_bytes(),
        ));
        let answer = wire.answer();
        assert_eq!(answer.status, 200, "{}", answer.json());
        let answer = answer.json();
        assert_eq!(answer["disposition"], "predicted");
        assert_eq!(answer["overridden"], true);
        assert!(answer["prediction"]["probability"].is_number());
        // What was confirmed is still said.
        assert_eq!(answer["reasons"][0]["code"], "OUTSIDE_EXPECTED");
        assert_eq!(answer["screening"]["ranges"], "review");
        assert!(answer.get("review").is_none());
    }

    server.stop();
    let records = server.records();
    assert_eq!(records.len(), 6);
    let [first, second, third, last] = [&records[0], &records[1], &records[2], &records[5]];
    assert_eq!(first["principal"], "ehr");
    assert_eq!(first["action"], "predict");
    assert_eq!(first["disposition"], "review");
    assert!(first.get("overridden").is_none() && first.get("reason").is_none());
    assert_eq!(second["principal"], "clinician");
    assert_eq!(second["on_behalf_of"], "dr-jones");
    assert_eq!(second["action"], "override-review");
    assert_eq!(second["reason"], "CONFIRMED_BY_CLINICIAN");
    assert_eq!(second["disposition"], "predicted");
    assert_eq!(second["overridden"], true);
    assert!(codes(second).contains(&"OUTSIDE_EXPECTED"));
    assert!(second.get("repeat").is_none());
    // For another reason it is another override.
    assert!(third.get("repeat").is_none());
    assert_eq!(last["repeat"], true);
    for record in &records {
        assert_eq!(record["review"], first["review"]);
        assert_eq!(record["input"], first["input"]);
    }
    assert!(!server.audit_text().contains(token) && !server.log().contains(token));
}

#[test]
fn a_repeat_gives_the_same_answer() {
    let site = site();
    let server = Server::start(&site);
    let token = token(&server, &site, PREDICT, &flagged());
    let body = overriding(&flagged(), &token, "EXPLAINED_BY_CONDITION");
    let answer = || {
        let mut answer = ask(&server, &site, "clinician", PREDICT, &body).json();
        let members = answer.as_object_mut().unwrap();
        members.remove("id").unwrap();
        answer
    };
    let first = answer();
    assert_eq!(first["overridden"], true, "{first}");
    assert_eq!(first, answer());
    assert_eq!(first, answer());
}

#[test]
fn whatever_differs_is_refused_with_its_own_code() {
    let site = site();
    let mut server = Server::start(&site);
    let good = token(&server, &site, FIRST, &flagged());
    let reason = "CONFIRMED_BY_CLINICIAN";
    let mut forged = good.clone().into_bytes();
    forged[50] = if forged[50] == b'A' { b'B' } else { b'A' };
    let forged = String::from_utf8(forged).unwrap();
    let mut corrected = flagged();
    corrected["observations"]["temperature"] = json!(24.6);
    let mut extra = overriding(&flagged(), &good, reason);
    extra["review"]["comment"] = json!("please");
    for (who, path, body, status, code) in [
        (
            "ehr",
            FIRST,
            overriding(&flagged(), &good, reason),
            403,
            "FORBIDDEN",
        ),
        (
            "clinician",
            FIRST,
            overriding(&corrected, &good, reason),
            409,
            "REVIEW_INPUT_CHANGED",
        ),
        (
            "clinician",
            SECOND,
            overriding(&flagged(), &good, reason),
            409,
            "REVIEW_MODEL_CHANGED",
        ),
        // The highest version serves: the model changed under the review.
        (
            "clinician",
            PREDICT,
            overriding(&flagged(), &good, reason),
            409,
            "REVIEW_MODEL_CHANGED",
        ),
        (
            "clinician",
            FIRST,
            overriding(&flagged(), &forged, reason),
            409,
            "REVIEW_TOKEN_INVALID",
        ),
        (
            "clinician",
            FIRST,
            overriding(&flagged(), "", reason),
            409,
            "REVIEW_TOKEN_INVALID",
        ),
        (
            "clinician",
            FIRST,
            overriding(&flagged(), &good, "BECAUSE"),
            422,
            "UNKNOWN_REASON_CODE",
        ),
        ("clinician", FIRST, extra, 422, "UNKNOWN_FIELD"),
    ] {
        let answer = ask(&server, &site, who, path, &body);
        assert_eq!(answer.status, status, "{code}: {}", answer.json());
        let answer = answer.json();
        let found = if status == 422 {
            &answer["errors"][0]["code"]
        } else {
            &answer["code"]
        };
        assert_eq!(found, code, "{answer}");
        assert!(answer.get("prediction").is_none());
    }
    // Nor does any of it void the token.
    let body = overriding(&flagged(), &good, reason);
    let answer = ask(&server, &site, "clinician", FIRST, &body);
    assert_eq!(answer.json()["overridden"], true);
    server.stop();
    let records = server.records();
    let refused = &records[1];
    assert_eq!(refused["action"], "override-review");
    assert_eq!(codes(refused), ["FORBIDDEN"]);
    assert_eq!(refused["reason"], reason);
}

#[test]
fn what_cannot_be_a_patient_has_no_token_and_anothers_does_not_fit() {
    let site = site();
    let server = Server::start(&site);
    let mut impossible = flagged();
    impossible["observations"]["heart_rate"] = json!(600);
    let answer = ask(&server, &site, "clinician", FIRST, &impossible);
    assert_eq!(answer.status, 422);
    assert!(answer.json().get("review").is_none());
    let token = token(&server, &site, FIRST, &flagged());
    let body = overriding(&impossible, &token, "CONFIRMED_BY_CLINICIAN");
    let answer = ask(&server, &site, "clinician", FIRST, &body);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (409, "REVIEW_INPUT_CHANGED")
    );
    assert!(answer.json().get("prediction").is_none());
}

#[test]
fn a_review_ends() {
    let mut site = site();
    site.configure("[audit]\n", "[review]\noverride_seconds = 1\n\n[audit]\n");
    let server = Server::start(&site);
    let token = token(&server, &site, FIRST, &flagged());
    let body = overriding(&flagged(), &token, "CONFIRMED_BY_CLINICIAN");
    wait_until("the review to end", || {
        let answer = ask(&server, &site, "clinician", FIRST, &body);
        answer.status == 409 && answer.code() == "REVIEW_TOKEN_EXPIRED"
    });
}

/// The shipped policy asks for a second factor, which a certificate cannot show.
#[test]
fn a_certificate_alone_does_not_override_in_production() {
    let site = Site::new();
    let server = Server::start(&site);
    let review = ask(&server, &site, "clinician", PREDICT, &flagged()).json();
    let token = review["review"]["token"].as_str().unwrap();
    let body = overriding(&flagged(), token, "CONFIRMED_BY_CLINICIAN");
    let answer = ask(&server, &site, "clinician", PREDICT, &body);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (401, "STEP_UP_REQUIRED")
    );
}
