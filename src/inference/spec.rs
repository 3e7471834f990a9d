//! What a model is and how it is to run, before anything has been loaded.

use std::io;
use std::num::NonZeroUsize;
use std::time::Duration;

use super::graph::{GraphError, inspect};
use super::session::{Execution, Provider, SessionError};

/// A model as its signed bundle describes it, and how to run it.
#[derive(Debug, Clone)]
pub struct EngineSpec {
    /// Names the threads.
    pub model: String,
    /// Inputs per row, in the order of the members' input columns.
    pub features: NonZeroUsize,
    /// The networks; `member` indices are positions in this list.
    pub members: Vec<MemberSpec>,
    /// Rows whose answers are known. At least one.
    pub known_answers: Vec<KnownAnswer>,
    /// Where to run.
    pub execution: Execution,
    /// How much to take on.
    pub limits: Limits,
    /// Called on the worker's thread after a batch, before its answers leave, unless more rows wait
    /// already: wipes its stack. At the latest every eight batches.
    pub after_run: fn(),
    /// Told how many rows each batch has.
    pub batch_rows: metrics::Histogram,
    /// Told how long each batch takes, seconds.
    pub batch_duration: metrics::Histogram,
}

/// One network of a model.
#[derive(Debug, Clone)]
pub struct MemberSpec {
    /// The member's name.
    pub name: String,
    /// Its input tensor: float32 `[N, features]`.
    pub input: String,
    /// Its output tensor: float32 `[N, 1]` or `[N]`, probabilities.
    pub output: String,
    /// The ONNX file.
    pub onnx: Vec<u8>,
}

/// A synthetic row with the answers it must get.
#[derive(Debug, Clone, PartialEq)]
pub struct KnownAnswer {
    /// Its name, for the error.
    pub name: String,
    /// One value per feature.
    pub inputs: Vec<f32>,
    /// One probability per member.
    pub outputs: Vec<f32>,
    /// How far an answer may be off.
    pub tolerance: f32,
}

/// How much an engine takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows run at once.
    pub max_batch: NonZeroUsize,
    /// Rows that may wait; one more is turned away.
    pub queue_rows: NonZeroUsize,
    /// Threads, each with sessions of its own.
    pub threads: NonZeroUsize,
    /// A model whose run of one row takes no longer is run by whoever asks, if a replica is free:
    /// the way to another thread and back would cost more. Zero never.
    pub in_place: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_batch: NonZeroUsize::MIN.saturating_add(31),
            queue_rows: NonZeroUsize::MIN.saturating_add(1023),
            threads: NonZeroUsize::MIN,
            in_place: Duration::ZERO,
        }
    }
}

/// Why a model was not started.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A model without members cannot answer.
    #[error("the model has no members")]
    NoMembers,
    /// Without a known answer nothing shows that the provider computes what was signed.
    #[error("the model has no known answers to check it with")]
    NoKnownAnswers,
    /// A known answer does not fit the model.
    #[error(
        "known answer {name:?} must have {features} inputs, {members} probabilities and a tolerance of 0 or more"
    )]
    KnownAnswerShape {
        /// The known answer.
        name: String,
        /// Inputs required.
        features: usize,
        /// Outputs required.
        members: usize,
    },
    /// A member's graph is refused before ONNX Runtime sees it.
    #[error("member {member:?} is refused: {source}")]
    Graph {
        /// The member.
        member: String,
        /// Why.
        source: GraphError,
    },
    /// A member's session cannot be made, or is not what the model declares.
    #[error("member {member:?} cannot run: {source}")]
    Session {
        /// The member.
        member: String,
        /// Why.
        source: SessionError,
    },
    /// A member fails on a known answer.
    #[error("member {member:?} fails on known answers in a batch of {rows} on {provider}")]
    KnownAnswerFailed {
        /// The member.
        member: String,
        /// Rows in the batch.
        rows: usize,
        /// Where it ran.
        provider: Provider,
    },
    /// A member answers something else. Known answers are synthetic, so the values may be shown.
    #[error(
        "member {member:?} gives {found} for known answer {answer:?} in a batch of {rows} on \
         {provider}, expected {expected}"
    )]
    KnownAnswerWrong {
        /// The member.
        member: String,
        /// The known answer.
        answer: String,
        /// Rows in the batch.
        rows: usize,
        /// Where it ran.
        provider: Provider,
        /// The signed answer.
        expected: f32,
        /// The answer given.
        found: f32,
    },
    /// The operating system gave no thread.
    #[error("cannot start an inference thread")]
    Thread(#[from] io::Error),
}

impl EngineError {
    /// Whether the machine or the build is at fault rather than the model (exit code 3).
    pub fn is_environment(&self) -> bool {
        match self {
            Self::Session { source, .. } => source.is_environment(),
            Self::Thread(_) => true,
            Self::NoMembers
            | Self::NoKnownAnswers
            | Self::KnownAnswerShape { .. }
            | Self::Graph { .. }
            | Self::KnownAnswerFailed { .. }
            | Self::KnownAnswerWrong { .. } => false,
        }
    }
}

impl EngineSpec {
    /// What can be judged without ONNX Runtime: that the known answers fit and the graphs are
    /// acceptable.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        if self.members.is_empty() {
            return Err(EngineError::NoMembers);
        }
        if self.known_answers.is_empty() {
            return Err(EngineError::NoKnownAnswers);
        }
        let (features, members) = (self.features.get(), self.members.len());
        for known in &self.known_answers {
            let fits = known.inputs.len() == features && known.outputs.len() == members;
            let probable = known
                .outputs
                .iter()
                .all(|output| (0.0..=1.0).contains(output));
            if !fits || !probable || !known.tolerance.is_finite() || known.tolerance < 0.0 {
                let name = known.name.clone();
                return Err(EngineError::KnownAnswerShape {
                    name,
                    features,
                    members,
                });
            }
        }
        for member in &self.members {
            inspect(&member.onnx).map_err(|source| EngineError::Graph {
                member: member.name.clone(),
                source,
            })?;
        }
        Ok(())
    }
}
