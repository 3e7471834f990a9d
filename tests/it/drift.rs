//! A live server says that its patients have changed, and which value it is.

use serde_json::{Value, json};

use crate::harness::{Server, Site, Wire, client, icu_patients, post, request};

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
