//! Known fields, once each, of the declared types.

use super::*;

#[test]
fn a_valid_body_is_read_in_full() {
    let row = icu_row(&Body::icu());
    assert_eq!(value(&row, "age"), 81.0);
    assert_eq!(value(&row, "temperature"), 36.5);
    assert_eq!(value(&row, "magnesium"), 2.0);
    assert!(row.rounded.is_empty() && row.converted.is_empty() && row.imputed.is_empty());
    assert!(row.reasons.is_empty());
    assert_eq!(crate::inference::Scored::inputs(&*row)[6], 36.5_f32);

    let spec = specimens::breast();
    let row = super::row(&spec, &Body::breast());
    assert_eq!(value(&row, "mean_radius"), 15.375);
    assert_eq!(row.values().len(), 30);
}

#[test]
fn white_space_order_and_context_do_not_matter() {
    let text = Body::icu()
        .beside(r#""context": {"encounter": "e-1"}"#)
        .text();
    let spread = text.replace(", ", " \r\n\t, ");
    assert!(parse(&specimens::icu(), spread.as_bytes()).is_ok());
    for context in [r#"{"encounter": null}"#, "{}"] {
        let body = Body::icu().beside(&format!("\"context\": {context}"));
        icu_row(&body);
    }
}

#[test]
fn a_bare_number_and_one_with_its_unit_are_the_same() {
    let with_unit = Body::icu()
        .with("heart_rate", r#"{"value": 68, "unit": "/min"}"#)
        .with("sodium", r#"{"unit": "mmol/L", "value": 144}"#)
        .with("bun", r#"{"value": 36}"#);
    let (a, b) = (icu_row(&Body::icu()), icu_row(&with_unit));
    assert_eq!(a.values(), b.values());
    assert!(b.converted.is_empty());
}

#[test]
fn keys_may_be_written_with_escapes() {
    let text = Body::icu().text();
    let escaped = text.replace("\"heart_rate\"", "\"he\\u0061rt_rate\"");
    assert!(escaped != text && parse(&specimens::icu(), escaped.as_bytes()).is_ok());
    let twice = text.replace("\"age\"", "\"heart\\u005frate\": 70, \"age\"");
    assert_eq!(
        faults(twice.as_bytes()),
        one("DUPLICATE_KEY", "/observations/heart_rate")
    );
}

#[test]
fn what_is_not_measured_is_imputed_only_where_declared() {
    for body in [
        Body::icu().without("magnesium"),
        Body::icu().with("magnesium", "null"),
        Body::icu().with("magnesium", r#"{"value": null}"#),
        Body::icu().with("magnesium", r#"{"value": null, "unit": "mmol/L"}"#),
    ] {
        let row = icu_row(&body);
        assert_eq!(value(&row, "magnesium"), 2.0);
        assert_eq!(names(&row, row.imputed), ["magnesium"]);
        assert!(row.converted.is_empty());
    }
    let missing = one("MISSING_VALUE", "/observations/glucose");
    assert_eq!(faults(&Body::icu().without("glucose").bytes()), missing);
    assert_eq!(faults_of("glucose", "null"), missing);
    assert_eq!(faults_of("glucose", r#"{"value": null}"#), missing);
    for json in ["{}", r#"{"unit": "mg/dL"}"#] {
        let value = one("MISSING_VALUE", "/observations/glucose/value");
        assert_eq!(faults_of("glucose", json), value);
    }
    // Declared as imputable or not, an object without a value is a mistake.
    assert_eq!(
        faults_of("magnesium", "{}"),
        one("MISSING_VALUE", "/observations/magnesium/value")
    );
}

#[test]
fn every_missing_value_is_named() {
    let all = rejection(&specimens::breast(), br#"{"observations": {}}"#);
    assert_eq!(all.faults.len(), 30);
    assert!(all.faults.iter().all(|f| f.code == Code::MissingValue));
    assert_eq!(all.faults[29].feature, Some(29));
    assert_eq!(all.status(), 422);
}

#[test]
fn twenty_nine_and_thirty_one_features_are_not_thirty() {
    let spec = specimens::breast();
    let fewer = Body::breast().without("worst_area").bytes();
    assert_eq!(
        listed(&rejection(&spec, &fewer)),
        one("MISSING_VALUE", "/observations/worst_area")
    );
    let more = Body::breast().plus("mean_colour", "1").bytes();
    assert_eq!(
        listed(&rejection(&spec, &more)),
        one("UNKNOWN_FIELD", "/observations/mean_colour")
    );
}

#[test]
fn a_key_is_given_once_at_every_level() {
    let body = Body::icu().bytes();
    let twice = Body::icu().plus("age", "81").bytes();
    assert_eq!(faults(&twice), one("DUPLICATE_KEY", "/observations/age"));
    for (json, pointer) in [
        (r#"{"value": 1, "value": 1}"#, "/observations/bun/value"),
        (
            r#"{"unit": "mg/dL", "value": 1, "unit": "mg/dL"}"#,
            "/observations/bun/unit",
        ),
    ] {
        assert_eq!(faults_of("bun", json), one("DUPLICATE_KEY", pointer));
    }
    for (members, pointer) in [
        (r#""observations": {}"#, "/observations"),
        (r#""context": {}, "context": {}"#, "/context"),
        (
            r#""context": {"encounter": "a", "encounter": "a"}"#,
            "/context/encounter",
        ),
    ] {
        let doubled = Body::icu().beside(members).bytes();
        assert_eq!(faults(&doubled), one("DUPLICATE_KEY", pointer), "{members}");
    }
    assert!(parse(&specimens::icu(), &body).is_ok());
}

#[test]
fn a_second_value_never_replaces_the_first() {
    // The first is null: nothing else is to be taken for the measurement.
    let body = Body::icu().with("magnesium", "null").plus("magnesium", "4");
    assert_eq!(
        faults(&body.bytes()),
        one("DUPLICATE_KEY", "/observations/magnesium")
    );
}

#[test]
fn unknown_fields_are_refused_at_every_level() {
    let observation = faults_of("bun", r#"{"value": 1, "time": [{"a": null}]}"#);
    assert_eq!(observation, one("UNKNOWN_FIELD", "/observations/bun/time"));
    let feature = Body::icu().plus("Heart_Rate", "68").bytes();
    assert_eq!(
        faults(&feature),
        one("UNKNOWN_FIELD", "/observations/Heart_Rate")
    );
    for (members, pointer) in [
        (r#""patient": {"name": "x"}"#, "/patient"),
        (r#""Context": {}"#, "/Context"),
        (r#""context": {"ward": 3}"#, "/context/ward"),
        (r#""": 1"#, "/"),
    ] {
        let body = Body::icu().beside(members).bytes();
        assert_eq!(faults(&body), one("UNKNOWN_FIELD", pointer), "{members}");
    }
}

#[test]
fn wrong_types_are_refused_where_they_stand() {
    let bun = one("WRONG_TYPE", "/observations/bun");
    for json in [r#""36""#, "[36]", "[]", "true", "false", r#""""#] {
        assert_eq!(faults_of("bun", json), bun, "{json}");
    }
    for json in [r#""1""#, "[1]", "{}", "true"] {
        let value = format!("{{\"value\": {json}}}");
        let found = faults_of("bun", &value);
        let pointer = if json == "true" { "" } else { "/value" };
        let expected = one("WRONG_TYPE", &format!("/observations/bun{pointer}"));
        assert_eq!(found, expected, "{json}");
    }
    for json in ["1", "null", "true", r#"["mg/dL"]"#, "{}"] {
        let unit = format!("{{\"value\": 36, \"unit\": {json}}}");
        let expected = one("WRONG_TYPE", "/observations/bun/unit");
        assert_eq!(faults_of("bun", &unit), expected, "{json}");
    }
    assert_eq!(
        faults_of("gcs", "true"),
        one("WRONG_TYPE", "/observations/gcs")
    );
    for (members, pointer) in [
        (r#""context": null"#, "/context"),
        (r#""context": "e""#, "/context"),
        (r#""context": {"encounter": 7}"#, "/context/encounter"),
        (
            r#""context": {"encounter": {"a": 1}}"#,
            "/context/encounter",
        ),
    ] {
        let body = Body::icu().beside(members).bytes();
        assert_eq!(faults(&body), one("WRONG_TYPE", pointer), "{members}");
    }
    for observations in ["null", "[]", "1", r#""a""#, "true"] {
        let body = format!("{{\"observations\": {observations}}}");
        let expected = one("WRONG_TYPE", "/observations");
        assert_eq!(faults(body.as_bytes()), expected, "{observations}");
    }
}

#[test]
fn a_document_is_an_object_with_observations() {
    for body in ["[]", "null", "true", "0", r#""a""#, "[{}]", "NaN"] {
        assert_eq!(faults(body.as_bytes()), one("WRONG_TYPE", ""), "{body}");
    }
    for body in ["{}", r#"{"context": {}}"#] {
        let expected = one("MISSING_VALUE", "/observations");
        assert_eq!(faults(body.as_bytes()), expected, "{body}");
    }
}

#[test]
fn the_encounter_is_bounded_text() {
    let body = |n: usize| {
        Body::icu()
            .beside(&format!(
                "\"context\": {{\"encounter\": \"{}\"}}",
                "e".repeat(n)
            ))
            .bytes()
    };
    assert!(parse(&specimens::icu(), &body(128)).is_ok());
    assert_eq!(faults(&body(129)), one("TOO_LONG", "/context/encounter"));
}

#[test]
fn all_faults_of_a_body_are_reported_at_once() {
    let body = Body::icu()
        .with("age", r#""81""#)
        .with("heart_rate", "NaN")
        .with("systolic_bp", r#"{"value": 122, "unit": "mmol/L"}"#)
        .with("temperature", r#"{"value": 1e999, "unit": "Cel"}"#)
        .with("gcs", "14.5")
        .with(
            "bun",
            r#"{"value": 36, "unit": "furlong/fortnight/x", "at": 1}"#,
        )
        .with("sodium", "-Infinity")
        .without("glucose")
        .plus("age", "81")
        .plus("haemoglobin", "[Infinity]")
        .beside(r#""context": {"encounter": 1}, "debug": true"#);
    let rejection = rejection(&specimens::icu(), &body.bytes());
    let expected = [
        ("WRONG_TYPE", "/observations/age"),
        ("NON_FINITE", "/observations/heart_rate"),
        ("INCOMPATIBLE_UNIT", "/observations/systolic_bp/unit"),
        ("NON_FINITE", "/observations/temperature"),
        ("NOT_WHOLE", "/observations/gcs"),
        ("UNKNOWN_UNIT", "/observations/bun/unit"),
        ("UNKNOWN_FIELD", "/observations/bun/at"),
        ("NON_FINITE", "/observations/sodium"),
        ("DUPLICATE_KEY", "/observations/age"),
        ("UNKNOWN_FIELD", "/observations/haemoglobin"),
        ("WRONG_TYPE", "/context/encounter"),
        ("UNKNOWN_FIELD", "/debug"),
        ("MISSING_VALUE", "/observations/glucose"),
    ];
    let found = listed(&rejection);
    let found: Vec<(&str, &str)> = found.iter().map(|(c, p)| (*c, p.as_str())).collect();
    assert_eq!(found, expected);
    assert_eq!(rejection.status(), 422);
    assert_eq!(rejection.faults[0].feature, Some(0));
    assert_eq!(rejection.faults[9].feature, None);
}

#[test]
fn pointers_are_escaped_and_bounded() {
    let odd = Body::icu().plus("a/b~c", "1").bytes();
    assert_eq!(faults(&odd), one("UNKNOWN_FIELD", "/observations/a~1b~0c"));
    let order = Body::icu().beside("\"~1\": 1").bytes();
    assert_eq!(faults(&order), one("UNKNOWN_FIELD", "/~01"));
    let long = Body::icu().plus(&"ü".repeat(5000), "1").bytes();
    let cut = format!("/observations/{}", "ü".repeat(64));
    assert_eq!(faults(&long), one("UNKNOWN_FIELD", &cut));
    let quoted = Body::icu().plus("a\\\"b\\u0000", "1").bytes();
    assert_eq!(
        faults(&quoted),
        one("UNKNOWN_FIELD", "/observations/a\"b\0")
    );
}

#[test]
fn the_number_of_faults_is_bounded() {
    let mut body = Body::icu().with("age", "NaN");
    for i in 0..500 {
        body = body.plus(&format!("x{i}"), "0");
    }
    let found = faults(&body.bytes());
    assert_eq!(found.len(), 64);
    assert_eq!(found[0], one("NON_FINITE", "/observations/age")[0]);
    assert_eq!(found[63].1, "/observations/x62");
}

#[test]
fn the_published_schema_says_what_is_read() {
    let schema = request_schema(&specimens::icu());
    let observations = &schema["properties"]["observations"];
    assert_eq!(observations["properties"].as_object().unwrap().len(), 20);
    assert_eq!(observations["required"].as_array().unwrap().len(), 18);
    assert_eq!(observations["additionalProperties"], false);
    assert_eq!(schema["additionalProperties"], false);
    let null = |name: &str| {
        let any = observations["properties"][name]["anyOf"]
            .as_array()
            .unwrap();
        any.iter().any(|s| s["type"] == "null")
    };
    assert!(null("magnesium") && !null("glucose"));
}
