//! However the bytes are cut and framed: one request, one answer, one record; and what is left
//! of a request is never taken for the next one.

use crate::harness::{Answer, Book, ICU_PATIENT, Server, Site, Wire, client, request};

pub(crate) const PREDICT: &str = "/v1/models/icu-mortality/predict";
const JSON: &str = "Content-Type: application/json\r\n";

/// A complete, valid request for a prediction.
pub(crate) fn valid() -> Vec<u8> {
    request("POST", PREDICT, JSON, ICU_PATIENT.as_bytes())
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for chunk in body.chunks(size) {
        bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
        bytes.extend_from_slice(chunk);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"0\r\n\r\n");
    bytes
}

/// A prediction request with these headers, whose body is `body` as it stands.
fn raw(headers: &str, body: &[u8]) -> Vec<u8> {
    let mut bytes =
        format!("POST {PREDICT} HTTP/1.1\r\nHost: it\r\n{JSON}{headers}\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn after(mut bytes: Vec<u8>, more: &[u8]) -> Vec<u8> {
    bytes.extend_from_slice(more);
    bytes
}

pub(crate) fn is_prediction(answer: &Answer) {
    assert_eq!(answer.status, 200, "{}", answer.head);
    assert_eq!(answer.json()["disposition"], "predicted");
}

/// Sends `bytes` on a connection of its own; exactly one answer, then a clean end.
fn one_answer(
    server: &Server,
    site: &Site,
    name: &str,
    case: &str,
    bytes: &[u8],
) -> (Wire, Answer) {
    let mut wire = Wire::open(server, &client(site, name));
    wire.send(bytes);
    let answer = if bytes.starts_with(b"HEAD") {
        wire.answer_to_head()
    } else {
        wire.answer()
    };
    wire.ends(case);
    println!("{case}: {} then end of stream", answer.status);
    (wire, answer)
}

#[test]
fn the_unread_body_of_a_refused_request_is_not_the_next_request() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    let (valid, nothing) = (valid(), "/v1/models/nothing/predict");
    let large = format!("{JSON}Content-Length: 70000\r\n\r\n");
    let large = format!("POST {PREDICT} HTTP/1.1\r\nHost: it\r\n{large}");
    let text = "Content-Type: text/plain\r\n";
    #[rustfmt::skip]
    let cases = [
        ("unknown model", "clinician", request("POST", nothing, JSON, &valid), "404 UNKNOWN_MODEL"),
        ("unknown version", "clinician", request("POST", "/v1/models/icu-mortality/versions/9/predict", JSON, &valid), "404 UNKNOWN_VERSION"),
        ("unknown path", "clinician", request("POST", "/", JSON, &valid), "404 UNKNOWN_PATH"),
        ("model not permitted", "ehr", request("POST", PREDICT, JSON, &valid), "403 MODEL_NOT_PERMITTED"),
        ("role may not", "ops", request("POST", PREDICT, JSON, &valid), "403 FORBIDDEN"),
        ("nobody", "stranger", request("POST", PREDICT, JSON, &valid), "403 UNKNOWN_PRINCIPAL"),
        ("announced too large", "clinician", after(large.clone().into_bytes(), &valid), "413 BODY_TOO_LARGE"),
        ("announced too large, all sent", "clinician", after(large.into_bytes(), &valid.repeat(120)[..70000]), "413 BODY_TOO_LARGE"),
        ("not JSON by its type", "clinician", request("POST", PREDICT, text, &valid), "415 UNSUPPORTED_MEDIA_TYPE"),
        ("encoded", "clinician", request("POST", PREDICT, &format!("{JSON}Content-Encoding: gzip\r\n"), &valid), "415 UNSUPPORTED_MEDIA_TYPE"),
        ("wrong method", "clinician", request("PUT", PREDICT, JSON, &valid), "405 METHOD_NOT_ALLOWED"),
        ("GET of the POST path", "clinician", request("GET", PREDICT, JSON, &valid), "405 METHOD_NOT_ALLOWED"),
        ("GET with a body", "clinician", request("GET", "/v1/models", JSON, &valid), "200"),
        ("HEAD with a body", "clinician", request("HEAD", "/v1/models", JSON, &valid), "200"),
        ("body of one byte", "clinician", after(request("POST", PREDICT, JSON, b"{"), &valid), "400 MALFORMED_JSON"),
        ("body of no byte", "clinician", after(request("POST", PREDICT, JSON, b""), &valid), "400 MALFORMED_JSON"),
    ];
    for (case, name, bytes, record) in cases {
        let (wire, answer) = one_answer(&server, &site, name, case, &bytes);
        assert_eq!(answer.status.to_string(), record[..3], "{case}");
        book.expect(case, wire.source, &[record]);
    }
    book.close(&mut server);
}

#[test]
fn pipelined_requests_get_one_answer() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    let (valid, get) = (valid(), request("GET", "/v1/models", "", b""));
    for (case, bytes) in [
        ("two predictions", valid.repeat(2)),
        ("many predictions", valid.repeat(40)),
        ("GET and prediction", after(get.clone(), &valid)),
        ("prediction and GET", after(valid.clone(), &get)),
        (
            "prediction and no HTTP",
            after(valid.clone(), b"\0\r\n\r\n"),
        ),
        (
            "HEAD and prediction",
            after(request("HEAD", "/v1/models", "", b""), &valid),
        ),
        ("prediction and one byte", after(valid.clone(), b"G")),
        (
            "prediction and an empty line",
            after(valid.clone(), b"\r\n"),
        ),
    ] {
        let (wire, answer) = one_answer(&server, &site, "clinician", case, &bytes);
        assert_eq!(answer.status, 200, "{case}");
        book.expect(case, wire.source, &["200"]);
    }
    let case = "two predictions in two TLS records";
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    wire.send_records(&[&valid, &valid]);
    is_prediction(&wire.answer());
    wire.ends(case);
    book.expect(case, wire.source, &["200"]);
    drop(wire);
    book.close(&mut server);
}

#[test]
fn expect_100_continue() {
    let (mut site, mut book) = (Site::new(), Book::default());
    site.configure("body_seconds = 10", "body_seconds = 1");
    let mut server = Server::start(&site);
    let length = format!("Content-Length: {}\r\n", ICU_PATIENT.len());
    let expecting = raw(&format!("Expect: 100-continue\r\n{length}"), b"");
    let clinician = client(&site, "clinician");

    let case = "body at once, and a request behind it";
    let bytes = [&expecting, ICU_PATIENT.as_bytes(), &valid()].concat();
    let (wire, answer) = one_answer(&server, &site, "clinician", case, &bytes);
    is_prediction(&answer);
    book.expect(case, wire.source, &["200"]);

    let case = "body after 100";
    let mut wire = Wire::open(&server, &clinician);
    wire.send(&expecting);
    assert_eq!(wire.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    wire.send(ICU_PATIENT.as_bytes());
    is_prediction(&wire.answer());
    wire.ends(case);
    book.expect(case, wire.source, &["200"]);

    let case = "body never sent";
    let mut wire = Wire::open(&server, &clinician);
    wire.send(&expecting);
    assert_eq!(wire.head(), "HTTP/1.1 100 Continue\r\n\r\n");
    assert_eq!(wire.answer().status, 408);
    wire.ends(case);
    book.expect(case, wire.source, &["408 BODY_TIMEOUT"]);

    // No 100 for a request that is refused whatever its body; the client sends it all the same.
    let case = "refused before the body";
    let mut wire = Wire::open(&server, &clinician);
    let head = String::from_utf8(expecting).unwrap();
    wire.send(head.replace("icu-mortality", "nothing").as_bytes());
    assert!(wire.head().starts_with("HTTP/1.1 404 "));
    // The server may have gone already.
    drop(wire.try_send(&valid()));
    book.expect(case, wire.source, &["404 UNKNOWN_MODEL"]);
    drop(wire);
    book.close(&mut server);
}

#[test]
fn chunked_bodies() {
    let (mut site, mut book) = (Site::new(), Book::default());
    site.configure("body_seconds = 10", "body_seconds = 1");
    let mut server = Server::start(&site);
    let te = "Transfer-Encoding: chunked\r\n";
    let (patient, valid) = (ICU_PATIENT.as_bytes(), valid());
    let whole = chunked(patient, 1 << 20);
    let hex = format!("{:x}", patient.len());
    let edited = |from: &str, to: &str| {
        let text = String::from_utf8(whole.clone()).unwrap();
        assert!(text.contains(from));
        text.replacen(from, to, 1).into_bytes()
    };
    let cl = |n: usize| format!("Content-Length: {n}\r\n");
    #[rustfmt::skip]
    let cases = [
        ("one chunk", raw(te, &whole), "200"),
        ("chunks of 1 byte", raw(te, &chunked(patient, 1)), "200"),
        ("a request behind the last chunk", raw(te, &after(whole.clone(), &valid)), "200"),
        ("upper-case name and value", raw("TRANSFER-ENCODING: CHUNKED\r\n", &after(whole.clone(), &valid)), "200"),
        ("Content-Length 0 first", raw(&format!("{}{te}", cl(0)), &after(whole.clone(), &valid)), "200"),
        ("Content-Length behind", raw(&format!("{te}{}", cl(whole.len())), &after(whole.clone(), &valid)), "200"),
        ("Content-Length longer", raw(&format!("{te}{}", cl(60000)), &after(whole.clone(), &valid)), "200"),
        ("chunk extension", raw(te, &after(edited("\r\n", ";a=\"b\"\r\n"), &valid)), "200"),
        ("trailers", raw(te, &after(edited("0\r\n\r\n", "0\r\nX: y\r\nContent-Length: 9\r\n\r\n"), &valid)), "200"),
        ("chunk size not hexadecimal", raw(te, &after(b"zz\r\n".to_vec(), &valid)), "400 BODY_INCOMPLETE"),
        ("chunk size with a sign", raw(te, &after(edited(&hex, &format!("+{hex}")), &valid)), "400 BODY_INCOMPLETE"),
        ("chunk size with 0x", raw(te, &after(edited(&hex, &format!("0x{hex}")), &valid)), "400 BODY_INCOMPLETE"),
        ("chunk size that overflows", raw(te, &after(edited(&hex, "fffffffffffffffff"), &valid)), "400 BODY_INCOMPLETE"),
        ("chunk longer than its size", raw(te, &after(edited(&hex, "5"), &valid)), "400 BODY_INCOMPLETE"),
        ("chunk too large", raw(te, &chunked(&vec![b' '; 70_000], 70_000)), "413 BODY_TOO_LARGE"),
        ("no last chunk", raw(te, &whole[..whole.len() - 5]), "408 BODY_TIMEOUT"),
        ("last chunk without its empty line", raw(te, &whole[..whole.len() - 2]), "408 BODY_TIMEOUT"),
        ("gzip, chunked", raw("Transfer-Encoding: gzip, chunked\r\n", &after(whole.clone(), &valid)), "200"),
    ];
    for (case, bytes, record) in cases {
        let (wire, answer) = one_answer(&server, &site, "clinician", case, &bytes);
        assert_eq!(answer.status.to_string(), record[..3], "{case}: {answer:?}");
        if record == "200" {
            is_prediction(&answer);
        }
        book.expect(case, wire.source, &[record]);
    }
    book.close(&mut server);
}

#[test]
fn odd_heads_and_upgrades() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    let (valid, patient) = (valid(), ICU_PATIENT.as_bytes());
    let n = patient.len();
    let length = format!("Content-Length: {n}\r\n");
    let with = |headers: &str| raw(&format!("{headers}{length}"), patient);
    let framed = |headers: &str| after(raw(headers, patient), &valid);
    let malformed = "400 MALFORMED_HTTP";
    let line = |from: &str, to: &str| {
        let text = String::from_utf8(valid.clone()).unwrap();
        assert!(text.contains(from), "{from}");
        after(text.replacen(from, to, 1).into_bytes(), &valid)
    };
    let h2 = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n";
    let ws = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: AAAA\r\nSec-WebSocket-Version: 13\r\n";
    let pri = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    #[rustfmt::skip]
    let cases = [
        ("h2c upgrade", after(with(h2), &pri), "200", "200"),
        ("websocket upgrade", after(with(ws), &valid), "200", "200"),
        ("Connection: upgrade", after(with("Connection: upgrade\r\n"), &valid), "200", "200"),
        ("Upgrade alone", after(with("Upgrade: foo\r\n"), &valid), "200", "200"),
        ("Connection: close", after(with("Connection: close\r\n"), &valid), "200", "200"),
        ("HTTP/1.0", line("HTTP/1.1", "HTTP/1.0"), "200", "200"),
        ("HTTP/1.0 keep-alive", line("HTTP/1.1\r\n", "HTTP/1.0\r\nConnection: keep-alive\r\n"), "200", "200"),
        ("HTTP/1.2", line("HTTP/1.1", "HTTP/1.2"), "400", malformed),
        ("CONNECT", after(b"CONNECT it:443 HTTP/1.1\r\nHost: it\r\n\r\n".to_vec(), &valid), "404", "404 UNKNOWN_PATH"),
        ("two Content-Lengths", framed(&format!("Content-Length: 1\r\n{length}")), "400", malformed),
        ("two equal Content-Lengths", framed(&format!("{length}{length}")), "200", "200"),
        ("Content-Length as a list", framed(&format!("Content-Length: {n}, 1\r\n")), "400", malformed),
        ("Content-Length with a sign", framed(&format!("Content-Length: +{n}\r\n")), "400", malformed),
        ("negative Content-Length", framed("Content-Length: -1\r\n"), "400", malformed),
        ("Content-Length past 64 bits", framed("Content-Length: 99999999999999999999\r\n"), "400", malformed),
        ("space before the colon", framed(&format!("Content-Length : {n}\r\n")), "400", malformed),
        ("folded header", framed(&format!("X: y\r\n z: 1\r\n{length}")), "400", malformed),
        ("NUL in a header", framed(&format!("X: \0\r\n{length}")), "400", malformed),
        ("last coding not chunked", framed("Transfer-Encoding: chunked, identity\r\n"), "400", malformed),
        ("unknown coding", framed(&format!("Transfer-Encoding: xchunked\r\n{length}")), "400", malformed),
        ("chunked in HTTP/1.0", after(b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_vec(), &valid), "400", malformed),
        ("no Host", line("Host: it\r\n", ""), "400", malformed),
        ("two Hosts", line("Host: it\r\n", "Host: it\r\nHost: at\r\n"), "400", malformed),
        ("head of 20 KB", with(&format!("X: {}\r\n", "y".repeat(20_000))), "431", malformed),
        ("target of 20 KB", line("/predict", &format!("/{}", "y".repeat(20_000))), "431", malformed),
        ("not HTTP", after(b"\x00\x01\x02\r\n\r\n".to_vec(), &valid), "400", malformed),
        ("bare LF", after(b"GET /v1/models HTTP/1.1\nHost: it\n\n".to_vec(), &valid), "200", "200"),
    ];
    for (case, bytes, status, record) in cases {
        let (wire, answer) = one_answer(&server, &site, "clinician", case, &bytes);
        assert_eq!(answer.status.to_string(), status, "{case}: {answer:?}");
        book.expect(case, wire.source, &[record]);
    }
    // The parser has no answer in the peer's language.
    let case = "HTTP/2 preface";
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    wire.send(&after(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), &valid));
    wire.ends(case);
    book.expect(case, wire.source, &[malformed]);
    drop(wire);
    book.close(&mut server);
}
