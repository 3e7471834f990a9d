//! Counts that survive a restart: the hours of the day's window that are over.
//!
//! Of other windows nothing is kept: they fill again in the time that they are about. What is kept
//! is never of fewer than [`LEAST`] patients, and never changes once it was written, so that
//! neither a file nor two of them tell anything of one: hours are put together until there are
//! enough, and what is left over is given up.
//!
//! Which encounters were counted is not kept. A patient may therefore be in the window once for
//! each process that has counted there; the window is judged as if it had as many rows less.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{LEAST, Monitor, window::Block};
use crate::telemetry::number;

/// What an hour is, seconds: a block of the day's window.
const HOUR: u64 = 3600;
/// What is read of one model at most: a day's hours, and more when there were many restarts.
const MOST: usize = 96;

/// Counts of some hours, of enough patients.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hours {
    /// When the first of them began, Unix time in seconds.
    first: u64,
    /// When the last of them began.
    last: u64,
    /// How many restarts ago they were counted.
    restarts: u32,
    rows: u32,
    /// By the monitor's slots.
    counts: Vec<u32>,
}

impl Hours {
    fn of(block: &Block) -> Self {
        let began = block.began.as_secs();
        Self {
            first: began,
            last: began,
            restarts: 0,
            rows: block.rows,
            counts: block.counts.clone(),
        }
    }

    fn add(&mut self, later: &Self) {
        self.last = later.last;
        self.rows += later.rows;
        for (sum, count) in self.counts.iter_mut().zip(&later.counts) {
            *sum += count;
        }
    }

    fn is_enough(&self) -> bool {
        f64::from(self.rows) >= LEAST
    }
}

impl Monitor {
    /// Adds to `kept` what has come since, and drops what is out of the window. At the `end` of a
    /// process the hour that it ends in is over.
    pub(super) fn keep(&self, kept: &mut Vec<Hours>, now: Duration, end: bool) {
        let now = now.as_secs();
        // What is further ahead than the window would keep it is of a clock that was wrong.
        kept.retain(|hours| hours.first + 24 * HOUR > now && hours.last <= now + HOUR);
        let own = kept.iter().filter(|hours| hours.restarts == 0);
        let since = own.map(|hours| hours.last + HOUR).max().unwrap_or(0);
        let is_over = |began: u64| began <= now && (end || began + HOUR <= now);
        let blocks = self.day(|blocks| {
            let own = blocks.iter().filter(|block| block.restarts == 0);
            own.map(Hours::of).collect::<Vec<_>>()
        });
        let new = blocks
            .iter()
            .filter(|hours| hours.first >= since && is_over(hours.first));
        let mut together: Option<Hours> = None;
        for hours in new {
            match &mut together {
                Some(together) => together.add(hours),
                None => together = Some(hours.clone()),
            }
            kept.extend(together.take_if(|together| together.is_enough()));
        }
    }

    /// Whether these can be counts of this model.
    ///
    /// # Errors
    /// What they are instead.
    pub(super) fn check_all(&self, kept: &[Hours], now: Duration) -> Result<(), &'static str> {
        if kept.len() > MOST {
            return Err("more hours than a day has");
        }
        kept.iter().try_for_each(|hours| self.check(hours, now))
    }

    /// Goes on with what processes before this one have kept of the same bundle.
    pub(super) fn restore(&self, kept: &mut [Hours]) {
        for hours in kept.iter_mut() {
            hours.restarts = hours.restarts.saturating_add(1);
        }
        kept.sort_by_key(|hours| hours.first);
        let blocks = kept.iter().map(|hours| Block {
            began: Duration::from_secs(hours.first),
            rows: hours.rows,
            counts: hours.counts.clone(),
            restarts: hours.restarts,
            ..Block::default()
        });
        self.day(|window| window.extend(blocks));
    }

    fn check(&self, hours: &Hours, now: Duration) -> Result<(), &'static str> {
        if hours.first > hours.last
            || hours.last > now.as_secs()
            || !hours.first.is_multiple_of(HOUR)
        {
            return Err("hours that have not been");
        }
        if !hours.is_enough() {
            return Err("too few rows to be kept");
        }
        let dispositions = usize::from(self.dispositions);
        let ended = hours.counts.get(dispositions..).unwrap_or_default();
        let sum = |counts: &[u32]| counts.iter().map(|c| u64::from(*c)).sum::<u64>();
        if hours.counts.len() != dispositions + 3 || sum(ended) != u64::from(hours.rows) {
            return Err("counts of something else");
        }
        let counts: Vec<f64> = hours.counts.iter().map(|c| f64::from(*c)).collect();
        let mut all = self
            .features
            .iter()
            .chain(&self.probability)
            .chain(&self.atypicality);
        let of_more_rows = all.any(|series| {
            let (bins, missing) = series.counted(&counts);
            bins.iter().sum::<f64>() + missing > number(hours.rows.into())
        });
        if of_more_rows {
            return Err("more values than rows");
        }
        Ok(())
    }
}
