//! Nothing of a patient stays in memory, and nobody but root can look.

use std::{
    fs,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::{
    harness::{BINARY, ICU_PATIENT, Server, Site, Wire, client, post, request},
    smuggling::{PREDICT, is_prediction},
};

/// `nobody`, whom the tests become when they are root.
const NOBODY: u32 = 65534;
/// No text of the program's.
const CANARY: &str = "ZEPHYRINE-4471-QUILLON";

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// The command, run by an unprivileged user.
fn unprivileged(mut command: Command) -> Command {
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command
}

/// The binary and ONNX Runtime where an unprivileged user may read them.
struct Installed {
    directory: TempDir,
}

impl Installed {
    fn new() -> Self {
        let directory = tempfile::Builder::new()
            .prefix("vitalgate-it-phi-")
            .tempdir()
            .unwrap();
        let path = directory.path();
        let library = "libonnxruntime.so.1.31.1";
        let built = Path::new(BINARY).parent().unwrap();
        fs::copy(BINARY, path.join("vitalgate")).unwrap();
        let library_source = built.join("../onnxruntime/lib").join(library);
        fs::copy(library_source, path.join(library)).unwrap();
        for (file, mode) in [("vitalgate", 0o755), (library, 0o644), (".", 0o755)] {
            let permissions = fs::Permissions::from_mode(mode);
            fs::set_permissions(path.join(file), permissions).unwrap();
        }
        Self { directory }
    }

    fn binary(&self) -> PathBuf {
        self.directory.path().join("vitalgate")
    }
}

/// Makes everything below `path` the unprivileged user's.
fn give_away(path: &Path) {
    if is_root() {
        chown(path, Some(NOBODY), Some(NOBODY)).unwrap();
        if path.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                give_away(&entry.unwrap().path());
            }
        }
    }
}

/// Files below `path` that contain the canary.
fn files_with_canary(path: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with_canary(&path));
        } else if let Ok(bytes) = fs::read(&path)
            && bytes.windows(CANARY.len()).any(|w| w == CANARY.as_bytes())
        {
            found.push(path);
        }
    }
    found
}

fn has(program: &str) -> bool {
    let found = Command::new("which").arg(program).output().unwrap();
    if !found.status.success() {
        println!("SKIPPED: {program} is not installed; apt-get install gdb strace");
    }
    found.status.success()
}

#[test]
fn two_thousand_requests_leave_nothing_in_memory() {
    let installed = Installed::new();
    let mut command = Command::new(installed.binary());
    command.args(["selftest", "phi", "--json"]);
    let Output {
        status,
        stdout,
        stderr,
    } = unprivileged(command).output().unwrap();
    let said = String::from_utf8_lossy(&stderr);
    let report: Value = serde_json::from_slice(&stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    println!("answers: {}", report["answers"]);
    for field in [
        "requests",
        "connections",
        "patterns",
        "before",
        "scanned_bytes",
        "files",
    ] {
        println!("{field}: {}", report[field]);
    }
    assert_eq!(report["hits"], Value::Array(Vec::new()), "{said}");
    assert!(status.success(), "{status}: {said}");
    assert_eq!(
        (&report["requests"], &report["connections"]),
        (&2000.into(), &64.into())
    );
    // It saw a request in progress, by text and by number.
    for trace in ["identifier", "decimal", "single_f32", "planted"] {
        assert!(report["control"][trace].as_u64() > Some(0), "{trace}");
    }
    // Every kind took the path that it is for.
    for (kind, outcome) in [
        ("whole", "200 predicted"),
        ("split", "200 predicted"),
        ("chunked", "200 predicted"),
        ("review", "200 review"),
        ("atypical", "200 review"),
        ("rejected", "422 rejected"),
        ("wrong type", "422 rejected"),
        ("unknown key", "422 rejected"),
        ("unit text", "422 rejected"),
        ("malformed JSON", "400 rejected"),
        ("large", "422 rejected"),
        ("too large", "413 refused"),
        ("refused role", "403 refused"),
        ("timed out", "408 refused"),
        ("malformed HTTP", "400"),
        ("aborted", "aborted"),
    ] {
        let count = &report["answers"][kind][outcome];
        assert!(count.as_u64() > Some(0), "{kind}: {}", report["answers"]);
    }
}

#[test]
fn the_server_under_test_starts_for_the_self_test_only() {
    let site = Site::new();
    let output = Command::new(BINARY)
        .args(["selftest", "phi-server", "--state"])
        .arg(site.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("selftest phi"), "{said}");
}

#[test]
fn hardening_is_stated_at_start() {
    let site = Site::new();
    let server = Server::start(&site);
    let log = server.log();
    for measure in ["heap_wipe", "not_dumpable", "no_core", "dump_exclusion"] {
        let stated = log.lines().any(|line| {
            let line: Value = serde_json::from_str(line).unwrap();
            line["fields"]["measure"] == measure && line["fields"]["done"] == true
        });
        assert!(stated, "{measure}: {log}");
    }
    // Whether it can be depends on the limit; what was done is said in any case.
    assert!(log.contains("\"memory_lock\""), "{log}");
}

#[test]
fn neither_gcore_nor_a_crash_yields_a_canary() {
    let (installed, site) = (Installed::new(), Site::new());
    let place = TempDir::new_in(installed.directory.path()).unwrap();
    for path in [site.path(), place.path()] {
        give_away(path);
    }
    // Cores would be allowed, and written here.
    let mut command = Command::new("sh");
    command
        .args([
            "-c",
            "ulimit -c unlimited; exec \"$0\" serve --config \"$1\"",
        ])
        .arg(installed.binary())
        .arg(site.config_file())
        .current_dir(place.path());
    let mut server = Server::start_command(unprivileged(command), &site.path().join("audit"));
    let clinician = client(&site, "clinician");
    let mut wire = Wire::open(&server, &clinician);
    is_prediction(&post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()));
    // In progress, so that the canary is in memory for certain.
    let body = format!("{{\"context\": {{\"encounter\": \"{CANARY}\"}}");
    let whole = request(
        "POST",
        PREDICT,
        "Content-Type: application/json\r\n",
        body.as_bytes(),
    );
    let mut waiting = Wire::open(&server, &clinician);
    waiting.send(&whole[..whole.len() - 1]);

    let memory = format!("/proc/{}/mem", server.pid());
    let mut peek = Command::new("head");
    peek.args(["-c", "1", &memory]);
    let peek = unprivileged(peek).output().unwrap();
    let said = String::from_utf8_lossy(&peek.stderr);
    assert!(said.contains("Permission denied"), "{said}");

    if has("gcore") {
        let mut gcore = Command::new("gcore");
        gcore
            .arg("-o")
            .arg(place.path().join("gcore"))
            .arg(server.pid().to_string())
            .current_dir(place.path());
        let output = unprivileged(gcore).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        println!("gcore: {}: {}", output.status, said.trim());
        assert!(!output.status.success());
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    }

    // A core of a process that is not hardened is written here, or this proves little.
    let mut control = Command::new("sh");
    control
        .args(["-c", "ulimit -c unlimited; kill -ABRT $$"])
        .current_dir(place.path());
    let control = unprivileged(control).status().unwrap();
    println!("control, a shell: {control}");
    if !control.core_dumped() {
        println!("SKIPPED in part: this machine lets no process dump its core");
    }
    for entry in fs::read_dir(place.path()).unwrap() {
        fs::remove_file(entry.unwrap().path()).unwrap();
    }
    server.signal(Signal::ABORT);
    let status = server.wait();
    println!("the server: {status}");
    assert_eq!(status.signal(), Some(Signal::ABORT.as_raw()));
    assert!(!status.core_dumped());
    assert_eq!(fs::read_dir(place.path()).unwrap().count(), 0);
    assert_eq!(files_with_canary(place.path()), Vec::<PathBuf>::new());
    assert_eq!(files_with_canary(site.path()), Vec::<PathBuf>::new());
    assert!(!server.log().contains(CANARY));
}

#[test]
fn while_serving_only_the_audit_log_is_opened_for_writing() {
    if !has("strace") {
        return;
    }
    let site = Site::new();
    let trace = TempDir::new().unwrap();
    let calls = trace.path().join("calls");
    // The server stays our child; strace runs beside it.
    let mut command = Command::new("strace");
    command
        .args([
            "-D",
            "-f",
            "-y",
            "-e",
            "trace=open,openat,openat2,creat,memfd_create",
            "-o",
        ])
        .arg(&calls)
        .arg(BINARY)
        .args(["serve", "--config"])
        .arg(site.config_file());
    let audit = site.path().join("audit");
    let mut server = Server::start_command(command, &audit);
    let before = fs::read_to_string(&calls).unwrap().len();
    let clinician = client(&site, "clinician");
    let mut wire = Wire::open(&server, &clinician);
    for body in [ICU_PATIENT, "{}", "{", "[]"] {
        post(&mut wire, PREDICT, body.as_bytes());
    }
    // The log is opened again, which must show in the trace.
    fs::rename(audit.join("audit.jsonl"), audit.join("moved.jsonl")).unwrap();
    for _ in 0..100 {
        is_prediction(&post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()));
    }
    drop(wire);
    server.stop();
    let text = fs::read_to_string(&calls).unwrap();
    let writing: Vec<&str> = text[before..]
        .lines()
        .filter(|l| {
            ["O_WRONLY", "O_RDWR", "O_CREAT", "creat("]
                .iter()
                .any(|f| l.contains(f))
        })
        .collect();
    println!("opened for writing: {writing:#?}");
    assert!(!writing.is_empty(), "the trace shows the log");
    for line in writing {
        assert!(line.contains(audit.to_str().unwrap()), "{line}");
    }
}
