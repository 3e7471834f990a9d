//! `vitalgate evaluate` and what `bundle fit` refuses, as people and scripts call them.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn synthetic() -> String {
    fs::read_to_string(root().join("models/icu-mortality/synthetic.csv")).unwrap()
}

/// The cohort beside the project, if it is there.
fn cohort() -> Option<(Vec<String>, Vec<Vec<String>>)> {
    let Ok(text) = fs::read_to_string(root().join("../shared/data/icu2012_ab.csv")) else {
        println!("skipped: the ICU cohort is not beside the project (../shared/data)");
        return None;
    };
    let mut rows = text
        .lines()
        .map(|line| line.split(',').map(str::to_owned).collect());
    let header: Vec<String> = rows.next().unwrap();
    Some((header, rows.collect()))
}

/// A directory of the test's own with a file of rows.
struct Scene(tempfile::TempDir);

impl Scene {
    fn with(rows: &str) -> Self {
        let scene = Self(tempfile::tempdir().unwrap());
        fs::write(scene.path("rows.csv"), rows).unwrap();
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_vitalgate"))
            .current_dir(self.0.path())
            .args(arguments)
            .output()
            .unwrap()
    }

    fn evaluate(&self, more: &[&str]) -> Output {
        let bundle = root().join("models/icu-mortality");
        let bundle = bundle.to_str().unwrap();
        let mut arguments = vec!["evaluate", "--bundle", bundle, "--data", "rows.csv"];
        arguments.extend(more);
        self.run(&arguments)
    }

    fn json(&self, more: &[&str], code: i32) -> Value {
        let mut arguments = vec!["--json"];
        arguments.extend(more);
        let output = self.evaluate(&arguments);
        assert_eq!(output.status.code(), Some(code), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }
}

fn check<'r>(report: &'r Value, name: &str) -> &'r Value {
    let checks = report["checks"].as_array().unwrap();
    checks.iter().find(|c| c["name"] == name).unwrap()
}

#[test]
fn a_bundle_is_judged_in_every_respect_and_the_same_way_twice() {
    let scene = Scene::with(&synthetic());
    fs::create_dir(scene.path("rows")).unwrap();
    let report = scene.json(
        &[
            "--copies",
            "150",
            "--html",
            "report.html",
            "--export",
            "rows",
        ],
        0,
    );
    let families = report["families"].as_array().unwrap();
    assert_eq!(families.len(), 13);
    for family in families {
        let (made, reached) = (family["made"].as_u64(), family["reached"].as_u64());
        assert!(reached <= made && made >= Some(100), "{family}");
    }
    // Patients who were invented are odder than real ones, and corrupted ones odder still.
    let shuffled = families.iter().find(|f| f["family"] == "shuffled").unwrap();
    assert!(shuffled["auroc"].as_f64().unwrap() > 0.6, "{shuffled}");
    assert_eq!(report["false_flags"].as_array().unwrap().len(), 4);
    assert_eq!(report["burden"][0]["rows"], 256);
    assert!(
        report["burden"]
            .as_array()
            .unwrap()
            .iter()
            .any(|b| b["by"] == "sex")
    );
    assert!(report["calibration"].is_null(), "there are no outcomes");
    assert!(report["latency"]["path_us"]["p50"].as_f64().unwrap() > 0.0);
    let clean = fs::read_to_string(scene.path("rows/clean.csv")).unwrap();
    assert!(clean.starts_with("age,male,heart_rate"));

    let page = fs::read_to_string(scene.path("report.html")).unwrap();
    assert!(page.matches("<svg").count() >= 4 && page.contains("default-src 'none'"));
    for outside in ["http://", "https://", "<script", "<img", "@import", "url("] {
        assert!(!page.contains(outside), "{outside}");
    }
    let again = scene.json(&["--copies", "150"], 0);
    for same in ["families", "false_flags", "burden"] {
        assert_eq!(report[same], again[same]);
    }
}

#[test]
fn what_is_not_counted_is_said_and_a_row_or_none_gives_no_nan() {
    let rows = synthetic();
    let mut lines: Vec<String> = rows.lines().map(str::to_owned).collect();
    // Three patients without an age, which the model requires.
    for line in lines.iter_mut().skip(1).take(3) {
        *line = line
            .split_once(',')
            .map(|(_, rest)| format!(",{rest}"))
            .unwrap();
    }
    let scene = Scene::with(&format!("{}\n", lines.join("\n")));
    let few = ["--copies", "10", "--html", "report.html"];
    let report = scene.json(&few, 0);
    let all = &report["burden"][0];
    assert_eq!(
        (
            &all["rows"],
            &all["incomplete"],
            &report["data"]["incomplete"]
        ),
        (&253.into(), &3.into(), &3.into())
    );
    let said = scene.evaluate(&few);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(
        said.contains("(3 of 256 rows lack one: rejected for it and not counted)"),
        "{said}"
    );
    let page = fs::read_to_string(scene.path("report.html")).unwrap();
    assert!(page.contains("3 of 256 lack one, are rejected for it"));

    for row in [1, 4] {
        let scene = Scene::with(&format!("{}\n{}\n", lines[0], lines[row]));
        let report = scene.json(&few, 0);
        let flags = report["false_flags"].as_array().unwrap().len();
        assert_eq!(flags, if row == 1 { 0 } else { 4 });
        let notes = report["notes"].to_string();
        assert!(notes.contains("say little"), "{notes}");
        let said = String::from_utf8_lossy(&scene.evaluate(&few).stdout).into_owned();
        let page = fs::read_to_string(scene.path("report.html")).unwrap();
        assert!(!said.contains("NaN") && !page.contains("NaN"), "{said}");
    }
}

/// Each patient three times: for what is said of patients, they are as many as before.
#[test]
fn a_patients_rows_count_as_one_where_the_file_says_whose_they_are() {
    let rows = synthetic();
    let mut lines = rows.lines();
    let mut file = format!("patient,{}\n", lines.next().unwrap());
    for (patient, line) in lines.enumerate() {
        file += &format!("{patient},{line}\n").repeat(3);
    }
    let scene = Scene::with(&file);
    let rows = |more: &[&str]| {
        let arguments = [&["--copies", "10"], more].concat();
        scene.json(&arguments, 0)["false_flags"][0]["rows"].clone()
    };
    let (each, all) = (rows(&["--group", "patient"]), rows(&[]));
    assert_eq!(3 * each.as_u64().unwrap(), all.as_u64().unwrap());

    let features = root().join("models/icu-mortality/bundle/model.json");
    let fit = |data: &str, out: &str| {
        let output = scene.run(&[
            "bundle",
            "fit",
            "--features",
            features.to_str().unwrap(),
            "--data",
            data,
            "--group",
            "patient",
            "--unseen",
            "rows.csv",
            "--quality",
            "quick",
            "--alpha",
            "0.02",
            "--calibration-share",
            "0.3",
            "--allow",
            "--out",
            out,
        ]);
        assert!(output.status.success(), "{output:?}");
        let text = fs::read(scene.path(out)).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()
    };
    let reference = fit("rows.csv", "out.json");
    let patients = reference["agreement"]["calibration"]
        .as_array()
        .unwrap()
        .len();
    assert!((100..=256).contains(&patients), "{patients}");
    let counts = reference["drift"]["probability"]["counts"]
        .as_array()
        .unwrap();
    let predicted: u64 = counts.iter().filter_map(Value::as_u64).sum();
    assert!(predicted <= 256, "{predicted}");
    assert_eq!(reference["fit"]["unseen"]["rows"], 768);
}

#[test]
fn another_population_is_a_family_of_its_own() {
    let rows = synthetic();
    let scene = Scene::with(&rows);
    // The same patients with every systolic pressure doubled: odd to the last one.
    let (header, patients) = rows.split_once('\n').unwrap();
    let other: Vec<String> = patients
        .lines()
        .map(|line| {
            let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
            let systolic: f64 = fields[3].parse().unwrap();
            fields[3] = (systolic * 1.6).to_string();
            fields.join(",")
        })
        .collect();
    fs::write(
        scene.path("other.csv"),
        format!("{header}\n{}\n", other.join("\n")),
    )
    .unwrap();
    let report = scene.json(&["--copies", "10", "--other", "other.csv"], 0);
    assert_eq!(report["other"]["family"], "other_population");
    assert!(
        report["other"]["auroc"].as_f64().unwrap() > 0.7,
        "{}",
        report["other"]
    );
}

#[test]
fn rows_that_were_tampered_with_are_refused_and_nothing_is_fitted_to_them() {
    let rows = synthetic();
    let clean = Scene::with(&rows);
    assert_eq!(
        check(&clean.json(&["--validate"], 0), "duplicate_rows")["verdict"],
        "pass"
    );

    let repeated = format!("{rows}{}\n", rows.lines().nth(7).unwrap());
    let scene = Scene::with(&repeated);
    let report = scene.json(&["--validate"], 1);
    let found = check(&report, "duplicate_rows");
    assert_eq!(
        (&found["verdict"], &found["findings"][0]["lines"][0]),
        (&"found".into(), &258.into())
    );

    let features = root().join("models/icu-mortality/bundle/model.json");
    let fit = |more: &[&str]| {
        let mut arguments = vec!["bundle", "fit", "--features", features.to_str().unwrap()];
        arguments.extend([
            "--data",
            "rows.csv",
            "--quality",
            "quick",
            "--alpha",
            "0.05",
        ]);
        arguments.extend(["--calibration-share", "0.3", "--out", "out.json"]);
        arguments.extend(more);
        scene.run(&arguments)
    };
    let refused = fit(&[]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        said.contains("duplicate_rows") && said.contains("--allow"),
        "{said}"
    );
    assert!(!scene.path("out.json").exists());
    let allowed = fit(&["--allow"]);
    assert!(allowed.status.success(), "{allowed:?}");
    let reference: Value =
        serde_json::from_slice(&fs::read(scene.path("out.json")).unwrap()).unwrap();
    let record = &reference["fit"]["validation"];
    assert_eq!(record["found"], serde_json::json!(["duplicate_rows"]));
    assert_eq!(record["report_sha256"].as_str().unwrap().len(), 64);
}

#[test]
fn what_is_wrong_with_a_call_is_said_and_told_apart() {
    let scene = Scene::with(&synthetic().replacen("glucose", "sugar", 1));
    let column = scene.evaluate(&[]);
    assert_eq!(column.status.code(), Some(2), "{column:?}");
    assert!(String::from_utf8_lossy(&column.stderr).contains("no column \"glucose\""));
    let outcomes = synthetic().replace('\n', ",0,1\n");
    let outcomes = Scene::with(&outcomes.replacen(",0,1\n", ",died,outcome\n", 1));
    let two = outcomes.evaluate(&["--validate"]);
    assert_eq!(two.status.code(), Some(2), "{two:?}");
    let said = String::from_utf8_lossy(&two.stderr).into_owned();
    assert!(
        said.contains("\"died\" and \"outcome\"") && said.contains("--label"),
        "{said}"
    );
    let mapped = scene.evaluate(&["--map", "sugar=glucose", "--validate"]);
    assert_eq!(mapped.status.code(), Some(0), "{mapped:?}");
    let missing = scene.run(&["evaluate", "--bundle", "nowhere", "--data", "rows.csv"]);
    assert_eq!(missing.status.code(), Some(3), "{missing:?}");
}

/// Two per cent of the outcomes flipped in place, anywhere in the file.
#[test]
fn flipped_outcomes_of_the_cohort_are_reported_with_their_lines() {
    let Some((header, rows)) = cohort() else {
        return;
    };
    let text = |rows: &[Vec<String>]| {
        let lines: Vec<String> = rows.iter().map(|r| r.join(",")).collect();
        format!("{}\n{}\n", header.join(","), lines.join("\n"))
    };
    let report = Scene::with(&text(&rows)).json(&["--validate"], 0);
    assert_eq!(check(&report, "label_noise")["verdict"], "pass");

    let died = header.iter().position(|h| h == "died").unwrap();
    let mut poisoned = rows.clone();
    // Every fiftieth row, from one that leaves no pattern of patients.
    let flipped: Vec<usize> = (17..rows.len()).step_by(50).collect();
    for &row in &flipped {
        let outcome = &mut poisoned[row][died];
        *outcome = if outcome == "0" { "1" } else { "0" }.to_owned();
    }
    let report = Scene::with(&text(&poisoned)).json(&["--validate"], 1);
    let found = check(&report, "label_noise");
    assert_eq!(found["verdict"], "found", "{found}");
    let listed: Vec<u64> = found["findings"][0]["lines"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(Value::as_u64)
        .collect();
    let hits = listed
        .iter()
        .filter(|&&line| flipped.iter().any(|&row| row as u64 + 2 == line))
        .count();
    // By chance one in fifty.
    assert!(4 * hits >= listed.len(), "{hits} of {}", listed.len());
}
