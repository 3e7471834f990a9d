//! Signatures and directories of every kind, good and bad, through the real command: exit 0 or 1,
//! with one line that says why, and always an end.

use std::{
    os::unix::net::UnixListener,
    process::{Child, Stdio},
    thread,
    time::Duration,
};

use super::*;

/// Far longer than any of these takes, on any machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// Runs every vector of the manifest; says which do not give what they should.
#[track_caller]
fn run_all(vectors: &Path) -> usize {
    let manifest = fs::read(vectors.join("manifest.json")).unwrap();
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let manifest = manifest["vectors"].as_array().unwrap();
    let scene = Scene::empty();
    let mut wrong = Vec::new();
    for vector in manifest {
        let text = |field: &str| vector[field].as_str().unwrap();
        let at = |field: &str| vectors.join(text(field)).to_str().unwrap().to_owned();
        let (model, signature, trust) = (at("model"), at("signature"), at("trust"));
        let kind = match text("method") {
            "key" => "--key",
            _ => "--ca",
        };
        let done = scene.bundle(&["verify", &model, "--signature", &signature, kind, &trust]);
        let expected = i32::from(text("expect") != "accept");
        let lines = done.stderr().lines().count();
        if done.code() != expected || lines != usize::from(expected == 1) {
            wrong.push(format!("{}: {done:?}", text("id")));
        }
        println!(
            "{}: {} {}",
            text("id"),
            done.code(),
            done.stderr().trim_end()
        );
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    manifest.len()
}

/// `tests/fixtures/vectors/make.py` makes them, with the reference tool.
#[test]
fn our_own_vectors_get_the_exit_code_expected() {
    let count = run_all(&root().join("tests/fixtures/vectors"));
    assert!(count > 200, "{count}");
}

/// Others, where they are at hand.
#[test]
fn vectors_beside_the_repository_get_the_exit_code_expected() {
    let vectors = root().join("../shared/vectors");
    if vectors.join("manifest.json").exists() {
        assert!(run_all(&vectors) > 0);
    } else {
        println!("skipped: no vectors beside the repository");
    }
}

/// Each reject must be for its own reason, or a vector that is broken elsewhere proves nothing.
#[test]
fn vectors_are_refused_for_what_is_wrong_with_them() {
    let vectors = root().join("tests/fixtures/vectors");
    let scene = Scene::empty();
    let at = |name: &str| vectors.join(name).to_str().unwrap().to_owned();
    for (id, kind, trust, reason) in [
        (
            "key-forged-hint",
            "--key",
            "a.pub",
            "the signature does not hold",
        ),
        (
            "pae-compat",
            "--key",
            "a.pub",
            "the signature does not hold",
        ),
        ("type-other", "--key", "a.pub", "payloadType"),
        ("signatures-good-bad", "--key", "a.pub", "2 signatures"),
        ("ignore-more", "--key", "a.pub", "ignore_paths"),
        ("resource-twice", "--key", "a.pub", "listed twice"),
        ("field-twice", "--key", "a.pub", "\"method\" appears twice"),
        ("root-wrong", "--key", "a.pub", "subject's digest"),
        ("list-envelope", "--key", "lists.pub", "a list where an"),
        ("list-resource", "--key", "lists.pub", "a list where an"),
        (
            "cert-expired",
            "--ca",
            "root.pem",
            "a certificate expired at 2021-01-01T00:00:00Z",
        ),
        (
            "cert-early",
            "--ca",
            "root.pem",
            "a certificate is not valid before 2125-01-01T00:00:00Z",
        ),
        (
            "cert-eku-tls",
            "--ca",
            "root.pem",
            "extended key usage lacks code signing",
        ),
        ("cert-ku-agreement", "--ca", "root.pem", "key usage"),
        (
            "cert-ku-issuer",
            "--ca",
            "root.pem",
            "an issuer is not a certificate authority",
        ),
        (
            "cert-root-expired",
            "--ca",
            "expired-root.pem",
            "none is valid now",
        ),
        (
            "cert-root-path-length",
            "--ca",
            "short-root.pem",
            "more issuers than one of them allows",
        ),
        (
            "cert-self-pinned",
            "--ca",
            "self.pem",
            "not a certificate authority",
        ),
        (
            "cert-rsa",
            "--ca",
            "root.pem",
            "not ECDSA on P-256, P-384 or P-521",
        ),
    ] {
        let (model, signature) = (at("models/plain"), at(&format!("signatures/{id}.sig")));
        let trust = at(&format!("trust/{trust}"));
        let done = scene.bundle(&["verify", &model, "--signature", &signature, kind, &trust]);
        done.says(1, &[reason]);
    }
}

/// Runs `vitalgate bundle verify` on these, and fails rather than wait for ever.
fn verify(directory: &Path, signature: &Path, trust: &Path) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_vitalgate"))
        .args(["bundle", "verify"])
        .arg(directory)
        .arg("--signature")
        .arg(signature)
        .arg("--key")
        .arg(trust)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    wait(&mut child);
    let output = child.wait_with_output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn wait(child: &mut Child) {
    let step = Duration::from_millis(20);
    for _ in 0..PATIENCE.as_millis() / step.as_millis() {
        if child.try_wait().unwrap().is_some() {
            return;
        }
        thread::sleep(step);
    }
    child.kill().unwrap();
    panic!("still running after {PATIENCE:?}");
}

/// What is no ordinary file, by a word of the reason it is refused for.
fn odd_files(at: &Path) -> Vec<(PathBuf, &'static str)> {
    let path = |name: &str| at.join(name);
    let mkfifo = Command::new("mkfifo").arg(path("fifo")).status().unwrap();
    assert!(mkfifo.success());
    let listener = UnixListener::bind(path("socket")).unwrap();
    drop(listener);
    symlink("/dev/zero", path("device-link")).unwrap();
    symlink("fifo", path("fifo-link")).unwrap();
    fs::create_dir(path("directory")).unwrap();
    fs::write(path("directory/file"), "x").unwrap();
    // 2 TiB that take no room.
    let sparse = fs::File::create(path("sparse")).unwrap();
    sparse.set_len(2 << 40).unwrap();
    let mut found: Vec<_> = [
        ("fifo", "not a regular file"),
        ("socket", "not a regular file"),
        ("device-link", "symbolic link"),
        ("fifo-link", "symbolic link"),
        ("directory", "in the bundle, but not signed"),
        ("sparse", "larger than"),
    ]
    .map(|(name, reason)| (path(name), reason))
    .to_vec();
    // Only root may make device nodes, and not everywhere.
    let node = Command::new("mknod")
        .arg(path("node"))
        .args(["c", "1", "5"])
        .stderr(Stdio::null())
        .status();
    if node.is_ok_and(|status| status.success()) {
        found.push((path("node"), "not a regular file"));
    } else {
        println!("skipped: device nodes cannot be made here");
    }
    found
}

#[test]
fn what_is_no_ordinary_file_is_refused_wherever_it_stands() {
    let vectors = root().join("tests/fixtures/vectors");
    let signature = vectors.join("signatures/key-p256.sig");
    let trust = vectors.join("trust/a.pub");
    let plain = vectors.join("models/plain");
    assert_eq!(verify(&plain, &signature, &trust).0, Some(0));

    let place = tempfile::tempdir().unwrap();
    for (file, reason) in odd_files(place.path()) {
        // Beside what is signed, in place of it, and below it.
        for name in ["extra", "README.md", "members/net.onnx"] {
            let model = tempfile::tempdir_in(place.path()).unwrap();
            copy(&plain, model.path());
            let target = model.path().join(name);
            drop(fs::remove_file(&target));
            fs::rename(&file, &target).unwrap();
            let (code, said) = verify(model.path(), &signature, &trust);
            fs::rename(&target, &file).unwrap();
            assert_eq!(code, Some(1), "{name}: {said}");
            let missing = reason.contains("not signed") && said.contains("signed, but missing");
            assert!(said.contains(reason) || missing, "{name}: {said}");
        }
        // As the directory, the signature and the key.
        let (code, said) = verify(&file, &signature, &trust);
        assert_eq!(code, Some(1), "directory {}: {said}", file.display());
        let (code, said) = verify(&plain, &file, &trust);
        assert_eq!(code, Some(1), "signature {}: {said}", file.display());
        let (code, said) = verify(&plain, &signature, &file);
        assert!(
            matches!(code, Some(1 | 3)),
            "key {}: {said}",
            file.display()
        );
    }
    for device in [
        "/dev/zero",
        "/dev/urandom",
        "/dev/tty",
        "/dev/null",
        "/proc/kmsg",
    ] {
        let device = Path::new(device);
        assert_eq!(verify(device, &signature, &trust).0, Some(1));
        assert_eq!(verify(&plain, device, &trust).0, Some(1));
        assert_eq!(verify(&plain, &signature, device).0, Some(3));
    }
}

#[test]
fn too_much_is_refused_before_it_is_read() {
    let vectors = root().join("tests/fixtures/vectors");
    let signature = vectors.join("signatures/key-p256.sig");
    let trust = vectors.join("trust/a.pub");
    let fresh = || {
        let model = tempfile::tempdir().unwrap();
        copy(&vectors.join("models/plain"), model.path());
        model
    };

    let many = fresh();
    for index in 0..1100 {
        fs::write(many.path().join(format!("{index}")), "").unwrap();
    }
    let (code, said) = verify(many.path(), &signature, &trust);
    assert_eq!(code, Some(1));
    assert!(said.contains("more than 1024"), "{said}");

    let wide = fresh();
    for index in 0..1100 {
        fs::create_dir(wide.path().join(format!("{index}"))).unwrap();
    }
    let (code, said) = verify(wide.path(), &signature, &trust);
    assert_eq!(code, Some(1));
    assert!(said.contains("more than 1024"), "{said}");

    let deep = fresh();
    let below = deep.path().join(vec!["d"; 200].join("/"));
    fs::create_dir_all(below).unwrap();
    let (code, said) = verify(deep.path(), &signature, &trust);
    assert_eq!(code, Some(1));
    assert!(said.contains("more than 16 levels"), "{said}");

    let empty = tempfile::tempdir().unwrap();
    let (code, said) = verify(empty.path(), &signature, &trust);
    assert_eq!(code, Some(1));
    assert!(said.contains("signed, but missing"), "{said}");
}
