//! Reads all of a process's memory and looks for patterns in it.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
};

use serde::Serialize;

use super::patterns::{Origin, Patterns, Trace};

const PAGE: usize = 4096;
const CHUNK: usize = 256 * PAGE;
/// A pattern reaches less than this beyond the word in which it starts.
const OVERLAP: usize = 8;

/// Something found that should not be there.
#[derive(Clone, Debug, Serialize)]
pub struct Hit {
    /// The mapping's name and access, or the file.
    pub place: String,
    /// Address in the process, or offset in the file.
    pub address: u64,
    /// What it is the trace of.
    pub trace: Trace,
    /// The kind of request it came with; `any` when the pattern does not tell.
    pub kind: &'static str,
    #[serde(skip)]
    pub(super) word: u64,
}

/// What a scan saw.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) bytes: u64,
    pub(super) hits: Vec<Hit>,
}

impl Scan {
    /// Hits by trace.
    pub(super) fn traces(&self) -> BTreeMap<Trace, usize> {
        let mut traces = BTreeMap::new();
        for hit in &self.hits {
            *traces.entry(hit.trace).or_default() += 1;
        }
        traces
    }

    pub(super) fn origins(&self) -> Vec<(u64, Origin)> {
        let hits = self.hits.iter();
        hits.map(|hit| (hit.word, (hit.trace, hit.kind))).collect()
    }

    /// Looks at every place in `bytes` before `starts`, a multiple of eight; the first one has
    /// the address `at`, a multiple of eight too. What lies behind is looked into only from there.
    fn look(&mut self, bytes: &[u8], starts: usize, at: u64, place: &str, patterns: &Patterns) {
        let (words, _) = bytes.as_chunks::<8>();
        let mut address = at;
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
        let mut low = words.next().unwrap_or_default();
        for high in words.take(starts / 8) {
            if low != 0 {
                self.look_at(low, high, address, place, patterns);
            }
            low = high;
            address += 8;
        }
        self.bytes += starts.min(bytes.len()) as u64;
    }

    /// Looks at the eight places that begin in `low`.
    #[inline]
    fn look_at(&mut self, low: u64, high: u64, address: u64, place: &str, patterns: &Patterns) {
        for byte in 0..8u32 {
            let word = match byte {
                0 => low,
                _ => low >> (8 * byte) | high << (64 - 8 * byte),
            };
            if let Some((trace, kind)) = patterns.at(word, byte % 4 == 0) {
                self.hits.push(Hit {
                    place: place.to_owned(),
                    address: address + u64::from(byte),
                    trace,
                    kind,
                    word,
                });
            }
        }
    }
}

/// Scans all readable memory behind `/proc/PID/mem` and `/proc/PID/maps`; of it only what the
/// process can write to, if `writable`.
pub(super) fn memory(
    memory: &File,
    maps: &File,
    writable: bool,
    patterns: &Patterns,
) -> io::Result<Scan> {
    let (mut maps, mut text) = (maps, String::new());
    maps.seek(SeekFrom::Start(0))?;
    maps.read_to_string(&mut text)?;
    let mut scan = Scan::default();
    let mappings = text.lines().filter_map(Mapping::parse);
    for mapping in mappings.filter(|mapping| mapping.writable || !writable) {
        mapping.scan(memory, patterns, &mut scan);
    }
    if scan.bytes == 0 {
        return Err(io::Error::other("no memory of the server could be read"));
    }
    Ok(scan)
}

/// Scans a text.
pub(super) fn text(bytes: &[u8], place: &str, patterns: &Patterns, scan: &mut Scan) {
    let starts = bytes.len().next_multiple_of(8);
    let mut padded = bytes.to_vec();
    padded.resize(starts + OVERLAP, 0);
    scan.look(&padded, starts, 0, place, patterns);
}

/// Scans a file, or every file below a directory; returns how many there were.
pub(super) fn files(path: &Path, patterns: &Patterns, scan: &mut Scan) -> io::Result<usize> {
    if path.is_dir() {
        let mut entries: Vec<PathBuf> = fs::read_dir(path)?
            .map(|entry| entry.map(|e| e.path()))
            .collect::<io::Result<_>>()?;
        entries.sort();
        let mut count = 0;
        for entry in entries {
            count += files(&entry, patterns, scan)?;
        }
        return Ok(count);
    }
    if !path.is_file() {
        return Ok(0);
    }
    let mut bytes = Vec::new();
    File::open(path)?.read_to_end(&mut bytes)?;
    text(&bytes, &path.display().to_string(), patterns, scan);
    Ok(1)
}

/// A line of `/proc/PID/maps` (proc(5)).
struct Mapping {
    start: u64,
    end: u64,
    writable: bool,
    name: String,
}

impl Mapping {
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace();
        let (bounds, access) = (fields.next()?, fields.next()?);
        let name = fields.nth(3).unwrap_or("anonymous");
        let (start, end) = bounds.split_once('-')?;
        let parse = |hex| u64::from_str_radix(hex, 16).ok();
        // The kernel's own pages hold clocks, and cannot be read this way.
        (access.starts_with('r') && !name.starts_with("[v")).then_some(Self {
            start: parse(start)?,
            end: parse(end)?,
            writable: access.starts_with("rw"),
            name: format!("{name} {access}"),
        })
    }

    fn scan(&self, memory: &File, patterns: &Patterns, scan: &mut Scan) {
        let mut chunk = vec![0u8; CHUNK + OVERLAP];
        let mut at = self.start;
        while at < self.end {
            let starts = usize::try_from(self.end - at).unwrap_or(CHUNK).min(CHUNK);
            let left = usize::try_from(self.end - at).unwrap_or(usize::MAX);
            let wanted = left.min(CHUNK + OVERLAP);
            chunk.fill(0);
            let read = chunk
                .get_mut(..wanted)
                .map(|buffer| memory.read_exact_at(buffer, at));
            // Pages behind the end of a file cannot be read: look at those before them.
            if let Some(Err(_)) = read {
                for (index, page) in chunk.chunks_mut(PAGE).enumerate() {
                    let page_at = at + (index * PAGE) as u64;
                    if page_at >= self.end || memory.read_exact_at(page, page_at).is_err() {
                        page.fill(0);
                    }
                }
            }
            scan.look(&chunk, starts, at, &self.name, patterns);
            at += starts as u64;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_across_pages_and_at_any_offset() {
        let patterns = Patterns::new(*b"abcdefgh", *b"12345678");
        let mut bytes = vec![0u8; 3 * PAGE];
        bytes[PAGE - 3..PAGE + 5].copy_from_slice(b"abcdefgh");
        bytes[2 * PAGE + 1..2 * PAGE + 9].copy_from_slice(b"12345678");
        let mut scan = Scan::default();
        text(&bytes, "here", &patterns, &mut scan);
        let found: Vec<_> = scan.hits.iter().map(|h| (h.address, h.trace)).collect();
        let page = PAGE as u64;
        assert_eq!(
            found,
            [
                (page - 3, Trace::Identifier),
                (2 * page + 1, Trace::Decimal)
            ]
        );
        assert_eq!(scan.bytes, 3 * page);
    }

    #[test]
    fn sees_this_process() {
        let canary = std::hint::black_box("zyxwvuts").to_owned();
        let patterns = Patterns::new(
            canary.as_bytes().try_into().unwrap(),
            *b"\x01\x93\x07\xf1\xe3\x55\x81\x6d",
        );
        let open = |name: &str| File::open(Path::new("/proc/self").join(name)).unwrap();
        let scan = memory(&open("mem"), &open("maps"), true, &patterns).unwrap();
        let here = canary.as_ptr().addr() as u64;
        assert!(scan.hits.iter().any(|hit| hit.address == here));
    }
}
