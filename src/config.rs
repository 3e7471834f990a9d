//! The configuration file: one TOML file, parsed once into a [`Config`] whose invalid states
//! do not exist. Whatever changes clinical meaning is not here but in the signed bundle.
//!
//! Every problem is reported with its line, all at once. Relative paths are relative to the
//! file's own directory. No security decision has a default.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, de::IntoDeserializer};
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use crate::{authz::Role, inference::Execution};

/// A problem in the configuration file.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1; 0 when it concerns the file as a whole.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.message),
            line => write!(f, "line {line}: {}", self.message),
        }
    }
}

/// The server's configuration.
#[derive(Debug)]
pub struct Config {
    /// Data plane.
    pub data: DataPlane,
    /// Health listener.
    pub health: Health,
    /// Bounds on what one caller may hold.
    pub limits: Limits,
    /// Where ONNX Runtime is and where it computes.
    pub onnxruntime: OnnxRuntime,
    /// Who may sign models.
    pub trust: Trust,
    /// Where bundles are.
    pub repository: PathBuf,
    /// What is served.
    pub models: Vec<ServedModel>,
    /// Where the audit log is.
    pub audit: Audit,
    /// Who may call, by subject alternative name.
    pub principals: HashMap<String, PrincipalConfig>,
}

/// `[data]`: the HTTPS data plane.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataPlane {
    /// Address and port.
    pub listen: SocketAddr,
    /// Server certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM, not readable by group or others.
    pub key: PathBuf,
    /// Roots that client certificates must chain to, PEM.
    pub client_ca: PathBuf,
}

/// `[health]`: plaintext `/livez` and `/readyz`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Address and port; keep it on loopback or a management network.
    pub listen: SocketAddr,
}

/// `[limits]`: all have defaults; times in seconds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest request body, bytes.
    pub body_bytes: usize,
    /// Requests held at once, over all callers.
    pub concurrent_requests: usize,
    /// Connections held at once.
    pub connections: usize,
    /// TLS handshake and request head.
    pub head_seconds: u64,
    /// Whole request body.
    pub body_seconds: u64,
    /// Kept connection without a request.
    pub idle_seconds: u64,
    /// In-flight requests after SIGTERM.
    pub drain_seconds: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 64 * 1024,
            concurrent_requests: 1024,
            connections: 4096,
            head_seconds: 10,
            body_seconds: 10,
            idle_seconds: 75,
            drain_seconds: 20,
        }
    }
}

impl Limits {
    /// TLS handshake and request head.
    pub fn head(&self) -> Duration {
        Duration::from_secs(self.head_seconds)
    }
    /// Whole request body.
    pub fn body(&self) -> Duration {
        Duration::from_secs(self.body_seconds)
    }
    /// Kept connection without a request.
    pub fn idle(&self) -> Duration {
        Duration::from_secs(self.idle_seconds)
    }
    /// In-flight requests after SIGTERM.
    pub fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_seconds)
    }
}

/// `[onnxruntime]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OnnxRuntime {
    /// The shared library; found as the operators' guide says when absent.
    pub library: Option<PathBuf>,
    /// Its SHA-256, lower-case hex; the pinned release's when absent.
    pub sha256: Option<String>,
    /// `cpu` or `cuda`; there is no fall-back from one to the other.
    pub execution: Execution,
}

/// `[trust]`: whose signatures make a bundle loadable.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trust {
    /// Public keys, SPKI PEM; a bundle needs a signature of one of them.
    pub keys: Vec<PathBuf>,
}

/// `[[models]]`: a model version to serve.
#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct ServedModel {
    /// Name: a directory of the repository.
    pub name: String,
    /// Version: a directory below it. Unversioned requests get the highest one served.
    pub version: u32,
}

/// `[audit]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Directory of the log.
    pub directory: PathBuf,
    /// When a record counts as accepted.
    pub mode: AuditMode,
}

/// When an audit record counts as accepted.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AuditMode {
    /// `write(2)` has returned: a killed process loses nothing. fsync follows within 100 ms.
    Written,
}

/// `[[principals]]`: who may call.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PrincipalConfig {
    /// Name in audit records.
    pub name: String,
    /// Subject alternative name of its certificate: `URI:…` or `DNS:…`.
    pub san: Spanned<String>,
    /// What it may do.
    pub roles: Vec<Role>,
    /// Models it may use, by name; `*` for all.
    pub models: Vec<String>,
}

impl Config {
    /// Reads and parses `path`.
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        let text = std::fs::read_to_string(path).map_err(|e| {
            vec![Problem {
                line: 0,
                message: format!("{}: {e}", path.display()),
            }]
        })?;
        let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self::parse(&text, &directory)
    }

    /// Parses a configuration text; relative paths are below `directory`.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Vec<Problem>> {
        let mut reader = Reader {
            text,
            problems: Vec::new(),
        };
        let config = reader.config();
        match config {
            Some(mut config) if reader.problems.is_empty() => {
                config.anchor_paths(directory);
                Ok(config)
            }
            _ => {
                reader.problems.sort_by_key(|p| p.line);
                Err(reader.problems)
            }
        }
    }

    fn anchor_paths(&mut self, directory: &Path) {
        let paths = [
            &mut self.data.certificate,
            &mut self.data.key,
            &mut self.data.client_ca,
            &mut self.repository,
            &mut self.audit.directory,
        ];
        for path in paths
            .into_iter()
            .chain(&mut self.trust.keys)
            .chain(&mut self.onnxruntime.library)
        {
            *path = directory.join(&*path);
        }
    }
}

struct Reader<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

/// The sections of the file, in the order they are documented.
const SECTIONS: [&str; 9] = [
    "data",
    "health",
    "limits",
    "onnxruntime",
    "trust",
    "repository",
    "models",
    "audit",
    "principals",
];

impl Reader<'_> {
    fn config(&mut self) -> Option<Config> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.problem(error.span().map(|s| s.start), error.message());
        }
        if !self.problems.is_empty() {
            return None;
        }
        let mut table = table.into_inner();
        for (key, _) in table.iter() {
            let name: &str = key.get_ref();
            if !SECTIONS.contains(&name) {
                let known = SECTIONS.join(", ");
                self.problem(
                    Some(key.span().start),
                    &format!("unknown section {name}; known: {known}"),
                );
            }
        }
        // All sections are read before any is missed, so that every problem is reported.
        let data = self.section(&mut table, "data");
        let health = self.section(&mut table, "health");
        let limits = if table.contains_key("limits") {
            self.section(&mut table, "limits")
        } else {
            Some(Limits::default())
        };
        let onnxruntime = self.section(&mut table, "onnxruntime");
        let trust = self.section::<Trust>(&mut table, "trust");
        let repository = self.section(&mut table, "repository");
        let models = self.list::<ServedModel>(&mut table, "models");
        let audit = self.section(&mut table, "audit");
        let principals = self.list::<PrincipalConfig>(&mut table, "principals");
        if trust.as_ref().is_some_and(|t| t.keys.is_empty()) {
            self.problem(None, "trust.keys: name at least one public key");
        }
        self.check_limits(limits.as_ref());
        self.check_models(&models);
        let principals = self.by_san(principals);
        Some(Config {
            data: data?,
            health: health?,
            limits: limits?,
            onnxruntime: onnxruntime?,
            trust: trust?,
            repository: repository?,
            models,
            audit: audit?,
            principals,
        })
    }

    fn check_limits(&mut self, limits: Option<&Limits>) {
        let Some(l) = limits else { return };
        let times = [l.head_seconds, l.body_seconds, l.idle_seconds];
        if l.body_bytes == 0
            || l.concurrent_requests == 0
            || l.connections == 0
            || times.contains(&0)
        {
            self.problem(
                None,
                "limits: every limit but drain_seconds must be above 0",
            );
        }
    }

    fn check_models(&mut self, models: &[ServedModel]) {
        if models.is_empty() {
            self.problem(None, "models: serve at least one model");
        }
        for (i, m) in models.iter().enumerate() {
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if m.name.is_empty() || !m.name.chars().all(plain) {
                self.problem(
                    None,
                    &format!("models: name {:?} should be of a-z, 0-9, -", m.name),
                );
            }
            if models.iter().take(i).any(|other| other == m) {
                let (name, version) = (&m.name, m.version);
                self.problem(
                    None,
                    &format!("models: {name} version {version} is listed twice"),
                );
            }
        }
    }

    /// A subject alternative name means one principal, or authentication would be a guess.
    fn by_san(&mut self, principals: Vec<PrincipalConfig>) -> HashMap<String, PrincipalConfig> {
        let mut by_san: HashMap<String, PrincipalConfig> = HashMap::new();
        for p in principals {
            let (san, at) = (p.san.get_ref().clone(), Some(p.san.span().start));
            let value = san
                .strip_prefix("URI:")
                .or_else(|| san.strip_prefix("DNS:"));
            if value.is_none_or(str::is_empty) {
                self.problem(
                    at,
                    &format!("principal {}: san should be URI:… or DNS:…", p.name),
                );
            }
            if by_san.values().any(|other| other.name == p.name) {
                self.problem(at, &format!("principal {}: the name is used twice", p.name));
            }
            if let Some(other) = by_san.insert(san, p) {
                self.problem(at, &format!("san is principal {}'s already", other.name));
            }
        }
        by_san
    }

    fn section<T: for<'de> Deserialize<'de>>(
        &mut self,
        table: &mut DeTable<'_>,
        name: &str,
    ) -> Option<T> {
        let Some(value) = table.remove(name) else {
            self.problem(None, &format!("section {name} is missing"));
            return None;
        };
        self.value(value, name)
    }

    fn list<T: for<'de> Deserialize<'de>>(
        &mut self,
        table: &mut DeTable<'_>,
        name: &str,
    ) -> Vec<T> {
        let Some(value) = table.remove(name) else {
            self.problem(None, &format!("section [[{name}]] is missing"));
            return Vec::new();
        };
        let at = value.span().start;
        match value.into_inner() {
            DeValue::Array(items) => items
                .into_iter()
                .filter_map(|item| self.value(item, name))
                .collect(),
            _ => {
                self.problem(Some(at), &format!("write it as [[{name}]]"));
                Vec::new()
            }
        }
    }

    fn value<T: for<'de> Deserialize<'de>>(
        &mut self,
        value: Spanned<DeValue<'_>>,
        name: &str,
    ) -> Option<T> {
        let start = value.span().start;
        match T::deserialize(value.into_deserializer()) {
            Ok(parsed) => Some(parsed),
            Err(e) => {
                let at = e.span().map_or(start, |s| s.start);
                self.problem(Some(at), &format!("{name}: {}", e.message()));
                None
            }
        }
    }

    fn problem(&mut self, offset: Option<usize>, message: &str) {
        let line = offset.map_or(0, |o| {
            1 + self.text.bytes().take(o).filter(|&b| b == b'\n').count()
        });
        self.problems.push(Problem {
            line,
            message: message.to_owned(),
        });
    }
}

#[cfg(test)]
mod tests;
