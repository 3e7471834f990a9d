//! A real store: Debian's redis-server, with TLS, an ACL user and a file of its commands.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rcgen::{CertificateParams, ExtendedKeyUsagePurpose, KeyPair};
use tempfile::TempDir;

use super::{Site, free_port, wait_until};

const PASSWORD: &str = "correct-horse-battery-staple";

/// A server on loopback; killed when dropped.
pub(crate) struct Store {
    directory: TempDir,
    port: u16,
    child: Option<Child>,
}

impl Store {
    /// Nothing when redis-server is not installed, and says so.
    pub(crate) fn start(site: &Site) -> Option<Self> {
        if !Command::new("redis-server")
            .arg("--version")
            .output()
            .is_ok_and(|o| o.status.success())
        {
            println!("SKIPPED: redis-server is not installed; apt-get install redis-server");
            return None;
        }
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let certificate = site.certify(&params, &key);
        fs::write(path.join("store.pem"), certificate).unwrap();
        fs::write(path.join("store.key"), key.serialize_pem()).unwrap();
        fs::copy(site.path().join("ca.pem"), path.join("ca.pem")).unwrap();
        // Exactly the commands that the documentation says are needed.
        let documentation = include_str!("../../../docs/operating.md").lines();
        let mut lines =
            documentation.filter_map(|line| line.trim().strip_prefix("user vitalgate "));
        let rights = lines.next().unwrap().replace("PASSWORD", PASSWORD);
        let acl = format!(
            "user default off\nuser operator on >{PASSWORD} ~* &* +@all\nuser vitalgate {rights}\n"
        );
        fs::write(path.join("users.acl"), acl).unwrap();
        let port = free_port();
        let mut store = Self {
            directory,
            port,
            child: None,
        };
        store.restart();
        Some(store)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Starts it, with what it remembers.
    pub(crate) fn restart(&mut self) {
        let port = self.port.to_string();
        let child = Command::new("redis-server")
            .current_dir(self.path())
            .args(["--port", "0", "--tls-port", &port, "--bind", "127.0.0.1"])
            .args([
                "--tls-cert-file",
                "store.pem",
                "--tls-key-file",
                "store.key",
            ])
            .args(["--tls-ca-cert-file", "ca.pem", "--tls-auth-clients", "no"])
            .args([
                "--aclfile",
                "users.acl",
                "--appendonly",
                "yes",
                "--save",
                "",
            ])
            .args(["--appendfsync", "always"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
        wait_until("the store to listen", || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).is_ok()
        });
    }

    /// `kill -9`.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Forgets everything that it wrote.
    pub(crate) fn forget(&self) {
        fs::remove_dir_all(self.path().join("appendonlydir")).unwrap();
    }

    /// Runs a command as somebody who may do anything, which an operator would be.
    pub(crate) fn command(&self, command: &[&str]) {
        let answer = self.ask(command);
        assert_eq!(answer.trim(), "OK", "{command:?}");
    }

    /// The same, and what it answers.
    pub(crate) fn ask(&self, command: &[&str]) -> String {
        let port = self.port.to_string();
        let mut cli = Command::new("redis-cli");
        cli.current_dir(self.path())
            .args(["--tls", "--cacert", "ca.pem", "-h", "127.0.0.1"])
            .args(["-p", &port, "--no-auth-warning"])
            .args(["--user", "operator", "--pass", PASSWORD])
            .args(command);
        let output = cli.output().unwrap();
        assert!(output.status.success(), "{command:?}: {output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Takes the servers' password away, or gives it back. The server breaks connections of the
    /// user whose password is gone.
    pub(crate) fn take_password(&self, away: bool) {
        let password = format!(">{PASSWORD}");
        let rule = if away { "resetpass" } else { &password };
        self.command(&["acl", "setuser", "vitalgate", rule]);
        self.ask(&["client", "kill", "user", "vitalgate"]);
    }

    /// Everything that it ever wrote to its disk.
    pub(crate) fn written(&self) -> Vec<u8> {
        let files = fs::read_dir(self.path().join("appendonlydir")).unwrap();
        let files = files.map(|f| fs::read(f.unwrap().path()).unwrap());
        files.flatten().collect()
    }

    /// Has a site's server use it.
    pub(crate) fn configure(&self, site: &mut Site, replicas: u32) {
        let password: PathBuf = site.path().join("store.password");
        super::write_private(&password, PASSWORD);
        let section = format!(
            "[store]\nurl = \"rediss://vitalgate@127.0.0.1:{}\"\nca = \"ca.pem\"\n\
             password = \"store.password\"\nreplicas = {replicas}\n\n[onnxruntime]\n",
            self.port
        );
        site.configure("[onnxruntime]\n", &section);
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.kill();
    }
}
