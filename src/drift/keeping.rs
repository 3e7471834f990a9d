//! The file in which counts survive a restart, and the thread that writes it.
//!
//! It is bound to the bundles: a version's counts are only taken up by the same bytes. A file that
//! is damaged, or whose counts cannot be, is not taken at all, and every window begins empty; it is
//! left as it is until there is something to write.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fmt,
    path::Path,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use serde::{Deserialize, Serialize};

use super::kept::Hours;
use crate::{
    bundle::LoadedModel,
    clock,
    error_chain::one_line,
    state_directory::{DirectoryError, ReadError, StateDirectory},
    telemetry::catalogue::DRIFT_STATE,
};

/// Name of the file in the state directory.
const FILE: &str = "drift.json";
/// The only format there is.
const FORMAT: u32 = 1;
/// How often it is looked whether an hour is over.
const PAUSE: Duration = Duration::from_mins(1);

/// The file's line.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    models: Vec<Kept>,
}

/// What is kept of a model's version.
#[derive(Clone, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    model: String,
    version: u32,
    /// The bundle's digest, hex SHA-256.
    digest: String,
    hours: Vec<Hours>,
}

/// The models that are served now.
type Serving = Box<dyn Fn() -> Vec<Arc<LoadedModel>> + Send>;

/// What is kept, by digest, and where.
pub struct Keeper {
    directory: StateDirectory,
    kept: BTreeMap<String, Kept>,
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper").finish_non_exhaustive()
    }
}

impl Keeper {
    /// Opens the directory, and lets these models go on with what was kept of them.
    ///
    /// # Errors
    /// When the directory cannot be used. A file that cannot is logged and counted.
    pub fn open(path: &Path, models: &[Arc<LoadedModel>]) -> Result<Self, DirectoryError> {
        let directory = StateDirectory::open(path)?;
        for result in ["restored", "refused", "written", "failed"] {
            DRIFT_STATE.with([result.into()]).absolute(0);
        }
        let mut keeper = Self {
            directory,
            kept: BTreeMap::new(),
        };
        match keeper.restore(models, clock::since_epoch()) {
            Ok(0) => {}
            Ok(restored) => tracing::info!(restored, "drift goes on with what was counted before"),
            Err(problem) => {
                let (code, file) = ("DRIFT_STATE_REFUSED", keeper.directory.file(FILE));
                let file = file.display();
                tracing::error!(code, %file, problem, "drift begins with nothing");
                DRIFT_STATE.with(["refused".into()]).increment(1);
            }
        }
        Ok(keeper)
    }

    /// How many models were there.
    fn restore(&mut self, models: &[Arc<LoadedModel>], now: Duration) -> Result<usize, String> {
        let file: File = match self.directory.read(FILE) {
            Ok(Some(file)) => file,
            Ok(None) => return Ok(0),
            Err(ReadError::Io(error)) => return Err(one_line(&error)),
            Err(ReadError::Damaged(problem)) => return Err(problem),
        };
        if file.format != FORMAT {
            let format = file.format;
            return Err(format!("is of format {format}, this server knows {FORMAT}"));
        }
        // Of a version that is not served, or of other bytes, nothing is taken up.
        let mut found = Vec::new();
        for kept in file.models {
            let monitor = models.iter().find_map(|model| {
                let (name, version) = (&model.spec().name, model.spec().version);
                let same =
                    model.digest() == kept.digest && (name, version) == (&kept.model, kept.version);
                same.then(|| model.drift())?
            });
            if let Some(monitor) = monitor {
                monitor.check_all(&kept.hours, now)?;
                found.push((monitor, kept));
            }
        }
        let restored = found.len();
        for (monitor, mut kept) in found {
            monitor.restore(&mut kept.hours);
            DRIFT_STATE.with(["restored".into()]).increment(1);
            self.kept.insert(kept.digest.clone(), kept);
        }
        Ok(restored)
    }

    /// Writes what has come since, if anything has.
    fn write(&mut self, models: &[Arc<LoadedModel>], now: Duration, end: bool) {
        let mut kept = BTreeMap::new();
        for model in models {
            let Some(monitor) = model.drift() else {
                continue;
            };
            let digest = model.digest().to_owned();
            let before = self.kept.get(&digest);
            let mut hours = before.map_or_else(Vec::new, |kept| kept.hours.clone());
            monitor.keep(&mut hours, now, end);
            if !hours.is_empty() {
                let (model, version) = (model.spec().name.clone(), model.spec().version);
                let of = Kept {
                    model,
                    version,
                    digest: digest.clone(),
                    hours,
                };
                kept.insert(digest, of);
            }
        }
        if kept == self.kept {
            return;
        }
        let file = File {
            format: FORMAT,
            models: kept.values().cloned().collect(),
        };
        let result = match self.directory.write(FILE, &file) {
            Ok(()) => {
                self.kept = kept;
                "written"
            }
            Err(error) => {
                let code = "DRIFT_STATE_UNWRITTEN";
                tracing::error!(code, %error, "drift's counts are not kept");
                "failed"
            }
        };
        DRIFT_STATE.with([result.into()]).increment(1);
    }

    /// Starts the thread that writes, whatever is served then.
    ///
    /// # Errors
    /// When there is no thread.
    pub fn start(
        self,
        serving: impl Fn() -> Vec<Arc<LoadedModel>> + Send + 'static,
    ) -> std::io::Result<Keeping> {
        let (open, closing) = bounded(0);
        let serving: Serving = Box::new(serving);
        let thread = thread::Builder::new()
            .name("drift".to_owned())
            .spawn(move || self.run(&serving, &closing))?;
        Ok(Keeping {
            open: Some(open),
            thread: Some(thread),
        })
    }

    fn run(mut self, serving: &Serving, closing: &Receiver<Infallible>) {
        loop {
            let end = closing.recv_timeout(PAUSE) == Err(RecvTimeoutError::Disconnected);
            self.write(&serving(), clock::since_epoch(), end);
            if end {
                return;
            }
        }
    }
}

/// The thread that writes. Dropping it writes for the last time.
#[derive(Debug)]
pub struct Keeping {
    open: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Keeping {
    fn drop(&mut self) {
        drop(self.open.take());
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::error!("the thread that keeps drift's counts panicked");
        }
    }
}
