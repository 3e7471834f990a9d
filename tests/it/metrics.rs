//! Every metric of the catalogue moves, by the event that it says; and no caller can make more
//! series than the configuration and the repository have.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    process::Command,
};

use vitalgate::telemetry::catalogue::{ALL, Kind};

use crate::harness::{
    BINARY, ICU_PATIENT, Server, Site, Wire, admin, change, change_with, client, client_at,
    client_of, post, request,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";

/// Series by name and labels, as the text format writes them.
type Series = BTreeMap<String, f64>;

fn parse(text: &str) -> Series {
    let lines = text
        .lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'));
    lines
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap();
            (series.to_owned(), value.parse().unwrap())
        })
        .collect()
}

fn scrape(wire: &mut Wire) -> Series {
    wire.send(&request("GET", "/metrics", "", b""));
    let answer = wire.answer();
    assert_eq!(answer.status, 200);
    parse(&String::from_utf8(answer.body).unwrap())
}

/// Name of the metric that a series is of.
fn metric(series: &str) -> &str {
    let name = series.split('{').next().unwrap();
    let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|part| {
        let base = name.strip_suffix(part)?;
        ALL.iter().any(|d| d.name == base).then_some(base)
    });
    of_histogram.unwrap_or(name)
}

/// What does not change while a server runs, or not on demand; with what it must be instead.
fn steady(name: &str, value: f64) -> bool {
    match name {
        "vitalgate_build_info" | "vitalgate_release_policy_enforced" => value > 0.5,
        "vitalgate_release_policy_serial" | "process_max_fds" | "vitalgate_request_places" => {
            value >= 1.0
        }
        "vitalgate_release_policy_expiry_timestamp_seconds" | "process_start_time_seconds" => {
            value > 1.7e9
        }
        // Queues that are empty: that they count is tested where they can be held up. Seconds of
        // processor time: a fast machine may not have used one.
        "vitalgate_inference_queued_rows"
        | "vitalgate_audit_log_queued_records"
        | "process_cpu_seconds_total" => value >= 0.0,
        // Whoever is told to end takes no new requests, not even this one.
        "vitalgate_draining" => value < 0.5,
        "vitalgate_hardening" => value.abs() < 1e-9 || (value - 1.0).abs() < 1e-9,
        _ => false,
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "one event after the other")]
fn every_metric_moves() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path();
    let server = Server::dev(state);
    let who = |name: &str| client_at(&state.join("ca.pem"), &state.join("clients").join(name));
    let mut ops = Wire::admin(&server, &who("ops"));
    let before = scrape(&mut ops);
    let clinician = who("clinician");
    let mut wire = Wire::open(&server, &clinician);
    let send = |wire: &mut Wire, from: &str, to: &str| {
        let body = ICU_PATIENT.replacen(from, to, 1);
        post(wire, PREDICT, body.as_bytes()).status
    };
    let why = r#"{"reason": "drill"}"#;
    let call = |name: &str, path: &str, body: &str| {
        let headers = "Content-Type: application/json\r\n";
        let mut wire = Wire::admin(&server, &who(name));
        wire.send(&request("POST", path, headers, body.as_bytes()));
        wire.answer().status
    };
    // Predicted, review by range and by distribution, rejected, refused.
    assert_eq!(send(&mut wire, "", ""), 200);
    let patient: serde_json::Value = serde_json::from_str(ICU_PATIENT).unwrap();
    let mut odd = patient.clone();
    odd["observations"]["temperature"] = 24.5.into();
    odd["observations"]["sodium"] = 101.into();
    assert_eq!(
        post(&mut wire, PREDICT, odd.to_string().as_bytes()).status,
        200
    );
    let answer = post(&mut wire, PREDICT, odd.to_string().as_bytes()).json();
    odd["review"] = serde_json::json!({
        "token": answer["review"]["token"], "reason_code": "CONFIRMED_BY_CLINICIAN",
    });
    let overridden = post(&mut wire, PREDICT, odd.to_string().as_bytes()).json();
    assert_eq!(overridden["overridden"], true, "{overridden}");
    odd.as_object_mut().unwrap().remove("review");
    odd["observations"]["temperature"] = 99.into();
    assert_eq!(
        post(&mut wire, PREDICT, odd.to_string().as_bytes()).status,
        422
    );
    assert_eq!(
        post(&mut wire, "/v1/models/none/predict", b"{}").status,
        404
    );
    // A version that is loaded anew counts from nothing, so this comes before what it counts: as
    // many rows as it takes to say something of drift.
    let load = "/admin/v1/models/icu-mortality/versions/1/load";
    assert_eq!(call("ml-engineer", load, why), 200);
    for _ in 0..25 {
        assert_eq!(send(&mut Wire::open(&server, &clinician), "", ""), 200);
    }
    // The same patient again and again, a little changed each time.
    let (mut stepped, mut wire) = (patient.clone(), Wire::open(&server, &clinician));
    let statuses = (80..86).map(|rate| {
        stepped["observations"]["heart_rate"] = rate.into();
        post(&mut wire, PREDICT, stepped.to_string().as_bytes()).status
    });
    assert!(statuses.collect::<Vec<_>>().contains(&429));
    // No request at all.
    let mut broken = Wire::open(&server, &clinician);
    broken.send(b"NOT HTTP\r\n\r\n");
    drop(broken.rest());
    // Incidents, and their end.
    for path in [
        "models/breast-cancer/quarantine",
        "callers/batch/quarantine",
    ] {
        assert_eq!(
            call("ops", &format!("/admin/v1/{path}"), why),
            200,
            "{path}"
        );
    }
    let read_only = r#"{"reason": "drill", "on": true}"#;
    assert_eq!(call("ops", "/admin/v1/read-only", read_only), 200);
    // A request that waits for the rest of its body, while somebody looks.
    let bytes = request(
        "POST",
        PREDICT,
        "Content-Type: application/json\r\n",
        ICU_PATIENT.as_bytes(),
    );
    let mut wire = Wire::open(&server, &clinician);
    wire.send(&bytes[..bytes.len() - 50]);
    // A file that changes to the worse.
    fs::write(state.join("server.pem"), "no certificate").unwrap();
    let mut now = Series::new();
    let mut moved = BTreeSet::new();
    let mut missing = Vec::new();
    for _ in 0..200 {
        now = scrape(&mut ops);
        for (series, value) in &now {
            let name = metric(series);
            let was = before.get(series);
            let changed = was.is_none_or(|was| (was - value).abs() > 1e-9);
            if changed || steady(name, *value) {
                moved.insert(name.to_owned());
            }
        }
        missing = ALL.iter().map(|d| d.name).collect();
        missing.retain(|name| !moved.contains(*name));
        if missing.len() <= 6 {
            break;
        }
        // A changed file is read a moment later, and histograms are filled every few seconds.
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    // What a disk does has a test of its own below; what a network that fails does in
    // `lost_member`, a restart in `drift`, a shared store in `fleet`, and a collector of spans in `otlp`.
    let elsewhere = [
        "vitalgate_lost_members_total",
        "vitalgate_drift_state_total",
        "vitalgate_audit_log_healthy",
        "vitalgate_audit_log_failures_total",
        "vitalgate_shared_store_up",
        "vitalgate_trace_spans_total",
    ];
    assert_eq!(missing, elsewhere);
    wire.send(&bytes[bytes.len() - 50..]);
    assert_eq!(wire.answer().status, 200);
    for series in now.keys() {
        let known = ALL.iter().any(|d| d.name == metric(series));
        assert!(known, "{series} is not in the catalogue");
    }
    for description in ALL.iter().filter(|d| matches!(d.kind, Kind::Histogram(_))) {
        let bucket = format!("{}_bucket", description.name);
        assert!(now.keys().any(|s| s.starts_with(&bucket)), "{bucket}");
    }
}

#[test]
fn a_failing_disk_is_counted() {
    let site = Site::administrable();
    // Beyond this size of a file a write fails; the next one goes into a new segment.
    let preparation = "trap '' XFSZ; ulimit -f 8; exec \"$1\" serve --config \"$2\"";
    let mut command = Command::new("sh");
    command
        .args(["-c", preparation, "sh", BINARY])
        .arg(site.config_file());
    let server = Server::start_command(command, &site.path().join("audit"));
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let (mut failures, mut unhealthy) = (0.0, false);
    for round in 0..200 {
        // Now one, now several, so that it is not always the scrape's own record that fails.
        for _ in 0..=round % 3 {
            let status = post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status;
            assert!(status == 200 || status == 503);
        }
        let answer = admin(&server, &site, "ops", "GET", "/metrics");
        if answer.status == 200 {
            let now = parse(&String::from_utf8(answer.body).unwrap());
            failures = now["vitalgate_audit_log_failures_total"];
            unhealthy |= now["vitalgate_audit_log_healthy"] < 0.5;
        }
        if failures > 0.0 && unhealthy {
            return;
        }
    }
    panic!("{failures} failures, unhealthy: {unhealthy}");
}

#[test]
fn hostile_callers_make_no_series() {
    let site = Site::administrable();
    let server = Server::start(&site);
    let mut ops = Wire::admin(&server, &client(&site, "ops"));
    let clinician = client(&site, "clinician");
    let hostile = |round: usize| {
        let json = "Content-Type: application/json\r\n";
        let mut wire = Wire::open(&server, &clinician);
        for (path, headers, body) in [
            (
                format!("/v1/models/m{round}/predict"),
                String::new(),
                "{}".to_owned(),
            ),
            (
                format!("/v1/models/icu-mortality/versions/{round}9/predict"),
                String::new(),
                "{}".to_owned(),
            ),
            (
                format!("/v1/nothing/{round}?q={round}"),
                String::new(),
                String::new(),
            ),
            (
                PREDICT.to_owned(),
                String::new(),
                format!("{{\"observations\": {{\"key{round}\": {round}}}}}"),
            ),
            (
                PREDICT.to_owned(),
                format!(
                    "X-On-Behalf-Of: who-{round}\r\ntraceparent: 00-{round:032x}-{round:016x}-01\r\n"
                ),
                ICU_PATIENT.to_owned(),
            ),
            (
                PREDICT.to_owned(),
                String::new(),
                ICU_PATIENT.replacen(
                    "14",
                    &format!("{{\"value\": 14, \"unit\": \"u{round}\"}}"),
                    1,
                ),
            ),
        ] {
            wire.send(&request(
                "POST",
                &path,
                &format!("{json}{headers}"),
                body.as_bytes(),
            ));
            assert!(wire.try_answer().is_some());
            wire = Wire::open(&server, &clinician);
        }
        // Certificates of nobody, and of other authorities.
        for identity in [
            site.identity(&format!("nobody-{round}")),
            Site::foreign("other CA", "clinician"),
        ] {
            let stranger = client_of(&site, Some(identity), rustls::ALL_VERSIONS);
            if let Ok(mut wire) = Wire::try_open(&server, &stranger) {
                drop(wire.try_send(&request("GET", "/v1/models", "", b"")));
                drop(wire.try_answer());
            }
        }
        for path in [
            format!("models/m{round}/quarantine"),
            format!("callers/c{round}/quarantine"),
        ] {
            let path = format!("/admin/v1/{path}");
            assert_eq!(change(&server, &site, "ops", &path, "drill").status, 404);
            change_with(&server, &site, "clinician", &path, "{}");
        }
    };
    // Enough rows for everything that has to be of 20 rows at least.
    for round in 100..115 {
        hostile(round);
    }
    let names = |series: &Series| series.keys().cloned().collect::<BTreeSet<String>>();
    drop(scrape(&mut ops));
    let known = names(&scrape(&mut ops));
    for round in 1..=30 {
        hostile(round);
    }
    let new: Vec<String> = names(&scrape(&mut ops))
        .difference(&known)
        .cloned()
        .collect();
    assert_eq!(new, [""; 0]);
    println!("{} series before and after", known.len());
}
