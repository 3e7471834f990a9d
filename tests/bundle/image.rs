//! The serving image's files, laid out as the Dockerfile does, and run from there.

use super::*;

const ONNXRUNTIME: &str = "libonnxruntime.so.1.31.1";

#[test]
fn the_image_holds_what_it_needs_and_no_shell() {
    let runtime = root().join("target/onnxruntime");
    let debian = Command::new("dpkg-query").arg("--version").output();
    if debian.is_err() || !runtime.join("lib").join(ONNXRUNTIME).exists() {
        println!("skipped: needs Debian's dpkg and target/onnxruntime (`make` fetches it)");
        return;
    }
    let scene = Scene::empty();
    let laid = Command::new(root().join(".ci/image"))
        .arg(env!("CARGO_BIN_EXE_vitalgate"))
        .arg(runtime)
        .arg(scene.path("image"))
        .output()
        .unwrap();
    assert!(laid.status.success(), "{laid:?}");
    let image = scene.path("image");
    let files = names(&image);
    for file in &files {
        let expected = file.starts_with("opt/vitalgate/licences/")
            || file.starts_with("opt/vitalgate/libonnxruntime.so.")
            || file == "opt/vitalgate/vitalgate"
            || file.contains(".so.");
        assert!(expected, "{file} has no place in the image");
    }
    for licence in [
        "vitalgate",
        "onnxruntime",
        "onnxruntime-third-party",
        "libc6",
        "crates",
    ] {
        let file = format!("opt/vitalgate/licences/{licence}.txt");
        assert!(files.contains(&file), "{file}: {files:?}");
    }
    let crates = fs::read_to_string(image.join("opt/vitalgate/licences/crates.txt")).unwrap();
    for name in ["aws-lc-sys", "axum", "ort", "rustls"] {
        assert!(crates.contains(&format!("==== {name} ")), "{name}");
    }

    // The image's own loader finds every library within the image, and both parts run with it.
    let loader = image.join("lib64/ld-linux-x86-64.so.2");
    let libraries = image.join("lib/x86_64-linux-gnu");
    let load = |arguments: &[&Path]| {
        let output = Command::new(&loader)
            .arg("--library-path")
            .arg(&libraries)
            .args(arguments)
            .env(
                "ORT_DYLIB_PATH",
                image.join("opt/vitalgate").join(ONNXRUNTIME),
            )
            .output()
            .unwrap();
        Done(output)
    };
    let server = image.join("opt/vitalgate/vitalgate");
    for file in [&server, &image.join("opt/vitalgate").join(ONNXRUNTIME)] {
        let listed = load(&[Path::new("--list"), file]);
        assert_eq!(listed.code(), 0, "{listed:?}");
        for line in listed.stdout().lines().filter(|line| line.contains("=> /")) {
            let within = line.contains(image.to_str().unwrap());
            assert!(within || line.contains("ld-linux"), "{line}");
        }
    }
    let bundle = demo("icu-mortality");
    let words = ["bundle", "inspect", "--run"].map(Path::new);
    let run = load(&[&[server.as_path()], &words[..], &[bundle.as_path()]].concat());
    assert_eq!(run.code(), 0, "{run:?}");
    assert!(
        run.stdout().contains("reproduced by every member"),
        "{run:?}"
    );
}
