//! A replica of a model's networks, and the thread that runs it on whatever rows are waiting.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use zeroize::{Zeroize, Zeroizing};

use super::engine::ScoreError;
use super::queue::Queue;
use super::session::Network;
use crate::{
    clock,
    phi::measures::{Measure, in_force},
    telemetry::count,
    urgency::Priority,
};

/// A row, or several about one patient, that can be scored in place. It holds a patient's values,
/// so it travels as one box and is never moved by value.
pub trait Scored: Send + 'static {
    /// The features in the model's order, row by row: a whole number of rows, at least one.
    fn inputs(&self) -> &[f32];

    /// Whether it goes before others that wait.
    fn priority(&self) -> Priority {
        Priority::default()
    }

    /// Takes what the member at index `member` of the engine's specification made of the row at
    /// index `row`.
    fn set_output(&mut self, member: usize, row: usize, output: MemberOutput);
}

/// What one member made of one row. Its `Debug` keeps the number to itself: it is the patient's,
/// and more than a caller may learn about the model.
#[derive(Clone, Copy, PartialEq)]
pub enum MemberOutput {
    /// The probability of the outcome, 0 to 1.
    Probability(f32),
    /// The network answered with something that is no probability: NaN, or outside 0 to 1.
    Invalid,
    /// The network fails on this row.
    Failed,
}

impl fmt::Debug for MemberOutput {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Probability(_) => "Probability(…)",
            Self::Invalid => "Invalid",
            Self::Failed => "Failed",
        })
    }
}

impl MemberOutput {
    fn of(value: f32) -> Self {
        // NaN lies in no range.
        if (0.0..=1.0).contains(&value) {
            Self::Probability(value)
        } else {
            Self::Invalid
        }
    }
}

/// Runs in a row, while others wait, after which the stack is wiped at the latest.
const MOST_RUNS: usize = 8;

/// A row on its way, with the place where its caller waits.
pub(super) struct Job<R> {
    pub(super) row: Box<R>,
    /// How many rows it brings.
    pub(super) rows: usize,
    pub(super) reply: oneshot::Sender<Box<R>>,
}

/// One thread's networks and their packing buffer. Whoever finds it free may use it too.
pub(super) struct Replica {
    pub(super) networks: Vec<Network>,
    pub(super) features: usize,
    pub(super) batch_rows: metrics::Histogram,
    pub(super) batch_duration: metrics::Histogram,
    /// `max_batch` rows, allocated once so that it need not move.
    pub(super) packed: Zeroizing<Vec<f32>>,
}

/// Scores rows on this thread until `queue` is closed.
///
/// A panic stops the whole engine, since what it left behind is unknown: `stopped` is set and
/// the thread lives on only to turn callers away, because a job left in the queue would keep
/// its caller waiting and its patient's values in memory.
pub(super) fn serve<R: Scored>(
    replica: &Mutex<Replica>,
    queue: &Queue<R>,
    stopped: &AtomicBool,
    (max_batch, after_run): (usize, fn()),
) {
    let mut runs = 0;
    while queue.wait() {
        lock(replica).score_waiting(queue, max_batch, stopped);
        runs += 1;
        // What waits is the next to use this stack.
        if queue.rows() == 0 || runs >= MOST_RUNS {
            runs = 0;
            after_run();
        }
    }
}

/// A poisoned lock is as good as any: a panic stops the engine, and that is looked at.
fn lock(replica: &Mutex<Replica>) -> MutexGuard<'_, Replica> {
    replica.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Replica {
    /// Scores one batch of what waits, if anything does, and answers.
    // Not inlined, as `score`.
    #[inline(never)]
    pub(super) fn score_waiting<R: Scored>(
        &mut self,
        queue: &Queue<R>,
        max_batch: usize,
        stopped: &AtomicBool,
    ) {
        let (mut batch, mut rows) = (Vec::new(), 0);
        // Rows are counted, not requests: one that brings many leaves less room.
        while rows < max_batch
            && let Some(job) = queue.next()
        {
            // A row nobody awaits is not worth running.
            if !job.reply.is_closed() {
                rows += job.rows;
                batch.push(job);
            }
        }
        if batch.is_empty() {
            return;
        }
        let mut waiting: Vec<&mut R> = batch.iter_mut().map(|job| &mut *job.row).collect();
        if self.score(&mut waiting, stopped).is_err() {
            return;
        }
        for Job { row, reply, .. } in batch {
            drop(reply.send(row)); // handed back if the caller has just left, and dropped
        }
    }

    /// Scores these rows. A panic stops the engine, and with it everybody who got the replica next.
    // Not inlined, so that the stack is wiped with these frames below the caller's.
    #[inline(never)]
    pub(super) fn score<R: Scored>(
        &mut self,
        batch: &mut [&mut R],
        stopped: &AtomicBool,
    ) -> Result<(), ScoreError> {
        if stopped.load(Ordering::Acquire) {
            return Err(ScoreError::Stopped);
        }
        let scored = catch_unwind(AssertUnwindSafe(|| {
            let started = clock::monotonic();
            let rows = self.run(batch);
            self.batch_rows.record(count(rows));
            self.batch_duration.record(started.elapsed());
        }));
        scored.map_err(|_| {
            stopped.store(true, Ordering::Release);
            self.packed.zeroize();
            ScoreError::Stopped
        })
    }

    /// How many rows there were.
    fn run<R: Scored>(&mut self, batch: &mut [&mut R]) -> usize {
        for row in &*batch {
            self.packed.extend_from_slice(row.inputs());
        }
        let features = self.features;
        let rows = self.packed.len() / features;
        for (member, network) in self.networks.iter_mut().enumerate() {
            score_member(network, member, features, &self.packed, batch);
        }
        if in_force(Measure::Batch) {
            self.packed.as_mut_slice().zeroize();
        }
        self.packed.clear();
        rows
    }
}

/// Runs one member over a batch. If the run fails, halves the batch until the rows that make it
/// fail stand alone: at most `2 * rows - 1` runs.
fn score_member<R: Scored>(
    network: &mut Network,
    member: usize,
    features: usize,
    packed: &[f32],
    batch: &mut [&mut R],
) {
    if batch.is_empty() {
        return;
    }
    let answered = network.run(packed, |outputs| {
        let mut outputs = outputs.iter();
        for scored in batch.iter_mut() {
            let rows = scored.inputs().len() / features;
            for (row, &output) in outputs.by_ref().take(rows).enumerate() {
                scored.set_output(member, row, MemberOutput::of(output));
            }
        }
    });
    if answered.is_ok() {
        return;
    }
    if let [scored] = batch {
        for row in 0..scored.inputs().len() / features {
            scored.set_output(member, row, MemberOutput::Failed);
        }
        return;
    }
    let (left, right) = batch.split_at_mut(batch.len() / 2);
    let values = left.iter().map(|row| row.inputs().len()).sum();
    let (left_packed, right_packed) = packed.split_at(values);
    score_member(network, member, features, left_packed, left);
    score_member(network, member, features, right_packed, right);
}
