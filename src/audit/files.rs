//! The files of a log: `audit.jsonl`, which is appended to, and the segments before it,
//! `audit-000001.jsonl`, `audit-000002.jsonl`, …, which never change again. Beside each lies the
//! file of the checkpoints that were made while it was appended to, `….checkpoints`.

use std::{
    fs::{self, File, Metadata, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Name of the live segment, without its extension.
const LIVE: &str = "audit";
const RECORDS: &str = "jsonl";
const CHECKPOINTS: &str = "checkpoints";

/// A segment, by its number; the live one has none yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Sealed(u32),
    Live,
}

impl Segment {
    fn file(self, extension: &str) -> String {
        match self {
            Self::Sealed(number) => format!("{LIVE}-{number:06}.{extension}"),
            Self::Live => format!("{LIVE}.{extension}"),
        }
    }

    /// Name of the file of its records.
    pub(super) fn records(self) -> String {
        self.file(RECORDS)
    }

    /// Name of the file of its checkpoints.
    pub(super) fn checkpoints(self) -> String {
        self.file(CHECKPOINTS)
    }
}

/// The file of checkpoints beside a file of records; nothing for the live one.
pub(super) fn sealed_checkpoints(records: &str) -> Option<String> {
    let stem = records.strip_suffix(RECORDS)?;
    (records != Segment::Live.records()).then(|| format!("{stem}{CHECKPOINTS}"))
}

/// Numbers of the segments that are sealed, ascending.
pub(super) fn sealed(directory: &Path) -> io::Result<Vec<u32>> {
    let mut numbers = Vec::new();
    for entry in fs::read_dir(directory)? {
        let name = entry?.file_name();
        let number = name
            .to_str()
            .and_then(|n| n.strip_prefix("audit-")?.split_once('.'))
            .filter(|(_, extension)| [RECORDS, CHECKPOINTS].contains(extension))
            .and_then(|(number, _)| number.parse::<u32>().ok());
        numbers.extend(number);
    }
    numbers.sort_unstable();
    numbers.dedup();
    Ok(numbers)
}

/// The directory of a log, held by this process alone: two writers would fork the chain.
#[derive(Debug)]
pub(super) struct Directory {
    path: PathBuf,
    handle: File,
    /// Held for as long as it is open.
    _lock: File,
}

impl Directory {
    /// Makes the directory when it is not there, and locks it.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(path.join("lock"))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::other("another server writes this log"),
            TryLockError::Error(error) => error,
        })?;
        Ok(Self {
            path: path.to_owned(),
            handle: File::open(path)?,
            _lock: lock,
        })
    }

    /// Whether a file can be written and synced here, found out by doing it.
    pub(super) fn takes_files(&self) -> bool {
        let path = self.path.join("probe");
        let probed = File::create(&path)
            .and_then(|mut file| {
                file.write_all(&[0; 4096])?;
                file.sync_all()
            })
            .is_ok();
        fs::remove_file(&path).is_ok() && probed
    }

    /// Opens the live segment, new or as it was left.
    pub(super) fn live(&self) -> io::Result<Live> {
        let (records, checkpoints) = (
            self.append_to(&Segment::Live.records())?,
            self.append_to(&Segment::Live.checkpoints())?,
        );
        // Their names must outlive a power cut as their contents do.
        self.handle.sync_all()?;
        let found = records.metadata()?;
        Ok(Live {
            path: self.path.join(Segment::Live.records()),
            checkpoints_path: self.path.join(Segment::Live.checkpoints()),
            identity: identity(&found),
            length: found.len(),
            checkpoints_length: checkpoints.metadata()?.len(),
            records,
            checkpoints,
            uncertain: false,
        })
    }

    fn append_to(&self, name: &str) -> io::Result<File> {
        OpenOptions::new()
            .create(true)
            .read(true)
            .append(true)
            .mode(0o600)
            .open(self.path.join(name))
    }

    /// Begins a new file of checkpoints for the live segment, after somebody else moved, deleted
    /// or changed it. What is in its place is kept aside.
    pub(super) fn renew_checkpoints(&self, live: &mut Live) -> io::Result<()> {
        if fs::symlink_metadata(&live.checkpoints_path).is_ok() {
            self.move_aside(&Segment::Live.checkpoints())?;
        }
        live.checkpoints = self.append_to(&Segment::Live.checkpoints())?;
        live.checkpoints_length = live.checkpoints.metadata()?.len();
        self.handle.sync_all()
    }

    /// Moves a file that is not ours out of the way, under a name that nothing has.
    fn move_aside(&self, name: &str) -> io::Result<()> {
        let mut number = 1u32;
        let aside = loop {
            let aside = format!("{name}.foreign-{number}");
            if fs::symlink_metadata(self.path.join(&aside)).is_err() {
                break aside;
            }
            number += 1;
        };
        tracing::error!(
            aside,
            "audit log: another file was in its place; moved aside"
        );
        fs::rename(self.path.join(name), self.path.join(aside))
    }

    /// Gives the live segment the next number, so that a new one can be opened. What somebody
    /// else put in its place is moved out of the way, not taken for ours.
    pub(super) fn seal(&self, live: &Live) -> io::Result<()> {
        let last = sealed(&self.path)?.last().copied().unwrap_or(0);
        let next = Segment::Sealed(last + 1);
        let records = self.path.join(Segment::Live.records());
        match live.at_path() {
            Some(true) => fs::rename(&records, self.path.join(next.records()))?,
            Some(false) => self.move_aside(&Segment::Live.records())?,
            None => {}
        }
        let checkpoints = &live.checkpoints_path;
        match is_at(&live.checkpoints, checkpoints) {
            Some(true) => fs::rename(checkpoints, self.path.join(next.checkpoints()))?,
            Some(false) => self.move_aside(&Segment::Live.checkpoints())?,
            None => {}
        }
        self.handle.sync_all()
    }
}

/// Which file it is, for as long as it is open.
fn identity(of: &Metadata) -> (u64, u64) {
    (of.dev(), of.ino())
}

/// Whether the file at a path is the open one; nothing when there is none.
fn is_at(open: &File, path: &Path) -> Option<bool> {
    let at_path = identity(&fs::metadata(path).ok()?);
    Some(open.metadata().is_ok_and(|open| at_path == identity(&open)))
}

/// The live segment.
#[derive(Debug)]
pub(super) struct Live {
    path: PathBuf,
    checkpoints_path: PathBuf,
    records: File,
    checkpoints: File,
    /// Of the file of records.
    identity: (u64, u64),
    length: u64,
    checkpoints_length: u64,
    /// Something that should have been taken back may still be there.
    uncertain: bool,
}

impl Live {
    /// Bytes that count.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Whether nothing is in it, so that it need not be closed for a new one.
    pub(super) fn is_blank(&self) -> bool {
        self.length == 0 && !self.uncertain && self.is_undisturbed()
    }

    /// Whether the file at our path is ours; nothing when there is none.
    fn at_path(&self) -> Option<bool> {
        is_at(&self.records, &self.path)
    }

    /// Whether the file of checkpoints is where it is looked for, as it was left.
    pub(super) fn checkpoints_are_undisturbed(&self) -> io::Result<bool> {
        let ours = is_at(&self.checkpoints, &self.checkpoints_path) == Some(true);
        Ok(ours && self.checkpoints.metadata()?.len() == self.checkpoints_length)
    }

    /// Whether records that are written now go where they are looked for, behind the ones before.
    pub(super) fn is_undisturbed(&self) -> bool {
        fs::metadata(&self.path).is_ok_and(|at_path| {
            identity(&at_path) == self.identity && at_path.len() == self.length
        })
    }

    /// Appends whole lines, all or none. Of a write that fails in the middle nothing should stay.
    pub(super) fn append(&mut self, lines: &[u8]) -> io::Result<()> {
        self.records.write_all(lines).inspect_err(|_| {
            self.cut_back(self.length);
        })?;
        self.length += u64::try_from(lines.len()).unwrap_or_default();
        Ok(())
    }

    /// Takes back what nobody was told about. If even that fails, it is [`Self::surplus`].
    pub(super) fn cut_back(&mut self, length: u64) {
        self.length = length;
        if let Err(error) = self.records.set_len(length) {
            self.uncertain = true;
            tracing::error!(%error, "audit log: lines could not be taken back");
        }
    }

    /// What should have been taken back and is still there.
    pub(super) fn surplus(&self) -> io::Result<Vec<u8>> {
        if !self.uncertain {
            return Ok(Vec::new());
        }
        let length = self.records.metadata()?.len().saturating_sub(self.length);
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.records.read_exact_at(&mut bytes, self.length)?;
        Ok(bytes)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.records.sync_data()
    }

    /// Appends a checkpoint and makes it durable; the records that it covers must be.
    pub(super) fn append_checkpoint(&mut self, note: &str) -> io::Result<()> {
        let before = self.checkpoints_length;
        let separator = if before == 0 { "" } else { "\n" };
        let text = format!("{separator}{note}");
        self.checkpoints
            .write_all(text.as_bytes())
            .and_then(|()| self.checkpoints.sync_data())
            .inspect_err(|_| {
                // Half a note at the end of a file is recognised; more must not follow it.
                self.uncertain |= self.checkpoints.set_len(before).is_err();
            })?;
        self.checkpoints_length += u64::try_from(text.len()).unwrap_or_default();
        Ok(())
    }
}
