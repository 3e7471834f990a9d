//! Properties: whatever is sent, the answer is a verdict, and the verdict repeats nothing.

use proptest::{collection::vec, prelude::*, sample::select};
use serde_json::Value;

use super::{super::faults::MAX_FAULTS, *};
use crate::clinical::{check_consistency, check_ranges};

/// Stands in bodies as key, value and unit; must never stand in anything that can be logged.
const CANARY: &str = "zzCanaryzz";
const CANARY_DIGITS: &str = "8841.7731";

const SNIPPETS: &[&str] = &[
    "NaN",
    "Infinity",
    "-",
    "1e999",
    "1e-999",
    "null",
    "true",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud83d",
    "\u{0}",
    " ",
    "é",
    "{}",
    "[]",
    "\"unit\"",
    "\"value\"",
    "\"age\":1,",
    "\"observations\":",
    "\"context\":",
    "{\"value\":1,\"unit\":\"kPa\"}",
    CANARY,
    CANARY_DIGITS,
];

/// What must hold of any body whatsoever.
fn judge(spec: &Arc<ModelSpec>, body: &[u8]) -> Result<(), TestCaseError> {
    match parse(spec, body) {
        Ok(observed) => {
            prop_assert!(
                serde_json::from_slice::<Value>(body).is_ok(),
                "accepted what is no JSON"
            );
            let debug = format!("{observed:?}");
            prop_assert!(!debug.contains(CANARY) && !debug.contains(CANARY_DIGITS));
            let row = observed.into_row();
            prop_assert!(row.values().iter().all(|v| !v.is_nan()));
            let later = check_ranges(Observed(row)).and_then(|plausible| {
                let debug = format!("{plausible:?}");
                assert!(!debug.contains(CANARY_DIGITS));
                check_consistency(plausible)
            });
            if let Err(rejection) = later {
                holds(&rejection)?;
                prop_assert_eq!(rejection.status(), 422);
            }
        }
        Err(rejection) => holds(&rejection)?,
    }
    Ok(())
}

fn holds(rejection: &Rejection) -> Result<(), TestCaseError> {
    prop_assert!((1..=MAX_FAULTS).contains(&rejection.faults.len()));
    for fault in &rejection.faults {
        prop_assert!(matches!(fault.code.status(), 400 | 422), "{:?}", fault.code);
        prop_assert_eq!(fault.code.outcome(), crate::disposition::Outcome::Rejected);
        prop_assert!(fault.pointer.expose().len() <= 3 * (1 + 64 * 4));
        prop_assert!(!fault.expected.contains(CANARY) && !fault.expected.contains(CANARY_DIGITS));
    }
    let debug = format!("{rejection:?}");
    prop_assert!(!debug.contains(CANARY) && !debug.contains(CANARY_DIGITS));
    Ok(())
}

fn any_json() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        any::<f64>().prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        select(SNIPPETS).prop_map(str::to_owned),
        "[a-z/~%*]{0,12}".prop_map(|s| format!("\"{s}\"")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(|items| format!("[{}]", items.join(","))),
            vec((select(vec!["value", "unit", CANARY]), inner), 0..4).prop_map(|members| {
                let members: Vec<_> = members
                    .iter()
                    .map(|(k, v)| format!("\"{k}\":{v}"))
                    .collect();
                format!("{{{}}}", members.join(","))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_get_a_verdict(body in vec(any::<u8>(), 0..300)) {
        judge(&specimens::icu(), &body)?;
    }

    #[test]
    fn a_mutated_body_gets_a_verdict(
        edits in vec((any::<proptest::sample::Index>(), 0..4_usize, select(SNIPPETS), any::<u8>()), 1..6),
    ) {
        let mut body = Body::icu().beside("\"context\": {\"encounter\": \"e\"}").bytes();
        for (index, length, snippet, byte) in edits {
            let at = index.index(body.len() + 1);
            let end = (at + length).min(body.len());
            if byte < 64 {
                body.splice(at..end, [byte | 0x80]);
            } else {
                body.splice(at..end, snippet.bytes());
            }
        }
        judge(&specimens::icu(), &body)?;
    }

    #[test]
    fn any_values_get_a_verdict(
        feature in select(vec!["age", "male", "temperature", "gcs", "mean_bp", "magnesium"]),
        json in any_json(), extra in any_json(),
    ) {
        let body = Body::icu().with(feature, &json).plus(CANARY, &extra);
        judge(&specimens::icu(), &body.bytes())?;
        judge(&specimens::icu(), &Body::icu().with(feature, &json).bytes())?;
    }

    #[test]
    fn any_number_in_any_unit_gets_a_verdict(
        number in any::<f64>(), unit in "[a-zA-Z%/*^{}\\[\\]0-9.(]{0,10}",
    ) {
        let json = format!("{{\"value\": {number}, \"unit\": \"{unit}\"}}");
        for feature in ["systolic_bp", "temperature", "gcs", "male", "magnesium"] {
            judge(&specimens::icu(), &Body::icu().with(feature, &json).bytes())?;
        }
    }
}

#[test]
fn nothing_of_the_callers_is_printed() {
    let bodies = [
        Body::icu().with("mean_bp", CANARY_DIGITS),
        Body::icu().plus(CANARY, CANARY_DIGITS),
        Body::icu().with("bun", &format!("\"{CANARY}\"")),
        Body::icu().with(
            "bun",
            &format!("{{\"value\": {CANARY_DIGITS}, \"unit\": \"{CANARY}\"}}"),
        ),
        Body::icu().with("bun", &format!("{{\"{CANARY}\": {CANARY_DIGITS}}}")),
        Body::icu().with("bun", CANARY_DIGITS),
        Body::icu().with("bun", &format!("{CANARY_DIGITS}x")),
        Body::icu().with("gcs", CANARY_DIGITS),
        Body::icu().beside(&format!("\"context\": {{\"encounter\": \"{CANARY}\"}}")),
        Body::icu().beside(&format!(
            "\"context\": {{\"encounter\": \"{CANARY}\", \"{CANARY}\": 1}}"
        )),
        Body::icu().beside(&format!("\"{CANARY}\": 1, \"{CANARY}\": 1")),
    ];
    for body in bodies {
        judge(&specimens::icu(), &body.bytes()).unwrap();
        // The pointer is the one place for the caller's words, and only the response reads it.
        if let Err(rejection) = parse(&specimens::icu(), &body.bytes()) {
            let debug = format!("{:?} {:?}", rejection.faults, rejection);
            assert!(!debug.contains(CANARY) && !debug.contains(CANARY_DIGITS));
        }
    }
}

#[test]
fn a_row_prints_its_model_and_nothing_else() {
    let row = icu_row(&Body::icu().with("mean_bp", CANARY_DIGITS));
    assert_eq!(value(&row, "mean_bp"), 8841.7731);
    assert_eq!(format!("{row:?}"), "Row { model: \"icu-mortality\", .. }");
    assert_eq!(
        format!("{:?}", Observed(row)),
        "Observed(Row { model: \"icu-mortality\", .. })"
    );
}
