//! The configuration file: one TOML file, parsed once into a [`Config`] whose invalid states
//! do not exist. Whatever changes clinical meaning is not here but in the signed bundle.
//!
//! Every problem is reported with its line, all at once. Relative paths are relative to the
//! file's own directory. No security decision has a default.

use std::{
    fmt,
    net::SocketAddr,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};

use crate::{inference::Execution, named_file};

mod admin;
mod audit;
mod authorization;
mod budgets;
mod document;
mod drift;
mod issuers;
mod listeners;
mod principals;
mod reader;
mod review;
mod shipping;
mod store;
mod telemetry;
mod trust;
pub use issuers::{IssuerConfig, KeyLocation, LONGEST_LEEWAY, RoleMapping};
pub use listeners::{DataPlane, Methods};
pub use principals::PrincipalConfig;

pub use self::{
    admin::AdminPlane,
    audit::{Audit, AuditMode, Keys},
    authorization::Authorization,
    budgets::{Budget, Budgets, CallerLimits, Patterns, RowsPerDay},
    drift::Drift,
    review::Review,
    shipping::{Destination, Shipping},
    store::{Store, StoreAddress},
    telemetry::{Collector, Otlp, Telemetry},
};

/// Largest configuration file, bytes.
const MAX_FILE: u64 = 1 << 20;

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
    /// Data plane: its listeners, at least one.
    pub data: Vec<DataPlane>,
    /// Admin plane, if there is to be one.
    pub admin: Option<AdminPlane>,
    /// Health listener.
    pub health: Health,
    /// Bounds on what all callers together may hold.
    pub limits: Limits,
    /// What one caller may ask for.
    pub budgets: Budgets,
    /// Where replicas share what callers have asked; in this process alone when none.
    pub store: Option<Store>,
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
    /// Who may do what.
    pub authorization: Authorization,
    /// Keys of fingerprints and pseudonyms.
    pub keys: Keys,
    /// How long a review may be overridden.
    pub review: Review,
    /// What drift remembers over a restart.
    pub drift: Drift,
    /// Where traces go.
    pub telemetry: Telemetry,
    /// Who may call.
    pub principals: Vec<PrincipalConfig>,
    /// Whose tokens are believed.
    pub issuers: Vec<IssuerConfig>,
    /// The file as it was written, for [`Config::redacted`].
    document: toml::Table,
}

/// `[health]`: plaintext `/livez` and `/readyz`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Health {
    /// Address and port; keep it on loopback or a management network.
    pub listen: SocketAddr,
}

/// `[limits]`: all have defaults; times in seconds.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Largest request body, bytes.
    pub body_bytes: usize,
    /// Requests held at once, over all callers.
    pub concurrent_requests: usize,
    /// Requests worked on at once, if not as many as [`Limits::active`] says; the others that are
    /// held wait for their turn.
    pub active_requests: Option<usize>,
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
            active_requests: None,
            connections: 4096,
            head_seconds: 10,
            body_seconds: 10,
            idle_seconds: 75,
            drain_seconds: 20,
        }
    }
}

/// Requests that keep a GPU busy: their rows run together.
const ACTIVE_ON_GPU: usize = 32;
/// Requests that keep a processor busy: one is worked on while another waits for the audit log.
const ACTIVE_A_PROCESSOR: usize = 2;

impl Limits {
    /// Requests worked on at once.
    pub fn active(&self, execution: Execution) -> usize {
        self.active_requests.unwrap_or_else(|| match execution {
            Execution::Cpu => {
                let processors = std::thread::available_parallelism();
                processors.map_or(1, NonZeroUsize::get) * ACTIVE_A_PROCESSOR
            }
            Execution::Cuda => ACTIVE_ON_GPU,
        })
    }

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Those that a signed release policy asks for.
    Policy(ReleasePolicy),
    /// Public keys, SPKI PEM; a bundle needs a signature of one of them, and nothing can be
    /// revoked. For trying out.
    Keys(Vec<PathBuf>),
}

/// The release policy and what it is held against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReleasePolicy {
    /// The signed policy, a DSSE envelope.
    pub file: PathBuf,
    /// Public keys that may sign it, SPKI PEM.
    pub keys: Vec<PathBuf>,
    /// How many of them must have; at least 1, at most all.
    pub threshold: usize,
    /// The lowest serial it may have, whatever was seen before.
    pub min_serial: u64,
    /// Where the highest serial seen is kept; nowhere on hosts without a disk.
    pub state: Option<PathBuf>,
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

impl Config {
    /// Reads and parses `path`.
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        let whole = |message: String| vec![Problem { line: 0, message }];
        let text = named_file::read_text(path, MAX_FILE).map_err(|e| whole(e.to_string()))?;
        let directory = path.parent().map(Path::to_path_buf).unwrap_or_default();
        Self::parse(&text, &directory)
    }

    /// Parses a configuration text; relative paths are below `directory`.
    pub fn parse(text: &str, directory: &Path) -> Result<Self, Vec<Problem>> {
        let mut config = reader::read(text)?;
        config.anchor_paths(directory);
        Ok(config)
    }

    fn anchor_paths(&mut self, directory: &Path) {
        let paths = [
            &mut self.repository,
            &mut self.audit.directory,
            &mut self.audit.key,
            &mut self.keys.fleet,
            &mut self.keys.pseudonym,
        ];
        let (admin, state) = match &mut self.admin {
            Some(AdminPlane { files, state, .. }) => (Some(files), Some(state)),
            None => (None, None),
        };
        let tls = self.data.iter_mut().map(|data| &mut data.files);
        let tls = tls.chain(admin).flat_map(|files| {
            [&mut files.certificate, &mut files.key]
                .into_iter()
                .chain(&mut files.client_ca)
                .chain(&mut files.crl)
        });
        let trusted: Vec<&mut PathBuf> = match &mut self.trust {
            Trust::Keys(keys) => keys.iter_mut().collect(),
            Trust::Policy(policy) => [&mut policy.file]
                .into_iter()
                .chain(&mut policy.keys)
                .chain(&mut policy.state)
                .collect(),
        };
        for path in paths
            .into_iter()
            .chain(state)
            .chain(tls)
            .chain(trusted)
            .chain(&mut self.onnxruntime.library)
            .chain(&mut self.authorization.policy)
            .chain(self.audit.ship.iter_mut().flat_map(Shipping::paths))
            .chain(self.store.iter_mut().flat_map(Store::paths))
            .chain(&mut self.drift.state)
            .chain(self.telemetry.otlp.iter_mut().flat_map(Otlp::paths))
        {
            *path = directory.join(&*path);
        }
        for issuer in &mut self.issuers {
            issuer.anchor_paths(directory);
        }
    }
}

#[cfg(test)]
mod tests;
