//! A connection is used again when nothing of a request is left, and then reliably.

use crate::{
    harness::{Book, ICU_PATIENT, Seeded, Server, Site, Wire, client, post},
    smuggling::{PREDICT, is_prediction, valid},
};

#[test]
fn however_a_request_is_cut_into_records_the_answer_is_the_same() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    let (clinician, valid) = (client(&site, "clinician"), valid());
    let mut seeded = Seeded::new(7);
    let mut expected = None;
    // 20 connections of 10 requests: reuse is tried with every cut as well.
    for connection in 0..20 {
        let mut wire = Wire::open(&server, &clinician);
        for _ in 0..10 {
            let mut cuts: Vec<usize> = (0..=seeded.below(12))
                .map(|_| seeded.below(valid.len()))
                .collect();
            cuts.extend([0, valid.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|w| &valid[w[0]..w[1]]).collect();
            if seeded.below(2) == 0 {
                wire.send_records(&pieces);
            } else {
                for piece in pieces {
                    wire.send(piece);
                }
            }
            let answer = wire.answer();
            is_prediction(&answer);
            let prediction = answer.json()["prediction"].clone();
            assert_eq!(*expected.get_or_insert(prediction.clone()), prediction);
            assert!(!answer.closes(), "{}", answer.head);
        }
        book.expect(
            &format!("connection {connection}"),
            wire.source,
            &["200"; 10],
        );
    }
    book.close(&mut server);
}

#[test]
fn plain_requests_one_after_another_share_a_connection() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    is_prediction(&post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()));
    wire.send(b"GET /v1/models HTTP/1.1\r\nHost: it\r\n\r\n");
    assert_eq!(wire.answer().status, 200);
    wire.send(b"HEAD /v1/models HTTP/1.1\r\nHost: it\r\nConnection: keep-alive\r\n\r\n");
    assert_eq!(wire.answer_to_head().status, 200);
    // Refused, but read to its end.
    assert_eq!(post(&mut wire, PREDICT, b"{}").status, 422);
    let mut records = vec!["200", "200", "200", "422 MISSING_VALUE"];
    // As quick as can be: the next request leaves as soon as an answer is there.
    for _ in 0..500 {
        is_prediction(&post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()));
    }
    records.extend(["200"; 500]);
    book.expect("many requests", wire.source, &records);
    drop(wire);
    book.close(&mut server);
}

#[test]
fn what_a_client_leaves_half_done_is_never_answered_by_another_request() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let (valid, patient) = (valid(), ICU_PATIENT.as_bytes());

    let case = "end of stream in the head";
    let mut wire = Wire::open(&server, &clinician);
    wire.send(&valid[..30]);
    wire.finish_sending();
    let (rest, _) = wire.rest();
    println!("{case}: {}", String::from_utf8_lossy(&rest));
    // Half a head is no request: nothing was decided.
    book.expect(case, wire.source, &[]);

    let case = "end of stream in the body";
    let mut wire = Wire::open(&server, &clinician);
    wire.send(&valid[..valid.len() - 1]);
    wire.finish_sending();
    let (rest, end) = wire.rest();
    println!("{case}: {end:?} {}", String::from_utf8_lossy(&rest));
    book.expect(case, wire.source, &["400 BODY_INCOMPLETE"]);

    let case = "end of stream behind a whole request";
    let mut wire = Wire::open(&server, &clinician);
    wire.send(&valid);
    wire.finish_sending();
    is_prediction(&wire.answer());
    wire.ends(case);
    book.expect(case, wire.source, &["200"]);

    let case = "nothing at all";
    let mut wire = Wire::open(&server, &clinician);
    wire.finish_sending();
    wire.ends(case);
    book.expect(case, wire.source, &[]);

    // Two callers: the half body of one is not completed by the other.
    let (mut first, mut second) = (
        Wire::open(&server, &clinician),
        Wire::open(&server, &clinician),
    );
    let (start, end) = valid.split_at(valid.len() - patient.len() / 2);
    first.send(start);
    is_prediction(&post(&mut second, PREDICT, patient));
    first.send(end);
    is_prediction(&first.answer());
    book.expect("slow", first.source, &["200"]);
    book.expect("quick", second.source, &["200"]);
    drop((first, second));
    book.close(&mut server);
}
