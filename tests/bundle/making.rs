//! From networks to a bundle, and what `inspect` says of it.

use super::*;

/// Builds the demo model anew in `scene`, as `out`.
fn build(scene: &Scene, model: &Path, out: &str, more: &[&str]) -> Done {
    let members = demo("icu-mortality").join("members");
    let member = |name: &str| format!("{name}={}", members.join(format!("{name}.onnx")).display());
    let (gbdt, mlp) = (member("gbdt"), member("mlp"));
    let model = model.to_str().unwrap();
    let start = [
        "build", "--model", model, "--member", &gbdt, "--member", &mlp, "--out", out,
    ];
    scene.bundle(&[&start[..], more].concat())
}

fn demo_model() -> PathBuf {
    demo("icu-mortality").join("model.json")
}

#[test]
fn built_signed_verified_inspected() {
    let scene = Scene::empty();
    let given = |name: &str| {
        demo("icu-mortality")
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    };
    let (bom, reference, card) = (
        given("bom.cdx.json"),
        given("reference.json"),
        given("README.md"),
    );
    let parts = ["--bom", &bom, "--reference", &reference, "--card", &card];
    let built = build(&scene, &demo_model(), "icu-mortality/1/bundle", &parts);
    assert_eq!(built.code(), 0, "{built:?}");
    let bundle = scene.path("icu-mortality/1/bundle");
    assert_eq!(names(&bundle), names(&demo("icu-mortality")));
    for name in names(&bundle) {
        assert_eq!(
            fs::read(bundle.join(&name)).unwrap(),
            fs::read(demo("icu-mortality").join(&name)).unwrap(),
            "{name}"
        );
    }
    assert_eq!(
        names(&scene.path("icu-mortality")).len(),
        6,
        "staging is gone"
    );

    assert_eq!(scene.bundle(&["keygen", "--out", "a"]).code(), 0);
    let signed = scene.bundle(&["sign", "icu-mortality/1", "--key", "a.key", "--json"]);
    assert_eq!(signed.code(), 0, "{signed:?}");
    let signature = signed.json()["signature"].as_str().unwrap().to_owned();
    let id = signed.json()["signer"].as_str().unwrap().to_owned();
    assert_eq!(
        signature,
        format!("icu-mortality/1/signatures/{}.sig", &id[..16])
    );
    let verify = [
        "verify",
        "icu-mortality/1/bundle",
        "--signature",
        &signature,
        "--key",
        "a.pub",
    ];
    let verified = scene.bundle(&verify);
    assert_eq!(verified.code(), 0, "{verified:?}");
    let digest = signed.json()["digest"].as_str().unwrap().to_owned();
    assert_eq!(
        verified.stdout(),
        format!("verified: digest {digest} signer key {id}\n")
    );

    for directory in ["icu-mortality/1", "icu-mortality/1/bundle"] {
        let text = scene.bundle(&["inspect", directory]);
        assert_eq!(text.code(), 0, "{text:?}");
        for word in [
            "icu-mortality, version 1",
            &digest,
            "NOT verified",
            &id,
            "ai.onnx 17",
            "features float32[N, 20]",
            "impute 23",
            "diastolic_bp < mean_bp && mean_bp < systolic_bp",
            "very low (below 0.05)",
            "withhold",
            "[0.7495, 0.8200]",
            "4, not run",
        ] {
            assert!(text.stdout().contains(word), "{word:?}: {}", text.stdout());
        }
        let found = scene.bundle(&["inspect", directory, "--key", "a.pub", "--run", "--json"]);
        assert_eq!(found.code(), 0, "{found:?}");
        let found = found.json();
        assert_eq!(found["digest"], json!(digest));
        assert_eq!(found["servable"], json!(true));
        assert_eq!(found["known_answers_run"], json!(true));
        assert_eq!(found["signatures"][0]["verified"], json!(true));
        assert_eq!(found["model"]["features"].as_array().unwrap().len(), 20);
        assert_eq!(found["members"][0]["opsets"]["ai.onnx"], json!(17));
    }
    assert_eq!(scene.bundle(&["keygen", "--out", "b"]).code(), 0);
    let found = scene.bundle(&["inspect", "icu-mortality/1", "--key", "b.pub"]);
    assert!(found.stdout().contains("does not hold"), "{found:?}");
}

#[test]
fn what_is_left_out_is_made_and_the_same_each_time() {
    let scene = Scene::empty();
    for out in ["one", "two"] {
        let built = build(&scene, &demo_model(), out, &["--json"]);
        assert_eq!(built.code(), 0, "{built:?}");
    }
    let files = [
        "README.md",
        "bom.cdx.json",
        "members/gbdt.onnx",
        "members/mlp.onnx",
        "model.json",
    ];
    assert_eq!(names(&scene.path("one")), files);
    for name in files {
        let read = |out: &str| fs::read(scene.path(out).join(name)).unwrap();
        assert_eq!(read("one"), read("two"), "{name}");
    }
    let bom: Value =
        serde_json::from_slice(&fs::read(scene.path("one/bom.cdx.json")).unwrap()).unwrap();
    let demo_bom: Value =
        serde_json::from_slice(&fs::read(demo("icu-mortality").join("bom.cdx.json")).unwrap())
            .unwrap();
    assert_eq!(bom["specVersion"], json!("1.6"));
    for member in [0, 1] {
        let hash = "/hashes/0/content";
        assert_eq!(
            bom["components"][member].pointer(hash),
            demo_bom["components"][member].pointer(hash)
        );
    }
    let card = fs::read_to_string(scene.path("one/README.md")).unwrap();
    assert!(
        card.contains("| heart_rate | Heart rate | quantity | /min | 0 to 350 |"),
        "{card}"
    );
}

#[test]
fn nothing_is_overwritten_and_nothing_half_made_is_left() {
    let scene = Scene::empty();
    fs::create_dir(scene.path("empty")).unwrap();
    assert_eq!(build(&scene, &demo_model(), "empty", &[]).code(), 0);
    build(&scene, &demo_model(), "empty", &[]).says(3, &["not empty"]);
    fs::write(scene.path("file"), "kept").unwrap();
    build(&scene, &demo_model(), "file", &[]).says(3, &["file"]);
    assert_eq!(fs::read(scene.path("file")).unwrap(), b"kept");
    build(&scene, Path::new("none.json"), "x", &[]).says(3, &["none.json"]);

    let good = fs::read_to_string(demo_model()).unwrap();
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{from}");
        fs::write(scene.path("m.json"), good.replacen(from, to, 1)).unwrap();
        build(&scene, Path::new("m.json"), "new", &[])
    };
    with("\"format\": 1,", "\"format\": 1, \"fromat\": 1,").says(1, &["unknown field `fromat`"]);
    with("\"gbdt\": 0.022667", "\"gbdt\": 0.5").says(1, &["gbdt", "very low", "expected 0.5"]);
    with("\"input\": \"features\"", "\"input\": \"x\"").says(1, &["gbdt", "has no input \"x\""]);
    with("members/gbdt.onnx", "members/../../gbdt.onnx").says(1, &["members/<name>.onnx"]);
    with("members/gbdt.onnx", "members/mlp.onnx").says(1, &["members/<name>.onnx"]);
    with("\"unit\": \"mg/dL\"", "\"unit\": \"furlong per sip\"").says(1, &["bun", "furlong"]);
    assert_eq!(
        names(scene.0.path()).len(),
        2 + 5,
        "m.json, file and the bundle `empty`"
    );

    let model = demo_model();
    let model = model.to_str().unwrap();
    let usage = |member: &[&str]| {
        let start = ["build", "--model", model, "--out", "new"];
        scene.bundle(&[&start[..], member].concat()).code()
    };
    assert_eq!(usage(&[]), 2);
    assert_eq!(usage(&["--member", "gbdt"]), 2);
    assert_eq!(
        usage(&["--member", &format!("gbdt={model}")]),
        2,
        "mlp is missing"
    );
    assert_eq!(usage(&["--member", &format!("other={model}")]), 2);
}

#[test]
fn parts_of_another_model_are_refused() {
    let scene = Scene::empty();
    let other = |name: &str| {
        demo("breast-cancer")
            .join(name)
            .to_str()
            .unwrap()
            .to_owned()
    };
    let with = |option: &str, file: &str| build(&scene, &demo_model(), "new", &[option, file]);
    with("--reference", &other("reference.json")).says(1, &["fitted for another model"]);
    with("--reference", &other("README.md")).says(1, &["README.md"]);
    with("--bom", &other("model.json")).says(1, &["not a CycloneDX document"]);
    let bom = fs::read_to_string(demo("icu-mortality").join("bom.cdx.json")).unwrap();
    fs::write(scene.path("bom"), bom.replace("4dd961c6", "4dd961c7")).unwrap();
    with("--bom", "bom").says(1, &["SHA-256 of members/mlp.onnx is another file's"]);
}

#[test]
fn a_missing_onnx_runtime_is_the_environments_fault() {
    let scene = Scene::empty();
    let members = demo("breast-cancer").join("members/logistic.onnx");
    let output = Command::new(env!("CARGO_BIN_EXE_vitalgate"))
        .args(["bundle", "build", "--out", "new", "--model"])
        .arg(demo("breast-cancer").join("model.json"))
        .args(["--member", &format!("logistic={}", members.display())])
        .env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so")
        .current_dir(scene.0.path())
        .output()
        .unwrap();
    Done(output).says(3, &["/nowhere/libonnxruntime.so", "was not found"]);
    assert!(!scene.path("new").exists());
}

#[test]
fn garbage_is_refused_in_words() {
    let scene = Scene::new();
    let inspect = || scene.bundle(&["inspect", "1", "--json"]);
    let refused = |words: &[&str]| {
        let done = inspect();
        done.says(1, words);
        assert_eq!(done.json()["servable"], json!(false));
        let text = scene.bundle(&["inspect", "1"]);
        text.says(1, words);
        assert!(text.stdout().contains("digest"), "{text:?}");
    };
    let model = scene.path("1/bundle/model.json");
    let good = fs::read_to_string(&model).unwrap();
    for (bytes, word) in [
        (&b""[..], "EOF"),
        (b"{}", "missing field"),
        (b"\xff\x00\x01", "expected value"),
        (b"[[[[[[[[", "model.json"),
    ] {
        fs::write(&model, bytes).unwrap();
        refused(&["the server would refuse it", word]);
    }
    // What it prints of a title is one line, and drives no terminal.
    let title = "\"title\": \"In-hospital\\n\\u001b[2Jdigest sha256:feed\\u202e";
    fs::write(&model, good.replacen("\"title\": \"In-hospital", title, 1)).unwrap();
    let text = scene.bundle(&["inspect", "1"]).stdout();
    assert!(!text.contains(['\u{1b}', '\u{202e}']), "{text:?}");
    assert!(
        !text
            .lines()
            .any(|line| line.starts_with("digest sha256:feed")),
        "{text}"
    );

    fs::write(&model, &good).unwrap();
    fs::create_dir(scene.path("1/signatures")).unwrap();
    fs::write(scene.path("1/signatures/x.sig"), b"\xff[").unwrap();
    let found = inspect();
    assert_eq!(found.code(), 0, "{found:?}");
    assert_eq!(found.json()["signatures"][0]["claims"], json!("unreadable"));

    let network = scene.path("1/bundle/members/mlp.onnx");
    let onnx = fs::read(&network).unwrap();
    for length in (0..onnx.len()).step_by(1511) {
        fs::write(&network, &onnx[..length]).unwrap();
        refused(&["members/mlp.onnx"]);
    }
    fs::remove_file(&network).unwrap();
    refused(&["members/mlp.onnx is missing"]);

    // Networks that are well formed but answer otherwise show only when they are run.
    let swapped = good.replace("\"gbdt\": 0.022667", "\"gbdt\": 0.5");
    fs::write(&model, swapped).unwrap();
    fs::write(&network, &onnx).unwrap();
    assert_eq!(inspect().code(), 0);
    let run = scene.bundle(&["inspect", "1", "--run"]);
    run.says(1, &["gbdt", "expected 0.5"]);
    scene.bundle(&["inspect", "nowhere"]).says(3, &["nowhere"]);
    scene
        .bundle(&["inspect", "a.pub"])
        .says(1, &["a.pub: not a directory"]);
}
