//! Whose request is worked on next, when more have come than can be worked on at once.
//!
//! A few requests at a time keep all processors busy; more of them at once make each one slower.
//! The others wait here, whole but unparsed: the more urgent first, and among those of one
//! priority the callers take turns, however many requests each has sent. Every [`LESS_URGENT`]th turn
//! is for what is less urgent, routine and batch by turns, so that nobody waits for ever. A request gives its place in the
//! line up at its deadline, and when its caller has hung up.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;

use crate::{
    clock,
    disposition::Code,
    urgency::{Priority, Urgency},
};

/// Of so many turns one is for what is less urgent.
const LESS_URGENT: u64 = 8;

/// The line, and how many may be worked on at once.
#[derive(Debug)]
pub struct Turns {
    line: Mutex<Line>,
    /// As many as may be worked on at once.
    active: usize,
    /// As many as may wait.
    most: usize,
}

/// The right to be worked on; the next one's when dropped.
#[derive(Debug)]
pub struct Turn(Option<Arc<Turns>>);

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.0.take() {
            turns.pass_on();
        }
    }
}

#[derive(Debug)]
struct Line {
    free: usize,
    classes: [Class; Priority::ALL.len()],
    given: u64,
    last_given: Instant,
    /// Time from turn to turn while somebody waits, smoothed.
    pace: Duration,
}

/// Those who wait with one priority.
#[derive(Debug, Default)]
struct Class {
    /// Callers in the order of their next turns.
    order: VecDeque<Box<str>>,
    waiting: HashMap<Box<str>, VecDeque<oneshot::Sender<Turn>>>,
    length: usize,
}

impl Turns {
    /// For `active` requests at once, and `most` that wait.
    pub fn new(active: usize, most: usize) -> Arc<Self> {
        let active = active.max(1);
        Arc::new(Self {
            active,
            line: Mutex::new(Line {
                free: active,
                classes: Default::default(),
                given: 0,
                last_given: clock::monotonic(),
                pace: Duration::ZERO,
            }),
            most,
        })
    }

    /// Waits for a turn, no longer than it is of use and than `gone` takes.
    ///
    /// # Errors
    /// `OVERLOADED` at once when the line is too long, for the priority or for the deadline;
    /// `DEADLINE_PASSED` and `CALLER_GONE` later.
    pub async fn take(
        self: &Arc<Self>,
        caller: &str,
        urgency: Urgency,
        gone: impl Future<Output = ()>,
    ) -> Result<Turn, Code> {
        if urgency.has_passed(clock::monotonic()) {
            return Err(Code::DeadlinePassed);
        }
        let entered = {
            let mut line = self.line();
            if line.free > 0 {
                line.free -= 1;
                Ok((Turn(Some(Arc::clone(self))), line.free + 1 == self.active))
            } else {
                Err(line.enter(caller, urgency, self.most)?)
            }
        };
        let (turn, alone) = match entered {
            Ok(at_once) => at_once,
            Err(turn) => tokio::select! {
                biased;
                turn = turn => (turn.map_err(|_| Code::Internal)?, false),
                () = gone => return Err(Code::CallerGone),
                () = passing(urgency.deadline) => return Err(Code::DeadlinePassed),
            },
        };
        // What has arrived meanwhile is read first: something urgent may be among it, and nobody
        // knows before.
        if !alone && urgency.priority != Priority::Stat {
            tokio::task::yield_now().await;
        }
        Ok(turn)
    }

    /// How many wait with one priority.
    pub fn waiting(&self, priority: Priority) -> usize {
        self.line().class(priority).length
    }

    fn pass_on(self: Arc<Self>) {
        // Never sent under the lock: a turn that nobody awaits comes back.
        let mut turn = Turn(Some(Arc::clone(&self)));
        loop {
            let Some(next) = self.line().next() else {
                turn.0 = None;
                return;
            };
            match next.send(turn) {
                Ok(()) => return,
                Err(unwanted) => turn = unwanted,
            }
        }
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends at the deadline, if there is one.
async fn passing(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// In which order the priorities are asked for the `number`th turn.
fn preference(number: u64) -> [Priority; 3] {
    use Priority::{Batch, Routine, Stat};
    match (number.is_multiple_of(LESS_URGENT), number / LESS_URGENT % 2) {
        (false, _) => [Stat, Routine, Batch],
        (true, 1) => [Routine, Batch, Stat],
        (true, _) => [Batch, Routine, Stat],
    }
}

impl Line {
    fn class(&mut self, priority: Priority) -> &mut Class {
        let [stat, routine, batch] = &mut self.classes;
        match priority {
            Priority::Stat => stat,
            Priority::Routine => routine,
            Priority::Batch => batch,
        }
    }

    /// Requests that go before one that this caller sends now.
    fn ahead_of(&mut self, caller: &str, priority: Priority) -> usize {
        let before = Priority::ALL.into_iter().filter(|other| *other < priority);
        let more_urgent: usize = before.map(|other| self.class(other).length).sum();
        more_urgent + self.class(priority).ahead_of(caller)
    }

    fn enter(
        &mut self,
        caller: &str,
        urgency: Urgency,
        most: usize,
    ) -> Result<oneshot::Receiver<Turn>, Code> {
        let length = |line: &Self| line.classes.iter().map(|class| class.length).sum::<usize>();
        let room = urgency.priority.share(most);
        if length(self) >= room {
            self.classes.iter_mut().for_each(Class::forget_the_gone);
        }
        if length(self) >= room {
            return Err(Code::Overloaded);
        }
        // Who cannot be served in time is told now, and not when it is too late.
        if urgency.deadline.is_some() {
            let ahead = self.ahead_of(caller, urgency.priority);
            let wait = self
                .pace
                .saturating_mul(u32::try_from(ahead).unwrap_or(u32::MAX));
            if urgency.has_passed(clock::monotonic() + wait) {
                return Err(Code::Overloaded);
            }
        }
        let (give, turn) = oneshot::channel();
        self.class(urgency.priority).enter(caller, give);
        Ok(turn)
    }

    /// Who goes next; a place is free when nobody waits.
    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        self.given += 1;
        let next = preference(self.given)
            .into_iter()
            .find_map(|priority| self.class(priority).next());
        let now = clock::monotonic();
        if next.is_some() {
            let since = now.duration_since(self.last_given);
            self.pace = (self.pace * 7 + since) / 8;
        } else {
            self.free += 1;
            self.pace = Duration::ZERO;
        }
        self.last_given = now;
        next
    }
}

impl Class {
    /// Requests of this priority that go before the next one of a caller: callers take turns, so
    /// of each other one as many as it has itself, and one more.
    fn ahead_of(&self, caller: &str) -> usize {
        let own = self.waiting.get(caller).map_or(0, VecDeque::len);
        let others = self.waiting.iter().filter(|(name, _)| &***name != caller);
        let before: usize = others.map(|(_, queue)| queue.len().min(own + 1)).sum();
        own + before
    }

    fn enter(&mut self, caller: &str, give: oneshot::Sender<Turn>) {
        self.length += 1;
        if let Some(own) = self.waiting.get_mut(caller) {
            own.push_back(give);
            return;
        }
        self.waiting.insert(caller.into(), VecDeque::from([give]));
        self.order.push_back(caller.into());
    }

    fn next(&mut self) -> Option<oneshot::Sender<Turn>> {
        while let Some(caller) = self.order.pop_front() {
            let own = self.waiting.get_mut(&caller)?;
            let mut next = None;
            while let Some(give) = own.pop_front() {
                self.length -= 1;
                if !give.is_closed() {
                    next = Some(give);
                    break;
                }
            }
            if own.is_empty() {
                self.waiting.remove(&caller);
            } else {
                self.order.push_back(caller);
            }
            if next.is_some() {
                return next;
            }
        }
        None
    }

    /// Those whose deadline has passed, or who have hung up, hold no place in the line.
    fn forget_the_gone(&mut self) {
        for own in self.waiting.values_mut() {
            own.retain(|give| !give.is_closed());
        }
        self.waiting.retain(|_, own| !own.is_empty());
        self.order
            .retain(|caller| self.waiting.contains_key(caller));
        self.length = self.waiting.values().map(VecDeque::len).sum();
    }
}

#[cfg(test)]
mod tests;
