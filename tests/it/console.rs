//! The ops console: in a real browser that shows a client certificate, and byte by byte where a
//! browser would not go.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::{Value, json};

use crate::{
    drift::Ward,
    harness::{Answer, Server, Site, Wire, admin, client, identity_files, request},
};

/// `request` says `Host: it`.
const ORIGIN: &str = "Origin: https://it\r\n";
const MODEL: &str = "/console/models/icu-mortality/versions/1";

fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-npm")
}

/// The browser, if it can be driven here.
fn chromium() -> Option<PathBuf> {
    let told = |name: &str, argument: &str| {
        let output = Command::new(name).arg(argument).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    };
    let node = told("node", "--version").unwrap_or_default();
    let major: u32 = node
        .trim_start_matches('v')
        .split('.')
        .next()?
        .parse()
        .ok()?;
    let installed = modules().join("node_modules/playwright-core").is_dir();
    let browser = ["/usr/bin/chromium", "/usr/bin/chromium-browser"];
    browser
        .into_iter()
        .map(PathBuf::from)
        .find(|path| path.is_file() && major >= 20 && installed)
}

fn drive(ward: &Ward, chromium: &Path, shots: Option<&Path>) -> Value {
    let told = json!({
        "origin": format!("https://{}", ward.server.admin),
        "ops": identity_files(&ward.site, "ops"),
        "compliance": identity_files(&ward.site, "compliance"),
        "model": MODEL,
        "shots": shots,
    });
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/npm/console.mjs");
    let output = Command::new("node")
        .arg(script)
        .args([modules().as_path(), chromium])
        .arg(told.to_string())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    let wrong = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{wrong}");
    serde_json::from_str(said.trim()).unwrap()
}

/// `VITALGATE_SHOTS=DIR` also keeps pictures.
#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "of a test, for who writes docs/console.md"
)]
fn a_browser_sees_whole_pages_and_a_keyboard_works_the_controls() {
    let Some(chromium) = chromium() else {
        println!(
            "skipped: no Chromium (Debian: apt-get install chromium), or no node 20 with what \
             tests/npm asks for"
        );
        return;
    };
    let mut ward = Ward::open();
    ward.send(60, None, |_| ());
    ward.send(60, None, |observations| {
        let glucose = observations["glucose"].as_f64().unwrap_or(120.0);
        observations["glucose"] = json!(glucose / 18.0);
    });
    let shots = std::env::var_os("VITALGATE_SHOTS").map(PathBuf::from);
    let report = drive(&ward, &chromium, shots.as_deref());
    let faults = report["faults"].as_array().unwrap();
    assert!(faults.is_empty(), "{faults:#?}");
    let seen = &report["seen"];
    let text = |name: &str| seen[name].as_str().unwrap_or_default().to_owned();
    assert_eq!(seen["pages"], 20);
    let target = "quarantine model icu-mortality version 1";
    assert!(text("done").contains(target), "{seen}");
    assert!(text("stopped").contains("Drill: the console works"));
    assert!(text("released").contains("release model icu-mortality version 1"));
    assert!(text("stoppedAfter").contains("No model"));
    let records = ward.server.records();
    let of = |target: &str| {
        let about = records.iter().filter(|r| r["target"] == target);
        about
            .map(|r| {
                assert_eq!(r["principal"], "ops");
                assert_eq!(
                    r["reason"].as_str().unwrap().split(':').next(),
                    Some("Drill")
                );
                r["disposition"].as_str().unwrap().to_owned()
            })
            .collect::<Vec<_>>()
    };
    assert_eq!(of(target), ["announced", "answered"]);
    println!("{seen:#}");
}

/// A form as a browser sends it.
fn send_form(
    server: &Server,
    site: &Site,
    who: &str,
    path: &str,
    headers: &str,
    body: &str,
) -> Answer {
    let mut wire = Wire::admin(server, &client(site, who));
    let headers = format!("Content-Type: application/x-www-form-urlencoded\r\n{headers}");
    wire.send(&request("POST", path, &headers, body.as_bytes()));
    wire.answer()
}

fn page(server: &Server, site: &Site, who: &str, path: &str) -> (Answer, String) {
    let answer = admin(server, site, who, "GET", path);
    let text = String::from_utf8(answer.body.clone()).unwrap();
    (answer, text)
}

fn token(page: &str) -> &str {
    let (_, rest) = page.split_once("name=\"token\" value=\"").unwrap();
    rest.split('"').next().unwrap()
}

/// How many models are stopped.
fn stopped(server: &Server, site: &Site) -> usize {
    let models = admin(server, site, "ops", "GET", "/admin/v1/models").json();
    models["quarantines"].as_array().unwrap().len()
}

#[test]
fn a_form_of_another_site_does_nothing() {
    let site = Site::administrable();
    let server = Server::start(&site);
    let (_, shown) = page(&server, &site, "ops", MODEL);
    let (ours, theirs) = (
        token(&shown).to_owned(),
        token(&page(&server, &site, "ml-engineer", MODEL).1).to_owned(),
    );
    assert_ne!(ours, theirs);
    let path = format!("{MODEL}/quarantine");
    let same = format!("{ORIGIN}Sec-Fetch-Site: same-origin\r\n");
    let with = |token: &str| format!("token={token}&reason=A+drill");
    let good = with(&ours);
    for (case, headers, body, code) in [
        ("no origin", "", good.clone(), "FOREIGN_FORM"),
        (
            "another",
            "Origin: https://evil.example\r\n",
            good.clone(),
            "FOREIGN_FORM",
        ),
        ("none", "Origin: null\r\n", good.clone(), "FOREIGN_FORM"),
        (
            "a site beside ours",
            &format!("{ORIGIN}Sec-Fetch-Site: same-site\r\n"),
            good.clone(),
            "FOREIGN_FORM",
        ),
        (
            "no token",
            &same,
            "reason=A+drill".to_owned(),
            "FOREIGN_FORM",
        ),
        ("another's token", &same, with(&theirs), "FOREIGN_FORM"),
        ("no hex", &same, with("zz"), "FOREIGN_FORM"),
        (
            "no reason",
            &same,
            format!("token={ours}"),
            "INVALID_CHANGE",
        ),
        (
            "an unfit one",
            &same,
            format!("token={ours}&reason=%3Cb%3E+%22"),
            "INVALID_CHANGE",
        ),
        (
            "two",
            &same,
            format!("{good}&reason=B+drill"),
            "INVALID_CHANGE",
        ),
        ("more", &same, format!("{good}&x=1"), "INVALID_CHANGE"),
        (
            "which way?",
            &same,
            format!("{good}&on=true"),
            "INVALID_CHANGE",
        ),
    ] {
        let answer = send_form(&server, &site, "ops", &path, headers, &body);
        let text = String::from_utf8_lossy(&answer.body);
        assert!(text.contains(code), "{case}: {} {text}", answer.status);
        assert!(!text.contains("<b>"), "{case}");
        assert_eq!(
            answer.header("content-type"),
            Some("text/html; charset=utf-8"),
            "{case}"
        );
    }
    let json = request(
        "POST",
        &path,
        &format!("Content-Type: application/json\r\n{same}"),
        b"{}",
    );
    let mut wire = Wire::admin(&server, &client(&site, "ops"));
    wire.send(&json);
    assert_eq!(wire.answer().status, 415);
    assert_eq!(stopped(&server, &site), 0);
    let records = server.records();
    assert!(records.iter().all(|r| r["disposition"] != "announced"));
}

#[test]
fn what_a_page_sends_is_done_by_who_may() {
    let site = Site::administrable();
    let server = Server::start(&site);
    let same = format!("{ORIGIN}Sec-Fetch-Site: same-origin\r\n");
    let path = format!("{MODEL}/quarantine");
    let (_, shown) = page(&server, &site, "ops", MODEL);
    let ours = format!("token={}&reason=A+drill", token(&shown));
    // With what the API asks: a permission.
    let (_, theirs) = page(&server, &site, "ml-engineer", MODEL);
    assert!(!theirs.contains("Quarantine this version") && theirs.contains("Unload"));
    let answer = send_form(
        &server,
        &site,
        "ml-engineer",
        &path,
        &same,
        &format!("token={}&reason=A+drill", token(&theirs)),
    );
    let text = String::from_utf8_lossy(&answer.body).into_owned();
    assert_eq!(answer.status, 403, "{text}");
    let answer = send_form(&server, &site, "ops", &path, &same, &ours);
    assert_eq!((answer.status, stopped(&server, &site)), (200, 1));
    let frozen = format!("{ours}&on=true");
    let answer = send_form(&server, &site, "ops", "/console/read-only", &same, &frozen);
    assert_eq!(answer.status, 200);
    let (_, shown) = page(&server, &site, "ops", "/console");
    assert!(shown.contains("Allow deployments") && shown.contains("A drill"));
}

#[test]
fn pages_are_for_those_who_may_see_them_and_load_nothing() {
    let site = Site::administrable();
    let server = Server::start(&site);
    for path in [
        "/console",
        MODEL,
        "/console/callers",
        "/console/configuration",
    ] {
        let (answer, text) = page(&server, &site, "ops", path);
        assert_eq!(answer.status, 200, "{path}");
        let policy = answer.header("content-security-policy").unwrap();
        assert!(
            policy.starts_with("default-src 'none'; style-src 'sha256-")
                && !policy.contains("unsafe")
                && policy.contains("frame-ancestors 'none'"),
            "{policy}"
        );
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        for forbidden in ["<script", "http://", "javascript:", " style=", " on=\""] {
            assert!(!text.contains(forbidden), "{path}: {forbidden}");
        }
        let (answer, text) = page(&server, &site, "clinician", path);
        assert_eq!(answer.status, 403, "{path}");
        assert!(
            text.contains("FORBIDDEN") && text.contains("read-metrics"),
            "{text}"
        );
    }
    for (path, status, code) in [
        ("/console/none", 404, "UNKNOWN_PATH"),
        ("/console?x=1", 400, "INVALID_QUERY"),
        (
            "/console/models/icu-mortality/versions/1?window=2h",
            400,
            "INVALID_QUERY",
        ),
        (
            "/console/models/icu-mortality/versions/01",
            404,
            "UNKNOWN_VERSION",
        ),
        (
            "/console/models/icu-mortality/versions/9",
            404,
            "UNKNOWN_VERSION",
        ),
    ] {
        let (answer, text) = page(&server, &site, "ops", path);
        assert_eq!(answer.status, status, "{path}");
        assert!(
            text.contains(code) && text.starts_with("<!DOCTYPE html>"),
            "{path}"
        );
    }
    // Nobody has asked yet, which says nothing of drift.
    let (_, shown) = page(&server, &site, "ops", "/console");
    assert!(shown.contains("too few values") && !shown.contains("no alarm"));
    // Somebody without models sees none.
    let (_, shown) = page(&server, &site, "nobody", "/console");
    assert!(!shown.contains("icu-mortality"), "{shown}");
    let (answer, _) = page(&server, &site, "nobody", MODEL);
    assert_eq!(answer.status, 403);
    // The log is for others than the numbers are.
    for (who, path, status) in [
        ("ops", "/console/audit", 403),
        ("compliance", "/console/audit", 200),
        ("clinician", "/console/audit", 403),
    ] {
        let (answer, text) = page(&server, &site, who, path);
        assert_eq!(answer.status, status, "{who}: {path}");
        assert!(!text.contains("/console/audit\"") || who == "compliance");
    }
}
