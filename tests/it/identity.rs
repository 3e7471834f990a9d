//! Who is not known, or may not, is refused: by the right alert or status, on the record once,
//! and without learning what there is.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, version};

use crate::harness::{
    AUTHORITY, Answer, Book, ICU_PATIENT, Server, Site, Validity, Wire, client, client_of, post,
    request,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";

/// Shakes hands and reads: what came in plaintext, and the error that ended it.
fn refused_handshake(server: &Server, config: &Arc<ClientConfig>) -> (SocketAddr, String) {
    let tcp = TcpStream::connect(server.data).unwrap();
    let source = tcp.local_addr().unwrap();
    let error = match Wire::over(tcp, config) {
        Err(error) => error.to_string(),
        Ok(mut wire) => {
            let (rest, end) = wire.rest();
            assert!(rest.is_empty(), "something leaked: {rest:?}");
            format!("{end:?}")
        }
    };
    (source, error)
}

#[test]
fn a_certificate_that_does_not_hold_ends_the_handshake() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    for (version, name) in [(&version::TLS13, "TLS 1.3"), (&version::TLS12, "TLS 1.2")] {
        let expired = site.issue(&["clinician"], Validity::EXPIRED);
        let future = site.issue(&["clinician"], Validity::FUTURE);
        let foreign = Site::foreign("other CA", "clinician");
        let impostor = Site::foreign(AUTHORITY, "clinician");
        for (case, identity, alert, code) in [
            (
                "no certificate",
                None,
                "CertificateRequired",
                "NO_CLIENT_CERTIFICATE",
            ),
            (
                "another CA's",
                Some(foreign),
                "UnknownCA",
                "UNTRUSTED_CERTIFICATE",
            ),
            (
                "a CA's of the same name",
                Some(impostor),
                "DecryptError",
                "UNTRUSTED_CERTIFICATE",
            ),
            (
                "expired",
                Some(expired),
                "CertificateExpired",
                "CERTIFICATE_NOT_CURRENT",
            ),
            (
                "not yet valid",
                Some(future),
                "CertificateExpired",
                "CERTIFICATE_NOT_CURRENT",
            ),
        ] {
            let config = client_of(&site, identity, &[version]);
            let (source, error) = refused_handshake(&server, &config);
            println!("{name}, {case}: {error}");
            assert!(error.contains(alert), "{name}, {case}: {error}");
            let record = format!("null {code}");
            book.expect(&format!("{name}, {case}"), source, &[&record]);
        }
        // And with one that holds, this version works.
        let config = client_of(&site, Some(site.identity("clinician")), &[version]);
        let mut wire = Wire::open(&server, &config);
        assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
        book.expect(name, wire.source, &["200"]);
    }
    book.close(&mut server);
}

#[test]
fn old_tls_and_plaintext_are_refused() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    // A TLS 1.1 ClientHello (RFC 4346): two suites, no compression, no extensions.
    let mut hello = vec![0x16, 3, 1, 0, 49, 1, 0, 0, 45, 3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 4, 0xc0, 0x13, 0, 0x2f, 1, 0, 0, 0]);
    let http = request("GET", "/v1/models", "", b"");
    for (case, bytes) in [("TLS 1.1", hello), ("plaintext HTTP", http)] {
        let mut tcp = TcpStream::connect(server.data).unwrap();
        tcp.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        tcp.write_all(&bytes).unwrap();
        let mut answer = Vec::new();
        // A reset is as good as an end.
        drop(tcp.read_to_end(&mut answer));
        println!("{case}: {answer:?}");
        assert!(
            answer.is_empty() || answer[0] == 21,
            "{case}: not a TLS alert: {answer:?}"
        );
        let source = tcp.local_addr().unwrap();
        book.expect(case, source, &["null HANDSHAKE_FAILED"]);
    }
    book.close(&mut server);
}

/// An answer without what differs between any two: its id, its date, and how many requests its
/// caller has left.
fn without_id(answer: &Answer) -> String {
    let id = answer.header("x-request-id").unwrap();
    let date = answer.header("date").unwrap();
    let text = format!("{}{}", answer.head, String::from_utf8_lossy(&answer.body));
    let text = text.replace(id, "ID").replace(date, "DATE");
    match answer.header("ratelimit") {
        Some(left) => text.replace(left, "LEFT"),
        None => text,
    }
}

#[test]
fn a_principal_without_the_right_learns_nothing() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    let body = ICU_PATIENT.as_bytes();
    for (case, names, code) in [
        ("unknown name", &["stranger"][..], "UNKNOWN_PRINCIPAL"),
        ("no name", &[], "UNKNOWN_PRINCIPAL"),
        (
            "two principals' names",
            &["clinician", "ehr"],
            "UNKNOWN_PRINCIPAL",
        ),
        ("role without predict", &["ops"], "FORBIDDEN"),
        ("without the model", &["ehr"], "MODEL_NOT_PERMITTED"),
    ] {
        let identity = site.issue(names, Validity::CURRENT);
        let config = client_of(&site, Some(identity), rustls::ALL_VERSIONS);
        let mut answers = Vec::new();
        for model in ["icu-mortality", "no-such-model"] {
            let mut wire = Wire::open(&server, &config);
            let answer = post(&mut wire, &format!("/v1/models/{model}/predict"), body);
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (403, code),
                "{case}"
            );
            wire.ends(case);
            let text = without_id(&answer);
            for secret in ["breast-cancer", "icu-mortality", "no-such-model", "sha256"] {
                assert!(!text.contains(secret), "{case} tells of {secret}: {text}");
            }
            println!("{case}, {model}: {} {}", answer.status, answer.code());
            answers.push(text);
            book.expect(
                &format!("{case}, {model}"),
                wire.source,
                &[&format!("403 {code}")],
            );
        }
        assert_eq!(
            answers[0], answers[1],
            "{case}: the model's existence shows"
        );
    }
    // Reading goes the same way.
    for path in ["", "/schema", "/versions/1", "/versions/1/schema"] {
        let answers = ["icu-mortality", "no-such-model"].map(|model| {
            let mut wire = Wire::open(&server, &client(&site, "ehr"));
            wire.send(&request(
                "GET",
                &format!("/v1/models/{model}{path}"),
                "",
                b"",
            ));
            let answer = wire.answer();
            assert_eq!(answer.code(), "MODEL_NOT_PERMITTED");
            let case = format!("GET {path} of {model}");
            book.expect(&case, wire.source, &["403 MODEL_NOT_PERMITTED"]);
            without_id(&answer)
        });
        assert_eq!(answers[0], answers[1], "{path}");
    }
    for (name, models) in [("ehr", vec!["breast-cancer"]), ("nobody", vec![])] {
        let mut wire = Wire::open(&server, &client(&site, name));
        wire.send(&request("GET", "/v1/models", "", b""));
        let list = wire.answer().json();
        let names: Vec<&str> = list["models"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, models, "the list of {name}");
        book.expect(&format!("list of {name}"), wire.source, &["200"]);
    }
    book.close(&mut server);
}

#[test]
fn a_certificate_that_expires_on_an_open_connection_is_refused_from_then_on() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    let short = Validity { from: -60, to: 4 };
    let body = ICU_PATIENT.as_bytes();
    let versions = [(&version::TLS13, "TLS 1.3"), (&version::TLS12, "TLS 1.2")];
    let mut open = versions.map(|(version, name)| {
        let identity = site.issue(&["clinician"], short);
        let config = client_of(&site, Some(identity), &[version]);
        let mut wire = Wire::open(&server, &config);
        assert_eq!(post(&mut wire, PREDICT, body).status, 200);
        (name, config, wire)
    });
    std::thread::sleep(Duration::from_millis(5500));
    for (name, config, wire) in &mut open {
        let answer = post(wire, PREDICT, body);
        assert_eq!(answer.status, 403);
        assert_eq!(answer.code(), "CERTIFICATE_NOT_CURRENT");
        let records = ["200", "403 CERTIFICATE_NOT_CURRENT"];
        book.expect(
            &format!("{name}, expired while open"),
            wire.source,
            &records,
        );

        // A resumed session sends no certificate that could be judged at the handshake.
        let mut wire = Wire::open(&server, config);
        assert!(
            wire.is_resumed(),
            "{name}: not resumed, so nothing is tried"
        );
        let answer = post(&mut wire, PREDICT, body);
        assert_eq!(answer.code(), "CERTIFICATE_NOT_CURRENT");
        let records = ["403 CERTIFICATE_NOT_CURRENT"];
        book.expect(&format!("{name}, resumed"), wire.source, &records);
    }
    drop(open);
    book.close(&mut server);
}
