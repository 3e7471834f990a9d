//! A live server says that its patients have changed, and which value it is.

use std::{fs, os::unix::fs::PermissionsExt};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    Server, Site, Wire, change, client, icu_patients, model_source, post, request,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";

pub(crate) struct Ward {
    pub(crate) server: Server,
    pub(crate) site: Site,
    sent: usize,
}

impl Ward {
    pub(crate) fn open() -> Self {
        let site = Site::administrable();
        let server = Server::start(&site);
        Self {
            server,
            site,
            sent: 0,
        }
    }

    /// Sends synthetic patients, changed, each as an encounter of its own unless told whose.
    pub(crate) fn send(
        &mut self,
        count: usize,
        encounter: Option<usize>,
        change: impl Fn(&mut Value),
    ) {
        let mut wire = Wire::open(&self.server, &client(&self.site, "clinician"));
        let patients = icu_patients();
        for _ in 0..count {
            let mut patient = patients[self.sent % patients.len()].clone();
            change(&mut patient["observations"]);
            let number = encounter.unwrap_or(self.sent);
            patient["context"] = json!({"encounter": format!("e-{number}")});
            let status = post(&mut wire, PREDICT, patient.to_string().as_bytes()).status;
            assert!(status == 200, "{status}");
            self.sent += 1;
        }
    }

    fn metrics(&self) -> Vec<String> {
        let mut wire = Wire::admin(&self.server, &client(&self.site, "ops"));
        wire.send(&request("GET", "/metrics", "", b""));
        let text = String::from_utf8(wire.answer().body).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn alarms(&self) -> Vec<String> {
        let alarms = self.metrics().into_iter();
        let is_on =
            |line: &String| line.starts_with("vitalgate_drift_alarm{") && line.ends_with(" 1");
        alarms.filter(is_on).collect()
    }

    fn rows(&self) -> Vec<String> {
        let lines = self.metrics().into_iter();
        lines
            .filter(|l| l.starts_with("vitalgate_drift_window_rows{model=\"icu"))
            .collect()
    }
}

#[test]
fn a_unit_that_changes_and_a_sensor_that_is_silent_are_named() {
    let mut ward = Ward::open();
    ward.send(100, None, |_| ());
    assert_eq!(ward.alarms(), [""; 0], "as they are");
    // mmol/L where mg/dL is meant.
    ward.send(60, None, |observations| {
        let glucose = observations["glucose"].as_f64().unwrap_or(120.0);
        observations["glucose"] = json!(glucose / 18.0);
    });
    let alarms = ward.alarms();
    let of = |alarms: &[String], series: &str, test: &str| {
        let (series, test) = (format!("series=\"{series}\""), format!("test=\"{test}\""));
        alarms
            .iter()
            .any(|a| a.contains(&series) && a.contains(&test))
    };
    assert!(of(&alarms, "glucose", "values"), "{alarms:?}");
    ward.send(60, None, |observations| {
        observations["magnesium"] = Value::Null;
    });
    let alarms = ward.alarms();
    assert!(of(&alarms, "magnesium", "missing"), "{alarms:?}");
    println!("{alarms:#?}");
}

#[test]
fn below_20_rows_nothing_is_said_and_an_encounter_counts_once() {
    let mut ward = Ward::open();
    ward.send(19, None, |_| ());
    ward.send(30, Some(7), |_| ());
    let rows = ward.rows();
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|line| line.ends_with(" 19")), "{rows:?}");
    let said = |ward: &Ward| {
        let lines = ward.metrics().into_iter();
        let drift = |l: &String| l.starts_with("vitalgate_drift_") && !l.contains("_rows");
        lines.filter(drift).count()
    };
    assert_eq!(said(&ward), 0);
    ward.send(1, None, |_| ());
    assert!(said(&ward) > 60);
}

#[test]
fn a_version_counts_its_own_patients() {
    let mut site = Site::administrable();
    let config = site.config.clone();
    let mut files = model_source("icu-mortality");
    for name in ["model.json", "reference.json"] {
        let first = String::from_utf8(files[name].clone()).unwrap();
        let second = first.replacen("\"version\": 1", "\"version\": 2", 1);
        files.insert(name.to_owned(), second.into_bytes());
    }
    site.add_bundle("icu-mortality", 2, files);
    site.config = config;
    let server = Server::start(&site);
    let mut ward = Ward {
        server,
        site,
        sent: 0,
    };
    let load = |ward: &Ward, version: u32| {
        let path = format!("/admin/v1/models/icu-mortality/versions/{version}/load");
        change(&ward.server, &ward.site, "ml-engineer", &path, "drill").status
    };
    ward.send(30, None, |_| ());
    // The same bytes once more: it is the same model.
    assert_eq!(load(&ward, 1), 200);
    let of = |ward: &Ward, version: u32| {
        let label = format!("version=\"{version}\",window=\"1h\"");
        let rows = ward.rows().into_iter().filter(|line| line.contains(&label));
        rows.map(|line| line.rsplit(' ').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(of(&ward, 1), ["30"]);
    assert_eq!(load(&ward, 2), 200);
    assert_eq!(
        (of(&ward, 1), of(&ward, 2)),
        (vec!["30".to_owned()], vec!["0".to_owned()])
    );
    ward.send(5, None, |_| ());
    assert_eq!(
        (of(&ward, 1), of(&ward, 2)),
        (vec!["30".to_owned()], vec!["5".to_owned()])
    );
    let unload = "/admin/v1/models/icu-mortality/versions/1/unload";
    let status = change(&ward.server, &ward.site, "ml-engineer", unload, "drill").status;
    assert_eq!((status, of(&ward, 1).len()), (200, 0));
}

#[test]
fn what_an_evaluator_sends_is_not_counted() {
    let mut site = Site::administrable();
    site.configure("roles = [\"clinician\"]", "roles = [\"evaluator\"]");
    let server = Server::start(&site);
    let mut ward = Ward {
        server,
        site,
        sent: 0,
    };
    ward.send(30, None, |_| ());
    assert!(ward.rows().iter().all(|line| line.ends_with(" 0")));
}

/// What the server counted of the file in its state directory.
fn state(ward: &Ward, result: &str) -> u64 {
    let name = format!("vitalgate_drift_state_total{{result=\"{result}\"}} ");
    let lines = ward.metrics();
    let count = lines.iter().find_map(|line| line.strip_prefix(&name));
    count.map_or(0, |count| count.parse().unwrap())
}

/// Rows in the window of a day.
fn day(ward: &Ward) -> String {
    let rows = ward.rows();
    let day = rows.iter().find(|line| line.contains("window=\"24h\""));
    day.and_then(|line| line.rsplit(' ').next())
        .unwrap()
        .to_owned()
}

#[test]
fn a_days_counts_survive_a_restart_and_a_damaged_file_is_not_taken() {
    let mut ward = Ward::open();
    let file = ward.site.path().join("drift/drift.json");
    ward.server.stop();
    assert!(
        !file.exists(),
        "nothing is kept unless a directory is named"
    );
    ward.site.config.push_str("[drift]\nstate = \"drift\"\n\n");
    let restart = |ward: &mut Ward| {
        ward.server.stop();
        ward.server = Server::start(&ward.site);
    };
    ward.server = Server::start(&ward.site);
    ward.send(60, None, |observations| {
        observations["glucose"] = json!(7.25);
    });
    assert_eq!(state(&ward, "restored"), 0);
    restart(&mut ward);
    assert_eq!((day(&ward).as_str(), state(&ward, "restored")), ("60", 1));
    let alarms = ward.alarms();
    assert!(alarms.iter().all(|a| a.contains("24h")), "{alarms:?}");
    assert!(alarms.iter().any(|a| a.contains("glucose")), "{alarms:?}");
    ward.send(25, None, |_| ());
    assert_eq!(day(&ward), "85");
    restart(&mut ward);
    assert_eq!(day(&ward), "85");

    // Counts, and nothing of anybody.
    let good = fs::read_to_string(&file).unwrap();
    let (line, checksum) = good.split_once('\n').unwrap();
    let kept: Value = serde_json::from_str(line).unwrap();
    assert_eq!(kept["models"][0]["model"], "icu-mortality");
    assert!(checksum.starts_with("sha256 "));
    let mode = fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert!(!good.contains("7.25") && !good.contains("e-1"), "{good}");
    // Killed, it has what was written before.
    ward.server.signal(Signal::KILL);
    ward.server.wait();
    ward.server = Server::start(&ward.site);
    assert_eq!(day(&ward), "85");
    ward.server.stop();

    let other = good.replace("icu-mortality", "icu-mortalitz");
    let signed = |line: &str| {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, line.as_bytes());
        format!("{line}\nsha256 {}\n", hex::encode(digest))
    };
    for (bad, refused) in [
        (good[..good.len() / 2].to_owned(), 1),
        (other, 1),
        (String::new(), 1),
        (signed(&line.replace("\"format\":1", "\"format\":2")), 1),
        (signed(&line.replace("\"rows\":60", "\"rows\":61")), 1),
        (signed("{}"), 1),
        // Of another bundle it is no fault, and not taken either.
        (signed(&line.replace("\"digest\":\"", "\"digest\":\"0")), 0),
    ] {
        fs::write(&file, &bad).unwrap();
        ward.server = Server::start(&ward.site);
        assert_eq!(day(&ward), "0", "{bad}");
        assert_eq!(state(&ward, "refused"), refused, "{bad}");
        let told = ward.server.log().contains("DRIFT_STATE_REFUSED");
        assert_eq!(told, refused == 1);
        ward.send(1, None, |_| ());
        ward.server.stop();
    }
}
