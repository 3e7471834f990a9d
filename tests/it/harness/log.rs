//! Audit logs as they lie on disk, and what `vitalgate audit verify` says of them.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;

use super::BINARY;

/// The segments of a log, oldest first.
pub(crate) fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut sealed: Vec<PathBuf> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            let name = path.file_name().unwrap().to_str().unwrap();
            name.starts_with("audit-") && path.extension().is_some_and(|e| e == "jsonl")
        })
        .collect();
    sealed.sort();
    sealed.push(directory.join("audit.jsonl"));
    sealed
}

/// Everything that was ever recorded.
pub(crate) fn log_text(directory: &Path) -> String {
    let texts = segments(directory).into_iter().map(fs::read);
    let bytes: Vec<u8> = texts.flat_map(Result::unwrap_or_default).collect();
    String::from_utf8(bytes).unwrap()
}

/// What `audit verify` said.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) code: i32,
    pub(crate) report: Value,
}

/// Verifies with a key, and more arguments.
pub(crate) fn verify_log(directory: &Path, key: &Path, more: &[&str]) -> Verdict {
    let output = Command::new(BINARY)
        .args(["audit", "verify"])
        .arg(directory)
        .arg("--key")
        .arg(key)
        .arg("--json")
        .args(more)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    Verdict {
        code: output.status.code().unwrap(),
        report: serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {stderr}")),
    }
}

impl Verdict {
    /// Fails unless the log holds.
    #[track_caller]
    pub(crate) fn holds(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        assert_eq!(self.report["holds"], true);
        self
    }

    /// Fails unless the log does not hold; what was found, as `KIND FILE:LINE seq`.
    #[track_caller]
    pub(crate) fn found(&self) -> Vec<String> {
        assert_eq!(self.code, 1, "{self:?}");
        assert_eq!(self.report["holds"], false);
        let findings = self.report["findings"].as_array().unwrap();
        findings
            .iter()
            .map(|f| {
                let text = |name: &str| f[name].to_string().replace('"', "");
                let (kind, file, line) = (text("kind"), text("file"), text("line"));
                let file = file.rsplit('/').next().unwrap();
                format!("{kind} {file}:{line} {}", text("seq"))
            })
            .collect()
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.report[name].as_u64().unwrap()
    }
}
