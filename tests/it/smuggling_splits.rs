//! As `smuggling`, with requests cut at random places, on connections that were used before.

use crate::{
    harness::{Book, ICU_PATIENT, Seeded, Server, Site, Wire, client, post, request},
    smuggling::{PREDICT, is_prediction, valid},
};

#[test]
fn however_it_is_cut_an_unread_body_is_not_the_next_request() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    let json = "Content-Type: application/json\r\n";
    let valid = valid();
    let nothing = "/v1/models/nothing/predict";
    let chunked = {
        let mut bytes = request("POST", PREDICT, json, b"");
        let head = String::from_utf8(bytes).unwrap();
        let head = head.replace("Content-Length: 0", "Transfer-Encoding: chunked");
        bytes = head.into_bytes();
        bytes.extend_from_slice(format!("{:x}\r\n{ICU_PATIENT}\r\n", ICU_PATIENT.len()).as_bytes());
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes.extend_from_slice(&valid);
        bytes
    };
    let text = "Content-Type: text/plain\r\n";
    let encoded = format!("{json}Content-Encoding: gzip\r\n");
    let closing = format!("{json}Connection: close\r\n");
    #[rustfmt::skip]
    let cases = [
        ("unknown model", request("POST", nothing, json, &valid), "404 UNKNOWN_MODEL"),
        ("unknown path", request("POST", "/", json, &valid), "404 UNKNOWN_PATH"),
        ("announced too large", request("POST", PREDICT, json, &valid.repeat(120)[..70_000]), "413 BODY_TOO_LARGE"),
        ("not JSON by its type", request("POST", PREDICT, text, &valid), "415 UNSUPPORTED_MEDIA_TYPE"),
        ("encoded", request("POST", PREDICT, &encoded, &valid), "415 UNSUPPORTED_MEDIA_TYPE"),
        ("wrong method", request("PUT", PREDICT, json, &valid), "405 METHOD_NOT_ALLOWED"),
        ("GET with a body", request("GET", "/v1/models", json, &valid), "200"),
        ("chunked, and a request behind", chunked, "200"),
        ("close, and a request behind", [request("POST", PREDICT, &closing, ICU_PATIENT.as_bytes()), valid.clone()].concat(), "200"),
    ];
    let clinician = client(&site, "clinician");
    let mut seeded = Seeded::new(20);
    for round in 0..12 {
        for (case, bytes, record) in &cases {
            let mut wire = Wire::open(&server, &clinician);
            let uses = seeded.below(4);
            for _ in 0..uses {
                is_prediction(&post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()));
            }
            // Mostly within the first kilobyte, where head and body meet.
            let mut cuts: Vec<usize> = (0..=seeded.below(8))
                .map(|_| seeded.below(bytes.len().min(1200)))
                .collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &bytes[w[0]..w[1]]).collect();
            if seeded.below(2) == 0 && bytes.len() < 30_000 {
                wire.send_records(&pieces);
            } else {
                for piece in pieces {
                    // Refused by its head, the server may have said goodbye already.
                    if wire.try_send(piece).is_err() {
                        break;
                    }
                }
            }
            let answer = wire.answer();
            assert_eq!(answer.status.to_string(), record[..3], "{case}");
            assert!(answer.closes(), "{case}: {}", answer.head);
            let (rest, _) = wire.rest();
            assert!(
                rest.is_empty(),
                "{case}: {}",
                String::from_utf8_lossy(&rest)
            );
            let mut records = vec!["200"; uses];
            records.push(record);
            book.expect(&format!("{round}: {case}"), wire.source, &records);
        }
    }
    book.close(&mut server);
}
