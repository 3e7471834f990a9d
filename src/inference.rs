//! Runs a model's networks: rows in, one probability per member and row out.
//!
//! ONNX Runtime is the largest body of code in the process and the only part not written in Rust,
//! so everything about it is narrowed before it starts: the library is loaded only if its hash is
//! the pinned one ([`Runtime`]), a graph is read by us before ONNX Runtime sees it ([`inspect`]),
//! and a model must reproduce its known answers on the provider it will serve from, alone and in
//! a full batch, before [`Engine::start`] returns.
//!
//! A model has replicas, one a thread. Where its networks are quick, whoever asks runs them on a
//! replica that is free; while none is, rows wait for whoever gives one back. Otherwise they wait
//! for the threads. Either way it is one bounded queue per model, and what waits in it is run
//! together, up to `max_batch` rows. A row that makes a network fail is found by halving the
//! batch, so that its neighbours, who are other patients, still get their answer.

mod engine;
mod graph;
#[cfg(feature = "tools")]
mod probe;
mod queue;
mod runtime;
mod session;
mod spec;
mod worker;

#[cfg(test)]
mod tests;

pub use self::engine::{Engine, ScoreError};
pub use self::graph::{GraphError, GraphSummary, TensorSummary, inspect};
#[cfg(feature = "tools")]
pub(crate) use self::probe::Probe;
pub use self::runtime::{PINNED_SHA256, Runtime, RuntimeError, VERSION, find_library};
pub use self::session::{Execution, Provider, SessionError};
pub use self::spec::{EngineError, EngineSpec, KnownAnswer, Limits, MemberSpec};
pub use self::worker::{MemberOutput, Scored};
