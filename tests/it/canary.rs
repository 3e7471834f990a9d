//! No value of a patient, and no other text of a caller's, is found in anything that is kept,
//! shown or exported: looked for as text in all of it.

use std::{fs, path::Path, process::Command};

use crate::harness::{
    BINARY, Collector, ICU_PATIENT, Server, Site, Wire, admin, client, identity_files, request,
};

/// Values of patients: in no answer either.
const VALUES: [&str; 5] = [
    "734921558",
    "CANARYVALUE",
    "CANARYUNIT",
    "CANARYENCOUNTER",
    "CANARYPATIENT",
];
/// Other text of the caller's; an answer's pointer may show it to the caller that sent it.
const TEXTS: [&str; 5] = [
    "CANARYKEY",
    "CANARYPATH",
    "CANARYQUERY",
    "CANARYHEADER",
    "CANARYREASON",
];

fn absent(what: &str, bytes: &[u8], canaries: &[&str]) {
    let text = String::from_utf8_lossy(bytes);
    for canary in canaries {
        assert!(!text.contains(canary), "{canary} is in {what}");
    }
}

/// No value is there as a floating-point number either.
fn absent_in_binary(what: &str, bytes: &[u8]) {
    for value in [36.734_921_558_f64, 24.734_921_558, 99.734_921_558] {
        #[expect(clippy::cast_possible_truncation, reason = "as a network takes it")]
        let single = (value as f32).to_le_bytes();
        let double = value.to_le_bytes();
        for canary in [&single[..], &double] {
            let mut reversed = canary.to_vec();
            reversed.reverse();
            for canary in [canary, &reversed] {
                let found = bytes.windows(canary.len()).any(|window| window == canary);
                assert!(!found, "{value} is in {what}");
            }
        }
    }
}

fn absent_below(directory: &Path) -> usize {
    let mut files = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files += absent_below(&path);
        } else {
            let name = path.display().to_string();
            absent(
                &name,
                &fs::read(&path).unwrap(),
                &[&VALUES[..], &TEXTS].concat(),
            );
            files += 1;
        }
    }
    files
}

/// The synthetic patient, with something else in it.
fn patient(from: &str, to: &str) -> String {
    let mut body: serde_json::Value = serde_json::from_str(ICU_PATIENT).unwrap();
    body["observations"]["temperature"] = serde_json::json!(36.734_921_558);
    body["context"] = serde_json::json!({"encounter": "CANARYENCOUNTER"});
    let text = body.to_string();
    assert!(text.contains(from), "{from}: {text}");
    text.replacen(from, to, 1)
}

#[test]
fn nothing_kept_or_shown_has_a_patient_in_it() {
    let mut site = Site::administrable();
    let collector = Collector::start(&mut site);
    let mut server = Server::start(&site);
    let clinician = client(&site, "clinician");
    let path = "/v1/models/icu-mortality/predict";
    let json = "Content-Type: application/json\r\n";
    let predict = |path: &str, headers: &str, body: &str| {
        let headers = format!("{json}{headers}");
        request("POST", path, &headers, body.as_bytes())
    };
    let temperature = "36.734921558";
    let requests = [
        (
            "200 predicted",
            predict(path, "", &patient(temperature, temperature)),
        ),
        (
            "200 review",
            predict(path, "", &patient(temperature, "24.734921558")),
        ),
        (
            "422 rejected",
            predict(path, "", &patient(temperature, "99.734921558")),
        ),
        (
            "422 rejected",
            predict(path, "", &patient(temperature, "\"CANARYVALUE\"")),
        ),
        (
            "422 rejected",
            predict(
                path,
                "",
                &patient(
                    temperature,
                    r#"{"value": 36.734921558, "unit": "CANARYUNIT"}"#,
                ),
            ),
        ),
        (
            "422 rejected",
            predict(path, "", &patient("\"temperature\"", "\"CANARYKEY\"")),
        ),
        (
            "400 rejected",
            predict(path, "", "{\"observations\": {\"CANARYKEY\": CANARYVALUE"),
        ),
        ("400 rejected", predict(path, "", "CANARYPATIENT 734921558")),
        ("404 refused", predict("/v1/CANARYPATH", "", "")),
        (
            "404 refused",
            predict("/v1/models/CANARYPATH/predict", "", "CANARYVALUE"),
        ),
        (
            "200 predicted",
            predict(&format!("{path}?mrn=CANARYQUERY"), "", &patient("e", "e")),
        ),
        (
            "200 predicted",
            predict(path, "X-Patient: CANARYHEADER\r\n", &patient("e", "e")),
        ),
        (
            "403 refused",
            predict(path, "X-On-Behalf-Of: CANARYHEADER\r\n", &patient("e", "e")),
        ),
    ];
    let mut answers = Vec::new();
    for (expected, bytes) in requests {
        let mut wire = Wire::open(&server, &clinician);
        wire.send(&bytes);
        let answer = wire.answer();
        let disposition = answer.json()["disposition"].as_str().unwrap().to_owned();
        let found = format!("{} {disposition}", answer.status);
        assert_eq!(found, expected, "{}", String::from_utf8_lossy(&bytes));
        answers.push(answer);
    }
    // A request that breaks off, and what is not HTTP at all.
    Wire::open(&server, &clinician).send(&predict(path, "", &patient("e", "e"))[..200]);
    let mut wire = Wire::open(&server, &clinician);
    wire.send(b"CANARYPATIENT 734921558\r\nCANARYHEADER\r\n\r\n");
    drop(wire.rest());
    ask_the_admin_plane(&server, &site);
    for answer in &answers {
        absent("an answer", &answer.body, &VALUES);
        absent(
            "an answer's head",
            answer.head.as_bytes(),
            &[&VALUES[..], &TEXTS].concat(),
        );
    }

    look_at_the_console(&server, &site);
    collect_evidence(&server, &site);
    server.stop();
    absent(
        "the server's log",
        server.log().as_bytes(),
        &[&VALUES[..], &TEXTS].concat(),
    );
    look_at_the_spans(collector.as_ref(), answers.len());
    let kept = ["audit", "admin", "evidence"].map(|part| absent_below(&site.path().join(part)));
    assert!(kept[0] >= 2 && kept[2] == 2, "{kept:?}");
}

/// The admin plane, by those who may not and by those who make mistakes.
fn ask_the_admin_plane(server: &Server, site: &Site) {
    for (who, target, body) in [
        (
            "ops",
            "/admin/v1/models/CANARYPATH/quarantine",
            "{\"reason\": \"drill\"}",
        ),
        (
            "ops",
            "/admin/v1/callers/CANARYPATH/quarantine",
            "{\"reason\": \"drill\"}",
        ),
        ("ops", "/admin/v1/CANARYPATH?CANARYQUERY", "CANARYVALUE"),
        (
            "ops",
            "/admin/v1/models/icu-mortality/quarantine",
            "{\"reason\": \"<CANARYREASON>\"}",
        ),
        (
            "ops",
            "/admin/v1/models/icu-mortality/quarantine",
            "{\"CANARYKEY\": \"CANARYVALUE\"}",
        ),
        (
            "clinician",
            "/admin/v1/models/CANARYPATH/versions/CANARYPATH/load",
            "{}",
        ),
        ("ops", "/console/CANARYPATH?CANARYQUERY", "CANARYVALUE"),
        (
            "ops",
            "/console/models/CANARYPATH/quarantine",
            "token=CANARYKEY&reason=CANARYREASON",
        ),
    ] {
        let mut wire = Wire::admin(server, &client(site, who));
        wire.send(&request(
            "POST",
            target,
            "Content-Type: application/json\r\nX-Patient: CANARYHEADER\r\n",
            body.as_bytes(),
        ));
        let answer = wire.answer();
        assert!((400..500).contains(&answer.status), "{who} {target}");
        absent(target, &answer.body, &[&VALUES[..], &TEXTS].concat());
    }
}

/// Every page of the console: neither a patient nor a secret is on it.
fn look_at_the_console(server: &Server, site: &Site) {
    for path in [
        "/console",
        "/console/models/icu-mortality/versions/1",
        "/console/models/icu-mortality/versions/1?window=100",
        "/console/callers",
        "/console/audit",
        "/console/configuration",
    ] {
        let answer = admin(server, site, "compliance", "GET", path);
        assert_eq!(answer.status, 200, "{path}");
        let secrets = ["PRIVATE KEY", "server.key", "audit.key", "fleet.key"];
        absent(
            path,
            &answer.body,
            &[&VALUES[..], &TEXTS, &secrets].concat(),
        );
    }
}

/// What left in spans of these requests and of others, as it came to the collector, and as that
/// tells it.
fn look_at_the_spans(collector: Option<&Collector>, requests: usize) {
    let Some(collector) = collector else { return };
    let all = [&VALUES[..], &TEXTS].concat();
    absent("spans", &collector.exported(), &all);
    absent("the collector", collector.told().as_bytes(), &all);
    absent_in_binary("spans", &collector.exported());
    let spans = collector.spans();
    let of_requests = spans.iter().filter(|span| span.kind.ends_with("SERVER"));
    assert!(of_requests.count() > requests, "{}", collector.told());
}

/// Collects evidence in both forms; neither holds a secret. What else they hold is looked at with
/// the other files that are kept.
fn collect_evidence(server: &Server, site: &Site) {
    let who = identity_files(site, "compliance");
    let out = site.path().join("evidence");
    fs::create_dir(&out).unwrap();
    for name in ["evidence.tar", "evidence.json"] {
        let output = Command::new(BINARY)
            .args([
                "admin",
                "--url",
                &format!("https://{}", server.admin),
                "evidence",
                "--out",
            ])
            .arg(out.join(name))
            .arg("--ca")
            .arg(site.path().join("ca.pem"))
            .arg("--cert")
            .arg(who.with_extension("pem"))
            .arg("--key")
            .arg(who.with_extension("key"))
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let bytes = fs::read(out.join(name)).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(
            text.contains("REJECTED") || text.contains("rejected"),
            "{name}"
        );
        for secret in ["PRIVATE KEY", "server.key", "audit.key", "fleet.key"] {
            assert!(!text.contains(secret), "{secret} is in {name}");
        }
    }
}
