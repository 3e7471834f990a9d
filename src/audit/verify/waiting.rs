//! Checkpoints, read beside the records that they cover.

use std::{collections::BTreeSet, io};

use super::{
    super::{
        finding::{Finding, Kind, Report},
        journal::{Found, Notes, Place},
        keys::PublicKey,
        note::{Checkpoint, Note, NoteError},
    },
    Trusted,
};

/// The checkpoint of a note, when the verifier believes it.
pub(super) fn judge_note(
    note: &Note,
    place: &Place,
    trusted: &Trusted,
    report: &mut Report,
) -> Option<Checkpoint> {
    let known = trusted.origin.as_ref().or(report.origin.as_ref());
    if let Some((kind, detail)) = doubt(note, &trusted.keys, known) {
        report.find(Finding::new(kind, place, None, detail));
        return None;
    }
    report.origin = Some(note.checkpoint.origin.clone());
    Some(note.checkpoint.clone())
}

/// Why a note is not to be believed.
fn doubt(note: &Note, keys: &[PublicKey], known: Option<&String>) -> Option<(Kind, String)> {
    let Checkpoint { origin, size, .. } = &note.checkpoint;
    let verdict = note.verify(keys).err().filter(|_| !keys.is_empty());
    match verdict {
        Some(NoteError::OtherKey) => Some((
            Kind::ForeignKey,
            format!("the checkpoint of {size} records is signed by another key"),
        )),
        Some(NoteError::BadSignature) => Some((
            Kind::ForgedCheckpoint,
            format!("the signature of the checkpoint of {size} records is wrong"),
        )),
        None => known.filter(|known| *known != origin).map(|known| {
            let detail = format!("the checkpoint is of the log {origin:?}, not {known:?}");
            (Kind::ForeignOrigin, detail)
        }),
    }
}

/// Checkpoints whose records have not all been read.
pub(super) struct Waiting {
    pub(super) notes: Notes,
    pub(super) next: Option<(Place, Checkpoint)>,
    pub(super) anchors: std::iter::Peekable<std::vec::IntoIter<(Place, Checkpoint)>>,
    pub(super) seen: u64,
    pub(super) size: u64,
    pub(super) torn: bool,
    /// The files that have a checkpoint to be believed.
    pub(super) files: BTreeSet<String>,
}

impl Waiting {
    pub(super) fn new(notes: Notes, anchors: Vec<(Place, Checkpoint)>) -> Self {
        Self {
            notes,
            next: None,
            anchors: anchors.into_iter().peekable(),
            seen: 0,
            size: 0,
            torn: false,
            files: BTreeSet::new(),
        }
    }

    /// Makes sure that the next checkpoint to be believed, if there is one, is in `next`.
    pub(super) fn advance(&mut self, trusted: &Trusted, report: &mut Report) -> io::Result<()> {
        while self.next.is_none() {
            let Some((place, found)) = self.notes.next()? else {
                return Ok(());
            };
            self.torn = matches!(found, Found::Torn);
            let mut wrong = |kind, detail: String| {
                report.find(Finding::new(kind, &place, None, detail));
            };
            let note = match found {
                Found::Note(note) => note,
                Found::Torn => continue,
                Found::Malformed => {
                    wrong(
                        Kind::ForgedCheckpoint,
                        "this is not a checkpoint".to_owned(),
                    );
                    continue;
                }
            };
            self.seen += 1;
            let Some(checkpoint) = judge_note(&note, &place, trusted, report) else {
                continue;
            };
            if checkpoint.size < self.size {
                let (size, before) = (checkpoint.size, self.size);
                let detail =
                    format!("a checkpoint of {size} records stands behind one of {before}");
                report.find(Finding::new(Kind::CheckpointOrder, &place, None, detail));
                continue;
            }
            self.size = checkpoint.size;
            if !self.files.contains(&place.file) {
                self.files.insert(place.file.clone());
            }
            self.next = Some((place, checkpoint));
        }
        Ok(())
    }
}
