//! The end of a log: its last records, read backwards over its files, and the checkpoints beside
//! them. While a server writes it, as it was at one moment.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use super::files::{Segment, sealed};
use crate::named_file;

/// Bytes of checkpoints at most.
const NOTES: u64 = 1 << 20;

/// The last records of a log.
#[derive(Debug, Default)]
pub struct Tail {
    /// Whole lines, oldest first, without their newlines.
    pub lines: Vec<String>,
    /// Whether there are more that were wanted, but for the bound on bytes or a missing file.
    pub cut: bool,
    /// The checkpoints that were made while the files were written in which the lines are.
    pub checkpoints: String,
}

/// Reads the last `wanted` records of the log in `directory`, looking at no more than its last
/// `bytes`.
///
/// # Errors
/// When a file cannot be read. No file at all is an empty log.
pub fn tail(directory: &Path, wanted: usize, bytes: u64) -> io::Result<Tail> {
    // A rotation in between shows as another number of sealed segments.
    for _ in 0..100 {
        let before = match sealed(directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Tail::default()),
            sealed => sealed?,
        };
        let live = open(directory, &Segment::Live.records())?;
        let notes = open(directory, &Segment::Live.checkpoints())?;
        if sealed(directory)? == before {
            return read(directory, &before, (live, notes), wanted, bytes);
        }
    }
    Err(io::Error::other(
        "the log is rotated faster than it can be read",
    ))
}

fn read(
    directory: &Path,
    sealed: &[u32],
    (live, live_notes): (Option<File>, Option<File>),
    wanted: usize,
    mut bytes: u64,
) -> io::Result<Tail> {
    let mut tail = Tail::default();
    let (mut lines, mut notes) = (Vec::new(), vec![live_notes]);
    let mut older = sealed.iter().rev();
    let mut file = live;
    loop {
        if let Some(file) = file {
            let end = End::of(file, bytes)?;
            bytes -= end.length;
            let mut found = end.lines();
            tail.cut = end.torn;
            found.append(&mut lines);
            lines = found;
        }
        if lines.len() >= wanted {
            tail.cut = false;
            break;
        }
        let Some(number) = older.next() else { break };
        tail.cut |= bytes == 0;
        if tail.cut {
            break;
        }
        file = open(directory, &Segment::Sealed(*number).records())?;
        notes.push(open(directory, &Segment::Sealed(*number).checkpoints())?);
        if file.is_none() {
            // What comes before it would look as if it came before what follows it.
            tail.cut = true;
            break;
        }
    }
    lines.drain(..lines.len().saturating_sub(wanted));
    tail.lines = lines;
    tail.checkpoints = checkpoints(notes)?;
    Ok(tail)
}

/// The notes of these files, newest file first, as one file would have them.
fn checkpoints(files: Vec<Option<File>>) -> io::Result<String> {
    let (mut texts, mut bytes) = (Vec::new(), NOTES);
    for file in files.into_iter().flatten() {
        let end = End::of(file, bytes)?;
        bytes -= end.length;
        let mut text = end.text.as_str();
        if end.torn {
            // Notes are parted by an empty line, and have one within, before their signatures.
            let part = "\n\n";
            let mut starts = text.match_indices(part).map(|(at, _)| at + part.len());
            let start =
                starts.find(|at| !text.get(*at..).unwrap_or_default().starts_with("\u{2014} "));
            text = start.and_then(|at| text.get(at..)).unwrap_or_default();
        }
        if !text.is_empty() {
            texts.push(text.to_owned());
        }
        if end.torn || bytes == 0 {
            break;
        }
    }
    texts.reverse();
    Ok(texts.join("\n"))
}

/// The end of a file.
struct End {
    text: String,
    length: u64,
    /// Whether there is more before it, so that its first line may have lost its beginning.
    torn: bool,
}

impl End {
    fn of(mut file: File, bytes: u64) -> io::Result<Self> {
        let all = file.metadata()?.len();
        let length = all.min(bytes);
        file.seek(SeekFrom::Start(all - length))?;
        let mut read = Vec::new();
        file.take(length).read_to_end(&mut read)?;
        Ok(Self {
            text: String::from_utf8_lossy(&read).into_owned(),
            length,
            torn: length < all,
        })
    }

    /// A line that is still being written, or was torn, has no end and is none.
    fn lines(&self) -> Vec<String> {
        let (whole, _unfinished) = self.text.rsplit_once('\n').unwrap_or_default();
        let whole = whole.lines().skip(usize::from(self.torn));
        whole.map(str::to_owned).collect()
    }
}

fn open(directory: &Path, name: &str) -> io::Result<Option<File>> {
    match named_file::open(&directory.join(name)) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// Six records in three files, each with a checkpoint or two; the first file ends torn.
    fn log() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [
            ("audit-000001.jsonl", "{0}\n{1}\n{tor"),
            (
                "audit-000001.checkpoints",
                "it/log\n2\nAA\n\n\u{2014} k s\n",
            ),
            ("audit-000002.jsonl", "{2}\n{3}\n"),
            (
                "audit-000002.checkpoints",
                "it/log\n3\nAA\n\n\u{2014} k s\n\nit/log\n4\nAA\n\n\u{2014} k s\n",
            ),
            ("audit.jsonl", "{4}\n{5}\n{unfin"),
        ] {
            fs::write(directory.path().join(name), text).unwrap();
        }
        directory
    }

    #[test]
    fn records_are_read_backwards_over_the_files_and_what_is_cut_is_said() {
        let log = log();
        for (wanted, bytes, first, cut) in [
            (2, 1000, 4, false),
            (3, 1000, 3, false),
            (6, 1000, 0, false),
            (7, 1000, 0, false),
            (0, 1000, 6, false),
            (6, 30, 2, true),
            (6, 14, 4, true),
            (6, 18, 4, true),
            (6, 11, 5, true),
            (1, 11, 5, false),
        ] {
            let tail = tail(log.path(), wanted, bytes).unwrap();
            let expected: Vec<_> = (first..6).map(|n| format!("{{{n}}}")).collect();
            let case = format!("{wanted} of {bytes} bytes");
            assert_eq!((tail.lines, tail.cut), (expected, cut), "{case}");
        }
        let sizes = |wanted| {
            let text = tail(log.path(), wanted, 1000).unwrap().checkpoints;
            let notes = super::super::notes_in(text.as_bytes()).unwrap();
            let sizes = text.lines().filter(|l| l.parse::<u32>().is_ok());
            assert_eq!(notes.len(), sizes.clone().count());
            sizes.map(str::to_owned).collect::<Vec<_>>()
        };
        assert!(sizes(2).is_empty());
        assert_eq!(sizes(3), ["3", "4"]);
        assert_eq!(sizes(6), ["2", "3", "4"]);
    }

    #[test]
    fn nothing_is_read_across_a_missing_file() {
        let log = log();
        fs::remove_file(log.path().join("audit-000002.jsonl")).unwrap();
        let tail = tail(log.path(), 6, 1000).unwrap();
        assert_eq!(
            (tail.lines, tail.cut),
            (vec!["{4}".into(), "{5}".into()], true)
        );
        let none = super::tail(&log.path().join("none"), 6, 1000).unwrap();
        assert!(none.lines.is_empty() && !none.cut);
    }
}
