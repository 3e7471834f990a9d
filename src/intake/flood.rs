//! Many rows that are nearly one: a patient's row, copied and jittered so that no copy is equal.
//!
//! Values are counted in standard deviations of their feature, a tail's less. Patients thin out
//! around a patient as distances shrink, by a power of the number of features; jittered copies lie
//! together with nothing around them. So a row is in a flood when ten others or more lie near it
//! and hardly more lie within twice the distance. That holds however large the flood is.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    reason = "offline numerics; widths come from one table"
)]

use crate::training_data::Table;

use super::{
    Check, Finding, Verdict,
    columns::{Column, Columns, FEW_VALUES},
    duplicates::same_group,
    lines,
};

const NAME: &str = "flood_of_copies";
/// Fewer features than this with many values, and patients lie near each other by chance.
const TELLING: usize = 6;
/// Root mean square differences that are near, in standard deviations.
const NEAR: [f64; 3] = [0.1, 0.2, 0.3];
/// So many near rows are a flood.
const MANY: usize = 10;
/// Of a flood, within twice the distance lie at most so many times as many. Of patients spread
/// over no more than two dimensions it would be four times.
const ISOLATED: f64 = 1.5;
/// Rows that are compared, each with each; of more, so many are drawn from the file at even steps.
const MOST: usize = 20_000;

pub(super) fn check(table: &Table, columns: &Columns) -> Check {
    let telling = |column: &&Column| column.distinct > FEW_VALUES;
    if columns.features.iter().filter(telling).count() < TELLING {
        let summary = "the features take too few values for a near-copy to mean anything";
        return Check::new(NAME, Verdict::NotAsked, summary);
    }
    let crowd = Crowd::of(table);
    let flooded = crowd.flooded(table);
    if flooded.is_empty() {
        let summary = format!("no row has {MANY} others close around it and nothing beyond");
        return Check::new(NAME, Verdict::Pass, summary);
    }
    let summary = format!(
        "{} rows lie close together with nothing around them, as jittered copies do",
        flooded.len()
    );
    let finding = Finding {
        what: format!("each nearly equal to {MANY} others or more"),
        features: Vec::new(),
        between: None,
        batch: None,
        rows: flooded.len(),
        lines: lines(table, &flooded),
    };
    Check::new(NAME, Verdict::Found, summary).with(vec![finding])
}

/// Rows in standard deviations, ordered by one feature.
struct Crowd {
    /// Which row of the table, and its values.
    rows: Vec<(usize, Vec<f64>)>,
    width: usize,
}

impl Crowd {
    fn of(table: &Table) -> Self {
        let scales: Vec<Scale> = (0..table.width())
            .filter_map(|j| Scale::of(table, j))
            .collect();
        let step = table.len().div_ceil(MOST);
        let mut rows: Vec<(usize, Vec<f64>)> = (0..table.len())
            .step_by(step)
            .map(|row| (row, scales.iter().map(|s| s.at(table.row(row))).collect()))
            // Rows that lack many values are alike without being copies.
            .filter(|(_, values): &(usize, Vec<f64>)| 4 * absent(values) <= values.len())
            .collect();
        // The order is by the feature with most values; what lacks it cannot be placed.
        let key = (0..scales.len()).max_by_key(|&j| scales[j].distinct);
        let key = key.unwrap_or_default();
        rows.retain(|(_, values)| values.get(key).is_some_and(|v| !v.is_nan()));
        for (_, values) in &mut rows {
            values.swap(0, key);
        }
        rows.sort_by(|a, b| a.1[0].total_cmp(&b.1[0]));
        Self {
            rows,
            width: scales.len(),
        }
    }

    /// The rows in a flood, in the file's order.
    fn flooded(&self, table: &Table) -> Vec<usize> {
        // Near by each measure, and within twice as far.
        let mut near = vec![[0_usize; NEAR.len()]; self.rows.len()];
        let mut around = near.clone();
        let farthest = NEAR.map(|r| 4.0 * r * r).into_iter().fold(0.0, f64::max);
        let limit = farthest * self.width as f64;
        for (at, (a, left)) in self.rows.iter().enumerate() {
            for (further, (b, right)) in self.rows.iter().enumerate().skip(at + 1) {
                if (right[0] - left[0]).powi(2) > limit {
                    break;
                }
                let Some(mean) = mean_square(left, right, limit) else {
                    continue;
                };
                if mean > farthest || same_group(table, *a, *b) {
                    continue;
                }
                for (measure, r) in NEAR.iter().enumerate() {
                    let square = r * r;
                    for row in [at, further] {
                        near[row][measure] += usize::from(mean <= square);
                        around[row][measure] += usize::from(mean <= 4.0 * square);
                    }
                }
            }
        }
        let flood = |place: usize| {
            let counts = near[place].iter().zip(&around[place]);
            counts
                .into_iter()
                .any(|(&near, &around)| near >= MANY && around as f64 <= ISOLATED * near as f64)
        };
        let places = (0..self.rows.len()).filter(|&place| flood(place));
        let mut rows: Vec<usize> = places.map(|place| self.rows[place].0).collect();
        rows.sort_unstable();
        rows
    }
}

/// Of the values that both have, if those are most; `None` also when the sum exceeds the limit.
fn mean_square(a: &[f64], b: &[f64], limit: f64) -> Option<f64> {
    let (mut sum, mut both) = (0.0, 0_usize);
    for (a, b) in a.iter().zip(b) {
        let square = (a - b).powi(2);
        if !square.is_nan() {
            sum += square;
            both += 1;
            if sum > limit {
                return None;
            }
        }
    }
    (4 * both >= 3 * a.len()).then(|| sum / both as f64)
}

fn absent(values: &[f64]) -> usize {
    values.iter().filter(|v| v.is_nan()).count()
}

/// A feature's standard deviation, its values kept within 98 of 100.
struct Scale {
    feature: usize,
    low: f64,
    high: f64,
    sd: f64,
    distinct: usize,
}

impl Scale {
    /// `None` for a feature without values, or with one only.
    fn of(table: &Table, feature: usize) -> Option<Self> {
        let values = table.rows().map(|row| row[feature]);
        let mut sorted: Vec<f64> = values.filter(|v| !v.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = (
            *sorted.get(sorted.len() / 100)?,
            *sorted.get(sorted.len().checked_sub(1 + sorted.len() / 100)?)?,
        );
        let n = sorted.len() as f64;
        let kept = || sorted.iter().map(|v| v.clamp(low, high));
        let mean = kept().sum::<f64>() / n;
        let sd = (kept().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        sorted.dedup_by(|a, b| a.total_cmp(b).is_eq());
        (sd > 0.0).then_some(Self {
            feature,
            low,
            high,
            sd,
            distinct: sorted.len(),
        })
    }

    fn at(&self, row: &[f64]) -> f64 {
        row[self.feature].clamp(self.low, self.high) / self.sd
    }
}
