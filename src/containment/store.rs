//! The file in which incident controls survive a restart.
//!
//! One that is damaged is refused: corruption must not release anything. A file that is not there
//! is a first start.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::Stopped;
use crate::state_directory::{DirectoryError, ReadError, StateDirectory};

/// Name of the file in the state directory.
const FILE: &str = "incident-controls.json";
/// The only format there is.
const FORMAT: u32 = 1;

/// Why what is stopped cannot be remembered, or is not known.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The directory cannot be used.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The file cannot be used.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not what this server wrote.
    #[error(
        "{path}: {problem}; it says which models and callers are quarantined, so the server does \
         not start without it: restore it, or remove it to release them all"
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    stopped: &'a Stopped,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    format: u32,
    stopped: Stopped,
}

/// Where it lies.
#[derive(Debug)]
pub(super) struct Store(StateDirectory);

impl Store {
    /// Makes the directory if need be, and locks it.
    pub(super) fn open(directory: &Path) -> Result<Self, StateError> {
        Ok(Self(StateDirectory::open(directory)?))
    }

    /// What was stopped when the last server ended.
    pub(super) fn read(&self) -> Result<Stopped, StateError> {
        let path = self.0.file(FILE);
        let problem = match self.0.read(FILE) {
            Ok(None) => return Ok(Stopped::default()),
            Ok(Some(Kept { format, stopped })) if format == FORMAT => return Ok(stopped),
            Ok(Some(Kept { format, .. })) => {
                format!("is of format {format}, this server knows {FORMAT}")
            }
            Err(ReadError::Damaged(problem)) => problem,
            Err(ReadError::Io(source)) => return Err(StateError::Io { path, source }),
        };
        Err(StateError::Corrupt { path, problem })
    }

    /// Replaces the file as a whole.
    pub(super) fn write(&self, stopped: &Stopped) -> Result<(), StateError> {
        let format = FORMAT;
        let path = self.0.file(FILE);
        self.0
            .write(FILE, &Written { format, stopped })
            .map_err(|source| StateError::Io { path, source })
    }
}
