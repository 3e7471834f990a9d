//! The server as a child process.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{Record, Site, log_text, wait_until};

pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_vitalgate");

pub(crate) struct Server {
    child: Child,
    pub(crate) data: SocketAddr,
    /// Nowhere when there is no admin plane.
    pub(crate) admin: SocketAddr,
    pub(crate) health: SocketAddr,
    audit: PathBuf,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// `serve` with the site's configuration.
    pub(crate) fn start(site: &Site) -> Self {
        let mut command = Command::new(BINARY);
        command.arg("serve").arg("--config").arg(site.config_file());
        Self::start_command(command, &site.path().join("audit"))
    }

    /// As [`Server::start`], by a command that ends in executing `serve`.
    pub(crate) fn start_command(mut command: Command, audit_directory: &Path) -> Self {
        let mut child = command
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = child.stderr.take().unwrap();
        let mut server = Self::of(child, audit_directory, stderr);
        let mut addresses = None;
        wait_until("the server to serve", || {
            if let Some(status) = server.child.try_wait().unwrap() {
                panic!("the server ended with {status}: {}", server.log());
            }
            addresses = server.log().lines().find_map(serving);
            addresses.is_some()
        });
        (server.data, server.admin, server.health) = addresses.unwrap();
        server
    }

    /// `dev` on any ports; what it prints is the log.
    pub(crate) fn dev(state: &Path) -> Self {
        let any = "127.0.0.1:0";
        let mut child = Command::new(BINARY)
            .arg("dev")
            .arg("--state")
            .arg(state)
            .args(["--listen", any, "--admin", any, "--health", any])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = child.stdout.take().unwrap();
        let mut server = Self::of(child, &state.join("audit"), stdout);
        wait_until("dev to be ready", || {
            server.log().lines().any(|line| line == "ready")
        });
        let address = |name: &str| {
            let log = server.log();
            let line = log.lines().find(|l| l.trim_start().starts_with(name));
            let url = line.and_then(|l| l.split("://").nth(1)).unwrap();
            let end = url.find(['/', ' ']).unwrap();
            url[..end].parse().unwrap()
        };
        let addresses = ["data plane", "admin", "health"].map(address);
        [server.data, server.admin, server.health] = addresses;
        server
    }

    fn of(child: Child, audit_directory: &Path, output: impl Read + Send + 'static) -> Self {
        let log = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&log);
        let reader = thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self {
            child,
            data: ([127, 0, 0, 1], 0).into(),
            admin: ([127, 0, 0, 1], 0).into(),
            health: ([127, 0, 0, 1], 0).into(),
            audit: audit_directory.to_owned(),
            log,
            reader: Some(reader),
        }
    }

    /// The address of the listener that takes this: `mtls`, `jwt` or `mtls+jwt`.
    pub(crate) fn listener(&self, authentication: &str) -> SocketAddr {
        let mut address = None;
        wait_until("the listener", || {
            address = self.log().lines().find_map(|line| {
                let line: Value = serde_json::from_str(line).ok()?;
                let fields = &line["fields"];
                let it =
                    fields["message"] == "listening" && fields["authentication"] == authentication;
                it.then(|| fields["listener"].as_str().unwrap().parse().unwrap())
            });
            address.is_some()
        });
        address.unwrap()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything it has printed so far.
    pub(crate) fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub(crate) fn audit_text(&self) -> String {
        log_text(&self.audit)
    }

    /// Every record so far; fails when a line is not whole.
    pub(crate) fn records(&self) -> Vec<Record> {
        let text = self.audit_text();
        assert!(text.is_empty() || text.ends_with('\n'), "a torn line");
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        wait_until("the server to end", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        status.unwrap()
    }

    /// Drains the server; after it, not one more record can come.
    pub(crate) fn stop(&mut self) {
        self.signal(Signal::TERM);
        let status = self.wait();
        assert!(status.success(), "{status}: {}", self.log());
    }

    /// `GET` on the health listener: status and body, or nothing when it is not there.
    pub(crate) fn health(&self, path: &str) -> Option<(u16, Value)> {
        use std::io::Write;
        let mut tcp = std::net::TcpStream::connect(self.health).ok()?;
        write!(
            tcp,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .ok()?;
        let mut text = String::new();
        tcp.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        let body = text.split_once("\r\n\r\n")?.1;
        Some((status, serde_json::from_str(body).unwrap_or(Value::Null)))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn serving(line: &str) -> Option<(SocketAddr, SocketAddr, SocketAddr)> {
    let line: Value = serde_json::from_str(line).ok()?;
    let fields = &line["fields"];
    (fields["message"] == "serving").then(|| {
        let address = |name: &str| fields[name].as_str().unwrap().parse().unwrap();
        let admin = fields["admin"].as_str().unwrap_or("127.0.0.1:0");
        (address("data"), admin.parse().unwrap(), address("health"))
    })
}

/// Runs the binary, which must end by itself within 10 s.
pub(crate) fn run_to_end(arguments: &[&str]) -> Output {
    let mut child = Command::new(BINARY)
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // What it prints fits into the pipes' buffers.
    let mut ended = false;
    for _ in 0..1000 {
        ended = child.try_wait().unwrap().is_some();
        if ended {
            break;
        }
        thread::sleep(std::time::Duration::from_millis(10));
    }
    if !ended {
        child.kill().unwrap();
    }
    let output = child.wait_with_output().unwrap();
    assert!(
        ended,
        "{arguments:?} did not end: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}
