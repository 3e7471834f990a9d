//! The release policy, as people, scripts and the server meet it: the real binary, real files.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::{
    cell::RefCell,
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::{Value, json};

mod dev;
mod expiry;
mod gate;
mod swapped;

const MODEL: &str = "breast-cancer";
const FAR: &str = "2099-01-01";

/// Bundles, keys and a configuration of the test's own. Version 1 and 2 of a model are in the
/// repository, each approved by `builder` and `safety`; the policy key is `root`, and `other` is
/// nobody's.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        for key in ["builder", "safety", "root", "other"] {
            site.fine(&format!("bundle keygen --out {key}"));
        }
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/breast-cancer/bundle");
        for version in [1, 2] {
            let to = site.version(version).join("bundle");
            copy(&from, &to);
            let model = to.join("model.json");
            let text = fs::read_to_string(&model).unwrap();
            let versioned =
                text.replacen("\"version\": 1,", &format!("\"version\": {version},"), 1);
            fs::write(&model, versioned).unwrap();
            site.sign(version, "builder");
            site.sign(version, "safety");
        }
        site.certify();
        site.configure(1, 1);
        site.release(1, "");
        site
    }

    /// A certificate of its own for the server, and as the root of clients' nobody calls with.
    fn certify(&self) {
        let names = vec!["localhost".to_owned()];
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        for name in ["server.pem", "ca.pem"] {
            fs::write(self.path(name), made.cert.pem()).unwrap();
        }
        let key = self.path("server.key");
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        fs::set_permissions(key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn version(&self, version: u32) -> PathBuf {
        self.path(&format!("repository/{MODEL}/{version}"))
    }

    fn run(&self, arguments: &str) -> Done {
        let output = Command::new(env!("CARGO_BIN_EXE_vitalgate"))
            .args(arguments.split_whitespace())
            .current_dir(self.0.path())
            .output()
            .unwrap();
        Done(output)
    }

    #[track_caller]
    fn fine(&self, arguments: &str) -> Done {
        let done = self.run(arguments);
        assert_eq!(done.code(), 0, "{arguments}: {}", done.stderr());
        done
    }

    fn signature(&self, version: u32, key: &str) -> PathBuf {
        self.version(version).join(format!("signatures/{key}.sig"))
    }

    fn sign(&self, version: u32, key: &str) {
        let (bundle, signature) = (self.version(version), self.signature(version, key));
        self.fine(&format!(
            "bundle sign {} --key {key}.key --signature {}",
            bundle.display(),
            signature.display()
        ));
    }

    /// Writes and signs a policy with this serial; `more` are arguments that replace the usual.
    fn release(&self, serial: u64, more: &str) {
        let usual = |option: &str, value: &str| {
            if more.contains(option) {
                String::new()
            } else {
                format!("{option} {value}")
            }
        };
        let (roles, expires, least) = (
            usual(
                "--role",
                "builder=1:builder.pub --role clinical-safety=1:safety.pub",
            ),
            usual("--expires", FAR),
            usual("--min-version", &format!("{MODEL}=1")),
        );
        drop(fs::remove_file(self.path("policy.json")));
        self.fine(&format!(
            "policy new --serial {serial} {expires} {roles} {least} {more} --out policy.json"
        ));
        self.sign_policy();
    }

    /// Signs `policy.json` as it is.
    fn sign_policy(&self) {
        drop(fs::remove_file(self.path("release.dsse.json")));
        self.fine("policy sign policy.json --key root.key --out release.dsse.json");
    }

    /// Changes what `policy new` would not write, and signs it.
    fn edit_policy(&self, edit: impl FnOnce(&mut Value)) {
        let path = self.path("policy.json");
        let mut document: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        edit(&mut document);
        fs::write(path, document.to_string()).unwrap();
        drop(fs::remove_file(self.path("release.dsse.json")));
    }

    /// Serve this version; the policy must have this serial.
    fn configure(&self, version: u32, min_serial: u64) {
        let text = format!(
            "repository = \"repository\"\n\
             [data]\nlisten = \"127.0.0.1:0\"\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
             client_ca = \"ca.pem\"\n\
             [health]\nlisten = \"127.0.0.1:0\"\n\
             [onnxruntime]\nexecution = \"cpu\"\n\
             [trust]\npolicy = \"release.dsse.json\"\npolicy_keys = [\"root.pub\"]\n\
             policy_threshold = 1\nmin_serial = {min_serial}\nstate = \"trust-state.json\"\n\
             [[models]]\nname = \"{MODEL}\"\nversion = {version}\n\
             [audit]\ndirectory = \"audit\"\nmode = \"written\"\n\
             origin = \"policy.example/log\"\nkey = \"keys/audit.key\"\n\
             [keys]\nfleet = \"keys/fleet.key\"\npseudonym = \"keys/pseudonym.key\"\n\
             [[principals]]\nname = \"clinician\"\n\
             san = \"URI:spiffe://vitalgate.internal/clinician\"\nroles = [\"clinician\"]\n\
             models = [\"*\"]\n"
        );
        fs::write(self.path("vitalgate.toml"), text).unwrap();
        fs::create_dir_all(self.path("audit")).unwrap();
    }

    /// What `bundle verify` says of a version.
    fn verify(&self, version: u32) -> Done {
        self.run(&format!(
            "bundle verify {} --policy release.dsse.json --policy-key root.pub",
            self.version(version).display()
        ))
    }

    /// Starts the server; without the log's keys, it ends once models are loaded, with 3.
    fn serve(&self) -> Done {
        self.run("serve --config vitalgate.toml")
    }

    #[track_caller]
    fn serve_loads(&self) {
        let done = self.serve();
        done.says(3, &["fleet.key"]);
        assert!(done.stderr().contains("model verified and loaded"));
    }

    /// Both the command and the server refuse version 1, with 1 and for this reason.
    #[track_caller]
    fn refused(&self, words: &[&str]) {
        self.verify(1).says(1, words);
        let served = self.serve();
        served.says(1, words);
        assert!(!served.stderr().contains("model verified and loaded"));
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

    /// It ended with `code`, and said why in a last line that has all of `words`.
    #[track_caller]
    fn says(&self, code: i32, words: &[&str]) {
        let text = self.stderr();
        let last = text.lines().last().unwrap_or_default();
        assert_eq!(self.code(), code, "{text}");
        for word in words {
            assert!(last.contains(word), "{word:?} is not in {last}");
        }
    }
}

/// A server that runs until it is dropped.
struct Running {
    child: Child,
    data: SocketAddr,
    health: SocketAddr,
    lines: mpsc::Receiver<String>,
    seen: RefCell<Vec<String>>,
}

impl Running {
    fn start(site: &Site) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_vitalgate"))
            .args(["serve", "--config", "vitalgate.toml"])
            .current_dir(site.0.path())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                drop(sender.send(line));
            }
        });
        let mut running = Self {
            child,
            data: ([127, 0, 0, 1], 0).into(),
            health: ([127, 0, 0, 1], 0).into(),
            lines,
            seen: RefCell::default(),
        };
        let serving: Value = serde_json::from_str(&running.line("\"serving\"")).unwrap();
        let address = |name: &str| serving["fields"][name].as_str().unwrap().parse().unwrap();
        (running.data, running.health) = (address("data"), address("health"));
        running
    }

    /// A line of the log, past or to come.
    fn line(&self, word: &str) -> String {
        let mut seen = self.seen.borrow_mut();
        loop {
            if let Some(line) = seen.iter().find(|line| line.contains(word)) {
                return line.clone();
            }
            match self.lines.recv_timeout(Duration::from_secs(30)) {
                Ok(line) => seen.push(line),
                Err(error) => panic!("{error}: no {word} in {seen:?}"),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
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
