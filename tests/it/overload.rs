//! More requests than can be worked on at once: the urgent go first, callers take turns, nobody
//! waits beyond a deadline or for a caller that is gone, and what is not answered is recorded.
//!
//! The server is stopped while requests are sent to it, so that it finds all of them at once.

use std::{net::TcpStream, sync::Arc};

use rustix::process::Signal;
use rustls::ClientConfig;
use serde_json::Value;

use crate::harness::{
    Answer, ICU_PATIENT, Server, Site, Wire, breast_cancer_patients, client, codes, post, request,
    wait_until,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
const BREAST_CANCER: &str = "/v1/models/breast-cancer/predict";

/// A request to come, on a connection that stands already.
struct Sent {
    wire: Wire,
    bytes: Vec<u8>,
}

fn sent(server: &Server, caller: &Arc<ClientConfig>, headers: &str) -> Sent {
    let headers = format!("Content-Type: application/json\r\n{headers}");
    Sent {
        wire: Wire::open(server, caller),
        bytes: request("POST", PREDICT, &headers, ICU_PATIENT.as_bytes()),
    }
}

fn many(count: usize, make: impl Fn() -> Sent) -> Vec<Sent> {
    (0..count).map(|_| make()).collect()
}

/// Has the server find all requests at once.
fn all_at_once<'a>(server: &Server, requests: impl IntoIterator<Item = &'a mut Sent>) {
    server.signal(Signal::STOP);
    for Sent { wire, bytes } in requests {
        wire.send(bytes);
    }
    server.signal(Signal::CONT);
}

fn answers(requests: Vec<Sent>) -> Vec<Answer> {
    let requests = requests.into_iter();
    requests.map(|mut sent| sent.wire.answer()).collect()
}

fn one_at_a_time() -> (Site, Server) {
    let mut site = Site::new();
    site.configure(
        "concurrent_requests = 1024\n\n",
        "concurrent_requests = 1024\nactive_requests = 1\n\n",
    );
    let server = Server::start(&site);
    (site, server)
}

/// Places of the records that hold among all, in the log's order.
fn places(records: &[Value], holds: impl Fn(&Value) -> bool) -> Vec<usize> {
    let found = records
        .iter()
        .enumerate()
        .filter(|(_, record)| holds(record));
    found.map(|(place, _)| place).collect()
}

#[test]
fn the_urgent_go_first() {
    let (site, mut server) = one_at_a_time();
    let clinician = client(&site, "clinician");
    let mut routine = many(60, || sent(&server, &clinician, ""));
    let mut batch = many(4, || sent(&server, &clinician, "X-Priority: batch\r\n"));
    let mut stat = many(4, || sent(&server, &clinician, "X-Priority: stat\r\n"));
    // The urgent come last.
    let all = batch.iter_mut().chain(&mut routine).chain(&mut stat);
    all_at_once(&server, all);
    for answer in [stat, routine, batch].into_iter().flat_map(answers) {
        assert_eq!(answer.status, 200);
    }
    server.stop();
    let records = server.records();
    let of = |priority: Value| places(&records, |record| record["priority"] == priority);
    let (stat, routine) = (of("stat".into()), of(Value::Null));
    assert_eq!(
        (stat.len(), routine.len(), of("batch".into()).len()),
        (4, 60, 4)
    );
    let overtaken = routine.iter().filter(|place| **place > stat[3]).count();
    assert!(overtaken >= 20, "{stat:?} came after {overtaken}");
    assert!(records[0]["stages_us"]["wait"].is_number());
}

#[test]
fn no_caller_starves_another() {
    let (site, mut server) = one_at_a_time();
    let (clinician, ehr) = (client(&site, "clinician"), client(&site, "ehr"));
    let mut many = many(60, || sent(&server, &clinician, ""));
    let patient = breast_cancer_patients()[0].to_string();
    let headers = "Content-Type: application/json\r\n";
    let mut few: Vec<Sent> = (0..4)
        .map(|_| Sent {
            wire: Wire::open(&server, &ehr),
            bytes: request("POST", BREAST_CANCER, headers, patient.as_bytes()),
        })
        .collect();
    all_at_once(&server, many.iter_mut().chain(&mut few));
    for answer in [many, few].into_iter().flat_map(answers) {
        assert_eq!(answer.status, 200);
    }
    server.stop();
    let records = server.records();
    let few = places(&records, |record| record["principal"] == "ehr");
    assert_eq!(few.len(), 4);
    assert!(few[3] < 44, "the few came at {few:?} of 64");
}

#[test]
fn a_deadline_ends_the_wait() {
    let site = Site::new();
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let Sent { mut wire, bytes } = sent(&server, &clinician, "X-Request-Deadline: 20\r\n");
    // The body comes later than the answer is of use.
    let (head, rest) = bytes.split_at(bytes.len() - 40);
    wire.send(head);
    std::thread::sleep(std::time::Duration::from_millis(100));
    wire.send(rest);
    let answer = wire.answer();
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "DEADLINE_PASSED")
    );
    assert_eq!(answer.header("retry-after"), Some("1"));
    // It was read to its end, so the connection lives on.
    assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
    for (header, code) in [
        ("X-Request-Deadline: soon", "DEADLINE_INVALID"),
        ("X-Priority: urgent", "PRIORITY_INVALID"),
    ] {
        let Sent { mut wire, bytes } = sent(&server, &clinician, &format!("{header}\r\n"));
        wire.send(&bytes);
        let answer = wire.answer();
        assert_eq!((answer.status, answer.code().as_str()), (400, code));
    }
    let preferred = "Prefer: wait=60\r\nX-Priority: stat\r\n";
    let Sent { mut wire, bytes } = sent(&server, &clinician, preferred);
    wire.send(&bytes);
    assert_eq!(wire.answer().status, 200);
    server.stop();
    let passed = places(&server.records(), |r| codes(r) == ["DEADLINE_PASSED"]);
    assert_eq!(passed, [0]);
}

#[test]
fn who_may_not_go_first_is_told() {
    let mut site = Site::new();
    let policy = site.path().join("access.cedar");
    std::fs::write(
        &policy,
        "permit (principal in Role::\"clinician\", action == Action::\"predict\", resource);\n",
    )
    .unwrap();
    site.config
        .push_str("[authorization]\npolicy = \"access.cedar\"\n");
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    for (header, status) in [
        ("", 200),
        ("X-Priority: batch\r\n", 200),
        ("X-Priority: stat\r\n", 403),
    ] {
        let Sent { mut wire, bytes } = sent(&server, &clinician, header);
        wire.send(&bytes);
        let answer = wire.answer();
        assert_eq!(answer.status, status, "{header}");
        if status == 403 {
            assert_eq!(answer.code(), "PRIORITY_NOT_PERMITTED");
        }
    }
    server.stop();
}

#[test]
fn who_hangs_up_is_not_worked_for_and_who_says_goodbye_is() {
    let (site, mut server) = one_at_a_time();
    let clinician = client(&site, "clinician");
    let mut others = many(60, || sent(&server, &clinician, ""));
    let mut gone = many(8, || sent(&server, &clinician, "X-Priority: batch\r\n"));
    let mut leaving = sent(&server, &clinician, "X-Priority: batch\r\n");
    server.signal(Signal::STOP);
    for Sent { wire, bytes } in others.iter_mut().chain(&mut gone) {
        wire.send(bytes);
    }
    leaving.wire.send(&leaving.bytes);
    leaving.wire.finish_sending();
    // A process that is killed: its sockets are closed, and TLS says nothing.
    for Sent { wire, .. } in gone {
        wire.hang_up();
    }
    server.signal(Signal::CONT);
    for answer in answers(others) {
        assert_eq!(answer.status, 200);
    }
    assert_eq!(leaving.wire.answer().status, 200);
    wait_until("every request to be recorded", || {
        server.records().len() == 69
    });
    server.stop();
    let records = server.records();
    let unanswered = places(&records, |record| codes(record) == ["CALLER_GONE"]);
    assert!(!unanswered.is_empty(), "all were worked for");
    for place in unanswered {
        let stages = records[place]["stages_us"].as_object().unwrap();
        assert!(stages.contains_key("wait") && !stages.contains_key("parse"));
    }
}

#[test]
fn the_last_places_are_for_the_urgent() {
    let mut site = Site::new();
    site.configure(
        "concurrent_requests = 1024\n\n",
        "concurrent_requests = 8\nactive_requests = 1\n\n",
    );
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let mut holders = Vec::new();
    // Half of all places are the most that the least urgent get, however long they are held.
    for _ in 0..4 {
        let mut holder = sent(&server, &clinician, "X-Priority: batch\r\n");
        let (head, rest) = holder.bytes.split_at(holder.bytes.len() - 40);
        holder.wire.send(head);
        holder.bytes = rest.to_vec();
        holders.push(holder);
    }
    // Until the server has read all their heads: who asks meanwhile might take one of the places.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let refused = |priority: &str| {
        let Sent { mut wire, bytes } = sent(&server, &clinician, priority);
        wire.send(&bytes);
        let answer = wire.answer();
        assert!(
            answer.status == 200 || answer.code() == "OVERLOADED",
            "{}",
            answer.head
        );
        assert_eq!(answer.status == 503, answer.header("retry-after").is_some());
        answer.status == 503
    };
    wait_until("half of the places to be taken", || {
        refused("X-Priority: batch\r\n")
    });
    assert!(!refused(""));
    assert!(!refused("X-Priority: stat\r\n"));
    for Sent { wire, bytes } in &mut holders {
        wire.send(bytes);
        assert_eq!(wire.answer().status, 200);
    }
    server.stop();
}

#[test]
fn silent_and_slow_connections_give_way() {
    let mut site = Site::new();
    site.configure(
        "concurrent_requests = 1024\n\n",
        "concurrent_requests = 1024\nconnections = 6\n\n",
    );
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let Sent { mut wire, bytes } = sent(&server, &clinician, "");
    // Whoever has sent its head is served, however many come.
    let (head, rest) = bytes.split_at(bytes.len() - 40);
    wire.send(head);
    let mut weights = Vec::new();
    for number in 0..20 {
        let mut weight = Wire::open(&server, &clinician);
        if number % 2 == 0 {
            // Perhaps it is gone already: then another one is.
            drop(weight.try_send(b"POST /v1/models/icu"));
        }
        weights.push(weight);
        if number % 5 == 4 {
            let mut other = Wire::open(&server, &clinician);
            assert_eq!(
                post(&mut other, PREDICT, ICU_PATIENT.as_bytes()).status,
                200
            );
        }
    }
    weights[1].ends("one of those that have waited longest");
    wire.send(rest);
    assert_eq!(wire.answer().status, 200);
    // Half a head would be waited for.
    drop(weights);
    server.stop();
}

#[test]
fn who_does_not_even_shake_hands_gives_way_first() {
    let mut site = Site::new();
    site.configure(
        "concurrent_requests = 1024\n\n",
        "concurrent_requests = 1024\nconnections = 6\n\n",
    );
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let mut known = Wire::open(&server, &clinician);
    let ask = |wire: &mut Wire| post(wire, PREDICT, ICU_PATIENT.as_bytes()).status;
    assert_eq!(ask(&mut known), 200);
    let strangers: Vec<_> = (0..40)
        .map(|_| TcpStream::connect(server.data).unwrap())
        .collect();
    for _ in 0..3 {
        assert_eq!(ask(&mut Wire::open(&server, &clinician)), 200);
    }
    // It was silent for longer than all of them.
    assert_eq!(ask(&mut known), 200);
    drop(strangers);
    // Nobody gives way for those who have gone.
    assert_eq!(ask(&mut known), 200);
    server.stop();
}
