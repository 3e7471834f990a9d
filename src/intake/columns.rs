//! A table as columns of normal scores, one row a patient where rows are grouped.

#![expect(
    clippy::indexing_slicing,
    reason = "offline numerics; widths come from one table"
)]

use std::collections::HashMap;

use crate::{bundle::model::ModelSpec, statistics::normal_scores, training_data::Table};

use super::scan::Stretch;

/// At most so many distinct values: compared as categories.
pub(super) const FEW_VALUES: usize = 20;

/// A feature's column.
pub(super) struct Column {
    pub(super) name: String,
    /// As read, NaN where missing.
    pub(super) raw: Vec<f64>,
    /// Normal scores of the ranks, 0 where missing.
    pub(super) scores: Vec<f64>,
    /// How many different values.
    pub(super) distinct: usize,
    /// The share that is missing.
    pub(super) missing: f64,
}

/// All features' columns.
pub(super) struct Columns {
    pub(super) features: Vec<Column>,
    pub(super) groups: Option<Vec<u32>>,
    pub(super) len: usize,
}

impl Columns {
    pub(super) fn of(table: &Table, spec: &ModelSpec) -> Self {
        let features = spec.features.iter().enumerate().map(|(j, feature)| {
            let raw: Vec<f64> = table.rows().map(|row| row[j]).collect();
            let scores = normal_scores(&raw);
            let mut sorted: Vec<f64> = raw.iter().copied().filter(|v| !v.is_nan()).collect();
            sorted.sort_by(f64::total_cmp);
            let missing = ratio(raw.len() - sorted.len(), raw.len());
            sorted.dedup_by(|a, b| a.total_cmp(b).is_eq());
            Column {
                name: feature.name.clone(),
                raw,
                scores,
                distinct: sorted.len(),
                missing,
            }
        });
        Self {
            features: features.collect(),
            groups: table.groups().map(in_order),
            len: table.len(),
        }
    }

    /// How many independent units there are: groups, or else rows.
    pub(super) fn units(&self) -> usize {
        match &self.groups {
            Some(groups) => groups.iter().max().map_or(0, |&g| g as usize + 1),
            None => self.len,
        }
    }

    /// The mean of a series over each unit, in order of the units' first rows: rows of one patient
    /// depend on each other, patients do not.
    pub(super) fn by_unit(&self, series: &[f64]) -> Vec<f64> {
        if self.groups.is_none() {
            return series.to_vec();
        }
        let mut sums = vec![(0.0, 0.0); self.units()];
        for (row, value) in series.iter().enumerate() {
            let (sum, count) = &mut sums[self.unit(row)];
            *sum += value;
            *count += 1.0;
        }
        sums.into_iter().map(|(sum, count)| sum / count).collect()
    }

    /// Which units have a row in which a yes-or-no is yes. It stays a yes-or-no: the mean over a
    /// patient's rows of what is rare is far from normal, and nothing could tell.
    pub(super) fn any_by_unit(&self, series: &[f64]) -> Vec<f64> {
        let means = self.by_unit(series).into_iter();
        means.map(|mean| f64::from(u8::from(mean > 0.0))).collect()
    }

    /// A stretch of units as the rows from its first unit's first to its last unit's last.
    pub(super) fn in_rows(&self, mut stretch: Stretch) -> Stretch {
        if self.groups.is_some() {
            let rows = 0..self.len;
            let inside = |row: &usize| (stretch.from..stretch.to).contains(&self.unit(*row));
            let first = rows.clone().find(inside);
            let last = rows.rev().find(inside);
            (stretch.from, stretch.to) = (first.unwrap_or(0), last.map_or(self.len, |r| r + 1));
        }
        stretch
    }

    /// Which unit each row belongs to.
    pub(super) fn unit(&self, row: usize) -> usize {
        self.groups
            .as_ref()
            .map_or(row, |groups| groups[row] as usize)
    }
}

/// Groups numbered anew in order of their first rows, without gaps: of several files, a later one
/// has the numbers of the first.
fn in_order(groups: &[u32]) -> Vec<u32> {
    let mut numbers = HashMap::new();
    let groups = groups.iter().map(|group| {
        let next = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
        *numbers.entry(*group).or_insert(next)
    });
    groups.collect()
}

pub(super) fn ratio(part: usize, whole: usize) -> f64 {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    number(part) / number(whole.max(1))
}
