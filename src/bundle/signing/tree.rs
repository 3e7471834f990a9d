//! A directory, read once.
//!
//! Every name is opened relative to its parent's descriptor, never through a path, and never
//! through a link: swapping a directory while we read cannot lead us out of the bundle. What a
//! name is, is asked of the opened descriptor. Opening does not block, so a FIFO cannot hang us.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use aws_lc_rs::digest::{Context, Digest, SHA256, digest};
use rustix::{
    fs::{CWD, Dir, Mode, OFlags, openat},
    io::Errno,
};

use super::error::SigningError;

/// The most files, and the most directories, a bundle may hold.
pub const MAX_FILES: usize = 1024;
/// The most parts a file's name may have.
pub const MAX_DEPTH: usize = 16;
/// The longest file name, in bytes, with its directories.
pub(super) const MAX_NAME: usize = 1023;
/// The largest signature file, in bytes: far above [`MAX_FILES`] entries of ordinary length.
const MAX_SIGNATURE: u64 = 4 << 20;
/// Paths the reference tool leaves out at the top of a bundle. We never open them.
pub(super) const GIT_PATHS: [&str; 4] = [".git", ".gitattributes", ".github", ".gitignore"];

/// How much a bundle may hold, in bytes.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The most in one file.
    pub file_bytes: u64,
    /// The most in all files.
    pub total_bytes: u64,
}

impl Default for Limits {
    /// 512 MiB a file, 1 GiB in all: well above a clinical network, well below a host's memory.
    fn default() -> Self {
        Self {
            file_bytes: 512 << 20,
            total_bytes: 1 << 30,
        }
    }
}

/// A directory's files in memory, with their digests. Immutable once read.
pub struct Contents {
    files: Arc<BTreeMap<String, Vec<u8>>>,
    digests: BTreeMap<String, Digest>,
    git_paths: BTreeSet<String>,
}

impl Contents {
    /// Reads every regular file below `dir`, except git's own at its top.
    ///
    /// # Errors
    /// A link, a special file, a name that is not canonical, more than the limits allow, or what
    /// the operating system says.
    pub fn read(dir: &Path, limits: &Limits) -> Result<Self, SigningError> {
        let path = dir.display().to_string();
        let root = openat(CWD, dir, FLAGS | OFlags::DIRECTORY, Mode::empty()).map_err(|errno| {
            if errno == Errno::NOTDIR || errno == Errno::LOOP {
                SigningError::NotDirectory { path: path.clone() }
            } else {
                failed(&path, errno)
            }
        })?;
        let mut walk = Walk {
            limits,
            files: BTreeMap::new(),
            git_paths: BTreeSet::new(),
            directories: 0,
            bytes: 0,
        };
        walk.directory(&File::from(root), &path, "", 1)?;
        let digests = walk
            .files
            .iter()
            .map(|(name, bytes)| (name.clone(), digest(&SHA256, bytes)))
            .collect();
        Ok(Self {
            files: Arc::new(walk.files),
            digests,
            git_paths: walk.git_paths,
        })
    }

    /// The files' names, in order of their code points.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.files.keys().map(String::as_str)
    }

    /// Every file, by its name: bytes nobody vouches for, to be looked at or signed. What is
    /// served comes from [`Verified`](super::Verified) only.
    pub fn unverified(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// The root digest that a signature made here names: lower-case hexadecimal SHA-256 over the
    /// files' raw digests in order of their names' code points.
    pub fn root_digest(&self) -> String {
        let mut root = Context::new(&SHA256);
        for digest in self.digests.values() {
            root.update(digest.as_ref());
        }
        hex::encode(root.finish())
    }

    pub(super) fn files(&self) -> Arc<BTreeMap<String, Vec<u8>>> {
        Arc::clone(&self.files)
    }

    /// The SHA-256 of each file, by name.
    pub(super) fn digests(&self) -> &BTreeMap<String, Digest> {
        &self.digests
    }

    /// Which of [`GIT_PATHS`] lie at the top, unread.
    pub(super) fn git_paths(&self) -> &BTreeSet<String> {
        &self.git_paths
    }
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Contents")
            .field("digests", &self.digests)
            .finish_non_exhaustive()
    }
}

/// Whether a name can mean one file only, on any system.
pub(super) fn is_canonical(name: &str) -> bool {
    name.len() <= MAX_NAME
        && !name.contains(['\\', ':'])
        && !name.contains(char::is_control)
        && name
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != "..")
}

/// Reads one signature file, under the same rules as a bundle's files.
pub fn read_signature(path: &Path) -> Result<Vec<u8>, SigningError> {
    let shown = path.display().to_string();
    let file = open_entry(CWD, path, &shown)?;
    let size = file.metadata().map_err(|source| failed(&shown, source))?;
    if !size.is_file() {
        return Err(SigningError::NotRegular { path: shown });
    }
    read_capped(file, size.len(), MAX_SIGNATURE)
        .map_err(|source| failed(&shown, source))?
        .ok_or(SigningError::FileTooLarge {
            path: shown,
            limit: MAX_SIGNATURE,
        })
}

const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

struct Walk<'a> {
    limits: &'a Limits,
    files: BTreeMap<String, Vec<u8>>,
    git_paths: BTreeSet<String>,
    directories: usize,
    bytes: u64,
}

impl Walk<'_> {
    /// Reads what `dir` holds. `shown` is for messages; `prefix` is the bundle's name for it, with
    /// its final slash; a file in it has `depth` parts.
    fn directory(
        &mut self,
        dir: &File,
        shown: &str,
        prefix: &str,
        depth: usize,
    ) -> Result<(), SigningError> {
        if depth > MAX_DEPTH {
            return Err(SigningError::TooDeep {
                path: shown.to_owned(),
                limit: MAX_DEPTH,
            });
        }
        self.directories += 1;
        if self.directories > MAX_FILES {
            return Err(SigningError::TooMany { limit: MAX_FILES });
        }
        for entry in Dir::read_from(dir).map_err(|errno| failed(shown, errno))? {
            let entry = entry.map_err(|errno| failed(shown, errno))?;
            let raw = entry.file_name();
            if raw == c"." || raw == c".." {
                continue;
            }
            let name = format!("{prefix}{}", raw.to_string_lossy());
            if raw.to_str().is_err() || !is_canonical(&name) {
                return Err(SigningError::Name { name });
            }
            if GIT_PATHS.contains(&name.as_str()) {
                self.git_paths.insert(name);
                continue;
            }
            let file = open_entry(dir, raw, &name)?;
            let kind = file.metadata().map_err(|source| failed(&name, source))?;
            if kind.is_dir() {
                self.directory(&file, &name, &format!("{name}/"), depth + 1)?;
            } else if kind.is_file() {
                self.file(file, kind.len(), name)?;
            } else {
                return Err(SigningError::NotRegular { path: name });
            }
        }
        Ok(())
    }

    fn file(&mut self, file: File, size: u64, name: String) -> Result<(), SigningError> {
        if self.files.len() >= MAX_FILES {
            return Err(SigningError::TooMany { limit: MAX_FILES });
        }
        let left = self.limits.total_bytes.saturating_sub(self.bytes);
        let cap = self.limits.file_bytes.min(left);
        let Some(bytes) = read_capped(file, size, cap).map_err(|source| failed(&name, source))?
        else {
            return Err(if left < self.limits.file_bytes {
                SigningError::BundleTooLarge {
                    path: name,
                    limit: self.limits.total_bytes,
                }
            } else {
                SigningError::FileTooLarge {
                    path: name,
                    limit: self.limits.file_bytes,
                }
            });
        };
        self.bytes += bytes.len() as u64;
        self.files.insert(name, bytes);
        Ok(())
    }
}

fn open_entry(
    dir: impl rustix::fd::AsFd,
    name: impl rustix::path::Arg,
    shown: &str,
) -> Result<File, SigningError> {
    match openat(dir, name, FLAGS, Mode::empty()) {
        Ok(descriptor) => Ok(File::from(descriptor)),
        Err(Errno::LOOP) => Err(SigningError::Symlink {
            path: shown.to_owned(),
        }),
        // A socket, or a device without a driver.
        Err(Errno::NXIO | Errno::NODEV) => Err(SigningError::NotRegular {
            path: shown.to_owned(),
        }),
        Err(errno) => Err(failed(shown, errno)),
    }
}

/// The whole file, or `None` if it has more than `cap` bytes. `size` is what it claims; a file
/// that grows while we read is stopped all the same.
fn read_capped(file: File, size: u64, cap: u64) -> io::Result<Option<Vec<u8>>> {
    if size > cap {
        return Ok(None);
    }
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0).saturating_add(1));
    file.take(cap.saturating_add(1)).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= cap).then_some(bytes))
}

fn failed(path: &str, source: impl Into<io::Error>) -> SigningError {
    SigningError::Io {
        path: path.to_owned(),
        source: source.into(),
    }
}
