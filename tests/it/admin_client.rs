//! `vitalgate admin`, as an operator or a script uses it.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

use crate::harness::{BINARY, Server, Site, identity_files, log_text};

struct Operator<'s> {
    server: &'s Server,
    site: &'s Site,
    who: &'s str,
}

impl Operator<'_> {
    fn run(&self, arguments: &[&str]) -> Output {
        let files = identity_files(self.site, self.who);
        Command::new(BINARY)
            .arg("admin")
            .arg("--url")
            .arg(format!("https://{}", self.server.admin))
            .arg("--ca")
            .arg(self.site.path().join("ca.pem"))
            .arg("--cert")
            .arg(files.with_extension("pem"))
            .arg("--key")
            .arg(files.with_extension("key"))
            .args(arguments)
            .output()
            .unwrap()
    }

    /// What it prints, having ended well.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}");
        let said = String::from_utf8(output.stdout).unwrap();
        println!("$ vitalgate admin {}\n{said}", arguments.join(" "));
        said
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.says(&[arguments, &["--json"]].concat())).unwrap()
    }

    /// Its one line on stderr, having ended with `code`.
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let said = String::from_utf8(output.stderr).unwrap();
        println!("$ vitalgate admin {}\n{said}", arguments.join(" "));
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty(), "{arguments:?}");
        said
    }
}

#[test]
fn an_operator_stops_and_releases_by_command() {
    let site = Site::administrable();
    let server = Server::start(&site);
    let ops = Operator {
        server: &server,
        site: &site,
        who: "ops",
    };
    let table = ops.says(&["models"]);
    assert!(table.contains("icu-mortality  1        serving"), "{table}");
    let why = ["--reason", "drift alert #12"];
    let said = ops.says(&[&["quarantine", "model", "icu-mortality"][..], &why].concat());
    assert!(
        said.starts_with("icu-mortality: quarantined, by ops since"),
        "{said}"
    );
    assert!(
        ops.says(&["models"])
            .contains("every version: quarantined, by ops")
    );
    let version = ["quarantine", "model", "breast-cancer", "--version", "1"];
    let answer = ops.json(&[&version[..], &why].concat());
    assert_eq!(
        (&answer["version"], &answer["changed"]),
        (&1.into(), &true.into())
    );
    ops.says(&[&["quarantine", "caller", "clinician"][..], &why].concat());
    assert!(ops.says(&["callers"]).contains("clinician    quarantined"));
    ops.says(&[&["release", "caller", "clinician"][..], &why].concat());
    let again = ops.says(&[&["release", "caller", "clinician"][..], &why].concat());
    assert!(
        again.contains("clinician: active (it was already)"),
        "{again}"
    );
    let frozen = ops.says(&["read-only", "on", "--reason", "incident 7"]);
    assert!(
        frozen.starts_with("read-only mode is on, by ops since"),
        "{frozen}"
    );
    let state = ops.json(&["state"]);
    assert_eq!(state["read_only"]["reason"], "incident 7");
    assert_eq!(state["models"]["quarantined"], 2);
    assert_eq!(
        ops.says(&["read-only", "off", "--reason", "over"]),
        "read-only mode is off\n"
    );
    assert_eq!(ops.json(&["config"])["data"]["key"], "redacted");
    assert!(
        ops.says(&["metrics"])
            .contains("vitalgate_models{state=\"quarantined\"} 2")
    );
}

#[test]
fn what_cannot_be_done_is_said_in_one_line() {
    let site = Site::administrable();
    let server = Server::start(&site);
    let who = |who| Operator {
        server: &server,
        site: &site,
        who,
    };
    let quarantine = ["quarantine", "model", "icu-mortality", "--reason", "drill"];
    let said = who("clinician").fails(1, &quarantine);
    assert!(
        said.contains("FORBIDDEN") && said.contains("permission quarantine"),
        "{said}"
    );
    assert_eq!(said.lines().count(), 1);
    let said = who("compliance").fails(1, &["load", "icu-mortality", "1", "--reason", "drill"]);
    assert!(said.contains("permission deploy"), "{said}");
    let said = who("ops").fails(1, &["load", "icu-mortality", "1", "--reason", "drill"]);
    assert!(said.contains("permission deploy"), "{said}");
    let said = who("nobody").fails(1, &quarantine);
    assert!(said.contains("MODEL_NOT_PERMITTED"), "{said}");
    let said = who("ops").fails(1, &["quarantine", "model", "icu", "--reason", "drill"]);
    assert!(said.contains("UNKNOWN_MODEL"), "{said}");
    who("ops").fails(2, &["quarantine", "model", "icu-mortality"]);
    who("ops").fails(
        2,
        &["quarantine", "model", "icu-mortality", "--reason", "<b>"],
    );

    let there = site.path().join("there");
    fs::create_dir(&there).unwrap();
    let run = |arguments: &[&str]| {
        let output = Command::new(BINARY)
            .arg("admin")
            .args(arguments)
            .current_dir(&there)
            .output();
        let output = output.unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code(), said)
    };
    let (code, said) = run(&["models"]);
    assert!(code == Some(2) && said.contains("--url"), "{said}");
    let (code, said) = run(&["models", "--url", "https://127.0.0.1:1"]);
    assert!(
        code == Some(3) && said.contains(".vitalgate/clients/ops.pem"),
        "{said}"
    );
    // The data plane is not the admin plane; nobody is not there.
    let data = format!("https://{}", server.data);
    let said = who("ops").fails(1, &["models", "--url", &data]);
    assert!(said.contains("UNKNOWN_PATH"), "{said}");
    let said = who("ops").fails(3, &["models", "--url", "https://127.0.0.1:1"]);
    assert!(said.contains("cannot call https://127.0.0.1:1"), "{said}");
    let said = who("ops").fails(2, &["models", "--url", "http://127.0.0.1:1"]);
    assert!(said.contains("https"), "{said}");
    let said = who("ops").fails(3, &["models", "--ca", "/dev/null"]);
    assert!(said.contains("not a regular file"), "{said}");
    let empty = site.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let said = who("ops").fails(3, &["models", "--ca", empty.to_str().unwrap()]);
    assert!(said.contains("no certificate"), "{said}");
}

#[test]
fn records_and_evidence_reach_back_over_closed_segments() {
    let mut site = Site::administrable();
    site.configure(
        "key = \"audit.key\"",
        "key = \"audit.key\"\nsegment_bytes = 4096",
    );
    let server = Server::start(&site);
    let officer = Operator {
        server: &server,
        site: &site,
        who: "compliance",
    };
    for _ in 0..40 {
        officer.says(&["audit-head"]);
    }
    let log = site.path().join("audit");
    assert!(log.join("audit-000002.jsonl").exists());
    let answer = officer.json(&["audit-records", "--last", "35"]);
    let lines = answer["lines"].as_array().unwrap();
    assert_eq!((lines.len(), &answer["cut"]), (35, &Value::Bool(false)));
    let text = log_text(&log);
    let all: Vec<&str> = text.lines().collect();
    let first = all.iter().position(|l| *l == lines[0]).unwrap();
    assert_eq!(lines, &all[first..first + 35]);
    // Everything there is, with the checkpoints that were made meanwhile.
    let out = site.path().join("evidence.json");
    officer.says(&["evidence", "--out", out.to_str().unwrap()]);
    let evidence: Value = serde_json::from_slice(&fs::read(out).unwrap()).unwrap();
    let kept = evidence["files"]["audit.jsonl"].as_str().unwrap();
    assert!(log_text(&log).starts_with(kept) && kept.starts_with(&text));
    let about = evidence["files"]["about.json"].as_str().unwrap();
    assert!(about.contains("\"records_cut\": false"), "{about}");
    let notes = evidence["files"]["audit.checkpoints"].as_str().unwrap();
    let sealed = fs::read_to_string(log.join("audit-000001.checkpoints")).unwrap();
    println!("{notes}");
    assert!(!sealed.is_empty() && notes.starts_with(&sealed));
}
