//! `kill -9` under load, again and again on one log: it holds, a torn last line is told as such,
//! and every answer that was read has its record.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use rustix::process::Signal;
use serde_json::Value;

use crate::harness::{
    ICU_PATIENT, Seeded, Server, Site, Wire, client, log_text, request, verify_log, wait_until,
};

const KILLS: usize = 20;
const CALLERS: usize = 8;

#[test]
fn twenty_kills_in_mode_written() {
    kill_again_and_again("written");
}

#[test]
fn twenty_kills_in_mode_synced() {
    kill_again_and_again("synced");
}

fn kill_again_and_again(mode: &str) {
    let mut site = Site::new();
    site.configure(
        "mode = \"written\"",
        &format!("mode = \"{mode}\"\nsegment_bytes = 200000"),
    );
    let log = site.path().join("audit");
    let mut seeded = Seeded::new(20);
    let (mut answered, mut torn) = (BTreeSet::new(), 0);
    for kill in 1..=KILLS {
        let fresh = answers_before_a_kill(&site, 20 + seeded.below(200));
        assert!(!fresh.is_empty());
        answered.extend(fresh);
        let verdict = verify_log(&log, &site.path().join("audit.pub"), &[]).holds();
        torn = verdict.report["torn"].as_array().unwrap().len();
        let recorded = whole_records(&log_text(&log));
        assert_eq!(
            recorded.len() as u64,
            verdict.number("records"),
            "kill {kill}"
        );
        let lost: Vec<&String> = answered.difference(&recorded).collect();
        assert!(
            lost.is_empty(),
            "kill {kill}: answered and not recorded: {lost:?}"
        );
    }
    // One that is not killed goes on with the same log and proves all of it.
    let mut server = Server::start(&site);
    server.stop();
    let verdict = verify_log(&log, &site.path().join("audit.pub"), &[]).holds();
    assert_eq!(verdict.number("unproven"), 0);
    println!(
        "{mode}: {KILLS} kills, {} answers read, {} records in {} files, {torn} torn line(s)",
        answered.len(),
        verdict.number("records"),
        verdict.number("files"),
    );
}

/// Ids of the records; a torn line is none.
fn whole_records(text: &str) -> BTreeSet<String> {
    // A torn line has no end: what the next segment begins with follows on the same line here.
    text.lines()
        .filter_map(|line| line.get(line.rfind("{\"seq\":")?..))
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .map(|record| record["id"].as_str().unwrap().to_owned())
        .collect()
}

/// Starts the server, asks from many connections, and kills it in the middle of that.
fn answers_before_a_kill(site: &Site, least: usize) -> Vec<String> {
    let mut server = Server::start(site);
    let config = client(site, "clinician");
    let (answered, killed) = (Mutex::new(Vec::new()), AtomicBool::new(false));
    let headers = "Content-Type: application/json\r\n";
    let path = "/v1/models/icu-mortality/predict";
    let bytes = request("POST", path, headers, ICU_PATIENT.as_bytes());
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                // Connecting, too, may be cut short.
                let Ok(mut wire) = Wire::try_open(&server, &config) else {
                    return;
                };
                while wire.try_send(&bytes).is_ok() {
                    let Some(answer) = wire.try_answer() else {
                        break;
                    };
                    assert_eq!(answer.status, 200);
                    let id = answer.json()["id"].as_str().unwrap().to_owned();
                    answered.lock().unwrap().push(id);
                }
                let killed = killed.load(Ordering::SeqCst);
                assert!(killed, "a connection broke off early");
            });
        }
        wait_until("some answers", || answered.lock().unwrap().len() >= least);
        killed.store(true, Ordering::SeqCst);
        server.signal(Signal::KILL);
    });
    assert!(!server.wait().success());
    answered.into_inner().unwrap()
}
