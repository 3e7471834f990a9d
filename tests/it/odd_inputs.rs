//! The table of what goes wrong at integration time: a clear status, a stable code, a pointer.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use vitalgate::disposition::Code;

use crate::harness::{
    Answer, Book, ICU_PATIENT, Server, Site, Wire, breast_cancer_patients, client, post, request,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
const BREAST: &str = "/v1/models/breast-cancer/predict";
const JSON: &str = "Content-Type: application/json\r\n";

/// The patient with text replaced that must be there.
fn icu(from: &str, to: &str) -> Vec<u8> {
    assert!(ICU_PATIENT.contains(from), "{from}");
    ICU_PATIENT.replacen(from, to, 1).into_bytes()
}

fn breast(change: impl Fn(&mut serde_json::Map<String, Value>)) -> Vec<u8> {
    let mut patient = breast_cancer_patients().remove(0);
    change(patient["observations"].as_object_mut().unwrap());
    patient.to_string().into_bytes()
}

/// The shape of RFC 9457 answers, and that status and code are those of the public table.
fn check_problem(case: &str, answer: &Answer, code: &str) {
    assert_eq!(
        answer.header("content-type"),
        Some("application/problem+json"),
        "{case}"
    );
    assert_eq!(answer.header("cache-control"), Some("no-store"), "{case}");
    let body = answer.json();
    assert_eq!(body["status"], answer.status, "{case}");
    assert_eq!(body["id"].as_str(), answer.header("x-request-id"), "{case}");
    for text in ["type", "title", "detail", "code", "disposition", "id"] {
        assert!(body[text].is_string(), "{case}: {text} of {body}");
    }
    let public = Code::ALL.iter().find(|c| c.as_str() == code).unwrap();
    assert_eq!(public.status(), answer.status, "{case}: {body}");
    assert_eq!(body["disposition"], public.outcome().as_str(), "{case}");
    if body["disposition"] == "rejected" {
        assert_eq!(body["code"], "REJECTED_INPUT", "{case}");
        let errors = body["errors"].as_array().unwrap();
        let codes: BTreeSet<_> = errors.iter().map(|e| e["code"].as_str().unwrap()).collect();
        // Where keys are nested too deeply, the outermost is unknown as well.
        let alone = codes.len() == 1 || code == "TOO_DEEP";
        assert!(codes.contains(code) && alone, "{case}: {body}");
        assert!(errors.iter().all(|e| e["detail"].is_string()), "{case}");
    } else {
        assert_eq!(body["code"], code, "{case}");
        assert!(body.get("errors").is_none(), "{case}");
    }
}

#[test]
fn faulty_bodies() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    let deep = [b"{\"a\":".repeat(5000), b"1".to_vec()].concat();
    let deep_array = icu("80,", &format!("{}{},", "[".repeat(5000), "]".repeat(5000)));
    #[rustfmt::skip]
    let cases: Vec<(&str, &str, Vec<u8>, &str, &str)> = vec![
        ("NaN", PREDICT, icu("80,", "NaN,"), "NON_FINITE", "/observations/heart_rate"),
        ("Infinity", PREDICT, icu("80,", "Infinity,"), "NON_FINITE", "/observations/heart_rate"),
        ("-Infinity", PREDICT, icu("80,", "-Infinity,"), "NON_FINITE", "/observations/heart_rate"),
        ("1e999", PREDICT, icu("80,", "1e999,"), "NON_FINITE", "/observations/heart_rate"),
        ("-1e999", PREDICT, icu("80,", "-1e999,"), "NON_FINITE", "/observations/heart_rate"),
        ("1e30", PREDICT, icu("80,", "1e30,"), "IMPOSSIBLE_VALUE", "/observations/heart_rate"),
        ("negative", PREDICT, icu("80,", "-80,"), "IMPOSSIBLE_VALUE", "/observations/heart_rate"),
        ("string for a number", PREDICT, icu("80,", "\"80\","), "WRONG_TYPE", "/observations/heart_rate"),
        ("array for a number", PREDICT, icu("80,", "[80],"), "WRONG_TYPE", "/observations/heart_rate"),
        ("boolean for a number", PREDICT, icu("80,", "true,"), "WRONG_TYPE", "/observations/heart_rate"),
        ("null for a needed value", PREDICT, icu("80,", "null,"), "MISSING_VALUE", "/observations/heart_rate"),
        ("half a score", PREDICT, icu("\"gcs\": 15", "\"gcs\": 14.5"), "NOT_WHOLE", "/observations/gcs"),
        ("unknown unit", PREDICT, icu("\"Cel\"", "\"furlong\""), "UNKNOWN_UNIT", "/observations/temperature/unit"),
        ("unit of something else", PREDICT, icu("\"Cel\"", "\"mm[Hg]\""), "INCOMPATIBLE_UNIT", "/observations/temperature/unit"),
        ("misspelt field", PREDICT, icu("{\n  \"observations\"", "{\"x\": 1, \"observations\""), "UNKNOWN_FIELD", "/x"),
        ("key given twice", PREDICT, icu("\"age\": 68,", "\"age\": 68, \"age\": 69,"), "DUPLICATE_KEY", "/observations/age"),
        ("no observations", PREDICT, b"{}".to_vec(), "MISSING_VALUE", "/observations"),
        ("array as the body", PREDICT, b"[1, 2, 3]".to_vec(), "WRONG_TYPE", ""),
        ("29 features", BREAST, breast(|o| drop(o.remove("mean_area"))), "MISSING_VALUE", "/observations/mean_area"),
        ("31 features", BREAST, breast(|o| drop(o.insert("extra".into(), json!(1)))), "UNKNOWN_FIELD", "/observations/extra"),
        ("impossible together", BREAST, breast(|o| drop(o.insert("worst_radius".into(), json!(6)))), "IMPOSSIBLE_COMBINATION", "/observations/mean_radius"),
        ("not JSON", PREDICT, b"hello".to_vec(), "MALFORMED_JSON", ""),
        ("empty", PREDICT, Vec::new(), "MALFORMED_JSON", ""),
        ("truncated JSON", PREDICT, ICU_PATIENT.as_bytes()[..200].to_vec(), "MALFORMED_JSON", "*"),
        ("text behind the JSON", PREDICT, [ICU_PATIENT.as_bytes(), b"{}"].concat(), "MALFORMED_JSON", "*"),
        ("byte order mark", PREDICT, ["\u{feff}".as_bytes(), ICU_PATIENT.as_bytes()].concat(), "MALFORMED_JSON", "*"),
        ("not UTF-8", PREDICT, [b"{\"\xff\": 1, ".as_slice(), &ICU_PATIENT.as_bytes()[1..]].concat(), "NOT_UTF8", "*"),
        ("UTF-16", PREDICT, ICU_PATIENT.encode_utf16().flat_map(u16::to_le_bytes).collect(), "MALFORMED_JSON", "*"),
        ("objects too deep", PREDICT, deep, "TOO_DEEP", "*"),
        ("arrays too deep", PREDICT, deep_array, "TOO_DEEP", "*"),
    ];
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let mut records = Vec::new();
    for (case, path, body, code, pointer) in cases {
        let answer = post(&mut wire, path, &body);
        println!("{case}: {} {code}", answer.status);
        check_problem(case, &answer, code);
        let found = &answer.json()["errors"][0]["pointer"];
        assert!(pointer == "*" || found == pointer, "{case}: {found}");
        assert!(!answer.closes(), "{case}: a whole body was read");
        records.push(match case {
            "objects too deep" => "400 TOO_DEEP,UNKNOWN_FIELD".to_owned(),
            _ => format!("{} {code}", answer.status),
        });
    }
    let records: Vec<&str> = records.iter().map(String::as_str).collect();
    book.expect("all on one connection", wire.source, &records);
    drop(wire);
    book.close(&mut server);
}

#[test]
fn faulty_requests() {
    let (mut site, mut book) = (Site::new(), Book::default());
    site.configure("body_seconds = 10", "body_seconds = 1");
    let mut server = Server::start(&site);
    let patient = ICU_PATIENT.as_bytes();
    let ten_megabytes = vec![b' '; 10_000_000];
    let post_of = |path: &str, headers: &str| request("POST", path, headers, patient);
    let typed = |text: &str| post_of(PREDICT, &format!("Content-Type: {text}\r\n"));
    let head = |headers: &str| {
        format!("POST {PREDICT} HTTP/1.1\r\nHost: it\r\n{JSON}{headers}\r\n").into_bytes()
    };
    let mut chunked = head("Transfer-Encoding: chunked\r\n");
    for chunk in ten_megabytes.chunks(100_000) {
        chunked.extend_from_slice(b"186a0\r\n");
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    let announced = format!("Content-Length: {}\r\n", patient.len());
    let slow = [head(&announced), patient[..100].to_vec()].concat();
    #[rustfmt::skip]
    let cases = [
        ("10 MB announced", request("POST", PREDICT, JSON, &ten_megabytes), "413 BODY_TOO_LARGE"),
        ("10 MB in chunks", chunked, "413 BODY_TOO_LARGE"),
        ("one byte too much", request("POST", PREDICT, JSON, &ten_megabytes[..65537]), "413 BODY_TOO_LARGE"),
        ("missing model", post_of("/v1/models/nothing/predict", JSON), "404 UNKNOWN_MODEL"),
        ("missing version", post_of("/v1/models/icu-mortality/versions/2/predict", JSON), "404 UNKNOWN_VERSION"),
        ("version that is no number", post_of("/v1/models/icu-mortality/versions/x/predict", JSON), "404 UNKNOWN_VERSION"),
        ("model's name not UTF-8", post_of("/v1/models/%ff/predict", JSON), "404 UNKNOWN_PATH"),
        ("path beyond", post_of("/v1/models/icu-mortality/predict/x", JSON), "404 UNKNOWN_PATH"),
        ("path with dots", post_of("/v1/models/../models/icu-mortality/predict", JSON), "404 UNKNOWN_PATH"),
        ("slow body", slow, "408 BODY_TIMEOUT"),
        ("no content type", post_of(PREDICT, ""), "415 UNSUPPORTED_MEDIA_TYPE"),
        ("a form", typed("application/x-www-form-urlencoded"), "415 UNSUPPORTED_MEDIA_TYPE"),
        ("another charset", typed("application/json; charset=latin1"), "415 UNSUPPORTED_MEDIA_TYPE"),
        ("gzip", post_of(PREDICT, &format!("{JSON}Content-Encoding: gzip\r\n")), "415 UNSUPPORTED_MEDIA_TYPE"),
        ("GET of the POST path", request("GET", PREDICT, "", b""), "405 METHOD_NOT_ALLOWED"),
        ("DELETE of a model", request("DELETE", "/v1/models/icu-mortality", "", b""), "405 METHOD_NOT_ALLOWED"),
    ];
    let clinician = client(&site, "clinician");
    for (case, bytes, record) in cases {
        let mut wire = Wire::open(&server, &clinician);
        wire.send(&bytes);
        let answer = wire.answer();
        println!("{case}: {record}");
        assert_eq!(answer.status.to_string(), record[..3], "{case}: {answer:?}");
        check_problem(case, &answer, &record[4..]);
        book.expect(case, wire.source, &[record]);
    }
    let case = "truncated body";
    let mut wire = Wire::open(&server, &clinician);
    let whole = post_of(PREDICT, JSON);
    wire.send(&whole[..whole.len() - 10]);
    wire.finish_sending();
    check_problem(case, &wire.answer(), "BODY_INCOMPLETE");
    book.expect(case, wire.source, &["400 BODY_INCOMPLETE"]);
    // As large as it may be is not too large.
    let mut wire = Wire::open(&server, &clinician);
    let largest = [patient, &ten_megabytes[..65536 - patient.len()]].concat();
    assert_eq!(post(&mut wire, PREDICT, &largest).status, 200);
    book.expect("65536 bytes", wire.source, &["200"]);
    drop(wire);
    book.close(&mut server);
}
