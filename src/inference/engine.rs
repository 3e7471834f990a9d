//! A loaded model: its replicas, their queue, and the checks it passed before it may serve.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::queue::{NotQueued, Queue};
use super::runtime::Runtime;
use super::session::{Execution, Network, Provider};
use super::spec::{EngineError, EngineSpec, KnownAnswer, MemberSpec};
use super::worker::{Job, Replica, Scored, serve};
use crate::clock;

/// Runs by which a model shows how quick it is.
const TRIES: usize = 8;
/// Batches that a request's thread runs for others before the model's own take over.
const MOST_BATCHES: usize = 2;

/// Why a row was not scored. The row is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ScoreError {
    /// As many rows wait as are allowed to. Trying later may help.
    #[error("the inference queue is full")]
    QueueFull,
    /// The engine has stopped, by a panic on one of its threads.
    #[error("the inference engine has stopped")]
    Stopped,
    /// The row is not of this model.
    #[error("the row has {found} inputs, the model takes {expected}")]
    Width {
        /// Inputs the model takes.
        expected: usize,
        /// Inputs the row has.
        found: usize,
    },
}

/// A running model. Dropping it ends its threads, after the rows they still hold.
pub struct Engine<R: Scored> {
    queue: Arc<Queue<R>>,
    /// One a thread.
    replicas: Vec<Arc<Mutex<Replica>>>,
    /// Whether who asks may run the networks.
    in_place: bool,
    max_batch: usize,
    threads: Vec<JoinHandle<()>>,
    stopped: Arc<AtomicBool>,
    provider: Provider,
    features: usize,
}

impl<R: Scored> fmt::Debug for Engine<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("provider", &self.provider)
            .field("queued_rows", &self.queued_rows())
            .finish_non_exhaustive()
    }
}

impl<R: Scored> Engine<R> {
    /// Inspects and loads every member once per thread, checks the known answers on the provider
    /// asked for, and starts the threads.
    pub fn start(runtime: &Runtime, spec: &EngineSpec) -> Result<Self, EngineError> {
        spec.check()?;
        let provider = match spec.execution {
            Execution::Cpu => Provider::Cpu,
            Execution::Cuda => Provider::Cuda,
        };
        let limits = spec.limits;
        let mut replicas = (0..limits.threads.get())
            .map(|_| replica(runtime, spec, provider))
            .collect::<Result<Vec<_>, _>>()?;
        // A GPU is worth waiting for together.
        let quick = provider == Provider::Cpu && limits.in_place > Duration::ZERO;
        let in_place = quick
            && replicas
                .first_mut()
                .is_some_and(|replica| fastest_run(replica, spec) <= limits.in_place);
        let replicas = replicas.into_iter().map(|r| Arc::new(Mutex::new(r)));

        let stopped = Arc::new(AtomicBool::new(false));
        let mut engine = Self {
            queue: Arc::new(Queue::new(limits.queue_rows.get())),
            replicas: replicas.collect(),
            in_place,
            max_batch: limits.max_batch.get(),
            threads: Vec::with_capacity(limits.threads.get()),
            stopped,
            provider,
            features: spec.features.get(),
        };
        let model = spec.model.replace('\0', "");
        let thread_limits = (limits.max_batch.get(), spec.after_run);
        for (index, replica) in engine.replicas.iter().enumerate() {
            let replica = Arc::clone(replica);
            let queue = Arc::clone(&engine.queue);
            let stopped = Arc::clone(&engine.stopped);
            let thread = thread::Builder::new()
                .name(format!("infer{index}-{model}"))
                .spawn(move || serve(&replica, &queue, &stopped, thread_limits))?;
            engine.threads.push(thread);
        }
        Ok(engine)
    }

    /// Has `row` (or rows, run together) scored by every member and returns it. Cancel-safe: a row
    /// whose caller has gone is not run.
    pub async fn score(&self, mut row: Box<R>) -> Result<Box<R>, ScoreError> {
        let rows = self.admissible(&row)?;
        // Nobody who waits is overtaken.
        if self.in_place
            && self.queue.rows() == 0
            && let Some(mut replica) = self.free_replica()
        {
            let scored = replica.score(&mut [&mut *row], &self.stopped);
            drop(replica);
            self.score_waiting();
            return scored.map(|()| row);
        }
        let (reply, answer) = oneshot::channel();
        let queued = self.queue.push(Job { row, rows, reply });
        queued.map_err(|refused| match refused {
            NotQueued::Full => ScoreError::QueueFull,
            NotQueued::Closed => ScoreError::Stopped,
        })?;
        if self.in_place {
            self.score_waiting();
        } else {
            self.queue.wake();
        }
        answer.await.map_err(|_| ScoreError::Stopped)
    }

    /// Scores what waits, in the thread of a request that had a replica, or looked for one. Where
    /// none is free there is nothing to do: whoever holds one looks again after giving it back.
    fn score_waiting(&self) {
        for _ in 0..MOST_BATCHES {
            if self.queue.rows() == 0 {
                return;
            }
            let Some(mut replica) = self.free_replica() else {
                return;
            };
            replica.score_waiting(&self.queue, self.max_batch, &self.stopped);
        }
        if self.queue.rows() > 0 {
            self.queue.wake();
        }
    }

    fn free_replica(&self) -> Option<MutexGuard<'_, Replica>> {
        // A poisoned lock is as good as any: a panic stops the engine, and that is looked at.
        self.replicas.iter().find_map(|r| match r.try_lock() {
            Ok(replica) => Some(replica),
            Err(TryLockError::Poisoned(replica)) => Some(replica.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        })
    }

    /// How many rows these are, if they are of this model and it runs.
    fn admissible(&self, row: &R) -> Result<usize, ScoreError> {
        let found = row.inputs().len();
        if found == 0 || !found.is_multiple_of(self.features) {
            return Err(ScoreError::Width {
                expected: self.features,
                found,
            });
        }
        if !self.is_alive() {
            return Err(ScoreError::Stopped);
        }
        Ok(found / self.features)
    }

    /// Where the networks run.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Whether the engine still scores. Once false, it stays so until the model is loaded anew.
    pub fn is_alive(&self) -> bool {
        !self.stopped.load(Ordering::Acquire)
    }

    /// Rows waiting, for metrics.
    pub fn queued_rows(&self) -> usize {
        self.queue.rows()
    }
}

impl<R: Scored> Drop for Engine<R> {
    fn drop(&mut self) {
        self.queue.close();
        for thread in self.threads.drain(..) {
            // A row may hold the last reference to its model and be dropped by a worker, which
            // cannot wait for itself; it ends by itself, its queue being closed.
            if thread.thread().id() != thread::current().id() {
                drop(thread.join());
            }
        }
    }
}

/// A replica whose every member has given every known answer.
fn replica(
    runtime: &Runtime,
    spec: &EngineSpec,
    provider: Provider,
) -> Result<Replica, EngineError> {
    let features = spec.features.get();
    let max_batch = spec.limits.max_batch.get();
    let mut networks = Vec::with_capacity(spec.members.len());
    for (index, member) in spec.members.iter().enumerate() {
        let MemberSpec {
            name,
            input,
            output,
            onnx,
        } = member;
        let mut network = Network::load(runtime, spec.execution, onnx, input, output, features)
            .map_err(|source| EngineError::Session {
                member: name.clone(),
                source,
            })?;
        // Alone and in a full batch: a network whose answer for one patient depends on the
        // others in the batch must not serve.
        for known in &spec.known_answers {
            check_known(
                &mut network,
                name,
                index,
                std::slice::from_ref(known),
                1,
                provider,
            )?;
        }
        check_known(
            &mut network,
            name,
            index,
            &spec.known_answers,
            max_batch,
            provider,
        )?;
        networks.push(network);
    }
    Ok(Replica {
        networks,
        features,
        batch_rows: spec.batch_rows.clone(),
        batch_duration: spec.batch_duration.clone(),
        packed: Zeroizing::new(Vec::with_capacity(max_batch.saturating_mul(features))),
    })
}

/// The quickest of some runs of one row on every member: the others were disturbed.
fn fastest_run(replica: &mut Replica, spec: &EngineSpec) -> Duration {
    let known = spec.known_answers.iter().cycle().take(TRIES);
    let runs = known.map(|known| {
        let started = clock::monotonic();
        let mut ran = replica
            .networks
            .iter_mut()
            .map(|network| network.run(&known.inputs, |_| {}));
        if ran.all(|run| run.is_ok()) {
            started.elapsed()
        } else {
            Duration::MAX
        }
    });
    runs.min().unwrap_or(Duration::MAX)
}

fn check_known(
    network: &mut Network,
    member: &str,
    index: usize,
    answers: &[KnownAnswer],
    rows: usize,
    provider: Provider,
) -> Result<(), EngineError> {
    let batch: Vec<&KnownAnswer> = answers.iter().cycle().take(rows).collect();
    let packed: Vec<f32> = batch
        .iter()
        .flat_map(|known| &known.inputs)
        .copied()
        .collect();
    let mut found = Vec::with_capacity(rows);
    network
        .run(&packed, |outputs| found.extend_from_slice(outputs))
        .map_err(|_| EngineError::KnownAnswerFailed {
            member: member.to_owned(),
            rows,
            provider,
        })?;
    for (known, found) in batch.into_iter().zip(found) {
        let expected = known.outputs.get(index).copied().unwrap_or(f32::NAN);
        let close = (found - expected).abs() <= known.tolerance; // false for NaN
        if !close {
            return Err(EngineError::KnownAnswerWrong {
                member: member.to_owned(),
                answer: known.name.clone(),
                rows,
                provider,
                expected,
                found,
            });
        }
    }
    Ok(())
}
