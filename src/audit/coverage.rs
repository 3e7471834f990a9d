//! Which records the checkpoints of a log must cover, and whether they do.
//!
//! A server signs once a second while there are new records, and at the end of each segment; one
//! that could not (a full disk, a kill) signs before the first record of the next segment. So no
//! honest log has records of many seconds behind its last checkpoint, nor a closed segment there.
//! One that was made anew has, when the checkpoints that contradict it were taken away.

use std::collections::BTreeSet;

use time::{Duration, OffsetDateTime};

use super::{
    files::sealed_checkpoints,
    finding::{Finding, Kind, Report},
    journal::Place,
};

/// Longest time between two records behind the last checkpoint. A server signs after one second.
const MAX_UNPROVEN: Duration = Duration::seconds(10);

/// What the records behind the last checkpoint that held are, and where the segments end.
#[derive(Debug, Default)]
pub(super) struct Coverage {
    /// The place of the first record behind the checkpoint, and the times of the earliest and
    /// the latest.
    unproven: Option<(Place, OffsetDateTime, OffsetDateTime)>,
    /// The last record of each file, and how many records there are up to it.
    ends: Vec<(Place, u64)>,
}

impl Coverage {
    /// Takes the next record; `records` are there with it.
    pub(super) fn record(&mut self, place: &Place, time: OffsetDateTime, records: u64) {
        match &mut self.unproven {
            Some((_, earliest, latest)) => {
                *earliest = time.min(*earliest);
                *latest = time.max(*latest);
            }
            None => self.unproven = Some((place.clone(), time, time)),
        }
        match self.ends.last_mut().filter(|(at, _)| at.file == place.file) {
            Some((at, end)) => (at.line, *end) = (place.line, records),
            None => self.ends.push((place.clone(), records)),
        }
    }

    /// A checkpoint of all records so far holds.
    pub(super) fn proven(&mut self) {
        self.unproven = None;
    }

    /// The first record behind the last checkpoint that held.
    pub(super) fn unproven_from(&self) -> Place {
        let from = self.unproven.as_ref();
        from.map(|(place, ..)| place.clone()).unwrap_or_default()
    }

    /// Finds what is not covered and should be. `signed` are the files of checkpoints with one to
    /// be believed. Closed segments are the `verifier`'s concern alone: at a start the last one
    /// may be of a server that was killed before it could sign.
    pub(super) fn judge(self, report: &mut Report, signed: &BTreeSet<String>, verifier: bool) {
        let proven = report.proven;
        for (place, end) in self.ends.iter().filter(|_| verifier) {
            let Some(checkpoints) = sealed_checkpoints(&place.file) else {
                continue;
            };
            if *end > proven {
                let seq = end.saturating_sub(1);
                let detail = format!(
                    "no checkpoint covers the end of this closed segment, seq {seq}: the last that \
                     holds is of {proven} records, and a server signs before it goes on in a new \
                     segment"
                );
                report.find(Finding::new(
                    Kind::CheckpointMissing,
                    place,
                    Some(seq),
                    detail,
                ));
            } else if !signed.contains(&checkpoints) {
                let at = Place {
                    file: checkpoints,
                    line: 0,
                };
                let detail = "there is no checkpoint in it; a later one covers its segment";
                let warning = Finding::new(Kind::CheckpointMissing, &at, None, detail.to_owned());
                report.warnings.push(warning);
            }
        }
        if let Some((place, earliest, latest)) = self.unproven
            && latest - earliest > MAX_UNPROVEN
        {
            let seconds = (latest - earliest).whole_seconds();
            let detail = format!(
                "the records from here on were made over {seconds} s and no checkpoint covers them: \
                 a server signs every second in which there are records"
            );
            report.find(Finding::new(
                Kind::CheckpointMissing,
                &place,
                Some(proven),
                detail,
            ));
        }
    }
}
