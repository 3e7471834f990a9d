//! Bytes that cannot be read to their end.

use super::*;

#[test]
fn broken_json_is_refused_with_its_place() {
    let body = Body::icu().text();
    for (text, pointer) in [
        (String::new(), ""),
        (" \n".to_owned(), ""),
        ("{".to_owned(), ""),
        ("observations".to_owned(), ""),
        ("undefined".to_owned(), ""),
        ("\u{feff}{}".to_owned(), ""),
        ("{'observations': {}}".to_owned(), ""),
        (format!("{body}x"), ""),
        (format!("{body}{body}"), ""),
        (format!("{body},"), ""),
        (body.replacen('}', ",}", 1), "/observations"),
        (body.replacen(": 81", " 81", 1), "/observations"),
        (body.replacen("81", "8 1", 1), "/observations"),
        (body.replacen("81", "\"8\u{1}1\"", 1), "/observations/age"),
        (body.replacen("81", "\"\\ud800\"", 1), "/observations/age"),
        (body.replacen("81", "[1,]", 1), "/observations/age"),
        (
            body.replacen("81", "{\"value\": }", 1),
            "/observations/age/value",
        ),
        (
            body.replacen("81", "{\"unit\": mg}", 1),
            "/observations/age/unit",
        ),
        (body.replacen("81", "/* old */ 81", 1), "/observations/age"),
        (body[..body.len() - 1].to_owned(), ""),
        (body[..60].to_owned(), "/observations"),
    ] {
        let rejection = rejection(&specimens::icu(), text.as_bytes());
        assert_eq!(listed(&rejection), one("MALFORMED_JSON", pointer), "{text}");
        assert_eq!(rejection.status(), 400);
        assert!(rejection.faults[0].expected.contains("line 1 column") || text.contains('\n'));
    }
}

#[test]
fn faults_before_the_break_are_kept() {
    let text = Body::icu().with("age", "NaN").with("gcs", "14.5").text();
    let found = faults(&text.as_bytes()[..text.len() - 1]);
    assert_eq!(
        found,
        [
            ("NON_FINITE", "/observations/age".to_owned()),
            ("NOT_WHOLE", "/observations/gcs".to_owned()),
            ("MALFORMED_JSON", String::new()),
        ]
    );
}

#[test]
fn the_break_is_reported_after_any_number_of_faults() {
    let mut body = Body::icu();
    for i in 0..100 {
        body = body.plus(&format!("x{i}"), "0");
    }
    let rejection = rejection(&specimens::icu(), format!("{}]", body.text()).as_bytes());
    assert_eq!(rejection.faults.len(), 64);
    assert_eq!(rejection.faults[63].code, Code::MalformedJson);
    assert_eq!(rejection.status(), 400);
}

#[test]
fn deep_nesting_is_refused_without_a_stack_overflow() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        for depth in [300, 10_000, 1_000_000] {
            let nested = open.repeat(depth);
            assert_eq!(
                faults(nested.as_bytes())[0].0,
                if open == "[" {
                    "TOO_DEEP"
                } else {
                    "UNKNOWN_FIELD"
                }
            );
            let whole = format!("{nested}1{}", close.repeat(depth));
            let codes: Vec<_> = faults_of("age", &whole).into_iter().map(|f| f.0).collect();
            assert_eq!(codes.last(), Some(&"TOO_DEEP"), "{open} {depth}");
        }
    }
    let unknown = Body::icu().plus("x", &"[".repeat(10_000)).bytes();
    assert_eq!(
        faults(&unknown),
        [
            ("UNKNOWN_FIELD", "/observations/x".to_owned()),
            ("TOO_DEEP", "/observations/x".to_owned()),
        ]
    );
    assert_eq!(rejection(&specimens::icu(), &unknown).status(), 400);
}

#[test]
fn what_is_not_utf8_is_refused_with_its_place() {
    let with = |needle: &str, bytes: &[u8]| {
        let text = Body::icu()
            .beside(r#""context": {"encounter": "@e"}"#)
            .text();
        let at = text.find(needle).unwrap();
        let mut body = text.into_bytes();
        body.splice(at..=at, bytes.iter().copied());
        body
    };
    for bytes in [b"\xff".as_slice(), b"\xc3\"", b"\xed\xa0\x80", b"\xc0\x80"] {
        let body = with("@e", bytes);
        let rejection = rejection(&specimens::icu(), &body);
        assert_eq!(listed(&rejection), one("NOT_UTF8", "/context/encounter"));
        assert_eq!(rejection.status(), 400);
        let at = body.windows(bytes.len()).position(|w| w == bytes).unwrap();
        assert!(
            rejection.faults[0]
                .expected
                .contains(&format!("byte {at} "))
        );
    }
    // Within a key there is no key yet; after the document there is nothing at all.
    assert_eq!(
        faults(&with("heart_rate", b"\xff")),
        one("NOT_UTF8", "/observations")
    );
    let mut body = Body::icu().bytes();
    body.push(0xfe);
    assert_eq!(faults(&body), one("NOT_UTF8", ""));
    assert_eq!(faults(b"\xff\xfe{\0}\0"), one("NOT_UTF8", ""));
}
