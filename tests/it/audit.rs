//! The record is in the file before the answer is out, whole, and without a word of the caller's.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{
    BINARY, ICU_PATIENT, Server, Site, Wire, client, log_text, post, request, segments, verify_log,
    wait_until,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";

#[test]
fn the_record_is_there_when_the_answer_is() {
    let site = Site::new();
    let server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let bodies = [ICU_PATIENT, "{", "{\"observations\": {\"x\": 1}}"];
    for round in 0..200 {
        let path = if round % 7 == 6 {
            "/v1/models/icu-mortality/versions/2/predict"
        } else {
            PREDICT
        };
        let answer = post(&mut wire, path, bodies[round % 3].as_bytes());
        let id = answer.header("x-request-id").unwrap();
        let text = server.audit_text();
        assert_eq!(text.matches(id).count(), 1, "round {round}");
        assert_eq!(text.lines().count(), round + 1);
        if answer.closes() {
            wire = Wire::open(&server, &client(&site, "clinician"));
        }
    }
    println!("200 answers, each with its record already in the file");
}

#[test]
fn records_have_the_documented_keys_and_nothing_of_the_patient() {
    let site = Site::new();
    let mut server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let unknown = ICU_PATIENT.replacen("\"age\"", "\"patient_name\"", 1);
    let answer = post(&mut wire, PREDICT, ICU_PATIENT.as_bytes());
    assert_eq!(post(&mut wire, PREDICT, unknown.as_bytes()).status, 422);
    wire.send(&request("GET", "/v1/models", "", b""));
    assert_eq!(wire.answer().status, 200);
    let source = wire.source.to_string();
    drop(wire);
    server.stop();
    let records = server.records();
    let always = BTreeSet::from([
        "seq",
        "prev",
        "time",
        "id",
        "principal",
        "authentication",
        "source",
        "action",
        "model",
        "version",
        "digest",
        "disposition",
        "status",
        "codes",
        "features",
        "stages_us",
    ]);
    for record in &records {
        let found: BTreeSet<&str> = record
            .as_object()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        let more = found.difference(&always).copied().collect::<Vec<_>>();
        // The fingerprint of what was read; nothing was read of a list or of a rejection.
        let expected: &[&str] = if record["disposition"] == "predicted" {
            &["input"]
        } else {
            &[]
        };
        assert_eq!(more, expected, "{record}");
        assert!(found.is_superset(&always), "{record}");
        assert_eq!(record["source"], source);
        assert_eq!(record["principal"], "clinician");
        assert_eq!(record["authentication"], "mtls");
    }
    let [predicted, rejected, listed] = &records[..] else {
        panic!("{records:?}")
    };
    assert_eq!(predicted["id"].as_str(), answer.header("x-request-id"));
    assert_eq!(predicted["model"], "icu-mortality");
    assert_eq!(predicted["digest"], answer.json()["model"]["digest"]);
    assert_eq!(predicted["disposition"], "predicted");
    let stages: Vec<&String> = predicted["stages_us"].as_object().unwrap().keys().collect();
    assert_eq!(stages.len(), 15, "{stages:?}");
    assert_eq!(rejected["features"], serde_json::json!(["age"]));
    assert_eq!(rejected["codes"].as_array().unwrap().len(), 2);
    assert_eq!(listed["action"], "read-model");
    let text = server.audit_text();
    for secret in ["patient_name", "78.06", "probability", "band"] {
        assert!(!text.contains(secret), "{secret} is in the log");
        assert!(
            !server.log().contains(secret),
            "{secret} is in the server's log"
        );
    }
}

/// `serve` by a shell that prepares something first.
fn serve_after(site: &Site, preparation: &str, program: &[&str]) -> Command {
    let config = site.config_file();
    let mut command = Command::new(program[0]);
    command
        .args(&program[1..])
        .args(["-c", preparation, "sh", BINARY])
        .arg(config);
    command
}

/// Asks until no record can be written, makes room, and asks again.
fn fills_up_and_recovers(server: &mut Server, site: &Site, log: &Path, make_room: impl FnOnce()) {
    let mut wire = Wire::open(server, &client(site, "clinician"));
    let mut answers = 0;
    let refused = loop {
        let answer = post(&mut wire, PREDICT, ICU_PATIENT.as_bytes());
        if answer.status != 200 {
            break answer;
        }
        answers += 1;
        assert!(answers < 1000, "the log is never full");
    };
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "AUDIT_UNAVAILABLE")
    );
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.json().get("prediction"), None);
    let (status, ready) = server.health("/readyz").unwrap();
    assert_eq!((status, &ready["audit_log"]), (503, &false.into()));
    // Nothing torn was left behind, and not a record too few.
    let text = log_text(log);
    assert!(text.ends_with('\n'));
    assert_eq!(text.lines().count(), answers);
    assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 503);
    assert_eq!(log_text(log).lines().count(), answers);
    make_room();
    // Without another request, readiness comes back by itself.
    wait_until("readiness", || server.health("/readyz").unwrap().0 == 200);
    let answer = post(&mut wire, PREDICT, ICU_PATIENT.as_bytes());
    assert_eq!(answer.status, 200);
    assert_eq!(log_text(log).lines().count(), answers + 1);
    let verdict = verify_log(log, &site.path().join("audit.pub"), &[]).holds();
    assert_eq!(verdict.number("records"), answers as u64 + 1);
    println!("{answers} answers, then 503 AUDIT_UNAVAILABLE; with room again, 200");
}

#[test]
fn a_segment_that_cannot_grow_is_closed_and_another_one_goes_on() {
    let site = Site::new();
    // Beyond this size of a file a write fails in the middle of a line.
    let preparation = "trap '' XFSZ; ulimit -f 8; exec \"$1\" serve --config \"$2\"";
    let command = serve_after(&site, preparation, &["sh"]);
    let mut server = Server::start_command(command, &site.path().join("audit"));
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let (mut answered, mut refused) = (Vec::new(), 0);
    for _ in 0..40 {
        let answer = post(&mut wire, PREDICT, ICU_PATIENT.as_bytes());
        if answer.status == 200 {
            answered.push(answer.header("x-request-id").unwrap().to_owned());
        } else {
            assert_eq!(
                (answer.status, answer.code().as_str()),
                (503, "AUDIT_UNAVAILABLE")
            );
            assert_eq!(answer.json().get("prediction"), None);
            refused += 1;
        }
    }
    assert!(
        refused > 0 && answered.len() > 30,
        "{refused} of 40 refused"
    );
    drop(wire);
    server.stop();
    let text = server.audit_text();
    assert_eq!(text.lines().count(), answered.len());
    assert!(answered.iter().all(|id| text.contains(id)));
    let log = site.path().join("audit");
    assert!(segments(&log).len() > 1);
    verify_log(&log, &site.path().join("audit.pub"), &[]).holds();
    println!(
        "{} answers in several segments, {refused} refusals between",
        answered.len()
    );
}

#[test]
fn on_a_full_disk_there_are_no_answers() {
    let may_mount = Command::new("unshare").args(["-m", "true"]).output();
    if !may_mount.is_ok_and(|output| output.status.success()) {
        println!("skipped: this user may not mount a file system");
        return;
    }
    let site = Site::new();
    fs::create_dir(site.path().join("audit")).unwrap();
    // In a mount namespace of its own: the file system goes with the server.
    let preparation = "mount -t tmpfs -o size=32k none \"$(dirname \"$2\")/audit\" && \
                       exec \"$1\" serve --config \"$2\"";
    let command = serve_after(&site, preparation, &["unshare", "-m", "sh"]);
    let mut server = Server::start_command(command, &site.path().join("audit"));
    let inside = PathBuf::from(format!("/proc/{}/root", server.pid()));
    let audit = inside
        .join(site.path().strip_prefix("/").unwrap())
        .join("audit");
    let filler = audit.join("filler");
    fs::write(&filler, vec![0; 16 * 1024]).unwrap();
    fills_up_and_recovers(&mut server, &site, &audit, || {
        fs::remove_file(&filler).unwrap();
    });
}

#[test]
fn a_restart_goes_on_with_the_log() {
    let site = Site::new();
    for start in 1..=2 {
        let mut server = Server::start(&site);
        let mut wire = Wire::open(&server, &client(&site, "clinician"));
        assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
        drop(wire);
        server.stop();
        assert_eq!(server.records().len(), start);
    }
    let log = site.path().join("audit/audit.jsonl");
    let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(&log).unwrap());
    assert_eq!(mode & 0o777, 0o600);
}

/// Sizes of the checkpoints in a file.
fn sizes(checkpoints: &Path) -> Vec<String> {
    let text = fs::read_to_string(checkpoints).unwrap_or_default();
    let notes = text.split("it.example/log\n").skip(1);
    notes
        .map(|note| note.lines().next().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn checkpoints_that_are_taken_away_or_replaced_are_made_again() {
    let site = Site::new();
    let mut server = Server::start(&site);
    let log = site.path().join("audit");
    let checkpoints = log.join("audit.checkpoints");
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
    let signed = |size: &str| sizes(&checkpoints).last().is_some_and(|last| last == size);
    wait_until("a checkpoint", || signed("1"));

    fs::remove_file(&checkpoints).unwrap();
    wait_until("a new file", || signed("1"));
    // The line comes through a pipe and a thread of its own, in its own time.
    wait_until("the word of it", || {
        server.log().contains("its file of checkpoints was moved")
    });

    fs::remove_file(&checkpoints).unwrap();
    fs::write(&checkpoints, "somebody else's\n").unwrap();
    wait_until("a file of its own", || signed("1"));
    let aside = fs::read_to_string(log.join("audit.checkpoints.foreign-1")).unwrap();
    assert_eq!(aside, "somebody else's\n");

    fs::write(&checkpoints, "").unwrap();
    wait_until("what was emptied", || signed("1"));

    assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
    drop(wire);
    server.stop();
    let verdict = verify_log(&log, &site.path().join("audit.pub"), &[]).holds();
    assert_eq!(
        (verdict.number("records"), verdict.number("unproven")),
        (2, 0)
    );
}

#[test]
fn a_torn_last_line_is_told_as_such_and_a_start_goes_on_behind_it() {
    let site = Site::new();
    let log = site.path().join("audit");
    let (live, key) = (log.join("audit.jsonl"), site.path().join("audit.pub"));
    let mut server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
    wait_until("a checkpoint", || {
        sizes(&log.join("audit.checkpoints")).contains(&"1".to_owned())
    });
    server.signal(rustix::process::Signal::KILL);
    assert!(!server.wait().success());
    // As a kill in the middle of the next write leaves it.
    let whole = fs::read_to_string(&live).unwrap();
    let prev = hex::encode(vitalgate::audit::chain::line_hash(
        whole.trim_end().as_bytes(),
    ));
    let own = whole.split_once("\",").unwrap().1;
    let next = format!("{{\"seq\":1,\"prev\":\"{prev}\",{own}");
    let half = &next[..next.len() / 2];
    fs::write(&live, format!("{whole}{half}")).unwrap();

    let verdict = verify_log(&log, &key, &[]).holds();
    let torn = serde_json::json!([{
        "file": "audit.jsonl", "line": 2, "bytes": half.len(), "before_gap": false,
    }]);
    assert_eq!(
        (verdict.number("records"), &verdict.report["torn"]),
        (1, &torn)
    );

    let mut server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
    drop(wire);
    server.stop();
    let closed = fs::read_to_string(log.join("audit-000001.jsonl")).unwrap();
    assert_eq!(closed, format!("{whole}{half}"));
    assert!(
        fs::read_to_string(&live)
            .unwrap()
            .starts_with("{\"seq\":1,")
    );
    let verdict = verify_log(&log, &key, &[]).holds();
    assert_eq!(
        (verdict.number("records"), verdict.number("unproven")),
        (2, 0)
    );
    assert_eq!(verdict.report["torn"][0]["file"], "audit-000001.jsonl");

    // A record that was answered and then cut is another thing: the one behind it tells.
    let first = &whole[..whole.len() / 2];
    fs::write(log.join("audit-000001.jsonl"), first).unwrap();
    let verdict = verify_log(&log, &key, &[]);
    assert_eq!(verdict.found(), ["MISSING audit.jsonl:1 0"]);
    assert_eq!(verdict.report["torn"][0]["before_gap"], true);
}
