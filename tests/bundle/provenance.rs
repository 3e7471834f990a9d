//! Where a model comes from: what `build` writes of it, and what `inspect` says.

use super::{interop::test_tool, *};

/// Fails unless the file is `CycloneDX` 1.6, by the official schema.
fn must_be_cyclonedx(file: &Path) {
    const CHECK: &str = "
import sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
fault = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(sys.argv[1]).read())
sys.exit(None if fault is None else str(fault))
";
    let Some(python) = test_tool("python") else {
        return;
    };
    let output = Command::new(python)
        .args(["-c", CHECK])
        .arg(file)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {said}", file.display());
}

fn build(scene: &Scene, out: &str, more: &[&str]) -> Done {
    let demo = demo("icu-mortality");
    let at = |name: &str| demo.join(name).to_str().unwrap().to_owned();
    let (gbdt, mlp) = (at("members/gbdt.onnx"), at("members/mlp.onnx"));
    let (gbdt, mlp) = (format!("gbdt={gbdt}"), format!("mlp={mlp}"));
    let start = ["build", "--model", &at("model.json"), "--out", out];
    let members = ["--member", &gbdt, "--member", &mlp];
    scene.bundle(&[&start[..], &members, more].concat())
}

const PROVENANCE: &str = r#"{
  "trained_by": ["Example Hospital, Data Science"],
  "modified_by": ["A. Example: recalibrated on 2025 admissions"],
  "approved_by": ["B. Example, clinical safety officer"],
  "tools": [{"name": "scikit-learn", "version": "1.9.1"}],
  "architecture": "mean of trees and a perceptron",
  "data": "Adult intensive care, 2019 to 2024, ethics approval 17/3",
  "metrics": [{"type": "AUROC", "value": "0.81", "slice": "test", "interval": ["0.79", "0.83"]}],
  "users": ["Intensivists"],
  "use_cases": ["Second opinion on admission"],
  "limits": ["One hospital", "Not for children"]
}"#;

#[test]
fn what_the_makers_know_is_written_validated_and_shown() {
    let scene = Scene::empty();
    fs::write(scene.path("origin.json"), PROVENANCE).unwrap();
    let rows = root().join("models/icu-mortality/synthetic.csv");
    let data = rows.to_str().unwrap();
    let more = ["--provenance", "origin.json", "--training-data", data];
    for out in ["one", "two"] {
        let built = build(&scene, out, &more);
        assert_eq!(built.code(), 0, "{built:?}");
    }
    let bom = |out: &str| fs::read(scene.path(out).join("bom.cdx.json")).unwrap();
    assert_eq!(
        bom("one"),
        bom("two"),
        "the same input gives the same bytes"
    );
    must_be_cyclonedx(&scene.path("one/bom.cdx.json"));

    let text = String::from_utf8(bom("one")).unwrap();
    let csv = fs::read_to_string(&rows).unwrap();
    for row in csv.lines() {
        assert!(!text.contains(row), "a row is in the bill of materials");
    }
    let shown = scene.bundle(&["inspect", "one"]);
    assert_eq!(shown.code(), 0, "{shown:?}");
    let sha256sum = Command::new("sha256sum").arg(&rows).output().unwrap();
    let digest = String::from_utf8(sha256sum.stdout).unwrap()[..64].to_owned();
    let counted = format!("({} rows, 20 columns)", csv.lines().count() - 1);
    for words in [
        "trained by   Example Hospital, Data Science",
        "modified by  A. Example: recalibrated on 2025 admissions",
        "approved by  B. Example, clinical safety officer",
        "synthetic.csv",
        &digest,
        "Adult intensive care, 2019 to 2024, ethics approval 17/3",
        &counted,
        "scikit-learn 1.9.1",
        "vitalgate ",
        "users        Intensivists",
        "limits       One hospital",
        "Not for children",
        "AUROC  0.81  [0.79, 0.83]  test",
        "written by vitalgate-models 1",
    ] {
        assert!(
            shown.stdout().contains(words),
            "{words}: {}",
            shown.stdout()
        );
    }
    let json = scene
        .bundle(&["inspect", "one", "--strict", "--json"])
        .json();
    assert_eq!(json["origin"]["data"][0]["sha256"], json!(digest));
    assert_eq!(json["warnings"], json!([]));

    let bom: Value = serde_json::from_str(&text).unwrap();
    let properties = bom["components"][0]["properties"].to_string();
    for name in [
        "onnx:ir_version",
        "onnx:producer",
        "onnx:opset:ai.onnx",
        "onnx:nodes:Sigmoid",
    ] {
        assert!(properties.contains(name), "{name}: {properties}");
    }
}

#[test]
fn bills_of_materials_are_cyclonedx() {
    for name in ["icu-mortality", "breast-cancer"] {
        must_be_cyclonedx(&demo(name).join("bom.cdx.json"));
    }
    let scene = Scene::empty();
    assert_eq!(build(&scene, "bare", &[]).code(), 0);
    must_be_cyclonedx(&scene.path("bare/bom.cdx.json"));
    let shown = scene.bundle(&["inspect", "bare"]);
    assert!(
        shown.stdout().contains("trained by   not stated"),
        "{shown:?}"
    );
}

#[test]
fn what_cannot_be_used_is_refused_without_a_row_of_it() {
    let scene = Scene::empty();
    let with = |file: &str, text: &str, option: &str| {
        fs::write(scene.path(file), text).unwrap();
        build(&scene, "new", &[option, file])
    };
    with("p", "{\"trained_by\": \"one\"}", "--provenance").says(1, &["p: invalid type"]);
    with("p", "{\"trainer\": []}", "--provenance").says(1, &["unknown field `trainer`"]);
    let ragged = with("d", "a,b\n1,2\n31337\n", "--training-data");
    ragged.says(3, &["d: not CSV"]);
    assert!(!ragged.stderr().contains("31337"), "{ragged:?}");
    fs::write(scene.path("d"), "a,b\n1,2\n").unwrap();
    fs::copy(scene.path("d"), scene.path("e")).unwrap();
    let twice = build(
        &scene,
        "new",
        &["--training-data", "d", "--training-data", "e"],
    );
    twice.says(2, &["e: the same data is given twice"]);
    build(&scene, "new", &["--training-data", "none"]).says(3, &["none"]);
    assert!(!scene.path("new").exists());
}

#[test]
fn data_that_is_only_described_is_written_too() {
    let scene = Scene::empty();
    fs::write(scene.path("origin.json"), PROVENANCE).unwrap();
    let built = build(&scene, "one", &["--provenance", "origin.json"]);
    assert_eq!(built.code(), 0, "{built:?}");
    must_be_cyclonedx(&scene.path("one/bom.cdx.json"));
    let shown = scene.bundle(&["inspect", "one"]);
    let words = "Adult intensive care, 2019 to 2024, ethics approval 17/3";
    assert!(shown.stdout().contains(words), "{shown:?}");
}

#[test]
fn an_account_that_says_nothing_or_nonsense_is_refused() {
    let scene = Scene::empty();
    for (json, words) in [
        ("[]", "not a JSON object"),
        (r#"{"trained_by": [""]}"#, "trained_by[0]: empty text"),
        (r#"{"data": " "}"#, "data: empty text"),
        (r#"{"tools": [["a", "1"]]}"#, "tools[0]: not an object"),
        (
            r#"{"metrics": [{"type": "AUROC", "value": "0.8", "interval": ["0.9", "0.7"]}]}"#,
            "metrics[0].interval",
        ),
    ] {
        fs::write(scene.path("origin.json"), json).unwrap();
        let built = build(&scene, "out", &["--provenance", "origin.json"]);
        built.says(1, &["origin.json", words]);
        assert!(!scene.path("out").exists());
    }
}

#[test]
fn training_data_that_is_no_table_is_refused_and_nothing_is_waited_for() {
    let scene = Scene::empty();
    let made = Command::new("mkfifo").arg(scene.path("fifo")).status();
    assert!(made.unwrap().success());
    fs::write(scene.path("heading.csv"), "a,b\n").unwrap();
    fs::write(
        scene.path("open.csv"),
        format!("a\n\"{}", "x\n".repeat(1 << 20)),
    )
    .unwrap();
    for (file, code, words) in [
        ("fifo", 3, "not a regular file"),
        ("/dev/zero", 3, "not a regular file"),
        ("/dev/null", 3, "not a regular file"),
        ("heading.csv", 1, "no rows"),
        ("open.csv", 3, "a record of more than"),
    ] {
        let built = build(&scene, "out", &["--training-data", file]);
        built.says(code, &[file, words]);
        assert!(!scene.path("out").exists());
    }
}

#[test]
fn a_key_that_cannot_be_used_is_named_with_the_reason() {
    let scene = Scene::signed();
    let rsa = ["genpkey", "-algorithm", "RSA", "-out", "rsa.key"];
    let public = ["pkey", "-in", "rsa.key", "-pubout", "-out", "rsa.pub"];
    for arguments in [&rsa[..], &public[..]] {
        let mut openssl = Command::new("openssl");
        let made = openssl
            .args(arguments)
            .current_dir(scene.path("."))
            .output();
        assert!(made.unwrap().status.success());
    }
    fs::write(scene.path("empty.pem"), "").unwrap();
    let pem = fs::read_to_string(scene.path("a.pub")).unwrap();
    fs::write(scene.path("two.pem"), pem.repeat(2)).unwrap();
    for (key, words) in [
        ("rsa.pub", "not an EC key on P-256, P-384 or P-521"),
        ("empty.pem", "no PUBLIC KEY"),
        ("two.pem", "more than one PUBLIC KEY"),
        ("a.key", "a private key"),
    ] {
        let verify = ["verify", "1/bundle", "--signature", "a.sig", "--key", key];
        scene.bundle(&verify).says(1, &[key, words]);
        scene
            .bundle(&["inspect", "1", "--key", key])
            .says(1, &[key, words]);
    }
    let verify = [
        "verify",
        "1/bundle",
        "--signature",
        "a.sig",
        "--ca",
        "empty.pem",
    ];
    let refused = scene.bundle(&verify);
    assert_eq!(refused.code(), 1, "{refused:?}");
    let output = Command::new(env!("CARGO_BIN_EXE_vitalgate"))
        .args(["policy", "new", "--serial", "1", "--expires", "2036-01-01"])
        .args(["--role", "builder=1:rsa.pub", "--min-version", "m=1"])
        .args(["--out", "policy.json"])
        .current_dir(scene.path("."))
        .output()
        .unwrap();
    let said = Done(output);
    said.says(1, &["rsa.pub", "not an EC key on P-256, P-384 or P-521"]);
}
