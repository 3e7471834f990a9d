//! The highest policy serial seen, kept over restarts.
//!
//! Written to a new file, synced, moved into place, and the directory synced: a power cut leaves
//! the old record or the new one. Deleting the file forgets what was seen; `min_serial` in the
//! configuration is what then remains.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use super::{
    super::signing::{SigningError, read_signature, strict_json},
    PolicyError, terms,
};

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Seen {
    format: u32,
    /// The highest serial.
    serial: u64,
    /// SHA-256 of the policy that had it, lower-case hexadecimal.
    policy: String,
}

/// The file that remembers the highest serial.
#[derive(Debug)]
pub struct SerialStore(PathBuf);

impl SerialStore {
    /// At `path`, whose directory must exist.
    pub fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// Refuses a serial below the highest seen, and remembers a higher one.
    pub(super) fn advance(&self, serial: u64, policy: &str) -> Result<(), PolicyError> {
        let failed = |source| PolicyError::StateIo {
            path: self.0.clone(),
            source,
        };
        // Two servers with one state file must not overtake each other between reading and
        // writing. Let go when the directory is closed.
        let directory = File::open(self.directory()).map_err(failed)?;
        flock(&directory, FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
        match read(&self.0)? {
            Some(seen) if serial < seen.serial => Err(PolicyError::OlderSerial {
                serial,
                highest: seen.serial,
            }),
            Some(seen) if serial == seen.serial && policy != seen.policy => {
                Err(PolicyError::SerialReused { serial })
            }
            Some(seen) if serial == seen.serial => Ok(()),
            Some(_) | None => self.write(serial, policy, &directory).map_err(failed),
        }
    }

    fn directory(&self) -> &Path {
        match self.0.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    fn write(&self, serial: u64, policy: &str, directory: &File) -> io::Result<()> {
        let seen = Seen {
            format: 1,
            serial,
            policy: policy.to_owned(),
        };
        let mut name = self.0.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let staged = self.0.with_file_name(name);
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&staged)?;
        serde_json::to_writer(&mut file, &seen)?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&staged, &self.0)?;
        directory.sync_all()
    }
}

/// The highest serial that the state file at `path` remembers, if there is one.
pub fn highest_seen(path: &Path) -> Result<Option<u64>, PolicyError> {
    Ok(read(path)?.map(|seen| seen.serial))
}

fn read(path: &Path) -> Result<Option<Seen>, PolicyError> {
    const DOCUMENT: &str = "state file";
    let corrupt = |source| PolicyError::State {
        path: path.to_owned(),
        source,
    };
    let bytes = match read_signature(path) {
        Ok(bytes) => bytes,
        Err(SigningError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            return Ok(None);
        }
        Err(SigningError::Io { source, .. }) => {
            return Err(PolicyError::StateIo {
                path: path.to_owned(),
                source,
            });
        }
        Err(other) => return Err(corrupt(other)),
    };
    let seen: Seen =
        strict_json::parse(DOCUMENT, &bytes, terms::wrong_json(DOCUMENT)).map_err(corrupt)?;
    if seen.format != 1 || seen.serial == 0 {
        return Err(corrupt(SigningError::DocumentJson {
            document: DOCUMENT,
            reason: "format or serial is not one we write".to_owned(),
        }));
    }
    Ok(Some(seen))
}
