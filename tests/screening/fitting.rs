//! `vitalgate bundle fit`.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;

pub(crate) fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("models")
}

/// The synthetic patients of the intensive care model: 256 rows that are nobody's.
fn synthetic() -> String {
    fs::read_to_string(models().join("icu-mortality/synthetic.csv")).unwrap()
}

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

    fn fit(&self, more: &[&str]) -> Output {
        let features = models().join("icu-mortality/bundle/model.json");
        Command::new(env!("CARGO_BIN_EXE_vitalgate"))
            .current_dir(self.0.path())
            .args(["bundle", "fit", "--features"])
            .arg(features)
            .args(["--data", "rows.csv", "--quality", "quick", "--json"])
            .args(["--alpha", "0.05", "--calibration-share", "0.3"])
            .args(more)
            .output()
            .unwrap()
    }

    /// What was written.
    fn reference(&self) -> Value {
        let text = fs::read_to_string(self.path("out.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Exit code and what was said about it.
    fn refused(&self, more: &[&str]) -> (i32, String) {
        let output = self.fit(more);
        assert!(!self.path("out.json").exists(), "written all the same");
        let said = String::from_utf8(output.stderr).unwrap();
        (output.status.code().unwrap(), said)
    }
}

fn out(name: &str) -> [&str; 2] {
    ["--out", name]
}

#[test]
fn the_same_rows_and_seed_give_the_same_reference() {
    let scene = Scene::with(&synthetic());
    for name in ["a.json", "b.json"] {
        let output = scene.fit(&out(name));
        assert!(output.status.success(), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(said["fit"]["calibration_rows"], 77);
        assert_eq!(said["strata"].as_array().unwrap().len(), 2);
        assert_eq!(said["strata"][1]["masked"], true);
    }
    let other = scene.fit(&["--out", "c.json", "--seed", "2"]);
    assert!(other.status.success(), "{other:?}");
    let read = |name: &str| fs::read(scene.path(name)).unwrap();
    assert_eq!(read("a.json"), read("b.json"));
    assert_ne!(read("a.json"), read("c.json"));
}

#[test]
fn no_patient_can_be_found_in_it() {
    let rows = synthetic();
    let scene = Scene::with(&rows);
    assert!(scene.fit(&out("out.json")).status.success());
    nobody_is_in(&scene.reference(), &rows);
}

#[test]
fn nor_can_a_patient_with_many_rows() {
    // Eight patients have values of their own, and twenty rows each.
    let mut lines: Vec<String> = synthetic().lines().map(str::to_owned).collect();
    for n in 0..8 {
        let line = &mut lines[1 + 5 * n];
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        cells[2] = (150 + n * n).to_string();
        *line = cells.join(",");
    }
    let of = |copies: usize| {
        let mut text = format!("patient,{}", lines[0]);
        for (index, line) in lines.iter().skip(1).enumerate() {
            let many = index % 5 == 0 && index < 40;
            for _ in 0..if many { copies } else { 1 } {
                text.extend(["\n", &index.to_string(), ",", line]);
            }
        }
        let scene = Scene::with(&text);
        let fitted = scene.fit(&["--group", "patient", "--allow", "--out", "out.json"]);
        assert!(fitted.status.success(), "{fitted:?}");
        let said: Value = serde_json::from_slice(&fitted.stdout).unwrap();
        assert_eq!(said["calibration_patients"], 77);
        scene.reference()
    };
    let (once, often) = (of(1), of(20));
    nobody_is_in(&often, &lines.join("\n"));
    // What is counted is patients, however many rows they have.
    assert_eq!(often["drift"]["rows"], 256);
    assert_eq!(often["drift"], once["drift"]);
    assert_eq!(often["features"], once["features"]);
    assert!(often["fit"]["fit_rows"].as_u64() > once["fit"]["fit_rows"].as_u64());
}

/// Looks for each of the `rows`, one a patient, in what was written.
fn nobody_is_in(reference: &Value, rows: &str) {
    let patients: Vec<Vec<f64>> = rows
        .lines()
        .skip(1)
        .map(|line| {
            line.split(',')
                .map(|v| v.parse().unwrap_or(f64::NAN))
                .collect()
        })
        .collect();

    // No list of numbers has the values of a patient, not even four neighbours.
    let mut lists = Vec::new();
    collect(reference, &mut lists);
    for list in &lists {
        for patient in &patients {
            let run = |four: &[f64]| patient.windows(4).any(|own| own == four);
            assert!(!list.windows(4).any(run), "{list:?}");
        }
    }
    // Nor has a prototype, taken back to clinical values.
    let maps: Vec<Vec<(f64, f64)>> = reference["features"]
        .as_array()
        .unwrap()
        .iter()
        .map(|feature| {
            let knots = feature["knots"].as_array().unwrap().iter();
            knots
                .map(|k| (k[0].as_f64().unwrap(), k[1].as_f64().unwrap()))
                .collect()
        })
        .collect();
    let numbers = |value: &Value| -> Vec<f64> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|v| v.as_f64().unwrap())
            .collect()
    };
    let mean = numbers(&reference["gaussian"]["mean"]);
    let prototypes = &reference["prototypes"];
    let whitening: Vec<Vec<f64>> = prototypes["whitening"]
        .as_array()
        .unwrap()
        .iter()
        .map(numbers)
        .collect();
    let centroids = prototypes["centroids"].as_array().unwrap();
    // Clusters of five patients at least.
    assert!(centroids.len() <= patients.len() * 7 / 10 / 5);
    for centroid in centroids {
        let values = unwhitened(&whitening, &numbers(centroid), &mean, &maps);
        for patient in &patients {
            let same = |(a, b): (&f64, &f64)| (a - b).abs() <= 1e-3 * b.abs();
            let equal = values
                .iter()
                .zip(patient)
                .filter(|pair| same(*pair))
                .count();
            assert!(equal <= patient.len() / 2, "{values:?}");
        }
    }
    // The extremes are means of five patients, so nobody's own lies on the outermost knot
    // unless at least five share it.
    for (index, knots) in maps.iter().enumerate() {
        let mut column: Vec<f64> = patients.iter().map(|p| p[index]).collect();
        column.retain(|v| !v.is_nan());
        column.sort_by(f64::total_cmp);
        let (low, high) = (column[0], column[column.len() - 1]);
        for (extreme, knot) in [(low, knots[0].0), (high, knots[knots.len() - 1].0)] {
            let shared = column
                .iter()
                .filter(|v| (**v - extreme).abs() < 1e-9)
                .count();
            assert!(
                shared >= 5 || (knot - extreme).abs() > 1e-9,
                "feature {index}: {extreme}"
            );
        }
    }
}

fn collect(value: &Value, lists: &mut Vec<Vec<f64>>) {
    match value {
        Value::Array(items) => {
            lists.push(items.iter().filter_map(Value::as_f64).collect());
            for item in items {
                collect(item, lists);
            }
        }
        Value::Object(members) => {
            for member in members.values() {
                collect(member, lists);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Solves the (upper triangular) whitening for the scores, and reads the values off the maps.
fn unwhitened(
    whitening: &[Vec<f64>],
    white: &[f64],
    mean: &[f64],
    maps: &[Vec<(f64, f64)>],
) -> Vec<f64> {
    let d = white.len();
    let mut z = vec![0.0; d];
    for i in (0..d).rev() {
        let rest: f64 = (i + 1..d).map(|j| whitening[i][j] * z[j]).sum();
        z[i] = (white[i] - rest) / whitening[i][i];
    }
    let value = |(z, knots): (f64, &Vec<(f64, f64)>)| {
        let after = knots.iter().position(|k| k.1 > z).unwrap_or(knots.len());
        let (a, b) = match after {
            0 => return knots[0].0,
            n if n == knots.len() => return knots[n - 1].0,
            n => (knots[n - 1], knots[n]),
        };
        a.0 + (z - a.1) / (b.1 - a.1) * (b.0 - a.0)
    };
    z.iter()
        .zip(mean)
        .map(|(z, m)| z + m)
        .zip(maps)
        .map(value)
        .collect()
}

#[test]
fn histograms_are_only_put_into_the_models_own_reference() {
    let scene = Scene::with(&synthetic());
    let drift = ["--drift-only", "--out", "own.json"];
    let own = models().join("icu-mortality/bundle/reference.json");
    fs::copy(&own, scene.path("own.json")).unwrap();
    let output = scene.fit(&drift);
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(&own).unwrap();
    for (from, to, wanted) in [
        ("\"version\": 1", "\"version\": 9", "version 9, not to"),
        (
            "\"name\": \"icu-mortality\"",
            "\"name\": \"other\"",
            "fitted to other version",
        ),
        (
            "\"name\": \"age\"",
            "\"name\": \"years\"",
            "fitted to other features",
        ),
    ] {
        let other = text.replacen(from, to, 1);
        assert_ne!(other, text, "{from}");
        fs::write(scene.path("own.json"), &other).unwrap();
        let (code, said) = scene.refused(&drift);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(wanted), "{said}");
        assert_eq!(fs::read_to_string(scene.path("own.json")).unwrap(), other);
    }

    // A heart rate of 900 is nobody's.
    let mut lines: Vec<String> = synthetic().lines().map(str::to_owned).collect();
    let mut cells: Vec<&str> = lines[3].split(',').collect();
    cells[2] = "900";
    lines[3] = cells.join(",");
    let scene = Scene::with(&lines.join("\n"));
    fs::copy(&own, scene.path("own.json")).unwrap();
    let (code, said) = scene.refused(&drift);
    assert_eq!(code, 1);
    assert!(
        said.contains("1 row(s) have a value that is not possible, the first on line 4"),
        "{said}"
    );
    let output = scene.fit(&["--drift-only", "--allow", "--out", "own.json"]);
    assert!(output.status.success(), "{output:?}");
    let text = fs::read_to_string(scene.path("own.json")).unwrap();
    let reference: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(reference["drift"]["rows"], 255);
}

#[test]
fn whether_it_can_be_written_is_found_out_first() {
    // Before the rows are even read: these are none.
    let scene = Scene::with("no rows");
    let (code, said) = scene.refused(&out("nowhere/out.json"));
    assert_eq!(code, 3, "{said}");
    assert!(said.contains("out.json: cannot be written"), "{said}");
    let (code, said) = scene.refused(&out("."));
    assert_eq!(code, 2);
    assert!(said.contains("--out must name a file"), "{said}");
    assert_eq!(fs::read_dir(scene.0.path()).unwrap().count(), 1);
}

#[test]
fn too_few_patients_are_refused() {
    let rows = synthetic();
    let few: Vec<&str> = rows.lines().take(61).collect();
    let (code, said) = Scene::with(&few.join("\n")).refused(&out("out.json"));
    assert_eq!(code, 1);
    assert!(
        said.contains("42 patients to fit, at least 100 are needed"),
        "{said}"
    );

    // 256 rows of 64 patients are 64 patients.
    let text = grouped(4, |n| n.to_string());
    let (code, said) = Scene::with(&text).refused(&["--group", "patient", "--out", "out.json"]);
    assert_eq!(code, 1);
    assert!(said.contains("45 patients to fit"), "{said}");
}

/// The synthetic patients with `rows` rows each, and a column `patient` that says so.
fn grouped(rows: usize, cell: impl Fn(usize) -> String) -> String {
    let text = synthetic();
    let mut lines = text.lines();
    let header = lines.next().unwrap();
    let named: Vec<String> = lines
        .enumerate()
        .map(|(index, line)| format!("{},{line}", cell(index / rows)))
        .collect();
    format!("patient,{header}\n{}", named.join("\n"))
}

#[test]
fn whose_a_row_is_must_be_known() {
    let scene = Scene::with(&grouped(1, |n| n.to_string()));
    fs::copy(scene.path("rows.csv"), scene.path("later.csv")).unwrap();
    let more = ["--more", "later.csv", "--out", "out.json"];
    let (code, said) = scene.refused(&more);
    assert_eq!(code, 2);
    assert!(said.contains("--more needs --group"), "{said}");

    // Rows without a name are not one patient's.
    let blank = |n: usize| match n {
        3 | 8 => String::new(),
        9 => "NA".to_owned(),
        n => n.to_string(),
    };
    let scene = Scene::with(&grouped(1, blank));
    let (code, said) = scene.refused(&["--group", "patient", "--out", "out.json"]);
    assert_eq!(code, 1);
    let wanted = "column \"patient\" does not say whose 3 row(s) are, the first on line 5";
    assert!(said.contains(wanted), "{said}");
}

#[test]
fn columns_are_found_by_name_or_by_map() {
    let renamed = synthetic().replacen("heart_rate", "beats", 1);
    let scene = Scene::with(&renamed);
    let (code, said) = scene.refused(&out("out.json"));
    assert_eq!(code, 2);
    assert!(said.contains("no column \"heart_rate\""), "{said}");
    let (code, said) = scene.refused(&["--map", "beats=pulse", "--out", "out.json"]);
    assert_eq!(code, 2);
    assert!(said.contains("no feature of this name"), "{said}");
    let (code, said) = scene.refused(&[
        "--group",
        "stay",
        "--map",
        "beats=heart_rate",
        "--out",
        "out.json",
    ]);
    assert_eq!(code, 2);
    assert!(said.contains("no column \"stay\""), "{said}");
    let fitted = scene.fit(&["--map", "beats=heart_rate", "--out", "out.json"]);
    assert!(fitted.status.success(), "{fitted:?}");
    let plain = Scene::with(&synthetic());
    assert!(plain.fit(&out("out.json")).status.success());
    let network = |scene: &Scene| -> Value {
        let text = fs::read_to_string(scene.path("out.json")).unwrap();
        serde_json::from_str::<BTreeMap<String, Value>>(&text).unwrap()["network"].clone()
    };
    assert_eq!(network(&scene), network(&plain));
}

#[test]
fn a_cell_that_is_no_number_is_named() {
    let mut lines: Vec<String> = synthetic().lines().map(str::to_owned).collect();
    lines[3] = lines[3].replacen(',', ",n/a", 1);
    let (code, said) = Scene::with(&lines.join("\n")).refused(&out("out.json"));
    assert_eq!(code, 1);
    assert!(said.contains("line 4, column \"male\": expected"), "{said}");
}

#[test]
fn rows_that_other_screens_stop_are_counted_and_left_out() {
    let mut lines: Vec<String> = synthetic().lines().map(str::to_owned).collect();
    let cell = |line: &mut String, column: usize, text: &str| {
        let mut cells: Vec<&str> = line.split(',').collect();
        cells[column] = text;
        *line = cells.join(",");
    };
    cell(&mut lines[1], 2, "600");
    cell(&mut lines[2], 5, "300");
    cell(&mut lines[3], 2, "");
    cell(&mut lines[4], 5, "21");
    let scene = Scene::with(&lines.join("\n"));
    // An impossible value is a sign of tampering.
    let output = scene.fit(&["--allow", "--out", "out.json"]);
    assert!(output.status.success(), "{output:?}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(said["left_out"]["ranges"], 2);
    assert_eq!(said["left_out"]["incomplete"], 1);
    assert_eq!(said["left_out"]["consistency"], 1);
}
