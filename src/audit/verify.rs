//! Verification: the chain from record to record, and the signed roots over them.
//!
//! The chain tells where something was changed; the checkpoints tell that the chain itself was
//! not made anew, and that its end is there. What no checkpoint covers is unproven, and more of
//! that than a server leaves means that checkpoints were taken away ([`super::coverage`]). Memory
//! is constant: records and checkpoints are read side by side.

use std::{io, ops::RangeInclusive};

use super::{
    chain::{Chain, Hash, line_hash, parse_line, time_of},
    coverage::Coverage,
    finding::{Finding, Kind, Report, TornLine},
    journal::{Line, Place, Snapshot},
    keys::PublicKey,
    merkle::Tree,
    note::{Checkpoint, Note},
};

mod waiting;
use waiting::{Waiting, judge_note};

/// Gaps that are remembered, to tell a record that was moved from one that is gone.
const MAX_GAPS: usize = 100;

/// What a log is held against.
#[derive(Clone, Debug, Default)]
pub struct Trusted {
    /// The verifier's keys: a checkpoint counts when one of them signed it. Without any,
    /// signatures are not looked at, as when a server reads its own log at a start.
    pub keys: Vec<PublicKey>,
    /// The log's name, where the verifier knows it.
    pub origin: Option<String>,
    /// Checkpoints that were kept elsewhere, by the name of their file.
    pub anchors: Vec<(String, Note)>,
}

/// A log as its own files tell it.
#[derive(Debug)]
pub struct Verified {
    /// What was found.
    pub report: Report,
    /// Where the chain stands.
    pub chain: Chain,
    /// The tree over all records.
    pub tree: Tree,
    /// Whether a file of checkpoints ends in half a one.
    pub torn_checkpoint: bool,
}

/// Verifies a log. `progress` is told now and then how many bytes of records are done.
pub fn verify(
    mut snapshot: Snapshot,
    trusted: &Trusted,
    mut progress: impl FnMut(u64),
) -> io::Result<Verified> {
    let mut anchors = Vec::new();
    let mut report = Report {
        files: snapshot.files(),
        ..Report::default()
    };
    for (file, note) in &trusted.anchors {
        let place = Place {
            file: file.clone(),
            line: 0,
        };
        if let Some(checkpoint) = judge_note(note, &place, trusted, &mut report) {
            anchors.push((place, checkpoint));
        }
    }
    anchors.sort_by_key(|(_, checkpoint)| checkpoint.size);
    let mut verification = Verification {
        chain: Chain::genesis(),
        tree: Tree::default(),
        sound: true,
        unknown_head: false,
        last: Place::default(),
        coverage: Coverage::default(),
        torn_before: false,
        moved: None,
        gaps: Vec::new(),
        waiting: Waiting::new(snapshot.notes(), anchors),
        report,
        trusted,
    };
    verification.meet_checkpoints()?;
    let (mut done, mut told) = (0u64, 0u64);
    snapshot.each_line(|place, line| {
        if let Line::Whole(bytes) | Line::Torn(bytes) = line {
            done += bytes.len() as u64 + 1;
        }
        if done - told > 1 << 20 {
            told = done;
            progress(done);
        }
        verification.line(place, line)
    })?;
    progress(done);
    verification.finish()
}

struct Verification<'t> {
    chain: Chain,
    tree: Tree,
    /// Whether the records so far are a whole chain, so that roots over them mean something.
    sound: bool,
    /// The line before was no record: what the next one should name is not known.
    unknown_head: bool,
    last: Place,
    coverage: Coverage,
    /// Whether the line before the next one is torn.
    torn_before: bool,
    /// The last record that was moved: its file and number, and where its range begins.
    moved: Option<(String, u64, u64)>,
    gaps: Vec<RangeInclusive<u64>>,
    waiting: Waiting,
    report: Report,
    trusted: &'t Trusted,
}

impl Verification<'_> {
    fn line(&mut self, place: &Place, line: Line<'_>) -> io::Result<()> {
        let bytes = match line {
            Line::Whole(bytes) => bytes,
            Line::Torn(bytes) => {
                self.report.torn.push(TornLine {
                    file: place.file.clone(),
                    line: place.line,
                    bytes: bytes.len(),
                    before_gap: false,
                });
                self.torn_before = true;
                return Ok(());
            }
            Line::TooLong => {
                self.find(
                    Kind::Malformed,
                    place,
                    None,
                    "a line longer than any record".to_owned(),
                );
                return Ok(());
            }
        };
        let record = parse_line(bytes).zip(time_of(bytes));
        let Some(((seq, prev), time)) = record else {
            let expected = self.chain.next;
            let detail = format!("not a record; seq {expected} is expected here");
            self.find(Kind::Malformed, place, Some(expected), detail);
            self.unknown_head = true;
            return Ok(());
        };
        self.report.records += 1;
        if seq < self.chain.next {
            self.behind(place, seq);
            return Ok(());
        }
        self.judge(place, seq, &prev);
        self.chain.next = seq;
        let leaf = self.chain.follow(bytes);
        debug_assert_eq!(self.chain.head, line_hash(bytes));
        self.coverage.record(place, time, self.chain.next);
        self.last = place.clone();
        self.unknown_head = false;
        self.torn_before = false;
        if self.sound {
            self.tree.push(leaf);
        }
        self.meet_checkpoints()
    }

    /// A record that is the next one, or comes after some that are not there.
    fn judge(&mut self, place: &Place, seq: u64, prev: &Hash) {
        let expected = self.chain.next;
        // A line that was no record stood where the missing one should be, and was reported.
        let excused = self.unknown_head && seq == expected + 1;
        if seq > expected && !excused {
            let last = seq - 1;
            if let Some(torn) = self.report.torn.last_mut().filter(|_| self.torn_before) {
                torn.before_gap = true;
            }
            self.missing(place, expected, last);
        } else if *prev != self.chain.head && !self.unknown_head {
            let (at, blamed) = match seq.checked_sub(1) {
                Some(before) => (self.last.clone(), before),
                None => (place.clone(), 0),
            };
            let detail = match seq {
                0 => "the first record does not name the beginning of a log".to_owned(),
                _ => format!(
                    "seq {blamed} is not the record that seq {seq} ({} line {}) names as the one \
                     before it: one of the two was altered",
                    place.file, place.line
                ),
            };
            self.find(Kind::Edited, &at, Some(blamed), detail);
        }
    }

    fn missing(&mut self, place: &Place, first: u64, last: u64) {
        let detail = if first == last {
            format!("seq {first} is missing before this line")
        } else {
            format!("seq {first} to {last} are missing before this line")
        };
        self.find(Kind::Missing, place, Some(first), detail);
        if self.gaps.len() < MAX_GAPS {
            self.gaps.push(first..=last);
        }
    }

    /// A record whose number has been passed.
    fn behind(&mut self, place: &Place, seq: u64) {
        let gap = self.gaps.iter().position(|gap| gap.contains(&seq));
        let Some(gap) = gap else {
            let detail = format!("seq {seq} is there already");
            return self.find(Kind::Duplicated, place, Some(seq), detail);
        };
        // It was not missing, but moved. What else the gap lacks stays missing.
        let range = self.gaps.swap_remove(gap);
        let (start, end) = range.into_inner();
        self.report
            .findings
            .retain(|f| f.kind != Kind::Missing || f.seq != Some(start));
        let rest = [
            (start < seq).then(|| start..=seq - 1),
            (seq < end).then(|| seq + 1..=end),
        ];
        for range in rest.into_iter().flatten() {
            self.missing(place, *range.start(), *range.end());
        }
        self.reordered(place, seq);
    }

    /// A record stands behind a later one; one finding for a run of them in a file.
    fn reordered(&mut self, place: &Place, seq: u64) {
        let next = self.chain.next;
        let run = self
            .moved
            .take()
            .filter(|(file, last, _)| *file == place.file && *last + 1 == seq);
        let first = run.map_or(seq, |(_, _, first)| first);
        self.moved = Some((place.file.clone(), seq, first));
        let before = next.saturating_sub(1);
        if first == seq {
            let detail = format!("seq {seq} stands behind seq {before}");
            return self.find(Kind::Reordered, place, Some(seq), detail);
        }
        let mut findings = self.report.findings.iter_mut().rev();
        if let Some(finding) = findings.find(|f| f.kind == Kind::Reordered && f.seq == Some(first))
        {
            finding.detail = format!("seq {first} to {seq} stand behind seq {before}");
        }
    }

    /// Compares the root with every checkpoint of exactly the records read so far.
    fn meet_checkpoints(&mut self) -> io::Result<()> {
        loop {
            let Self {
                waiting,
                report,
                trusted,
                ..
            } = self;
            waiting.advance(trusted, report)?;
            let due = |(_, c): &(Place, Checkpoint)| c.size <= self.chain.next;
            let (place, checkpoint, own) = if waiting.next.as_ref().is_some_and(due) {
                let Some((place, checkpoint)) = waiting.next.take() else {
                    return Ok(());
                };
                (place, checkpoint, true)
            } else if let Some((place, checkpoint)) = waiting.anchors.next_if(due) {
                (place, checkpoint, false)
            } else {
                return Ok(());
            };
            self.compare(&place, &checkpoint, own);
        }
    }

    fn compare(&mut self, place: &Place, checkpoint: &Checkpoint, own: bool) {
        // Where the chain is broken, that was reported; no root can be right behind it.
        if !self.sound || checkpoint.size != self.tree.size() {
            return;
        }
        if checkpoint.root == self.tree.root() {
            self.report.checkpoints += u64::from(own);
            self.report.proven = checkpoint.size;
            self.coverage.proven();
            return;
        }
        let (from, to) = (self.report.proven, checkpoint.size.saturating_sub(1));
        if checkpoint.size == self.report.proven {
            let detail = "it contradicts another checkpoint of as many records".to_owned();
            return self.find(Kind::ForgedCheckpoint, place, None, detail);
        }
        let detail = format!(
            "of seq {from} to {to} at least one is not what the checkpoint of {} records ({} line \
             {}) was signed over: the chain was made anew",
            checkpoint.size, place.file, place.line
        );
        let at = self.coverage.unproven_from();
        self.find(Kind::NotAsSigned, &at, Some(from), detail);
    }

    fn find(&mut self, kind: Kind, place: &Place, seq: Option<u64>, detail: String) {
        self.sound = false;
        self.report.find(Finding::new(kind, place, seq, detail));
    }

    fn finish(mut self) -> io::Result<Verified> {
        let next = self.chain.next;
        let last = self.last.clone();
        let truncated = |report: &mut Report, place: &Place, checkpoint: &Checkpoint| {
            let size = checkpoint.size;
            let detail = format!(
                "the checkpoint of {size} records ({} line {}) is signed, and the log ends with \
                 {next}: seq {next} to {} were cut off",
                place.file,
                place.line,
                size - 1
            );
            report.find(Finding::new(Kind::Truncated, &last, Some(next), detail));
        };
        let mut furthest = None;
        loop {
            let Self {
                waiting,
                report,
                trusted,
                ..
            } = &mut self;
            waiting.advance(trusted, report)?;
            match waiting.next.take() {
                Some(next) => furthest = Some(next),
                None => break,
            }
        }
        let furthest = furthest.into_iter();
        for (place, checkpoint) in furthest.chain(self.waiting.anchors.by_ref()) {
            truncated(&mut self.report, &place, &checkpoint);
        }
        if self.waiting.seen == 0 {
            let detail = "there is no checkpoint; a server makes one before its first record";
            let finding = Finding::new(Kind::NoCheckpoint, &last, None, detail.to_owned());
            self.report.find(finding);
        }
        let mut report = self.report;
        if report.findings.is_empty() {
            let verifier = !self.trusted.keys.is_empty();
            self.coverage
                .judge(&mut report, &self.waiting.files, verifier);
        }
        report.unproven = next.saturating_sub(report.proven);
        report.head = hex::encode(self.chain.head);
        report.holds = report.findings.is_empty();
        Ok(Verified {
            report,
            chain: self.chain,
            tree: self.tree,
            torn_checkpoint: self.waiting.torn,
        })
    }
}
