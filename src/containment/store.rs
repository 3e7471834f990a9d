//! The file in which incident controls survive a restart.
//!
//! Two lines: what is stopped, in JSON, and the SHA-256 of that line. A file that is not exactly
//! this is refused, never taken for an empty one: corruption must not release anything. A file
//! that is not there is a first start.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::Stopped;
use crate::named_file;

/// Name of the file in the state directory.
const FILE: &str = "incident-controls.json";
/// Largest file that is read, bytes.
const MAX_FILE: u64 = 16 << 20;
/// The only format there is.
const FORMAT: u32 = 1;

/// Why what is stopped cannot be remembered, or is not known.
#[derive(Debug, thiserror::Error)]
pub enum StateError {
    /// The file or its directory cannot be used.
    #[error("{path}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another server keeps its state there.
    #[error("{0}: another server keeps its state there")]
    InUse(PathBuf),
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

/// A directory of this process alone.
#[derive(Debug)]
pub(super) struct Store {
    directory: PathBuf,
    // Locked for as long as the process lives; also what is synced after a rename.
    handle: File,
}

impl Store {
    /// Makes the directory if need be, and locks it.
    pub(super) fn open(directory: &Path) -> Result<Self, StateError> {
        let failed = |source| StateError::Io {
            path: directory.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(failed)?;
        let handle = File::open(directory).map_err(failed)?;
        handle.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StateError::InUse(directory.to_owned()),
            TryLockError::Error(source) => failed(source),
        })?;
        Ok(Self {
            directory: directory.to_owned(),
            handle,
        })
    }

    fn file(&self) -> PathBuf {
        self.directory.join(FILE)
    }

    /// What was stopped when the last server ended.
    pub(super) fn read(&self) -> Result<Stopped, StateError> {
        let path = self.file();
        let mut text = String::new();
        let read = named_file::open(&path).and_then(|file| {
            let length = file.metadata()?.len();
            file.take(MAX_FILE).read_to_string(&mut text)?;
            Ok(length)
        });
        let problem = match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Stopped::default()),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => "is not text".to_owned(),
            Err(source) => return Err(StateError::Io { path, source }),
            Ok(length) if length > MAX_FILE => format!("is larger than {MAX_FILE} bytes"),
            Ok(_) => match parse(&text) {
                Ok(stopped) => return Ok(stopped),
                Err(problem) => problem,
            },
        };
        Err(StateError::Corrupt { path, problem })
    }

    /// Replaces the file as a whole: written beside it, synced, renamed, and the directory synced.
    pub(super) fn write(&self, stopped: &Stopped) -> Result<(), StateError> {
        let path = self.file();
        self.replace(&path, stopped)
            .map_err(|source| StateError::Io { path, source })
    }

    fn replace(&self, path: &Path, stopped: &Stopped) -> io::Result<()> {
        let format = FORMAT;
        let line = serde_json::to_string(&Written { format, stopped })?;
        let staged = self.directory.join(format!("{FILE}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&staged)?;
        writeln!(file, "{line}\n{}", checksum(&line))?;
        file.sync_all()?;
        fs::rename(&staged, path)?;
        self.handle.sync_all()
    }
}

fn parse(text: &str) -> Result<Stopped, String> {
    let (line, rest) = text.split_once('\n').ok_or("is cut short")?;
    if rest != format!("{}\n", checksum(line)) {
        return Err("its checksum does not fit".to_owned());
    }
    let Kept { format, stopped } = serde_json::from_str(line).map_err(|e| e.to_string())?;
    if format != FORMAT {
        return Err(format!("is of format {format}, this server knows {FORMAT}"));
    }
    Ok(stopped)
}

fn checksum(line: &str) -> String {
    format!("sha256 {}", hex::encode(digest(&SHA256, line.as_bytes())))
}
