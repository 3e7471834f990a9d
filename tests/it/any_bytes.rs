//! Whatever bytes come as a body: an answer below 500, one record, and nothing of them in any
//! log.

use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use serde_json::{Value, json};

use crate::harness::{ICU_PATIENT, Server, Site, Wire, client, post};

/// Text that must not turn up outside the answers.
const CANARY: &str = "cAnArY7f3a";

/// A change to a JSON text.
#[derive(Clone, Debug)]
enum Edit {
    Delete(usize, usize),
    Insert(usize, Vec<u8>),
    Flip(usize, u8),
    Double(usize, usize),
}

fn edit() -> impl Strategy<Value = Edit> {
    let token = prop_oneof![
        Just(b"null".to_vec()),
        Just(b"NaN".to_vec()),
        Just(b"-Infinity".to_vec()),
        Just(b"1e999".to_vec()),
        Just(b"-0.0".to_vec()),
        Just(b"\"\\ud800\"".to_vec()),
        Just(b"\\u0000".to_vec()),
        Just(format!("\"{CANARY}\":").into_bytes()),
        Just(format!("{{\"value\":1,\"unit\":\"{CANARY}\"}}").into_bytes()),
        vec(any::<u8>(), 1..8),
        vec(prop::sample::select(b"{}[]\",:".to_vec()), 1..4),
    ];
    prop_oneof![
        (any::<usize>(), 1..40usize).prop_map(|(at, n)| Edit::Delete(at, n)),
        (any::<usize>(), token).prop_map(|(at, bytes)| Edit::Insert(at, bytes)),
        (any::<usize>(), any::<u8>()).prop_map(|(at, mask)| Edit::Flip(at, mask)),
        (any::<usize>(), 1..80usize).prop_map(|(at, n)| Edit::Double(at, n)),
    ]
}

fn apply(mut text: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        let length = text.len();
        if length == 0 {
            break;
        }
        match edit {
            Edit::Delete(at, n) => drop(text.drain(at % length..(at % length + n).min(length))),
            Edit::Insert(at, bytes) => {
                drop(text.splice(at % length..at % length, bytes.iter().copied()));
            }
            Edit::Flip(at, mask) => text[at % length] ^= mask,
            Edit::Double(at, n) => {
                let piece = text[at % length..(at % length + n).min(length)].to_vec();
                drop(text.splice(at % length..at % length, piece));
            }
        }
    }
    text
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "\\PC{0,12}".prop_map(|s| Value::from(format!("{CANARY}{s}"))),
    ];
    let key = prop_oneof![
        Just("observations".to_owned()),
        Just("context".to_owned()),
        Just("encounter".to_owned()),
        Just("age".to_owned()),
        Just("value".to_owned()),
        Just("unit".to_owned()),
        "\\PC{0,8}".prop_map(|s| format!("{CANARY}{s}")),
    ];
    leaf.prop_recursive(6, 48, 6, move |inner| {
        prop_oneof![
            vec(inner.clone(), 0..6).prop_map(Value::from),
            vec((key.clone(), inner), 0..6).prop_map(|pairs| pairs.into_iter().collect()),
        ]
    })
}

/// The patient with some digits changed: mostly good JSON, often a good patient.
fn digits() -> impl Strategy<Value = Vec<u8>> {
    vec((any::<usize>(), b'0'..=b'9'), 1..4).prop_map(|changes| {
        let mut text = ICU_PATIENT.as_bytes().to_vec();
        let digits: Vec<usize> = (0..text.len())
            .filter(|&i| text[i].is_ascii_digit())
            .collect();
        for (at, digit) in changes {
            text[digits[at % digits.len()]] = digit;
        }
        text
    })
}

fn body() -> impl Strategy<Value = Vec<u8>> {
    let canary = CANARY.as_bytes();
    prop_oneof![
        vec(any::<u8>(), 0..2000).prop_map(move |bytes| [canary, &bytes].concat()),
        vec(edit(), 1..6).prop_map(|edits| apply(ICU_PATIENT.as_bytes().to_vec(), &edits)),
        digits(),
        json_value().prop_map(|value| value.to_string().into_bytes()),
        json_value()
            .prop_map(|value| json!({"observations": value}).to_string())
            .prop_map(String::into_bytes),
    ]
}

#[test]
fn any_bytes_get_an_answer_below_500_and_one_record() {
    let site = Site::new();
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let config = Config {
        cases: 256,
        failure_persistence: None,
        ..Config::default()
    };
    // The same cases in every run: what fails once fails again.
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let state = std::cell::RefCell::new((None::<Wire>, [0usize; 6]));
    let outcome = runner.run(&body(), |bytes| {
        let mut state = state.borrow_mut();
        let (wire, statuses) = &mut *state;
        let before = server.records().len();
        let mut open = wire
            .take()
            .unwrap_or_else(|| Wire::open(&server, &clinician));
        let answer = post(&mut open, "/v1/models/icu-mortality/predict", &bytes);
        let records = server.records();
        prop_assert_eq!(records.len(), before + 1);
        let record = &records[before];
        prop_assert!(answer.status < 500, "{:?}", answer);
        prop_assert_eq!(record["status"].as_u64(), Some(u64::from(answer.status)));
        prop_assert_eq!(record["id"].as_str(), answer.header("x-request-id"));
        statuses[usize::from(answer.status / 100)] += 1;
        if !answer.closes() {
            *wire = Some(open);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|e| panic!("{e}\nlog: {}", server.log()));
    let (wire, statuses) = state.into_inner();
    println!("256 bodies, answers by hundreds: {statuses:?}");
    assert!(statuses[2] > 0 && statuses[4] > 0, "{statuses:?}");
    drop(wire);
    server.stop();
    assert!(
        !server.audit_text().contains(CANARY),
        "a body in the audit log"
    );
    assert!(!server.log().contains(CANARY), "a body in the log");
    assert!(!server.log().contains("panic"), "{}", server.log());
}
