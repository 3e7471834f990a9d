//! Checkpoints are sent to a collector over TLS; a collector that is away holds nobody up.

use std::{
    fs,
    path::Path,
    process::{Child, Command},
};

use crate::harness::{
    ICU_PATIENT, Server, Site, Wire, client, free_port, post, verify_log, wait_until,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";

/// A Python program that knows nothing of us.
struct Collector(Child);

impl Collector {
    fn start(site: &Site, kind: &str, port: u16) -> Self {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/audit_collector.py");
        let child = Command::new("python3")
            .arg(script)
            .args([kind, &port.to_string()])
            .args(["server.pem", "server.key", "ca.pem", "collected"])
            .current_dir(site.path())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn ships(kind: &str, to: impl Fn(u16) -> String) {
    let mut site = Site::new();
    let port = free_port();
    site.write_identity(site.path(), "clinician");
    let ship = format!(
        "key = \"audit.key\"\nship = {{ to = \"{}\", ca = \"ca.pem\", certificate = \
         \"clinician.pem\", key = \"clinician.key\" }}",
        to(port)
    );
    site.configure("key = \"audit.key\"", &ship);
    let collected = site.path().join("collected");
    let mut server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    // The collector is away: nobody notices but the log.
    for _ in 0..20 {
        assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
    }
    wait_until("the first try", || {
        server.log().contains("checkpoint not collected")
    });
    assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
    assert_eq!(server.health("/readyz").unwrap().0, 200);
    let collector = Collector::start(&site, kind, port);
    wait_until("a checkpoint of everything", || {
        let text = fs::read_to_string(&collected).unwrap_or_default();
        text.contains("it.example/log\n21\n")
    });
    drop(wire);
    server.stop();
    drop(collector);
    // What was collected is an anchor as it is.
    let log = site.path().join("audit");
    let key = site.path().join("audit.pub");
    let anchor = ["--anchor", collected.to_str().unwrap()];
    let verdict = verify_log(&log, &key, &anchor).holds();
    assert_eq!(verdict.number("records"), 21);
    fs::write(log.join("audit.jsonl"), "").unwrap();
    let found = verify_log(&log, &key, &anchor).found();
    assert!(
        found.iter().any(|f| f.starts_with("TRUNCATED")),
        "{found:?}"
    );
    let notes = fs::read_to_string(&collected).unwrap();
    println!(
        "{kind}: {} checkpoints collected",
        notes.matches("it.example/log\n").count()
    );
}

#[test]
fn to_an_https_collector() {
    ships("https", |port| {
        format!("https://127.0.0.1:{port}/checkpoints")
    });
}

#[test]
fn to_a_syslog_collector() {
    ships("syslog", |port| format!("syslog+tls://127.0.0.1:{port}"));
}
