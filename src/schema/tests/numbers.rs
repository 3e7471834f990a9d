//! Numbers: what is one, what is whole, what is rounded.

use super::*;

#[test]
fn what_is_not_finite_is_refused_and_reading_goes_on() {
    for number in ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"] {
        let bare = one("NON_FINITE", "/observations/bun");
        assert_eq!(faults_of("bun", number), bare, "{number}");
        let with_unit = format!("{{\"value\": {number}, \"unit\": \"mmol/L\"}}");
        assert_eq!(faults_of("bun", &with_unit), bare, "{number}");
        for feature in ["gcs", "male"] {
            let pointer = format!("/observations/{feature}");
            assert_eq!(faults_of(feature, number), one("NON_FINITE", &pointer));
        }
        let two = Body::icu().with("age", number).with("magnesium", number);
        assert_eq!(
            faults(&two.bytes()),
            [
                ("NON_FINITE", "/observations/age".to_owned()),
                ("NON_FINITE", "/observations/magnesium".to_owned())
            ]
        );
    }
    assert_eq!(
        rejection(&specimens::icu(), &Body::icu().with("age", "NaN").bytes()).status(),
        422
    );
}

#[test]
fn numbers_are_written_as_json_writes_them() {
    for number in [
        "nan", "inf", "+1", ".5", "01", "1.", "1e", "0x1", "1_000", "1,5", "--1", "-", "-NaN",
    ] {
        let rejection = rejection(&specimens::icu(), &Body::icu().with("bun", number).bytes());
        assert_eq!(rejection.status(), 400, "{number}");
        assert_eq!(listed(&rejection)[0].0, "MALFORMED_JSON", "{number}");
    }
    for number in ["36.0", "3.6e1", "3.6E+1", "360e-1"] {
        assert_eq!(
            value(&icu_row(&Body::icu().with("bun", number)), "bun"),
            36.0
        );
    }
}

#[test]
fn ordinals_are_whole_as_they_are_sent() {
    // Rounding first would make a 14 or 15 of a score that nobody gave.
    for json in [
        "14.5",
        "14.0000001",
        "1e-9",
        r#"{"value": 14.5, "unit": "{score}"}"#,
    ] {
        let expected = one("NOT_WHOLE", "/observations/gcs");
        assert_eq!(faults_of("gcs", json), expected, "{json}");
    }
    let row = icu_row(&Body::icu().with("gcs", "15.0"));
    assert_eq!(value(&row, "gcs"), 15.0);
    assert!(row.rounded.is_empty());
}

#[test]
fn booleans_are_true_false_one_or_zero() {
    for (json, expected) in [
        ("true", 1.0),
        ("false", 0.0),
        ("1", 1.0),
        ("0", 0.0),
        ("1.0", 1.0),
        (r#"{"value": true}"#, 1.0),
        (r#"{"value": 0, "unit": "1"}"#, 0.0),
    ] {
        let row = icu_row(&Body::icu().with("male", json));
        assert_eq!(value(&row, "male"), expected, "{json}");
    }
    let half = one("NOT_WHOLE", "/observations/male");
    assert_eq!(faults_of("male", "0.5"), half);
    // A unit must not make a hundredth of a man.
    for json in [
        r#"{"value": 1, "unit": "%"}"#,
        r#"{"value": true, "unit": "%"}"#,
        r#"{"value": 50, "unit": "%"}"#,
    ] {
        let unit = one("INCOMPATIBLE_UNIT", "/observations/male/unit");
        assert_eq!(faults_of("male", json), unit, "{json}");
    }
    // Whole, so it is read; the possible range is the next stage's.
    assert_eq!(value(&icu_row(&Body::icu().with("male", "2")), "male"), 2.0);
}

#[test]
fn there_is_one_zero() {
    for json in [
        "-0",
        "-0.0",
        "-0e5",
        "-1e-400",
        r#"{"value": -0, "unit": "L"}"#,
    ] {
        let row = icu_row(&Body::icu().with("urine_24h", json));
        assert_eq!(value(&row, "urine_24h").to_bits(), 0, "{json}");
    }
    // A derived value is not rounded, which would make the zero positive by the way.
    let row = icu_row(&Body::icu().with("mean_bp", "-0.0"));
    assert_eq!(value(&row, "mean_bp").to_bits(), 0);
}

#[test]
fn large_numbers_are_read_and_left_to_the_ranges() {
    for (json, expected) in [
        ("1e30", 1e30),
        ("-1e308", -1e308),
        ("123456789012345678901", 1.234_567_890_123_456_8e20),
    ] {
        let row = icu_row(&Body::icu().with("bun", json));
        assert_eq!(value(&row, "bun"), expected);
        assert!(clinical::check_ranges(Observed(row)).is_err());
    }
    // Finite as sent, not in the declared unit: no range holds it.
    let row = icu_row(&Body::icu().with("systolic_bp", r#"{"value": 1e308, "unit": "kPa"}"#));
    assert!(clinical::check_ranges(Observed(row)).is_err());
    // More digits than the reader takes.
    let digits = "9".repeat(5000);
    assert_eq!(
        faults_of("bun", &digits),
        one("MALFORMED_JSON", "/observations/bun")
    );
}

#[test]
fn values_are_rounded_to_the_measurement_step() {
    let body = Body::icu()
        .with("temperature", "36.5499")
        .with("creatinine", "1.05")
        .with("urine_24h", "5473")
        .with("mean_bp", "66.6666666667");
    let row = icu_row(&body);
    assert_eq!(value(&row, "temperature"), 36.5);
    assert_eq!(value(&row, "creatinine"), 1.1);
    assert_eq!(value(&row, "urine_24h"), 5475.0);
    // Computed from the other two, so it has no step of its own.
    assert_eq!(value(&row, "mean_bp"), 66.666_666_666_7);
    assert_eq!(
        names(&row, row.rounded),
        ["temperature", "urine_24h", "creatinine"]
    );
}

#[test]
fn a_float32_on_its_way_is_not_reported_as_rounded() {
    let row = icu_row(&Body::icu().with("temperature", "37.099998474"));
    assert_eq!(value(&row, "temperature"), 37.1);
    assert!(row.rounded.is_empty());
    let row = icu_row(&Body::icu().with("temperature", "37.0999"));
    assert_eq!(value(&row, "temperature"), 37.1);
    assert_eq!(names(&row, row.rounded), ["temperature"]);
}
