//! Units that clients write, and what they become.

use super::*;

#[test]
fn common_units_are_converted() {
    for (feature, value, unit, expected) in [
        ("systolic_bp", 16.3, "kPa", 122.26),
        ("temperature", 98.6, "degF", 37.0),
        ("temperature", 310.2, "K", 37.05),
        ("creatinine", 265.0, "umol/L", 2.998),
        ("creatinine", 265.0, "µmol/l", 2.998),
        ("glucose", 8.5, "mmol/L", 153.13),
        ("bun", 12.9, "mmol/L", 36.14),
        ("magnesium", 0.8, "mmol/L", 1.944),
        ("magnesium", 1.6, "mEq/L", 1.944),
        ("hematocrit", 0.4, "L/L", 40.0),
        ("urine_24h", 5.5, "L", 5500.0),
    ] {
        let json = format!("{{\"value\": {value}, \"unit\": \"{unit}\"}}");
        let row = icu_row(&Body::icu().with(feature, &json));
        let found = super::value(&row, feature);
        assert!(
            (found / expected - 1.0).abs() < 1e-3,
            "{feature} {unit}: {found}"
        );
        assert_eq!(names(&row, row.converted), [feature], "{unit}");
    }
}

#[test]
fn other_names_of_the_declared_unit_change_nothing() {
    for (feature, json) in [
        ("heart_rate", r#"{"value": 68, "unit": "bpm"}"#),
        ("systolic_bp", r#"{"value": 122, "unit": "mmHg"}"#),
        ("systolic_bp", r#"{"value": 122, "unit": "MMHG"}"#),
        ("temperature", r#"{"value": 36.5, "unit": "°C"}"#),
        ("sodium", r#"{"value": 144, "unit": "mEq/L"}"#),
        ("wbc", r#"{"value": 13, "unit": "K/uL"}"#),
        ("platelets", r#"{"value": 350, "unit": "10^9/L"}"#),
        ("age", r#"{"value": 81, "unit": "years"}"#),
        ("bun", r#"{"value": 36, "unit": " mg / dL "}"#),
    ] {
        let row = icu_row(&Body::icu().with(feature, json));
        assert_eq!(row.values(), icu_row(&Body::icu()).values(), "{json}");
        assert!(row.converted.is_empty() && row.rounded.is_empty(), "{json}");
    }
}

#[test]
fn rounding_is_in_the_submitted_unit() {
    // 1 mmHg is 0.13 kPa, so a tenth of a kilopascal is what an instrument shows.
    let row = icu_row(&Body::icu().with("systolic_bp", r#"{"value": 16.3, "unit": "kPa"}"#));
    assert!(row.rounded.is_empty());
    let exact = value(&row, "systolic_bp");
    let row = icu_row(&Body::icu().with("systolic_bp", r#"{"value": 16.32, "unit": "kPa"}"#));
    assert_eq!(names(&row, row.rounded), ["systolic_bp"]);
    assert_eq!(names(&row, row.converted), ["systolic_bp"]);
    assert_eq!(value(&row, "systolic_bp"), exact);
    // An eighth of a mmol/L of glucose is not cut to the step of mg/dL.
    let row = icu_row(&Body::icu().with("glucose", r#"{"value": 8.55, "unit": "mmol/L"}"#));
    assert!(row.rounded.is_empty());
}

#[test]
fn rounded_converted_and_imputed_are_told_apart() {
    let body = Body::icu()
        .with("temperature", r#"{"value": 98.63, "unit": "[degF]"}"#)
        .with("creatinine", r#"{"value": 265, "unit": "umol/L"}"#)
        .with("potassium", "4.04")
        .with("magnesium", "null");
    let row = icu_row(&body);
    assert_eq!(names(&row, row.rounded), ["temperature", "potassium"]);
    assert_eq!(names(&row, row.converted), ["temperature", "creatinine"]);
    assert_eq!(names(&row, row.imputed), ["magnesium"]);
}

#[test]
fn units_of_something_else_are_refused() {
    for (feature, unit, code) in [
        ("heart_rate", "mm[Hg]", "INCOMPATIBLE_UNIT"),
        ("systolic_bp", "Cel", "INCOMPATIBLE_UNIT"),
        ("temperature", "mg/dL", "INCOMPATIBLE_UNIT"),
        // No molar mass makes moles of white cells, none is declared for sodium.
        ("wbc", "mmol/L", "INCOMPATIBLE_UNIT"),
        ("sodium", "mg/dL", "INCOMPATIBLE_UNIT"),
        ("creatinine", "mEq/L", "INCOMPATIBLE_UNIT"),
        ("gcs", "%", "INCOMPATIBLE_UNIT"),
        ("age", "kg", "INCOMPATIBLE_UNIT"),
        ("heart_rate", "beets", "UNKNOWN_UNIT"),
        ("heart_rate", "\\u0000", "UNKNOWN_UNIT"),
        ("heart_rate", "/min; drop", "UNKNOWN_UNIT"),
        (
            "heart_rate",
            "(((((((((((((((((((((((((((((/m",
            "UNKNOWN_UNIT",
        ),
        (
            "heart_rate",
            "/minnnnnnnnnnnnnnnnnnnnnnnnnnnnnn",
            "TOO_LONG",
        ),
    ] {
        let json = format!("{{\"value\": 50, \"unit\": \"{unit}\"}}");
        let expected = one(code, &format!("/observations/{feature}/unit"));
        assert_eq!(faults_of(feature, &json), expected, "{feature} {unit}");
    }
}

#[test]
fn a_refused_unit_names_accepted_ones_and_not_itself() {
    let body = Body::icu().with("bun", r#"{"value": 50, "unit": "zorkmid"}"#);
    let rejection = rejection(&specimens::icu(), &body.bytes());
    let expected = &rejection.faults[0].expected;
    assert!(
        expected.contains("mg/dL") && expected.contains("mmol/L"),
        "{expected}"
    );
    assert!(!expected.contains("zorkmid"));
}
