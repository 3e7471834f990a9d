//! Many callers at once: everyone gets the answer to their own patient, and a row that makes a
//! network fail harms nobody else.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Barrier, Mutex},
    thread,
};

use ort::{session::Session, value::Tensor};
use serde_json::{Value, json};
use vitalgate::{
    bundle::model::ModelSpec,
    inference::find_library,
    screening::{Scratch, Screen},
};

use crate::harness::{Answer, Server, Site, Wire, client, codes, icu_patients, model_source, post};

const CALLERS: usize = 64;

/// What `icu-mortality` should answer, worked out from its `model.json`, its reference and ONNX
/// Runtime alone.
struct Oracle {
    model: Value,
    screen: Screen,
    members: Vec<Session>,
}

#[derive(Debug, PartialEq)]
enum Expected {
    Predicted(f64),
    Review(&'static str),
}

impl Oracle {
    fn new() -> Self {
        let library = find_library(None).unwrap();
        let environment = ort::init_from(library).unwrap().build().unwrap();
        let files = model_source("icu-mortality");
        let model: Value = serde_json::from_slice(&files["model.json"]).unwrap();
        let members = model["members"].as_array().unwrap().iter().map(|member| {
            let onnx = &files[member["file"].as_str().unwrap()];
            let mut builder = Session::builder(&environment).unwrap();
            builder.commit_from_memory(onnx).unwrap()
        });
        let members = members.collect();
        let spec = ModelSpec::parse(&files["model.json"]).unwrap();
        let screen = Screen::parse(&files["reference.json"], &spec).unwrap();
        Self {
            model,
            screen: screen.unwrap(),
            members,
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        reason = "the networks compute in float32"
    )]
    fn expected(&mut self, patient: &Value) -> Expected {
        let observed = &patient["observations"];
        let mut row = Vec::new();
        let mut outside = false;
        for feature in self.model["features"].as_array().unwrap() {
            let sent = &observed[feature["name"].as_str().unwrap()];
            let imputed = feature["missing"]["impute"].as_f64();
            let value = sent.as_bool().map(|b| f64::from(u8::from(b)));
            let value = value.or(sent.as_f64()).or(imputed).unwrap();
            let bound = |side: &str| feature["expected"][side].as_f64().unwrap();
            outside |= value < bound("min") || value > bound("max");
            row.push(value as f32);
        }
        let number = |name: &str| observed[name].as_f64().unwrap();
        if outside {
            return Expected::Review("OUTSIDE_EXPECTED");
        }
        let (low, mean, high) = (
            number("diastolic_bp"),
            number("mean_bp"),
            number("systolic_bp"),
        );
        if !(low < mean && mean < high) {
            return Expected::Review("IMPLAUSIBLE_COMBINATION");
        }
        // Every value of these patients is there, on the grid of its measurement.
        let measured = row.iter().map(|v| f64::from(*v));
        if self.screen.judge(measured, &mut Scratch::default()).flagged {
            return Expected::Review("ATYPICAL");
        }
        let answers: Vec<f64> = self
            .members
            .iter_mut()
            .map(|session| {
                let input = Tensor::from_array(([1, row.len()], row.clone())).unwrap();
                let outputs = session.run(ort::inputs!["features" => input]).unwrap();
                let (_, values) = outputs["probability"].try_extract_tensor::<f32>().unwrap();
                f64::from(values[0])
            })
            .collect();
        let logit = |p: f64| (p / (1.0 - p)).ln();
        let spread = (logit(answers[0]) - logit(answers[1])).abs();
        if spread
            > self.model["agreement"]["max_logit_spread"]
                .as_f64()
                .unwrap()
        {
            return Expected::Review("DISAGREEMENT");
        }
        let mean = f64::midpoint(answers[0], answers[1]);
        Expected::Predicted((mean * 10.0).round() / 10.0)
    }
}

fn found(answer: &Answer) -> Expected {
    assert_eq!(answer.status, 200, "{answer:?}");
    let body = answer.json();
    if let Some(p) = body["prediction"]["probability"].as_f64() {
        assert_eq!(body["disposition"], "predicted");
        return Expected::Predicted((p * 10.0).round() / 10.0);
    }
    assert_eq!(body["disposition"], "review");
    let code = body["reasons"][0]["code"].as_str().unwrap();
    let known = [
        "OUTSIDE_EXPECTED",
        "IMPLAUSIBLE_COMBINATION",
        "ATYPICAL",
        "DISAGREEMENT",
    ];
    Expected::Review(known.into_iter().find(|c| *c == code).unwrap())
}

/// Every request at once with its round's others, each caller on a connection of its own;
/// answers in the requests' order.
fn all_at_once(server: &Server, site: &Site, path: &str, bodies: &[Value]) -> Vec<Answer> {
    let config = client(site, "clinician");
    let barrier = Barrier::new(CALLERS);
    let answers = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (config, barrier, answers) = (&config, &barrier, &answers);
            scope.spawn(move || {
                let mut wire = Wire::open(server, config);
                for round in 0..bodies.len() / CALLERS {
                    let index = round * CALLERS + caller;
                    let body = serde_json::to_vec(&bodies[index]).unwrap();
                    barrier.wait();
                    let answer = post(&mut wire, path, &body);
                    answers.lock().unwrap().insert(index, answer);
                }
            });
        }
    });
    answers.into_inner().unwrap().into_values().collect()
}

fn ids(answers: &[Answer]) -> HashSet<String> {
    answers
        .iter()
        .map(|a| a.json()["id"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn everyone_gets_the_answer_to_their_own_patient() {
    let site = Site::new();
    let mut server = Server::start(&site);
    let patients = icu_patients();
    assert_eq!(patients.len() % CALLERS, 0);
    let path = "/v1/models/icu-mortality/predict";
    let answers = all_at_once(&server, &site, path, &patients);

    let mut oracle = Oracle::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (index, (patient, answer)) in patients.iter().zip(&answers).enumerate() {
        let expected = oracle.expected(patient);
        assert_eq!(found(answer), expected, "patient {index}");
        *seen.entry(format!("{expected:?}")).or_default() += 1;
    }
    println!("{} patients, {CALLERS} at once: {seen:?}", patients.len());
    assert!(
        seen.len() > 5,
        "too few different answers to tell rows apart"
    );
    let ids = ids(&answers);
    assert_eq!(ids.len(), patients.len(), "an id was used twice");
    server.stop();
    let records = server.records();
    assert_eq!(records.len(), patients.len());
    let recorded = records.iter().map(|r| r["id"].as_str().unwrap().to_owned());
    assert_eq!(recorded.collect::<HashSet<_>>(), ids);
}

/// The bundle of a network that fails on purpose: see `tests/fixtures`.
fn faulty_bundle() -> BTreeMap<String, Vec<u8>> {
    let feature = |name: &str, max: u32| {
        json!({
            "name": name, "title": name, "kind": "quantity", "unit": "1", "missing": "reject",
            "possible": {"min": -100, "max": max}, "expected": {"min": -100, "max": max},
        })
    };
    let model = json!({
        "format": 1, "name": "faulty", "version": 1, "title": "Fails on purpose",
        "intended_use": "A test.",
        "features": [feature("class", 100), feature("size", 1_000_000)],
        "members": [{
            "name": "faulty", "file": "members/faulty.onnx",
            "input": "features", "output": "probability",
        }],
        "outcome": {"name": "nothing", "bands": [{"name": "low", "below": 0.5005}, {"name": "high"}]},
        "output": {"precision": 0.001},
        "review": {"policy": "withhold", "max_missing": 0},
        "known_answers": [
            {"name": "a", "inputs": [2, 9], "outputs": {"faulty": 0.375}, "tolerance": 0.0001},
        ],
    });
    let onnx = include_bytes!("../fixtures/faulty/faulty.onnx").to_vec();
    BTreeMap::from([
        ("model.json".to_owned(), serde_json::to_vec(&model).unwrap()),
        ("members/faulty.onnx".to_owned(), onnx),
        ("README.md".to_owned(), b"# Faulty\n".to_vec()),
    ])
}

#[test]
fn a_row_that_makes_a_network_fail_harms_nobody_else() {
    let mut site = Site::without_models();
    site.add_bundle("faulty", 1, faulty_bundle());
    let mut server = Server::start(&site);
    let table = [0.125, 0.25, 0.5, 1.0];
    // One in eight fails the whole run, one in eight gives NaN, at every place of a batch.
    let rows: Vec<(f64, f64, Option<f64>)> = (0..CALLERS * 8)
        .map(|i| {
            let (class, second) = (i % 4, f64::from(u32::try_from(i).unwrap()) + 1.0);
            let r = second.sqrt();
            let shift = i / CALLERS + i;
            match shift % 8 {
                0 => ([4.0, 17.0, -1.0, -0.5][class], second, None),
                4 => (0.0, -second / 100.0, None),
                _ => {
                    let class_value = f64::from(u32::try_from(class).unwrap());
                    (class_value, second, Some(table[class] * r / (1.0 + r)))
                }
            }
        })
        .collect();
    let bodies: Vec<Value> = rows
        .iter()
        .map(|(class, size, _)| json!({"observations": {"class": class, "size": size}}))
        .collect();
    let answers = all_at_once(&server, &site, "/v1/models/faulty/predict", &bodies);
    let (mut good, mut bad) = (0, 0);
    for ((class, size, expected), answer) in rows.iter().zip(&answers) {
        let body = answer.json();
        assert_eq!(answer.status, 200, "{body}");
        if let Some(expected) = expected {
            let probability = body["prediction"]["probability"].as_f64().unwrap();
            assert_eq!(body["disposition"], "predicted");
            assert!(
                (probability - expected).abs() < 0.000_51,
                "({class}, {size}): {probability}, expected {expected}"
            );
            good += 1;
        } else {
            assert_eq!(body["disposition"], "review");
            assert_eq!(body["reasons"][0]["code"], "MEMBER_FAILED");
            assert!(body.get("prediction").is_none(), "{body}");
            bad += 1;
        }
    }
    println!("{good} good rows right, {bad} failing rows in review, {CALLERS} at once");
    assert!(bad > 100 && good > 300);
    server.stop();
    let records = server.records();
    let failed = records.iter().filter(|r| codes(r) == ["MEMBER_FAILED"]);
    assert_eq!(failed.count(), bad);
    assert_eq!(records.len(), rows.len());
}
