//! Reads a log from its first record to its last, over all its files, in constant memory; while
//! a server writes it, as it was at one moment.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Take},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    vec,
};

use rustix::fs::OFlags;

use super::{
    files::{Segment, sealed},
    note::Note,
};

/// Longest line that is read as one, bytes; records are far shorter.
const MAX_LINE: u64 = 1 << 20;
/// Longest note, bytes.
const MAX_NOTE: usize = 16 * 1024;
const BUFFER: usize = 1 << 18;

/// Where in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// Name of the file.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
}

/// A line of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Line<'a> {
    /// Without its newline.
    Whole(&'a [u8]),
    /// The last of a file, without a newline: it was never acknowledged.
    Torn(&'a [u8]),
    /// Longer than any record; the rest of its file is not read.
    TooLong,
}

/// A file up to where it ended at the moment of the snapshot.
type Part = Take<File>;

/// Opens a file of a log. A device has no end, and opening a FIFO must not wait for a writer.
fn open(path: impl AsRef<Path>) -> io::Result<File> {
    let path = path.as_ref();
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    if !file.metadata()?.is_file() {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        return Err(io::Error::other(format!("{name} is not a regular file")));
    }
    Ok(file)
}

/// A log at one moment. Checkpoints are looked at first: what they cover is then in the files of
/// records, even while a server goes on writing.
pub struct Snapshot {
    directory: PathBuf,
    sealed: Vec<u32>,
    live: Option<Part>,
    live_checkpoints: Option<Part>,
    bytes: u64,
}

impl Snapshot {
    /// Of the log in `directory`. A path of one of its files stands for all of it.
    pub fn take(path: &Path) -> io::Result<Self> {
        let directory = if path.is_dir() {
            path
        } else {
            open(path)?;
            path.parent()
                .filter(|p| p.as_os_str() != "")
                .unwrap_or(Path::new("."))
        };
        // A rotation in between shows as another number of sealed segments.
        for _ in 0..100 {
            let before = sealed(directory)?;
            let snapshot = Self::look(directory, before)?;
            if sealed(directory)? == snapshot.sealed {
                return Ok(snapshot);
            }
        }
        Err(io::Error::other(
            "the log is rotated faster than it can be read",
        ))
    }

    fn look(directory: &Path, sealed: Vec<u32>) -> io::Result<Self> {
        let part = |name: String| match open(directory.join(name)) {
            Ok(file) => {
                let length = file.metadata()?.len();
                Ok(Some(file.take(length)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        };
        let live_checkpoints = part(Segment::Live.checkpoints())?;
        let live = part(Segment::Live.records())?;
        let mut bytes = live.as_ref().map_or(0, Take::limit);
        for number in &sealed {
            let records = directory.join(Segment::Sealed(*number).records());
            bytes += records.metadata().map_or(0, |m| m.len());
        }
        if live.is_none() && sealed.is_empty() {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("no audit log in {}", directory.display()),
            ));
        }
        Ok(Self {
            directory: directory.to_owned(),
            sealed,
            live,
            live_checkpoints,
            bytes,
        })
    }

    /// Bytes of records, for a progress bar.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many files hold records.
    pub fn files(&self) -> usize {
        self.sealed.len() + usize::from(self.live.is_some())
    }

    /// The log's name, as its first checkpoint has it; unverified.
    pub fn origin(&self) -> io::Result<Option<String>> {
        let mut names: Vec<String> = self
            .sealed
            .iter()
            .map(|n| Segment::Sealed(*n).checkpoints())
            .collect();
        names.push(Segment::Live.checkpoints());
        for name in names {
            let mut line = String::new();
            match open(self.directory.join(name)) {
                Ok(file) => {
                    BufReader::new(file.take(MAX_NOTE as u64)).read_line(&mut line)?;
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            if let Some(origin) = line.strip_suffix('\n') {
                return Ok(Some(origin.to_owned()));
            }
        }
        Ok(None)
    }

    /// The checkpoints, to be read beside the lines.
    pub(super) fn notes(&mut self) -> Notes {
        let mut files: Vec<(String, PathBuf)> = Vec::new();
        for number in &self.sealed {
            let name = Segment::Sealed(*number).checkpoints();
            files.push((name.clone(), self.directory.join(name)));
        }
        Notes {
            files: files.into_iter(),
            live: self.live_checkpoints.take(),
            reader: None,
            place: Place::default(),
        }
    }

    /// Reads every line in order.
    pub(super) fn each_line<E: From<io::Error>>(
        self,
        mut read: impl FnMut(&Place, Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for number in &self.sealed {
            let name = Segment::Sealed(*number).records();
            let path = self.directory.join(&name);
            match open(path) {
                Ok(file) => each_line_of(name, file.take(u64::MAX), &mut read)?,
                // Its records are missed when the next ones are read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error.into()),
            }
        }
        match self.live {
            Some(part) => each_line_of(Segment::Live.records(), part, &mut read),
            None => Ok(()),
        }
    }
}

fn each_line_of<E: From<io::Error>>(
    name: String,
    part: Part,
    read: &mut impl FnMut(&Place, Line<'_>) -> Result<(), E>,
) -> Result<(), E> {
    let mut reader = BufReader::with_capacity(BUFFER, part);
    let mut place = Place {
        file: name,
        line: 0,
    };
    let mut line = Vec::with_capacity(4096);
    loop {
        line.clear();
        (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Ok(());
        }
        place.line += 1;
        match line.strip_suffix(b"\n") {
            Some(whole) => read(&place, Line::Whole(whole))?,
            None if line.len() as u64 == MAX_LINE => return read(&place, Line::TooLong),
            None => return read(&place, Line::Torn(&line)),
        }
    }
}

/// A checkpoint of the log's files, unverified.
pub(super) enum Found {
    Note(Note),
    /// Something else than a checkpoint.
    Malformed,
    /// The last of its file, cut short.
    Torn,
}

/// Reads the checkpoints of a log in order.
pub(super) struct Notes {
    files: vec::IntoIter<(String, PathBuf)>,
    live: Option<Part>,
    reader: Option<BufReader<Part>>,
    place: Place,
}

impl Notes {
    /// The next one, and where it starts.
    pub(super) fn next(&mut self) -> io::Result<Option<(Place, Found)>> {
        loop {
            if let Some(reader) = &mut self.reader {
                let (start, text, at_end) = read_note(reader, &mut self.place)?;
                if !text.is_empty() {
                    let found = match Note::parse(&text) {
                        Some(note) => Found::Note(note),
                        None if at_end => Found::Torn,
                        None => Found::Malformed,
                    };
                    return Ok(Some((start, found)));
                }
            }
            if !self.open_next()? {
                return Ok(None);
            }
        }
    }

    fn open_next(&mut self) -> io::Result<bool> {
        let (name, part) = match self.files.next() {
            Some((name, path)) => match open(path) {
                Ok(file) => (name, file.take(u64::MAX)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    self.reader = None;
                    return Ok(true);
                }
                Err(error) => return Err(error),
            },
            None => match self.live.take() {
                Some(part) => (Segment::Live.checkpoints(), part),
                None => return Ok(false),
            },
        };
        self.place = Place {
            file: name,
            line: 0,
        };
        self.reader = Some(BufReader::with_capacity(BUFFER, part));
        Ok(true)
    }
}

/// The text of one note: its own empty line is the first, the one that ends it the second.
fn read_note(reader: &mut impl BufRead, place: &mut Place) -> io::Result<(Place, String, bool)> {
    let (mut text, mut start, mut empty) = (Vec::new(), place.clone(), 0);
    loop {
        let before = text.len();
        (&mut *reader)
            .take(MAX_NOTE as u64)
            .read_until(b'\n', &mut text)?;
        let line = text.get(before..).unwrap_or_default();
        if line.is_empty() {
            return Ok((start, lossy(&text), true));
        }
        place.line += 1;
        if before == 0 {
            start = place.clone();
        }
        if line == b"\n" {
            empty += 1;
            if before == 0 {
                text.clear();
                empty = 0;
            } else if empty == 2 {
                text.truncate(before);
                return Ok((start, lossy(&text), false));
            }
        }
        if text.len() > MAX_NOTE {
            return Ok((start, lossy(&text), false));
        }
    }
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// The checkpoints in a text: a copy of one, or of many.
pub fn notes_in(mut text: &[u8]) -> io::Result<Vec<Option<Note>>> {
    let (mut notes, mut place) = (Vec::new(), Place::default());
    loop {
        let (_, note, at_end) = read_note(&mut text, &mut place)?;
        if !note.is_empty() {
            notes.push(Note::parse(&note));
        }
        if at_end {
            return Ok(notes);
        }
    }
}

/// Hands every record of a log to `read`, oldest first; returns how many lines are no records.
/// The last line of a file that was cut short is passed over: it was never acknowledged.
pub fn each_record(
    snapshot: Snapshot,
    mut read: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<u64> {
    let mut others = 0;
    snapshot.each_line(|_, line| match line {
        Line::Whole(bytes) if super::chain::parse_line(bytes).is_some() => read(bytes),
        Line::Torn(_) => Ok(()),
        Line::Whole(_) | Line::TooLong => {
            others += 1;
            Ok::<_, io::Error>(())
        }
    })?;
    Ok(others)
}
