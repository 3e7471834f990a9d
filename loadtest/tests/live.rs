//! The load generator against a live server.
#![cfg(test)]

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use serde_json::Value;

const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");

struct Server {
    child: Child,
    address: SocketAddr,
    state: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

impl Server {
    fn start() -> Self {
        // Both are built when the whole workspace is tested.
        let binary = Path::new(LOADTEST).with_file_name("vitalgate");
        assert!(binary.exists(), "test with --workspace: no {binary:?}");
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let state = tempfile::tempdir().unwrap();
        let any = "127.0.0.1:0";
        let mut child = Command::new(binary)
            .args(["dev", "--health", any, "--admin", any])
            .args(["--listen", &address.to_string(), "--state"])
            .arg(state.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == "ready"));
        Self {
            child,
            address,
            state,
        }
    }

    fn load(&self, arguments: &[&str]) -> Output {
        let state = self.state.path();
        Command::new(LOADTEST)
            .current_dir(root())
            .args(["--address", &self.address.to_string(), "--quiet"])
            .args(["--duration", "1", "--warmup", "0.1", "--connections", "3"])
            .arg("--ca")
            .arg(state.join("ca.pem"))
            .arg("--cert")
            .arg(state.join("clients/evaluator.pem"))
            .arg("--key")
            .arg(state.join("clients/evaluator.key"))
            .args(arguments)
            .output()
            .unwrap()
    }
}

const MIX: &str = "predicted=7,review=1,rejected=1,malformed=1";

#[test]
fn every_answer_of_a_mix_is_right() {
    let server = Server::start();
    let (json, plot) = (
        server.state.path().join("runs.json"),
        server.state.path().join("runs.svg"),
    );
    let files = [
        "--json",
        json.to_str().unwrap(),
        "--plot",
        plot.to_str().unwrap(),
    ];
    let disturbed = ["--idle", "5", "--slow", "2", "--churn", "20"];
    let arguments = [
        &["--mix", MIX][..],
        &files,
        &disturbed,
        &["open", "--rate", "60"],
    ];
    let output = server.load(&arguments.concat());
    assert!(output.status.success(), "{output:?}");
    let runs: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let right = |pointer: &str| runs.pointer(pointer).and_then(Value::as_u64).unwrap();
    let (predicted, review) = (right("/0/requests/0/right"), right("/0/requests/1/right"));
    assert!(predicted > review && review > 0, "{runs}");
    assert_eq!(right("/0/requests/0/wrong"), 0);
    let drawn = std::fs::read_to_string(plot).unwrap();
    assert!(drawn.starts_with("<svg") && drawn.contains("polyline"));

    let churned = server.load(&["--requests-per-connection", "1", "closed"]);
    assert!(churned.status.success(), "{churned:?}");
}

#[test]
fn a_wrong_answer_is_told() {
    let server = Server::start();
    // Each answer has an id of its own: compared, none is like the first.
    let output = server.load(&["--varying", "none", "closed"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("first wrong answer: predicted: 200"),
        "{text}"
    );

    // A refusal is not an answer that a server may be measured by.
    let mix = "predicted=1:models/icu-mortality/examples/rejected.json";
    let output = server.load(&["--mix", mix, "closed"]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("has to be answered with 200"), "{text}");

    let elsewhere = Command::new(LOADTEST)
        .args(["--address", "192.0.2.1:443", "closed"])
        .output()
        .unwrap();
    assert_eq!(elsewhere.status.code(), Some(2), "{elsewhere:?}");
}
