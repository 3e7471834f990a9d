//! `dev` makes what a release needs, uses it again, and mends nothing that somebody altered.

use super::*;

pub(super) struct Dev(Child);

impl Drop for Dev {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Starts `dev` and waits until it is ready.
pub(super) fn start(state: &Path) -> Dev {
    let any = "127.0.0.1:0";
    let mut child = Command::new(env!("CARGO_BIN_EXE_vitalgate"))
        .args([
            "dev", "--listen", any, "--admin", any, "--health", any, "--state",
        ])
        .arg(state)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    assert!(lines.any(|line| line == "ready"), "dev did not start");
    Dev(child)
}

fn serial(state: &Path) -> u64 {
    let shown = Command::new(env!("CARGO_BIN_EXE_vitalgate"))
        .args([
            "policy",
            "show",
            "policy/release.dsse.json",
            "--key",
            "keys/policy-root.pub",
        ])
        .arg("--json")
        .current_dir(state)
        .output()
        .unwrap();
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["signatures"]["verified"], json!(true));
    shown["policy"]["serial"].as_u64().unwrap()
}

#[test]
fn a_second_start_uses_what_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    drop(start(&state));
    let bundle = state.join("repository/icu-mortality/1");
    let files = [
        state.join("keys/builder.key"),
        state.join("keys/clinical-safety.key"),
        state.join("keys/policy-root.key"),
        state.join("policy/release.dsse.json"),
        state.join("trust-state.json"),
        bundle.join("signatures/builder.sig"),
        bundle.join("signatures/clinical-safety.sig"),
    ];
    let read = || files.each_ref().map(|file| fs::read(file).unwrap());
    let first = read();
    assert_eq!(serial(&state), 1);
    drop(start(&state));
    assert!(read() == first, "a second start uses what is there");

    // A policy that is lost comes back with a serial that was not seen yet.
    fs::remove_file(&files[3]).unwrap();
    drop(start(&state));
    assert_eq!(serial(&state), 2);
}

#[test]
fn what_somebody_altered_is_refused_and_not_mended() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    drop(start(&state));
    let version = state.join("repository/icu-mortality/1");
    let refused = |named: &str| {
        let any = "127.0.0.1:0";
        let output = Command::new(env!("CARGO_BIN_EXE_vitalgate"))
            .args([
                "dev", "--listen", any, "--admin", any, "--health", any, "--state",
            ])
            .arg(&state)
            .output()
            .unwrap();
        let errors = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.contains(named), "{errors}");
    };
    let network = version.join("bundle/members/gbdt.onnx");
    let mut bytes = fs::read(&network).unwrap();
    bytes[1000] ^= 1;
    fs::write(&network, &bytes).unwrap();
    refused("members/gbdt.onnx");
    bytes[1000] ^= 1;
    fs::write(&network, &bytes).unwrap();
    fs::write(version.join("bundle/extra"), "").unwrap();
    refused("extra");
    fs::remove_file(version.join("bundle/extra")).unwrap();
    fs::remove_file(version.join("signatures/clinical-safety.sig")).unwrap();
    refused("clinical-safety");
}
