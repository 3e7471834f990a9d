//! Ranges and rules, against both demonstration models.

use serde_json::json;

use super::*;
use crate::{
    bundle::model::{Kind, ModelSpec},
    schema,
    specimens::{self, Body},
};

fn ranges(spec: &Arc<ModelSpec>, body: &Body) -> Result<Plausible, Rejection> {
    check_ranges(schema::parse(spec, &body.bytes()).unwrap())
}

fn judged(spec: &Arc<ModelSpec>, body: &Body) -> Result<Box<Row>, Rejection> {
    check_consistency(ranges(spec, body)?).map(Consistent::into_row)
}

/// Codes and names of the features of the reasons for review.
fn reasons(spec: &Arc<ModelSpec>, body: &Body) -> Vec<(&'static str, Vec<String>)> {
    judged(spec, body)
        .unwrap()
        .reasons
        .iter()
        .map(|r| {
            (
                r.code.as_str(),
                spec.names(&r.features).map(str::to_owned).collect(),
            )
        })
        .collect()
}

fn faults(rejection: &Rejection) -> Vec<(&'static str, &str)> {
    rejection
        .faults
        .iter()
        .map(|f| (f.code.as_str(), f.pointer.expose().as_str()))
        .collect()
}

fn expected(reasons: &[(&'static str, &[&str])]) -> Vec<(&'static str, Vec<String>)> {
    reasons
        .iter()
        .map(|(code, names)| (*code, names.iter().map(|&n| n.to_owned()).collect()))
        .collect()
}

#[test]
fn ordinary_patients_give_no_reason() {
    assert!(reasons(&specimens::icu(), &Body::icu()).is_empty());
    assert!(reasons(&specimens::breast(), &Body::breast()).is_empty());
}

#[test]
fn every_impossible_value_is_rejected_at_once() {
    let body = Body::icu()
        .with("age", "131")
        .with("male", "2")
        .with("heart_rate", "-1")
        .with("systolic_bp", "1e30")
        .with("temperature", "9.9")
        .with("gcs", "2")
        .with("potassium", "40")
        .with("magnesium", "20.1");
    let rejection = ranges(&specimens::icu(), &body).unwrap_err();
    let pointers = [
        "age",
        "male",
        "heart_rate",
        "systolic_bp",
        "temperature",
        "gcs",
        "potassium",
        "magnesium",
    ]
    .map(|name| format!("/observations/{name}"));
    let pointers = pointers
        .each_ref()
        .map(|p| ("IMPOSSIBLE_VALUE", p.as_str()));
    assert_eq!(faults(&rejection), pointers);
    assert_eq!(rejection.status(), 422);
    assert_eq!(rejection.faults[4].expected, "10 to 47 Cel");
    assert_eq!(rejection.faults[1].expected, "0 to 1");
}

#[test]
fn every_feature_has_its_limits() {
    for (spec, body) in [
        (specimens::icu(), Body::icu()),
        (specimens::breast(), Body::breast()),
    ] {
        for feature in &spec.features {
            // Within half a step a value is what it is rounded to.
            let whole = feature.kind != Kind::Quantity;
            let step = feature.precision.unwrap_or(if whole { 1.0 } else { 1e-9 });
            for beyond in [feature.possible.min - step, feature.possible.max + step] {
                let body = body.clone().with(&feature.name, &beyond.to_string());
                let rejection = ranges(&spec, &body).unwrap_err();
                let pointer = format!("/observations/{}", feature.name);
                assert_eq!(faults(&rejection), [("IMPOSSIBLE_VALUE", pointer.as_str())]);
            }
            // The limits themselves are possible.
            for edge in [feature.possible.min, feature.possible.max] {
                let body = body.clone().with(&feature.name, &edge.to_string());
                assert!(ranges(&spec, &body).is_ok(), "{} {edge}", feature.name);
            }
        }
    }
}

#[test]
fn limits_hold_after_conversion() {
    let fahrenheit = Body::icu().with("temperature", r#"{"value": 120, "unit": "degF"}"#);
    assert!(ranges(&specimens::icu(), &fahrenheit).is_err());
    let celsius = Body::icu().with("temperature", r#"{"value": 98.6, "unit": "degF"}"#);
    assert!(reasons(&specimens::icu(), &celsius).is_empty());
    // Fahrenheit typed where Celsius is declared.
    assert!(ranges(&specimens::icu(), &Body::icu().with("temperature", "98.6")).is_err());
}

#[test]
fn reasons_for_review_accumulate() {
    let body = Body::icu()
        .with("age", "121")
        .with("temperature", "24.9")
        .with("platelets", "1501")
        .with("mean_bp", "130")
        .without("bicarbonate")
        .without("magnesium");
    assert_eq!(
        reasons(&specimens::icu(), &body),
        expected(&[
            ("OUTSIDE_EXPECTED", &["age"]),
            ("OUTSIDE_EXPECTED", &["temperature"]),
            ("OUTSIDE_EXPECTED", &["platelets"]),
            ("TOO_MUCH_MISSING", &["bicarbonate", "magnesium"]),
            (
                "IMPLAUSIBLE_COMBINATION",
                &["diastolic_bp", "mean_bp", "systolic_bp"]
            ),
        ])
    );
}

#[test]
fn the_edges_of_the_expected_range_are_expected() {
    for (value, flagged) in [("43", false), ("25", false), ("43.1", true), ("24.9", true)] {
        let body = Body::icu().with("temperature", value);
        assert_eq!(
            !reasons(&specimens::icu(), &body).is_empty(),
            flagged,
            "{value}"
        );
    }
}

#[test]
fn reasons_say_what_to_do_and_never_the_value() {
    let spec = specimens::icu();
    let body = Body::icu()
        .with("temperature", "24.7")
        .with("mean_bp", "173.77");
    let row = judged(&spec, &body).unwrap();
    // What they are made of; `answer` has the words.
    let words: Vec<Words> = row.reasons.iter().map(|r| r.words).collect();
    assert_eq!(words, [Words::Range, Words::Rule(0)]);
    assert!(!format!("{:?}", row.reasons).contains("24.7"));
}

#[test]
fn blood_pressures_out_of_order_are_for_a_person() {
    let flagged = expected(&[(
        "IMPLAUSIBLE_COMBINATION",
        &["diastolic_bp", "mean_bp", "systolic_bp"],
    )]);
    for (diastolic, mean, systolic, consistent) in [
        ("42", "67", "122", true),
        ("122", "67", "42", false),
        ("67", "42", "122", false),
        ("67", "67", "122", false),
        ("42", "122", "122", false),
        ("42", "67", "67.2", false),
    ] {
        let body = Body::icu()
            .with("diastolic_bp", diastolic)
            .with("mean_bp", mean)
            .with("systolic_bp", systolic);
        let found = reasons(&specimens::icu(), &body);
        let expected = if consistent {
            Vec::new()
        } else {
            flagged.clone()
        };
        assert_eq!(found, expected, "{diastolic} {mean} {systolic}");
    }
}

#[test]
fn impossible_combinations_are_rejected_together() {
    let spec = specimens::breast();
    let body = Body::breast()
        .with("worst_radius", "15.3")
        .with("worst_area", "735");
    let rejection = judged(&spec, &body).unwrap_err();
    assert_eq!(
        faults(&rejection),
        [
            ("IMPOSSIBLE_COMBINATION", "/observations/mean_radius"),
            ("IMPOSSIBLE_COMBINATION", "/observations/worst_radius"),
            ("IMPOSSIBLE_COMBINATION", "/observations/mean_area"),
            ("IMPOSSIBLE_COMBINATION", "/observations/worst_area"),
        ]
    );
    assert_eq!(rejection.status(), 422);
    assert!(rejection.faults[0].expected.contains("worst radius"));
    // Equal is the limit case of three nuclei, and possible.
    let equal = Body::breast().with("worst_radius", "15.375");
    assert!(judged(&spec, &equal).is_ok());
}

#[test]
fn a_few_missing_values_are_no_reason() {
    let spec = specimens::icu();
    assert!(reasons(&spec, &Body::icu().without("magnesium")).is_empty());
    let two = Body::icu().without("magnesium").with("bicarbonate", "null");
    assert_eq!(
        reasons(&spec, &two),
        expected(&[("TOO_MUCH_MISSING", &["bicarbonate", "magnesium"])])
    );
    let none = specimens::icu_with(|m| m["review"]["max_missing"] = json!(0)).unwrap();
    assert_eq!(reasons(&none, &Body::icu().without("magnesium")).len(), 1);
}

#[test]
fn a_rule_is_skipped_when_a_value_it_reads_was_imputed() {
    let rule = |on_violation: &str| {
        specimens::icu_with(|m| {
            m["consistency"] = json!([{
                "id": "MAGNESIUM", "rule": "magnesium > potassium", "on_violation": on_violation,
                "features": ["magnesium"], "message": "magnesium should be above potassium",
            }]);
        })
        .unwrap()
    };
    assert_eq!(reasons(&rule("review"), &Body::icu()).len(), 1);
    assert!(judged(&rule("reject"), &Body::icu()).is_err());
    let missing = Body::icu().without("magnesium");
    assert!(reasons(&rule("review"), &missing).is_empty());
    assert!(judged(&rule("reject"), &missing).is_ok());
    // A value imputed that the rule does not read changes nothing.
    assert!(judged(&rule("reject"), &Body::icu().without("bicarbonate")).is_err());
}

fn compile(rule: &str) -> Result<Arc<ModelSpec>, String> {
    specimens::icu_with(|m| m["consistency"][0]["rule"] = json!(rule))
}

#[test]
fn a_rule_that_could_not_be_applied_is_not_loaded() {
    for (rule, problem) in [
        ("heart_rate < lactate", "no feature is called lactate"),
        ("heart_rate + 1.0", "does not yield true or false"),
        ("heart_rate", "does not yield true or false"),
        ("'a' + heart_rate", "does not yield true or false"),
        ("heart_rate < 'a'", "does not yield true or false"),
        ("unknown_function(heart_rate)", "consistency rule BP_ORDER"),
        ("heart_rate <", "not CEL"),
        ("", "not CEL"),
        ("true", "must read and name at least one feature"),
        ("1.0 < 2.0", "must read and name at least one feature"),
    ] {
        let error = compile(rule).unwrap_err();
        assert!(error.contains(problem), "{rule}: {error}");
        assert!(error.contains("BP_ORDER"), "{rule}: {error}");
    }
    let unnamed = specimens::icu_with(|m| m["consistency"][0]["features"] = json!([]));
    assert!(unnamed.unwrap_err().contains("at least one feature"));
    let unknown = specimens::icu_with(|m| m["consistency"][0]["features"] = json!(["lactate"]));
    assert!(
        unknown
            .unwrap_err()
            .contains("no feature is called lactate")
    );
}

#[test]
fn rules_compute_on_doubles() {
    let flagged = |rule: &str| {
        let spec = compile(rule).unwrap_or_else(|e| panic!("{rule}: {e}"));
        !reasons(&spec, &Body::icu()).is_empty()
    };
    for (rule, consistent) in [
        ("bun / creatinine < 20.0", true),
        ("bun / creatinine < 2.0", false),
        ("male == 1.0 || age > 80.0", true),
        ("!(gcs == 14.0)", false),
        (
            "mean_bp - diastolic_bp < (systolic_bp - diastolic_bp) * 0.75",
            true,
        ),
    ] {
        assert_eq!(!flagged(rule), consistent, "{rule}");
    }
}

#[test]
fn a_rule_that_fails_on_a_patient_does_not_hold() {
    // Short-circuited on the trial row, an error on any patient with a pulse.
    if let Ok(spec) = compile("heart_rate < 21.0 || heart_rate < 'a'") {
        assert_eq!(reasons(&spec, &Body::icu()).len(), 1);
    }
}
