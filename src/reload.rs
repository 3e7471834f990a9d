//! Files that take effect without a restart: certificates, keys, revocation lists, key sets,
//! principals, policies.
//!
//! One thread looks at every watched file four times a second. When something changed and has
//! stopped changing, whoever registered it reads it anew. A new file that is not good changes
//! nothing: what was good stays in force, the log says so as an error, again every minute until
//! it is mended, and [`Outcomes`] says so to whoever asks.

use std::{
    collections::BTreeMap,
    error::Error,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use time::OffsetDateTime;

use crate::{clock, error_chain::one_line};

/// How often files are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often a file that is not good is complained about.
const REMINDER: Duration = Duration::from_mins(1);

/// Why something could not be reloaded.
pub type ReloadError = Box<dyn Error + Send + Sync>;

/// What became of the attempts to load one thing.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// When it was last loaded.
    pub loaded_at: Option<OffsetDateTime>,
    /// Why the last attempt failed, if it did; what was loaded before is still in force.
    pub failure: Option<String>,
    /// Attempts that succeeded.
    pub successes: u64,
    /// Attempts that failed.
    pub failures: u64,
}

/// The state of everything that can be reloaded, by name.
#[derive(Clone, Debug, Default)]
pub struct Outcomes(Arc<Mutex<BTreeMap<String, Outcome>>>);

impl Outcomes {
    /// Notes an attempt.
    pub fn note(&self, name: &str, result: Result<(), String>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = all.entry(name.to_owned()).or_default();
        match result {
            Ok(()) => {
                outcome.loaded_at = Some(clock::utc());
                outcome.failure = None;
                outcome.successes += 1;
            }
            Err(failure) => {
                outcome.failure = Some(failure);
                outcome.failures += 1;
            }
        }
    }

    /// All of them now.
    pub fn snapshot(&self) -> BTreeMap<String, Outcome> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the last attempt at each succeeded.
    pub fn all_good(&self) -> bool {
        self.snapshot().values().all(|o| o.failure.is_none())
    }
}

/// What a file looks like from outside: enough to see that it was replaced or written to.
type Look = Option<(u64, u64, u64, i64, i64, i64, i64)>;

fn look(path: &Path) -> Look {
    let m = fs::metadata(path).ok()?;
    Some((
        m.dev(),
        m.ino(),
        m.size(),
        m.mtime(),
        m.mtime_nsec(),
        m.ctime(),
        m.ctime_nsec(),
    ))
}

struct Watched {
    name: String,
    files: Box<dyn Fn() -> Vec<PathBuf> + Send>,
    load: Box<dyn FnMut() -> Result<(), ReloadError> + Send>,
    /// As the files looked when they were last loaded, or tried to.
    loaded: Vec<Look>,
    /// As they looked a tick ago, when they were about to change.
    settling: Option<Vec<Look>>,
    complained: Option<Instant>,
}

/// Collects what is to be watched.
#[derive(Default)]
pub struct Reloader {
    watched: Vec<Watched>,
    outcomes: Outcomes,
}

impl Reloader {
    /// Where attempts are noted, also by those that are not files.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }

    /// Watches files that have just been loaded. `files` is asked at every look, so that the
    /// list may change; `load` must change nothing when it fails.
    pub fn watch(
        &mut self,
        name: impl Into<String>,
        files: impl Fn() -> Vec<PathBuf> + Send + 'static,
        load: impl FnMut() -> Result<(), ReloadError> + Send + 'static,
    ) {
        let name = name.into();
        self.outcomes.note(&name, Ok(()));
        self.watched.push(Watched {
            name,
            loaded: files().iter().map(|f| look(f)).collect(),
            files: Box::new(files),
            load: Box::new(load),
            settling: None,
            complained: None,
        });
    }

    /// Starts the thread, which ends when the handle is dropped.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(self) -> io::Result<Watching> {
        let (now, asked) = bounded(1);
        let outcomes = self.outcomes.clone();
        thread::Builder::new()
            .name("reload".to_owned())
            .spawn(move || self.run(&asked))?;
        Ok(Watching { now, outcomes })
    }

    fn run(mut self, asked: &Receiver<()>) {
        loop {
            let forced = match asked.recv_timeout(TICK) {
                Ok(()) => true,
                Err(RecvTimeoutError::Timeout) => false,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            for watched in &mut self.watched {
                watched.tick(forced, &self.outcomes);
            }
        }
    }
}

impl Watched {
    fn tick(&mut self, forced: bool, outcomes: &Outcomes) {
        let seen: Vec<Look> = (self.files)().iter().map(|f| look(f)).collect();
        let changed = seen != self.loaded;
        // Certificate and key are two files: what changes is left to finish changing.
        let settled = self.settling.as_ref() == Some(&seen);
        self.settling = changed.then(|| seen.clone());
        if forced || (changed && settled) {
            self.loaded = seen;
            self.settling = None;
            self.attempt(outcomes);
        } else if self.complained.is_some_and(|at| at.elapsed() >= REMINDER) {
            self.attempt(outcomes);
        }
    }

    fn attempt(&mut self, outcomes: &Outcomes) {
        let name = self.name.as_str();
        match (self.load)() {
            Ok(()) => {
                tracing::info!(what = name, "reloaded");
                outcomes.note(name, Ok(()));
                self.complained = None;
            }
            Err(error) => {
                let error = one_line(error.as_ref());
                tracing::error!(
                    what = name,
                    error,
                    "NOT RELOADED: the new file is not good, the old one stays in force"
                );
                outcomes.note(name, Err(error));
                self.complained = Some(clock::monotonic());
            }
        }
    }
}

/// The running thread.
#[derive(Clone, Debug)]
pub struct Watching {
    now: Sender<()>,
    outcomes: Outcomes,
}

impl Watching {
    /// Reads everything again, changed or not.
    pub fn reload_now(&self) {
        // One that is waiting already does as well.
        let _full: Result<(), _> = self.now.try_send(());
    }

    /// What became of the attempts.
    pub fn outcomes(&self) -> &Outcomes {
        &self.outcomes
    }
}

#[cfg(test)]
mod tests;
