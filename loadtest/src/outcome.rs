//! What a run gave.

use std::{collections::BTreeMap, io, time::Duration};

use anyhow::Error;
use hdrhistogram::Histogram;

use crate::case::{Mix, Verdict};

/// Latencies in nanoseconds, from a microsecond to a minute, to three digits.
fn histogram() -> Result<Histogram<u64>, Error> {
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?)
}

/// Requests of one kind.
#[derive(Clone)]
pub(crate) struct Tally {
    pub(crate) name: String,
    pub(crate) right: u64,
    pub(crate) shed: u64,
    pub(crate) wrong: u64,
    /// Of right answers.
    pub(crate) latency: Histogram<u64>,
}

/// One run, or one thread's part of it.
pub(crate) struct Run {
    /// How requests were timed, for people.
    pub(crate) label: String,
    /// Requests due per second; none in the closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) measured: Duration,
    pub(crate) tallies: Vec<Tally>,
    /// Requests that were due and never sent, for want of a free connection.
    pub(crate) unsent: u64,
    /// What broke connections, by kind of error.
    pub(crate) broken: BTreeMap<String, u64>,
    /// The status and start of the first wrong answer.
    pub(crate) first_wrong: Option<String>,
}

impl Run {
    pub(crate) fn new(mix: &Mix, label: String, rate: Option<f64>) -> Result<Self, Error> {
        let tallies = mix.cases.iter().map(|case| {
            Ok(Tally {
                name: format!("{} ({})", case.name, case.status()),
                right: 0,
                shed: 0,
                wrong: 0,
                latency: histogram()?,
            })
        });
        Ok(Self {
            label,
            rate,
            measured: Duration::ZERO,
            tallies: tallies.collect::<Result<_, Error>>()?,
            unsent: 0,
            broken: BTreeMap::new(),
            first_wrong: None,
        })
    }

    pub(crate) fn note(&mut self, case: usize, verdict: Verdict, latency: Duration) {
        let Some(tally) = self.tallies.get_mut(case) else {
            return;
        };
        match verdict {
            Verdict::Right => {
                tally.right += 1;
                let nanoseconds = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
                tally.latency.saturating_record(nanoseconds);
            }
            Verdict::Shed => tally.shed += 1,
            Verdict::Wrong => tally.wrong += 1,
        }
    }

    pub(crate) fn note_broken(&mut self, error: &io::Error) {
        *self.broken.entry(error.kind().to_string()).or_default() += 1;
    }

    /// Adds another thread's part.
    pub(crate) fn add(&mut self, part: Self) -> Result<(), Error> {
        for (whole, part) in self.tallies.iter_mut().zip(part.tallies) {
            whole.right += part.right;
            whole.shed += part.shed;
            whole.wrong += part.wrong;
            whole.latency.add(part.latency)?;
        }
        for (kind, count) in part.broken {
            *self.broken.entry(kind).or_default() += count;
        }
        self.unsent += part.unsent;
        self.first_wrong = self.first_wrong.take().or(part.first_wrong);
        Ok(())
    }

    /// Latencies of all kinds together.
    pub(crate) fn latency(&self) -> Result<Histogram<u64>, Error> {
        let mut all = histogram()?;
        for tally in &self.tallies {
            all.add(&tally.latency)?;
        }
        Ok(all)
    }

    pub(crate) fn right(&self) -> u64 {
        self.tallies.iter().map(|tally| tally.right).sum()
    }

    /// Right answers a second.
    pub(crate) fn goodput(&self) -> f64 {
        per_second(self.right(), self.measured)
    }

    /// No wrong answer and no broken connection.
    pub(crate) fn is_right(&self) -> bool {
        self.broken.is_empty() && self.tallies.iter().all(|tally| tally.wrong == 0)
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::MIN_POSITIVE)
}
