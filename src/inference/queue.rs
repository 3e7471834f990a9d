//! Rows on their way to a model's threads: bounded by rows, the more urgent first.

use std::{
    collections::VecDeque,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
};

use super::worker::{Job, Scored};
use crate::urgency::Priority;

/// Why a job was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotQueued {
    /// As many rows wait as may.
    Full,
    /// Nobody takes any more.
    Closed,
}

/// What waits for the threads of one model.
pub(super) struct Queue<R> {
    waiting: Mutex<Waiting<R>>,
    arrived: Condvar,
    most_rows: usize,
}

struct Waiting<R> {
    /// By priority.
    jobs: [VecDeque<Job<R>>; Priority::ALL.len()],
    rows: usize,
    /// Threads that have nothing to do.
    idle: usize,
    closed: bool,
}

impl<R> Waiting<R> {
    fn of(&mut self, priority: Priority) -> &mut VecDeque<Job<R>> {
        let [stat, routine, batch] = &mut self.jobs;
        match priority {
            Priority::Stat => stat,
            Priority::Routine => routine,
            Priority::Batch => batch,
        }
    }

    fn next(&mut self) -> Option<Job<R>> {
        let job = self.jobs.iter_mut().find_map(VecDeque::pop_front)?;
        self.rows -= job.rows;
        Some(job)
    }
}

impl<R: Scored> Queue<R> {
    /// With room for so many rows.
    pub(super) fn new(most_rows: usize) -> Self {
        Self {
            waiting: Mutex::new(Waiting {
                jobs: [const { VecDeque::new() }; Priority::ALL.len()],
                rows: 0,
                idle: 0,
                closed: false,
            }),
            arrived: Condvar::new(),
            most_rows,
        }
    }

    /// Has a job wait. One of more rows than there is room for is taken in when nothing else
    /// waits: it would never be otherwise. Whoever pushes sees to it that it is taken out.
    pub(super) fn push(&self, job: Job<R>) -> Result<(), NotQueued> {
        let mut waiting = self.waiting();
        if waiting.closed {
            return Err(NotQueued::Closed);
        }
        if waiting.rows > 0 && waiting.rows + job.rows > self.most_rows {
            return Err(NotQueued::Full);
        }
        waiting.rows += job.rows;
        waiting.of(job.row.priority()).push_back(job);
        Ok(())
    }

    /// Wakes a thread that has nothing to do, if there is one: a busy one looks when it is done.
    pub(super) fn wake(&self) {
        if self.waiting().idle > 0 {
            self.arrived.notify_one();
        }
    }

    /// Waits until there is a job; false when the queue is closed and empty.
    pub(super) fn wait(&self) -> bool {
        let mut waiting = self.waiting();
        while waiting.rows == 0 {
            if waiting.closed {
                return false;
            }
            waiting.idle += 1;
            let woken = self.arrived.wait(waiting);
            waiting = woken.unwrap_or_else(PoisonError::into_inner);
            waiting.idle -= 1;
        }
        true
    }

    /// A job, if one waits.
    pub(super) fn next(&self) -> Option<Job<R>> {
        self.waiting().next()
    }

    /// Rows that wait.
    pub(super) fn rows(&self) -> usize {
        self.waiting().rows
    }

    /// Takes no more in, and has the threads end once they are done.
    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.arrived.notify_all();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<R>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
