//! Model bundles: a directory on disk → [`Approved`] bytes → a [`LoadedModel`].
//!
//! A bundle is read once. Its signature is checked over the bytes in memory, and those very
//! bytes are parsed and handed to ONNX Runtime; nothing after the check opens a file again.

use std::{
    collections::BTreeMap,
    io,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use self::approval::{
    Approved, Approver, Authority, TrustedKeys, approve, check_trust, read_version,
};
pub use self::models::Models;
pub(crate) use self::models::load;
use self::{
    model::{ModelError, ModelSpec},
    policy::{NotApproved, PolicyError},
    signing::SigningError,
};
use crate::{
    clock,
    drift::{Monitor, reference::RawDrift},
    inference::{self, Engine, EngineError, EngineSpec, Execution, Runtime},
    phi::scrub::scrub_stack,
    row::Row,
    screening::{ReferenceError, Screen},
    telemetry::{ModelLabels, catalogue},
};

mod approval;
pub mod model;
mod models;
pub mod policy;
pub mod signing;

/// The signed directory within a version's directory.
pub const BUNDLE_DIRECTORY: &str = "bundle";
/// The directory of signatures within a version's directory, one file a signer.
pub const SIGNATURES_DIRECTORY: &str = "signatures";
/// The model's clinical meaning, within the bundle.
pub const MODEL_FILE: &str = "model.json";
/// What was fitted to the model's patients, within the bundle.
pub const REFERENCE_FILE: &str = "reference.json";

/// Says how a digest was made.
const DIGEST_NAME: &str = "sha256:";
/// Networks whose run takes no longer are run by the request's own thread.
const QUICK: Duration = Duration::from_micros(100);

/// Why a model is not served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file or directory could not be read.
    #[error("{path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The bundle's bytes, or a signature over them, do not hold.
    #[error("{path}")]
    Signature {
        /// The bundle or the signature.
        path: PathBuf,
        /// Why.
        source: SigningError,
    },
    /// Nobody signed.
    #[error("{0}: no *.sig file; an unsigned bundle is not loaded")]
    Unsigned(PathBuf),
    /// Nobody who is trusted signed these bytes.
    #[error("{path}: no signature of a trusted key holds over this bundle: {reasons}")]
    Untrusted {
        /// The bundle.
        path: PathBuf,
        /// What is wrong with each signature.
        reasons: String,
    },
    /// The release policy is not in force.
    #[error("{path}")]
    Policy {
        /// The policy file.
        path: PathBuf,
        /// Why.
        source: Box<PolicyError>,
    },
    /// The release policy does not let the bundle be loaded.
    #[error("{path}: not approved")]
    NotApproved {
        /// The bundle.
        path: PathBuf,
        /// Why.
        source: Box<NotApproved>,
    },
    /// `model.json` is missing or wrong.
    #[error("{path}")]
    Model {
        /// The bundle.
        path: PathBuf,
        /// Why.
        source: ModelError,
    },
    /// `reference.json` is wrong.
    #[error("{path}")]
    Reference {
        /// The bundle.
        path: PathBuf,
        /// Why.
        source: ReferenceError,
    },
    /// The signed files do not fit together, or not where they lie.
    #[error("{path}: {problem}")]
    Mismatch {
        /// The bundle.
        path: PathBuf,
        /// What was expected.
        problem: String,
    },
    /// The networks cannot run.
    #[error("{path}")]
    Engine {
        /// The bundle.
        path: PathBuf,
        /// Why.
        source: Box<EngineError>,
    },
}

impl LoadError {
    /// What a load can come to, as metrics write it.
    pub const RESULTS: [&str; 11] = [
        "loaded",
        "unreadable",
        "signature",
        "unsigned",
        "untrusted",
        "policy",
        "not-approved",
        "model",
        "reference",
        "mismatch",
        "engine",
    ];

    /// One of [`LoadError::RESULTS`].
    pub fn result(&self) -> &'static str {
        match self {
            Self::Read { .. } => "unreadable",
            Self::Signature { .. } => "signature",
            Self::Unsigned(_) => "unsigned",
            Self::Untrusted { .. } => "untrusted",
            Self::Policy { .. } => "policy",
            Self::NotApproved { .. } => "not-approved",
            Self::Model { .. } => "model",
            Self::Reference { .. } => "reference",
            Self::Mismatch { .. } => "mismatch",
            Self::Engine { .. } => "engine",
        }
    }

    /// Whether the machine is at fault, not the bundle (exit code 3).
    pub fn is_environment(&self) -> bool {
        match self {
            Self::Engine { source, .. } => source.is_environment(),
            Self::Policy { source, .. } => source.is_environment(),
            Self::Read { .. } => true,
            Self::Signature { .. }
            | Self::Unsigned(_)
            | Self::Untrusted { .. }
            | Self::NotApproved { .. }
            | Self::Model { .. }
            | Self::Reference { .. }
            | Self::Mismatch { .. } => false,
        }
    }
}

/// A model that serves: verified bytes, running networks.
#[derive(Debug)]
pub struct LoadedModel {
    spec: Arc<ModelSpec>,
    named_digest: String,
    approvers: Vec<Approver>,
    policy_serial: Option<u64>,
    until: Option<Duration>,
    card: String,
    screen: Option<Screen>,
    drift: Option<Arc<Monitor>>,
    engine: Engine<Row>,
    labels: ModelLabels,
}

impl LoadedModel {
    /// Starts the networks of an approved bundle.
    pub fn start(
        approved: Approved,
        runtime: &Runtime,
        execution: Execution,
    ) -> Result<Self, LoadError> {
        let (path, until) = (approved.path.clone(), approved.until);
        let policy_serial = approved.policy_serial;
        let named_digest = format!("{DIGEST_NAME}{}", approved.digest());
        let approvers = approved.approvers.clone();
        let mut files = approved.take_files();
        let spec = parse_model(&path, &files)?;
        let screen = parse_screen(&path, &files, &spec)?;
        let drift = parse_drift(&path, &files, &spec, screen.as_ref())?.map(Arc::new);
        let engine_spec = engine_spec(&path, &spec, &mut files, execution)?;
        let engine = Engine::start(runtime, &engine_spec).map_err(|source| LoadError::Engine {
            path: path.clone(),
            source: Box::new(source),
        })?;
        let card = files.remove("README.md").unwrap_or_default();
        let card = String::from_utf8_lossy(&card).into_owned();
        Ok(Self {
            labels: ModelLabels::new(&spec),
            spec,
            named_digest,
            approvers,
            policy_serial,
            until,
            card,
            screen,
            drift,
            engine,
        })
    }

    /// Its clinical meaning.
    pub fn spec(&self) -> &Arc<ModelSpec> {
        &self.spec
    }

    /// The root digest, hex SHA-256 over the files' digests in order of their names.
    pub fn digest(&self) -> &str {
        self.named_digest.trim_start_matches(DIGEST_NAME)
    }

    /// The root digest as answers and records have it: `sha256:…`.
    pub fn named_digest(&self) -> &str {
        &self.named_digest
    }

    /// Whose signatures made it loadable; at least one.
    pub fn approvers(&self) -> &[Approver] {
        &self.approvers
    }

    /// Serial of the release policy that approved it; none when plain keys did.
    pub fn policy_serial(&self) -> Option<u64> {
        self.policy_serial
    }

    /// Whether its approval has not run out: a release policy may say that models stop
    /// answering when it expires.
    pub fn is_approved_now(&self) -> bool {
        self.until.is_none_or(|until| clock::since_epoch() < until)
    }

    /// The model card, Markdown.
    pub fn card(&self) -> &str {
        &self.card
    }

    /// The distribution of its patients, if one was fitted.
    pub fn screen(&self) -> Option<&Screen> {
        self.screen.as_ref()
    }

    /// Whether its patients are still those it was made for; none without histograms.
    pub fn drift(&self) -> Option<&Monitor> {
        self.drift.as_deref()
    }

    /// Goes on counting where the same bytes, loaded before, have counted. Another bundle has
    /// another reference, and begins with nothing.
    pub(crate) fn go_on_watching(&mut self, before: &Self) {
        if before.named_digest == self.named_digest {
            self.drift.clone_from(&before.drift);
        }
    }

    /// What metrics call it.
    pub fn labels(&self) -> &ModelLabels {
        &self.labels
    }

    /// Its running networks.
    pub fn engine(&self) -> &Engine<Row> {
        &self.engine
    }
}

/// Parses the `model.json` among a bundle's files.
pub fn parse_model(
    path: &Path,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<Arc<ModelSpec>, LoadError> {
    let bytes = files.get(MODEL_FILE).ok_or_else(|| LoadError::Mismatch {
        path: path.to_owned(),
        problem: format!("{MODEL_FILE} is missing"),
    })?;
    ModelSpec::parse(bytes).map_err(|source| LoadError::Model {
        path: path.to_owned(),
        source,
    })
}

/// Reads the `reference.json` among a bundle's files, if there is one that was fitted.
pub fn parse_screen(
    path: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    spec: &ModelSpec,
) -> Result<Option<Screen>, LoadError> {
    let Some(bytes) = files.get(REFERENCE_FILE) else {
        return Ok(None);
    };
    Screen::parse(bytes, spec).map_err(|source| LoadError::Reference {
        path: path.to_owned(),
        source,
    })
}

/// Reads the histograms in the `reference.json` among a bundle's files, if it has some.
pub fn parse_drift(
    path: &Path,
    files: &BTreeMap<String, Vec<u8>>,
    spec: &ModelSpec,
    screen: Option<&Screen>,
) -> Result<Option<Monitor>, LoadError> {
    /// The member that this is about; `parse_screen` judged the others.
    #[derive(serde::Deserialize)]
    struct Histograms {
        drift: Option<RawDrift>,
    }
    let Some(bytes) = files.get(REFERENCE_FILE).filter(|_| screen.is_some()) else {
        return Ok(None);
    };
    let read = serde_json::from_slice::<Histograms>(bytes).map_err(ReferenceError::from);
    let monitor = read.and_then(|histograms| {
        let alpha = screen.map(|screen| screen.calibration().alpha());
        let monitor = |raw: &RawDrift| Monitor::new(raw, spec, alpha);
        histograms.drift.as_ref().map(monitor).transpose()
    });
    monitor.map_err(|source| LoadError::Reference {
        path: path.to_owned(),
        source,
    })
}

/// What the engine needs of a bundle; takes the networks' bytes out of `files`.
pub fn engine_spec(
    path: &Path,
    spec: &ModelSpec,
    files: &mut BTreeMap<String, Vec<u8>>,
    execution: Execution,
) -> Result<EngineSpec, LoadError> {
    let mismatch = |problem| LoadError::Mismatch {
        path: path.to_owned(),
        problem,
    };
    let mut members = Vec::with_capacity(spec.members.len());
    for member in &spec.members {
        let onnx = files.remove(&member.file).ok_or_else(|| {
            mismatch(format!(
                "member {}: {} is missing",
                member.name, member.file
            ))
        })?;
        members.push(inference::MemberSpec {
            name: member.name.clone(),
            input: member.input.clone(),
            output: member.output.clone(),
            onnx,
        });
    }
    let known_answers = spec
        .known_answers
        .iter()
        .map(|k| inference::KnownAnswer {
            name: k.name.clone(),
            inputs: k.inputs.clone(),
            outputs: k.outputs.clone(),
            tolerance: k.tolerance,
        })
        .collect();
    let labels = ModelLabels::new(spec);
    Ok(EngineSpec {
        model: spec.name.clone(),
        batch_rows: catalogue::BATCH_ROWS.with([labels.model(), labels.version()]),
        batch_duration: catalogue::BATCH_DURATION.with([labels.model(), labels.version()]),
        features: NonZeroUsize::new(spec.features.len())
            .ok_or_else(|| mismatch("no features".to_owned()))?,
        members,
        known_answers,
        execution,
        limits: inference::Limits {
            in_place: QUICK,
            ..inference::Limits::default()
        },
        after_run: scrub_stack,
    })
}
