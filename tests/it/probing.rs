//! What `benches/attacks` tried against budgets and query patterns: none of it gains anything.

use serde_json::{Value, json};

use crate::harness::{Answer, ICU_PATIENT, Server, Site, Wire, client, icu_patients, post};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
/// Rows near each other that are answered in six hours, at one scoring every two.
const NEAR: usize = 4;

/// A site whose clinician has the limits that everybody has by default.
fn site() -> Site {
    let mut site = Site::administrable();
    let of_role = "[budgets.clinician]\nrows_per_day = \"unlimited\"\n\
                   requests_per_second = 1000000\nburst = 1000000\nconcurrent_requests = 1000000\n\
                   patterns = \"shadow\"\n";
    site.configure(of_role, "[budgets.clinician]\nrows_per_day = 200\n");
    site
}

fn ask(wire: &mut Wire, patient: &Value) -> Answer {
    post(wire, PREDICT, patient.to_string().as_bytes())
}

/// Distinct rows that are left of the day's budget.
fn left(answer: &Answer) -> u64 {
    let field = answer.header("ratelimit").unwrap();
    let rows = field.split("\"rows\";r=").nth(1).unwrap();
    rows.split(';').next().unwrap().parse().unwrap()
}

/// A patient for whom there is a prediction.
fn predicted(wire: &mut Wire) -> Value {
    let mut patients = icu_patients().into_iter();
    patients
        .find(|patient| ask(wire, patient).json()["disposition"] == "predicted")
        .unwrap()
}

#[test]
fn one_row_in_other_clothes_is_one_row() {
    let site = site();
    let server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let mut patient: Value = serde_json::from_str(ICU_PATIENT).unwrap();
    let celsius = 37.4;
    patient["observations"]["temperature"] = json!(celsius);
    let first = ask(&mut wire, &patient);
    assert_eq!(first.json()["disposition"], "predicted", "{}", first.head);
    let urine = |litres: Value| json!({"value": litres, "unit": "L"});
    for (feature, value) in [
        ("temperature", json!(celsius + 0.03)),
        ("temperature", json!(celsius - 0.04)),
        ("temperature", json!({"value": celsius, "unit": "Cel"})),
        ("urine_24h", json!(546.5)),
        ("urine_24h", urine(json!(0.545))),
        ("urine_24h", urine(json!(0.5453))),
    ] {
        let mut worn = patient.clone();
        worn["observations"][feature] = value.clone();
        worn["context"] = json!({"encounter": value.to_string(), "patient": "somebody else"});
        let answer = ask(&mut wire, &worn);
        assert_eq!(left(&answer), left(&first), "{feature} {value}");
        assert_eq!(answer.json()["prediction"], first.json()["prediction"]);
    }
    // Rounded in degrees Fahrenheit it is another value: near, but not the same, and paid for.
    let mut fahrenheit = patient.clone();
    for value in [99.32, 99.3, 99.28] {
        fahrenheit["observations"]["temperature"] = json!({"value": value, "unit": "[degF]"});
        let answer = ask(&mut wire, &fahrenheit);
        assert_eq!(left(&answer), left(&first) - 1, "{value}");
    }
    // Keys in another order, and numbers spelt otherwise.
    let mut members: Vec<String> = Vec::new();
    for (name, value) in patient["observations"].as_object().unwrap() {
        let spelt = value
            .as_f64()
            .map_or(value.to_string(), |v| format!("{v:e}"));
        members.push(format!("\"{name}\":{spelt}"));
    }
    members.reverse();
    let body = format!("{{\"observations\": {{{}}}}}", members.join(",\n "));
    let answer = post(&mut wire, PREDICT, body.as_bytes());
    assert_eq!((answer.status, left(&answer)), (200, left(&first) - 1));
    assert_eq!(answer.json()["prediction"], first.json()["prediction"]);
}

#[test]
fn small_changes_in_disguise_are_near_each_other() {
    let site = site();
    let server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let mut wire = Wire::open(&server, &clinician);
    let patient = predicted(&mut wire);
    let number = |name: &str| patient["observations"][name].as_f64().unwrap();
    let (age, rate) = (number("age"), number("heart_rate"));
    let mut refused = 0;
    for turn in 0..12 {
        let mut changed = patient.clone();
        let observations = &mut changed["observations"];
        let step = f64::from(turn);
        // Another age, one value left out now and then, small steps, and a context of its own.
        observations["age"] = json!(age + step % 5.0 - 2.0);
        observations["heart_rate"] = json!(rate + step - 6.0);
        if turn % 2 == 1 {
            observations["magnesium"] = Value::Null;
        }
        changed["context"] =
            json!({"encounter": format!("e-{turn}"), "patient": format!("p-{turn}")});
        let mut fresh = Wire::open(&server, &clinician);
        let answer = ask(&mut fresh, &changed);
        refused += usize::from(answer.status == 429);
    }
    assert!(refused >= 12 - NEAR, "{refused} of 12 were refused");
}

#[test]
fn an_override_is_paid_for_and_near_ones_are_counted() {
    let site = site();
    let server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let mut patient = predicted(&mut wire);
    // Far from every other patient, and each time to be reviewed first.
    patient["observations"]["temperature"] = json!(24.5);
    let rate = patient["observations"]["heart_rate"].as_f64().unwrap();
    let mut answered = 0;
    for turn in 0..8 {
        patient["observations"]["heart_rate"] = json!(rate + f64::from(turn));
        patient.as_object_mut().unwrap().remove("review");
        let flagged = ask(&mut wire, &patient);
        if flagged.status == 429 {
            continue;
        }
        let review = flagged.json();
        assert_eq!(review["disposition"], "review", "{review}");
        patient["review"] = json!({
            "token": review["review"]["token"], "reason_code": "CONFIRMED_BY_CLINICIAN"
        });
        let overridden = ask(&mut wire, &patient);
        if overridden.status == 200 {
            let body = overridden.json();
            assert_eq!(body["disposition"], "predicted", "{body}");
            assert_eq!(left(&overridden), left(&flagged) - 1);
            // The same override again is free: a dropped connection must not cost anything.
            assert_eq!(left(&ask(&mut wire, &patient)), left(&overridden));
            answered += 1;
        } else {
            assert_eq!(overridden.code(), "SLOWED_DOWN");
        }
    }
    assert_eq!(answered, NEAR);
}
