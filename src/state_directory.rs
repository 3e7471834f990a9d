//! A directory in which a server keeps what must survive it, a file for each purpose.
//!
//! A file is two lines: JSON, and the SHA-256 of that line. One that is not exactly this is
//! damaged, never taken for an empty one. It is replaced as a whole: written beside, synced,
//! renamed, and the directory synced, so that a power cut leaves the old file or the new one.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use serde::{Serialize, de::DeserializeOwned};

use crate::named_file;

/// Largest file that is read, bytes.
const MAX_FILE: u64 = 16 << 20;

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// What the operating system said.
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
}

/// Why a file cannot be read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// What the operating system said.
    Io(io::Error),
    /// It is not what a server wrote.
    Damaged(String),
}

/// A directory of this process alone.
#[derive(Debug)]
pub(crate) struct StateDirectory {
    path: PathBuf,
    // Locked for as long as the process lives; also what is synced after a rename.
    handle: File,
}

impl StateDirectory {
    /// Makes the directory if need be, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Self, DirectoryError> {
        let failed = |source| DirectoryError::Io {
            path: path.to_owned(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(failed)?;
        let handle = File::open(path).map_err(failed)?;
        handle.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => DirectoryError::InUse(path.to_owned()),
            TryLockError::Error(source) => failed(source),
        })?;
        Ok(Self {
            path: path.to_owned(),
            handle,
        })
    }

    /// Path of one of its files.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What was written last; nothing where there is no file.
    pub(crate) fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Option<T>, ReadError> {
        let mut text = String::new();
        let read = named_file::open(&self.file(name)).and_then(|file| {
            let length = file.metadata()?.len();
            file.take(MAX_FILE).read_to_string(&mut text)?;
            Ok(length)
        });
        match read {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                Err(ReadError::Damaged("is not text".to_owned()))
            }
            Err(error) => Err(ReadError::Io(error)),
            Ok(length) if length > MAX_FILE => {
                let problem = format!("is larger than {MAX_FILE} bytes");
                Err(ReadError::Damaged(problem))
            }
            Ok(_) => parse(&text).map(Some).map_err(ReadError::Damaged),
        }
    }

    /// Replaces a file.
    pub(crate) fn write(&self, name: &str, value: &impl Serialize) -> io::Result<()> {
        let line = serde_json::to_string(value)?;
        let staged = self.file(&format!("{name}.new"));
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&staged)?;
        writeln!(file, "{line}\n{}", checksum(&line))?;
        file.sync_all()?;
        fs::rename(&staged, self.file(name))?;
        self.handle.sync_all()
    }
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, String> {
    let (line, rest) = text.split_once('\n').ok_or("is cut short")?;
    if rest != format!("{}\n", checksum(line)) {
        return Err("its checksum does not fit".to_owned());
    }
    serde_json::from_str(line).map_err(|e| e.to_string())
}

fn checksum(line: &str) -> String {
    format!("sha256 {}", hex::encode(digest(&SHA256, line.as_bytes())))
}
