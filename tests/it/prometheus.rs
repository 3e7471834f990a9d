//! A real Prometheus scrapes a live server with a client certificate; its rules fire on what they
//! are for, and every panel of the dashboards has data.

use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    drift::Ward,
    harness::{ICU_PATIENT, Wire, breast_cancer_patients, change, client, identity_files, post},
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
/// The alerts that explain each other.
const DRIFT: &str = "Vitalgate(Feature|Population|Prediction|FlagRate).*";

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("deploy")
        .join(path)
}

fn is_installed() -> bool {
    let found = Command::new("prometheus").arg("--version").output();
    let found = found.is_ok_and(|output| output.status.success());
    if !found {
        println!("skipped: there is no Prometheus (Debian: apt-get install prometheus)");
    }
    found
}

struct Prometheus {
    child: Child,
    port: u16,
    /// Its configuration and data.
    _directory: TempDir,
}

impl Prometheus {
    /// With the shipped rules, except that nobody waits minutes for what holds on.
    fn watch(ward: &Ward) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let rules = fs::read_to_string(deploy("prometheus/vitalgate.rules.yml")).unwrap();
        let rules = rules
            .replace("for: 2m", "for: 10s")
            .replace("for: 5m", "for: 10s");
        fs::write(directory.path().join("vitalgate.rules.yml"), rules).unwrap();
        let files = identity_files(&ward.site, "ops");
        let shipped = fs::read_to_string(deploy("prometheus/prometheus.yml")).unwrap();
        let ours = shipped
            .replace("15s", "1s")
            .replace(
                "/etc/prometheus/vitalgate/ca.pem",
                ward.site.path().join("ca.pem").to_str().unwrap(),
            )
            .replace(
                "/etc/prometheus/vitalgate/ops.pem",
                files.with_extension("pem").to_str().unwrap(),
            )
            .replace(
                "/etc/prometheus/vitalgate/ops.key",
                files.with_extension("key").to_str().unwrap(),
            )
            .replace("vitalgate.example:9443", &ward.server.admin.to_string());
        let file = directory.path().join("prometheus.yml");
        fs::write(&file, ours).unwrap();
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", file.display()))
            .arg(format!(
                "--storage.tsdb.path={}",
                directory.path().join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let prometheus = Self {
            child,
            port,
            _directory: directory,
        };
        prometheus.until("a scrape", "up == 1");
        prometheus
    }

    /// The result of a query: a list of series.
    fn query(&self, query: &str) -> Vec<Value> {
        let encoded: Vec<String> = query.bytes().map(|b| format!("%{b:02x}")).collect();
        let encoded = encoded.concat();
        let Ok(mut tcp) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return Vec::new();
        };
        write!(tcp, "GET /api/v1/query?query={encoded} HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        tcp.read_to_string(&mut text).unwrap();
        let Some((_, body)) = text.split_once("\r\n\r\n") else {
            return Vec::new();
        };
        // Until it is ready it says so in plain words.
        let Ok(body) = serde_json::from_str::<Value>(body) else {
            return Vec::new();
        };
        assert_eq!(body["status"], "success", "{query}: {body}");
        body["data"]["result"].as_array().unwrap().clone()
    }

    fn until(&self, what: &str, query: &str) {
        for _ in 0..600 {
            if !self.query(query).is_empty() {
                return;
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("waited a minute for {what}: {query}");
    }

    /// Names of the drift alerts in a state, with what they are about.
    fn alerts(&self, state: &str) -> Vec<String> {
        let found = self.query(&format!(
            "ALERTS{{alertname=~\"{DRIFT}\",alertstate=~\"{state}\"}}"
        ));
        let name = |alert: &Value| {
            let labels = &alert["metric"];
            let text = |label: &str| labels[label].as_str().unwrap_or_default().to_owned();
            format!("{} {}", text("alertname"), text("series"))
                .trim()
                .to_owned()
        };
        found.iter().map(name).collect()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Sends patients as they are, then changed ones; only `expected` fires.
fn fires(expected: &str, change: impl Fn(&mut Value)) {
    if !is_installed() {
        return;
    }
    let mut ward = Ward::open();
    let prometheus = Prometheus::watch(&ward);
    ward.send(100, None, |_| ());
    prometheus.until(
        "100 rows",
        "vitalgate_drift_window_rows{window=\"1h\",model=\"icu-mortality\"} >= 100",
    );
    thread::sleep(Duration::from_secs(3));
    assert_eq!(prometheus.alerts(".*"), [""; 0], "before the change");
    ward.send(90, None, change);
    let (name, series) = expected.split_once(' ').unwrap_or((expected, ""));
    prometheus.until(
        expected,
        &format!("ALERTS{{alertname=\"{name}\",series=~\".*{series}\",alertstate=\"firing\"}}"),
    );
    // What else might fire has had as long.
    thread::sleep(Duration::from_secs(12));
    assert_eq!(prometheus.alerts("firing"), [expected]);
}

#[test]
fn a_unit_change_at_the_interface_fires_its_alert_and_no_other() {
    fires("VitalgateFeatureDrift glucose", |observations| {
        let glucose = observations["glucose"].as_f64().unwrap_or(120.0);
        observations["glucose"] = json!(glucose / 18.0);
    });
}

#[test]
fn a_silent_sensor_fires_its_alert_and_no_other() {
    fires("VitalgateFeatureSilent magnesium", |observations| {
        observations["magnesium"] = Value::Null;
    });
}

#[test]
fn another_ward_fires_its_alert_and_no_other() {
    fires("VitalgatePopulationDrift", |observations| {
        let number = |name: &str| observations[name].as_f64();
        let (age, bun) = (number("age").unwrap_or(60.0), number("bun").unwrap_or(20.0));
        let (creatinine, gcs) = (
            number("creatinine").unwrap_or(1.0),
            number("gcs").unwrap_or(15.0),
        );
        observations["age"] = json!((age + 18.0).min(95.0));
        observations["bun"] = json!((bun * 1.9).round());
        observations["creatinine"] = json!(creatinine * 1.8);
        observations["gcs"] = json!((gcs - 6.0).max(3.0));
        observations["mechanical_ventilation"] = json!(true);
    });
}

#[test]
fn every_panel_has_data() {
    if !is_installed() {
        return;
    }
    let mut ward = Ward::open();
    let prometheus = Prometheus::watch(&ward);
    ward.send(60, None, |_| ());
    let clinician = client(&ward.site, "clinician");
    let patient: Value = serde_json::from_str(ICU_PATIENT).unwrap();
    let send = |name: &str, value: Value| {
        let mut changed = patient.clone();
        changed["observations"][name] = value;
        let mut wire = Wire::open(&ward.server, &clinician);
        post(&mut wire, PREDICT, changed.to_string().as_bytes()).status
    };
    // What is counted only once it happened: atypical, rejected, refused, probing, a failed
    // handshake, an incident.
    let happen = |round: u32| {
        send("hematocrit", json!(9.0 + f64::from(round)));
        send("temperature", json!(99));
        send("heart_rate", json!(80 + round));
        let mut wire = Wire::open(&ward.server, &clinician);
        post(&mut wire, "/v1/models/none/predict", b"{}");
        let mut broken = Wire::open(&ward.server, &clinician);
        broken.send(b"NOT HTTP\r\n\r\n");
        drop(broken.rest());
    };
    // Of all callers here only the record system has a budget.
    let mut ehr = Wire::open(&ward.server, &client(&ward.site, "ehr"));
    let slide = breast_cancer_patients().remove(0).to_string();
    let path = "/v1/models/breast-cancer/predict";
    assert_eq!(post(&mut ehr, path, slide.as_bytes()).status, 200);
    (0..8).for_each(happen);
    change(
        &ward.server,
        &ward.site,
        "ops",
        "/admin/v1/models/breast-cancer/quarantine",
        "drill",
    );
    change(
        &ward.server,
        &ward.site,
        "ops",
        "/admin/v1/models/breast-cancer/release",
        "drill",
    );
    prometheus.until("all of it", "vitalgate_caller_events_total");
    // A rate is of two scrapes at least.
    thread::sleep(Duration::from_secs(3));
    (8..12).for_each(happen);
    thread::sleep(Duration::from_secs(3));
    let mut panels = 0;
    let mut empty = Vec::new();
    for board in ["ops", "ml", "security"] {
        let text = fs::read_to_string(deploy(&format!("grafana/{board}.json"))).unwrap();
        let board_json: Value = serde_json::from_str(&text).unwrap();
        for panel in board_json["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let query = target["expr"].as_str().unwrap();
                panels += 1;
                let found = prometheus.query(query);
                let finite = |series: &Value| series["value"][1].as_str() != Some("NaN");
                if !found.iter().any(finite) {
                    empty.push(format!("{board}: {}: {query}", panel["title"]));
                }
            }
        }
    }
    assert!(empty.is_empty(), "{empty:#?}");
    println!("{panels} queries of the dashboards return data");
}

#[test]
fn rules_do_what_their_tests_say_and_name_a_runbook() {
    if !is_installed() {
        return;
    }
    let run = |arguments: &[&str], file: &str| {
        let output = Command::new("promtool")
            .args(arguments)
            .arg(deploy(file))
            .output();
        let output = output.unwrap();
        let said =
            String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{file}: {said}");
    };
    run(&["check", "rules"], "prometheus/vitalgate.rules.yml");
    run(&["test", "rules"], "prometheus/vitalgate.test.yml");
    let rules = fs::read_to_string(deploy("prometheus/vitalgate.rules.yml")).unwrap();
    let tests = fs::read_to_string(deploy("prometheus/vitalgate.test.yml")).unwrap();
    let runbooks = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/runbooks.md");
    let runbooks = fs::read_to_string(runbooks).unwrap();
    let alerts: Vec<&str> = rules
        .lines()
        .filter_map(|l| l.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 15);
    for alert in &alerts {
        let anchor = format!("runbook_url: docs/runbooks.md#{}", alert.to_lowercase());
        assert!(rules.contains(&anchor), "{alert}: no runbook");
        assert!(
            runbooks.contains(&format!("\n## {alert}\n")),
            "{alert}: no section"
        );
        assert!(
            tests.contains(&format!("alertname=\"{alert}\"")),
            "{alert}: no test"
        );
    }
    println!("{} alerts, each with a test and a runbook", alerts.len());
}
