//! `vitalgate bundle`, as people and scripts call it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    reason = "tests"
)]

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use vitalgate::bundle::model::{ModelSpec, RawModel};

mod document;
mod image;
mod interop;
mod making;
mod provenance;
mod token;
mod vectors;

/// The crate's root.
fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn demo(name: &str) -> PathBuf {
    root().join("models").join(name).join("bundle")
}

/// A directory of the test's own, with the bundle of `icu-mortality` as a version directory and a
/// key pair: `1/bundle/`, `a.key`, `a.pub`.
struct Scene(tempfile::TempDir);

impl Scene {
    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn new() -> Self {
        let scene = Self::empty();
        copy(&demo("icu-mortality"), &scene.path("1/bundle"));
        assert_eq!(scene.bundle(&["keygen", "--out", "a"]).code(), 0);
        scene
    }

    /// A signed one; the signature is `a.sig`.
    fn signed() -> Self {
        let scene = Self::new();
        let done = scene.bundle(&["sign", "1", "--key", "a.key", "--signature", "a.sig"]);
        assert_eq!(done.code(), 0, "{done:?}");
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// Runs `vitalgate bundle …` in the directory.
    fn bundle(&self, arguments: &[&str]) -> Done {
        let output = Command::new(env!("CARGO_BIN_EXE_vitalgate"))
            .arg("bundle")
            .args(arguments)
            .current_dir(self.0.path())
            .output()
            .unwrap();
        Done(output)
    }

    fn verify(&self) -> Done {
        self.bundle(&[
            "verify",
            "1/bundle",
            "--signature",
            "a.sig",
            "--key",
            "a.pub",
        ])
    }
}

#[derive(Debug)]
struct Done(Output);

impl Done {
    fn code(&self) -> i32 {
        self.0.status.code().unwrap()
    }

    fn stdout(&self) -> String {
        String::from_utf8(self.0.stdout.clone()).unwrap()
    }

    fn stderr(&self) -> String {
        String::from_utf8(self.0.stderr.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout).unwrap()
    }

    /// It ended with `code`, and said why in one line that has all of `words`.
    #[track_caller]
    fn says(&self, code: i32, words: &[&str]) {
        let text = self.stderr();
        assert_eq!(self.code(), code, "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in {text}");
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Every file below `directory`, by its name within.
fn names(directory: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() {
            found.extend(names(&path).iter().map(|below| format!("{name}/{below}")));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

fn flip(path: &Path, position: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[position] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_byte_anywhere_is_found_and_its_file_named() {
    let scene = Scene::signed();
    let files = names(&scene.path("1/bundle"));
    assert_eq!(files.len(), 6, "{files:?}");
    for name in files {
        let path = scene.path("1/bundle").join(&name);
        let length = fs::read(&path).unwrap().len();
        for position in [0, length / 2, length - 1] {
            flip(&path, position);
            let reason = format!(": {name}: its content is not what was signed");
            scene.verify().says(1, &[&reason]);
            flip(&path, position);
        }
    }
    assert_eq!(scene.verify().code(), 0);

    let length = fs::read(scene.path("a.sig")).unwrap().len();
    for position in (0..length).step_by(97) {
        flip(&scene.path("a.sig"), position);
        scene.verify().says(1, &["a.sig"]);
        flip(&scene.path("a.sig"), position);
    }
    assert_eq!(scene.verify().code(), 0);
}

#[test]
fn files_more_and_fewer_are_found() {
    let scene = Scene::signed();
    let extra = scene.path("1/bundle/members/extra.onnx");
    fs::write(&extra, "").unwrap();
    scene
        .verify()
        .says(1, &["members/extra.onnx: in the bundle, but not signed"]);
    fs::remove_file(&extra).unwrap();

    let card = scene.path("1/bundle/README.md");
    fs::rename(&card, scene.path("kept")).unwrap();
    scene.verify().says(1, &["README.md: signed, but missing"]);
    symlink(scene.path("kept"), &card).unwrap();
    scene.verify().says(1, &["README.md: a symbolic link"]);
    fs::remove_file(&card).unwrap();
    fs::rename(scene.path("kept"), &card).unwrap();
    assert_eq!(scene.verify().code(), 0);
}

#[test]
fn only_the_key_that_was_named_counts() {
    let scene = Scene::signed();
    assert_eq!(scene.bundle(&["keygen", "--out", "b"]).code(), 0);
    let verify = |signature: &str, kind: &str, pem: &str| {
        scene.bundle(&["verify", "1/bundle", "--signature", signature, kind, pem])
    };
    verify("a.sig", "--key", "b.pub").says(1, &["a.sig", "publicKey.hint"]);
    verify("a.sig", "--key", "a.sig").says(1, &["trusted key"]);
    verify("a.sig", "--ca", "a.pub").says(1, &["certificate"]);
    verify("none.sig", "--key", "a.pub").says(1, &["none.sig", "No such file"]);
    verify("a.sig", "--key", "none.pub").says(3, &["none.pub", "No such file"]);
    let nowhere = ["verify", "2", "--signature", "a.sig", "--key", "a.pub"];
    scene
        .bundle(&nowhere)
        .says(1, &["2: cannot be read: No such file"]);

    // Neither of them, and both: usage.
    let neither = ["verify", "1/bundle", "--signature", "a.sig"];
    assert_eq!(scene.bundle(&neither).code(), 2);
    let both = [&neither[..], &["--key", "a.pub", "--ca", "a.pub"]].concat();
    assert_eq!(scene.bundle(&both).code(), 2);
}

#[test]
fn verification_answers_programs_too() {
    let scene = Scene::signed();
    let ask = || {
        let arguments = [
            "verify",
            "1/bundle",
            "--signature",
            "a.sig",
            "--key",
            "a.pub",
            "--json",
        ];
        scene.bundle(&arguments)
    };
    let (good, signed) = (
        ask().json(),
        fs::read_to_string(scene.path("a.sig")).unwrap(),
    );
    assert_eq!(good["verified"], json!(true));
    assert_eq!(good["method"], json!("key"));
    assert!(signed.contains(good["signer"].as_str().unwrap()));
    assert!(
        scene
            .verify()
            .stdout()
            .contains(good["digest"].as_str().unwrap())
    );

    flip(&scene.path("1/bundle/model.json"), 9);
    let bad = ask();
    bad.says(1, &["model.json"]);
    assert_eq!(bad.json()["verified"], json!(false));
    assert!(
        bad.json()["reason"]
            .as_str()
            .unwrap()
            .starts_with("model.json")
    );
}

#[test]
fn a_key_is_never_overwritten_nor_readable_by_others() {
    let scene = Scene::empty();
    let keygen = || scene.bundle(&["keygen", "--out", "k", "--json"]);
    let first = keygen();
    assert_eq!(first.code(), 0);
    assert_eq!(first.json()["key_id"].as_str().unwrap().len(), 64);
    let read = |name: &str| fs::read_to_string(scene.path(name)).unwrap();
    let mode = |name: &str| fs::metadata(scene.path(name)).unwrap().permissions().mode() & 0o777;
    assert!(read("k.key").starts_with("-----BEGIN PRIVATE KEY-----\n"));
    assert!(read("k.pub").starts_with("-----BEGIN PUBLIC KEY-----\n"));
    assert_eq!(mode("k.key"), 0o600);
    assert!(
        !first
            .stdout()
            .contains(read("k.key").lines().nth(1).unwrap())
    );

    let before = (read("k.key"), read("k.pub"));
    keygen().says(3, &["k.key", "exists already"]);
    fs::remove_file(scene.path("k.key")).unwrap();
    keygen().says(3, &["k.pub", "exists already"]);
    assert!(!scene.path("k.key").exists(), "half a pair was left");
    assert_eq!(read("k.pub"), before.1);
    scene
        .bundle(&["keygen", "--out", "no/such/k"])
        .says(3, &["no/such/k.key"]);
}

#[test]
fn signing_is_refused_with_an_open_key_or_for_what_the_server_refuses() {
    let scene = Scene::new();
    let sign = || scene.bundle(&["sign", "1", "--key", "a.key"]);
    for mode in [0o644, 0o640, 0o604, 0o620] {
        fs::set_permissions(scene.path("a.key"), fs::Permissions::from_mode(mode)).unwrap();
        sign().says(3, &["a.key", "can be read by others"]);
    }
    fs::set_permissions(scene.path("a.key"), fs::Permissions::from_mode(0o600)).unwrap();
    let with = |key: &str| scene.bundle(&["sign", "1", "--key", key]);
    fs::set_permissions(scene.path("a.pub"), fs::Permissions::from_mode(0o600)).unwrap();
    with("a.pub").says(3, &["a.pub", "private key"]);
    with("none").says(3, &["none"]);
    with(".").says(3, &["not a regular file"]);

    let into = |file: &str| scene.bundle(&["sign", "1", "--key", "a.key", "--signature", file]);
    into("1/bundle/own.sig").says(2, &["within the bundle"]);
    into("a.key").says(3, &["a.key", "not overwritten"]);
    assert!(!scene.path("1/signatures").exists());

    let model = scene.path("1/bundle/model.json");
    let good = fs::read_to_string(&model).unwrap();
    fs::write(&model, good.replace("\"format\": 1", "\"format\": 7")).unwrap();
    sign().says(1, &["not signed", "format 7 is not known"]);
    fs::write(&model, &good).unwrap();
    let network = scene.path("1/bundle/members/mlp.onnx");
    let onnx = fs::read(&network).unwrap();
    fs::write(&network, b"garbage").unwrap();
    sign().says(
        1,
        &["not signed", "members/mlp.onnx", "not a readable ONNX"],
    );
    fs::remove_file(&network).unwrap();
    sign().says(1, &["member mlp: members/mlp.onnx is missing"]);
    fs::write(&network, onnx).unwrap();
    assert!(!scene.path("1/signatures").exists());

    // Twice is fine: the second replaces the first.
    for _ in 0..2 {
        assert_eq!(sign().code(), 0);
        assert_eq!(names(&scene.path("1/signatures")).len(), 1);
    }
}

/// `VITALGATE_BLESS=1` writes the schema anew.
#[test]
#[expect(clippy::disallowed_methods, reason = "set by whoever runs the tests")]
fn the_schema_is_that_of_the_code() {
    let path = root().join("schemas/model.schema.json");
    let schema = serde_json::to_value(schemars::schema_for!(RawModel)).unwrap();
    if std::env::var_os("VITALGATE_BLESS").is_some() {
        fs::write(&path, format!("{schema:#}\n")).unwrap();
    }
    let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    assert_eq!(
        written,
        schema,
        "run this test with VITALGATE_BLESS=1 to write {}",
        path.display()
    );
}

#[test]
fn the_demo_models_are_of_the_format() {
    for name in ["icu-mortality", "breast-cancer"] {
        let bytes = fs::read(demo(name).join("model.json")).unwrap();
        assert_eq!(ModelSpec::parse(&bytes).unwrap().name, name);
    }
}
