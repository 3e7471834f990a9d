//! Sliding windows of counts: a window is a few blocks, of rows or of time, the oldest of which
//! falls out as a new one begins.

use std::{
    collections::{HashSet, VecDeque},
    time::Duration,
};

use crate::telemetry::count;

/// Encounters that a block remembers at most; further ones are counted each time they come.
pub(super) const ENCOUNTERS: usize = 65_536;

/// What makes a block full.
#[derive(Clone, Copy, Debug)]
pub(super) enum Length {
    /// So many rows.
    Rows(u32),
    /// So much time.
    Time(Duration),
}

/// A window's shape.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shape {
    pub(super) name: &'static str,
    pub(super) block: Length,
    pub(super) blocks: usize,
    /// How often it is judged in a month, for the number of false alarms: a scrape every 15 s,
    /// but a window that hardly moved between two scrapes is the same one.
    pub(super) looks: f64,
}

pub(super) const SHAPES: [Shape; 3] = [
    Shape {
        name: "100",
        block: Length::Rows(20),
        blocks: 5,
        looks: 172_800.0,
    },
    Shape {
        name: "1h",
        block: Length::Time(Duration::from_mins(5)),
        blocks: 12,
        looks: 43_200.0,
    },
    Shape {
        name: "24h",
        block: Length::Time(Duration::from_hours(1)),
        blocks: 24,
        looks: 8_640.0,
    },
];

/// Rows of a part of a window.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) began: Duration,
    pub(super) rows: u32,
    pub(super) counts: Vec<u32>,
    /// Keyed hashes of the encounters that are in it.
    pub(super) seen: HashSet<u64>,
    /// How many restarts ago they were counted: 0 by this process.
    pub(super) restarts: u32,
}

/// Counts of the last rows, or of the last hours.
#[derive(Debug)]
pub(super) struct Window {
    shape: Shape,
    slots: usize,
    blocks: VecDeque<Block>,
}

impl Window {
    pub(super) fn new(shape: Shape, slots: usize) -> Self {
        Self {
            shape,
            slots,
            blocks: VecDeque::with_capacity(shape.blocks + 1),
        }
    }

    pub(super) fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Counts a row in these slots, unless the window has its encounter already.
    pub(super) fn count(&mut self, slots: &[u16], encounter: Option<u64>, now: Duration) {
        self.roll(now, true);
        let known = |of: u64| self.blocks.iter().any(|block| block.seen.contains(&of));
        if encounter.is_some_and(known) {
            return;
        }
        let Some(block) = self.blocks.back_mut() else {
            return;
        };
        block.rows += 1;
        for slot in slots {
            if let Some(count) = block.counts.get_mut(usize::from(*slot)) {
                *count += 1;
            }
        }
        if let Some(encounter) = encounter.filter(|_| block.seen.len() < ENCOUNTERS) {
            block.seen.insert(encounter);
        }
    }

    /// Its blocks, the oldest first.
    pub(super) fn blocks(&mut self) -> &mut VecDeque<Block> {
        &mut self.blocks
    }

    /// Sums of the slots over all blocks, and how many rows they are of. With blocks of several
    /// processes the sums are so many times less: each may have counted the same patients.
    pub(super) fn sums(&mut self, now: Duration) -> (Vec<f64>, u32) {
        self.roll(now, false);
        let mut sums = vec![0.0; self.slots];
        let mut rows = 0_u32;
        for block in &self.blocks {
            rows = rows.saturating_add(block.rows);
            for (sum, count) in sums.iter_mut().zip(&block.counts) {
                *sum += f64::from(*count);
            }
        }
        let processes: HashSet<u32> = self.blocks.iter().map(|block| block.restarts).collect();
        if processes.len() > 1 {
            let share = 1.0 / count(processes.len());
            for sum in &mut sums {
                *sum *= share;
            }
        }
        (sums, rows)
    }

    /// Drops what is over, and begins a new block when one is due and `wanted`.
    fn roll(&mut self, now: Duration, wanted: bool) {
        let (full, began) = match self.shape.block {
            Length::Rows(most) => (self.blocks.back().is_none_or(|b| b.rows >= most), now),
            Length::Time(length) => {
                let began =
                    Duration::from_secs(now.as_secs() - now.as_secs() % length.as_secs().max(1));
                let blocks = u32::try_from(self.shape.blocks).unwrap_or(u32::MAX);
                let oldest = (began + length).saturating_sub(length * blocks);
                while self.blocks.front().is_some_and(|b| b.began < oldest) {
                    self.blocks.pop_front();
                }
                // Of a clock that was wrong and is right again: it would stay until then.
                while self.blocks.back().is_some_and(|b| b.began > began + length) {
                    self.blocks.pop_back();
                }
                let last = self.blocks.back();
                // What another process has counted in this hour stays its own.
                let due = last.is_none_or(|b| b.began < began || b.restarts > 0);
                (due, began)
            }
        };
        if full && wanted {
            self.blocks.push_back(Block {
                began,
                counts: vec![0; self.slots],
                ..Block::default()
            });
            let bounded = matches!(self.shape.block, Length::Rows(_));
            while bounded && self.blocks.len() > self.shape.blocks {
                self.blocks.pop_front();
            }
        }
    }
}
