//! What a verification finds, and its report.

use serde::Serialize;

use super::journal::Place;

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    /// A record is not the one that the next record names.
    Edited,
    /// A line is no record.
    Malformed,
    /// Records are not there.
    Missing,
    /// A record stands behind a later one.
    Reordered,
    /// A record is there twice.
    Duplicated,
    /// A signed checkpoint covers more records than there are.
    Truncated,
    /// The chain is whole, but records are not those that a checkpoint was signed over.
    NotAsSigned,
    /// A checkpoint has a bad signature, or says two things of one size.
    ForgedCheckpoint,
    /// A checkpoint is not signed by a key of the verifier.
    ForeignKey,
    /// A checkpoint is of another log.
    ForeignOrigin,
    /// A checkpoint covers fewer records than the one before it, or is not a checkpoint.
    CheckpointOrder,
    /// There is no checkpoint at all; a server makes one before its first record.
    NoCheckpoint,
    /// Checkpoints that the server must have made are not there.
    CheckpointMissing,
}

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What.
    pub kind: Kind,
    /// The file, by its name in the log's directory, or the anchor's.
    pub file: String,
    /// Its line, from 1; 0 for the file as a whole.
    pub line: u64,
    /// The record concerned, or the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// In words.
    pub detail: String,
}

impl Finding {
    pub(super) fn new(kind: Kind, place: &Place, seq: Option<u64>, detail: String) -> Self {
        Self {
            kind,
            file: place.file.clone(),
            line: place.line,
            seq,
            detail,
        }
    }
}

/// What a verification has to say.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Whether nothing was found.
    pub holds: bool,
    /// Whole lines that are records.
    pub records: u64,
    /// Files with records.
    pub files: usize,
    /// Signed checkpoints that hold.
    pub checkpoints: u64,
    /// The log's name, as its checkpoints have it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// Records from the first on that a signed checkpoint proves.
    pub proven: u64,
    /// Records behind those: whether one was altered or cut off there, nothing can tell yet.
    pub unproven: u64,
    /// Hash of the last record, hexadecimal.
    pub head: String,
    /// Lines that were cut short by a kill or a power cut. They were never answered.
    pub torn: Vec<TornLine>,
    /// What is odd and proves nothing wrong: checkpoints gone whose records later ones cover.
    pub warnings: Vec<Finding>,
    /// What is wrong, at most [`MAX_FINDINGS`].
    pub findings: Vec<Finding>,
    /// How many more things are wrong.
    pub more: u64,
}

/// Findings that are listed; a log with more is beyond a list.
pub const MAX_FINDINGS: usize = 100;

/// A line that was cut short at the end of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TornLine {
    /// The file.
    pub file: String,
    /// Its last line.
    pub line: u64,
    /// What is left of it.
    pub bytes: usize,
    /// Whether records are missing behind it. A kill leaves no gap: then somebody cut it.
    pub before_gap: bool,
}

impl Report {
    pub(super) fn find(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.more += 1;
        }
    }
}
