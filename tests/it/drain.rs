//! Going and being full: what is in flight is answered, nobody waits in vain.

use std::{net::TcpStream, time::Duration};

use rustix::process::Signal;
use vitalgate::clock;

use crate::harness::{ICU_PATIENT, Server, Site, Wire, client, codes, post, request, wait_until};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn sigterm_answers_what_is_in_flight_and_closes_what_is_idle() {
    let site = Site::new();
    let mut server = Server::start(&site);
    assert_eq!(server.health("/livez").unwrap().0, 200);
    let (status, ready) = server.health("/readyz").unwrap();
    assert_eq!(status, 200, "{ready}");
    assert_eq!(ready["models"][0]["provider"], "CPUExecutionProvider");
    assert_eq!(server.health("/").unwrap().0, 404);

    let clinician = client(&site, "clinician");
    let mut idle = Wire::open(&server, &clinician);
    assert_eq!(post(&mut idle, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
    let mut in_flight = Wire::open(&server, &clinician);
    let bytes = request("POST", PREDICT, JSON, ICU_PATIENT.as_bytes());
    let (first, second) = bytes.split_at(bytes.len() - 100);
    in_flight.send(first);
    // The idle connection is served later than this one was read.
    assert_eq!(post(&mut idle, PREDICT, ICU_PATIENT.as_bytes()).status, 200);

    let signalled = clock::monotonic();
    server.signal(Signal::TERM);
    idle.ends("idle connection");
    println!("idle connection closed after {:?}", signalled.elapsed());
    wait_until("readiness to go", || {
        server
            .health("/readyz")
            .is_none_or(|(status, _)| status == 503)
    });
    wait_until("the listener to close", || {
        TcpStream::connect(server.data).is_err()
    });
    std::thread::sleep(Duration::from_millis(300));
    in_flight.send(second);
    let answer = in_flight.answer();
    assert_eq!(answer.json()["disposition"], "predicted");
    in_flight.ends("connection in flight");
    assert!(server.wait().success());
    println!("ended after {:?}", signalled.elapsed());
    assert!(signalled.elapsed() < Duration::from_secs(5));
    assert_eq!(server.records().len(), 3);
    assert!(server.log().contains("\"drained\""), "{}", server.log());
}

#[test]
fn the_drain_has_a_deadline() {
    let mut site = Site::new();
    site.configure("body_seconds = 10", "body_seconds = 10\ndrain_seconds = 1");
    let mut server = Server::start(&site);
    let mut stuck = Wire::open(&server, &client(&site, "clinician"));
    let bytes = request("POST", PREDICT, JSON, ICU_PATIENT.as_bytes());
    stuck.send(&bytes[..bytes.len() - 100]);
    std::thread::sleep(Duration::from_millis(200));
    let signalled = clock::monotonic();
    server.signal(Signal::TERM);
    assert!(server.wait().success());
    let took = signalled.elapsed();
    println!("ended {took:?} after SIGTERM");
    assert!(took < Duration::from_secs(3), "{took:?}");
}

#[test]
fn a_full_server_says_so_and_when_to_come_again() {
    let mut site = Site::new();
    site.configure("concurrent_requests = 1024", "concurrent_requests = 1");
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let bytes = request("POST", PREDICT, JSON, ICU_PATIENT.as_bytes());
    let (first, second) = bytes.split_at(bytes.len() - 100);
    let mut holder = Wire::open(&server, &clinician);
    holder.send(first);
    let mut refused = 0;
    wait_until("the place to be taken", || {
        let mut other = Wire::open(&server, &clinician);
        let answer = post(&mut other, PREDICT, ICU_PATIENT.as_bytes());
        if answer.status == 200 {
            // Perhaps the holder came while this one was being answered, and was refused.
            holder = Wire::open(&server, &clinician);
            holder.send(first);
            return false;
        }
        assert_eq!((answer.status, answer.code().as_str()), (503, "OVERLOADED"));
        assert!(answer.header("retry-after").is_some(), "{}", answer.head);
        other.ends("overloaded");
        // Descriptions need no place.
        let mut other = Wire::open(&server, &clinician);
        other.send(&request("GET", "/v1/models", "", b""));
        assert_eq!(other.answer().status, 200);
        refused += 1;
        true
    });
    holder.send(second);
    assert_eq!(holder.answer().status, 200);
    // The place is given back before the answer is read.
    let mut other = Wire::open(&server, &clinician);
    assert_eq!(
        post(&mut other, PREDICT, ICU_PATIENT.as_bytes()).status,
        200
    );
    drop((holder, other));
    server.stop();
    let records = server.records();
    let overloaded = records.iter().filter(|r| codes(r) == ["OVERLOADED"]);
    assert_eq!(overloaded.count(), refused);
}
