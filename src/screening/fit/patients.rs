//! Rows of a file → patients to fit: those that the screens before this one let through.

use std::collections::{BTreeMap, HashMap};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    bundle::model::{Feature, Kind, Missing, ModelSpec},
    training_data::Table,
};

/// What fitting has to know about a feature.
#[derive(Clone, Debug)]
pub struct Trait {
    /// The feature's name.
    pub name: String,
    /// Values outside go to review before this screen is asked.
    pub expected: (f32, f32),
    /// Measurement step.
    pub precision: Option<f32>,
    /// Whether only whole numbers are values.
    pub whole: bool,
    /// Whether the value may be missing.
    pub optional: bool,
    /// Other units it is measured in: slope and offset from them to the declared unit.
    pub units: Vec<(f32, f32)>,
}

impl Trait {
    /// The value on its measurement grid.
    pub fn rounded(&self, value: f32) -> f32 {
        match self.precision.or(self.whole.then_some(1.0)) {
            Some(step) => {
                let (value, step) = (f64::from(value), f64::from(step));
                #[expect(clippy::cast_possible_truncation, reason = "values are float32 here")]
                let rounded = ((value / step).round() * step) as f32;
                rounded
            }
            None => value,
        }
    }

    /// Whether the value would get past the range check.
    pub fn accepts(&self, value: f32) -> bool {
        self.expected.0 <= value && value <= self.expected.1
    }
}

/// A patient's values, NaN where not measured.
#[derive(Clone, Debug)]
pub struct Patient {
    /// In the model's order and units, rounded as the server rounds.
    pub values: Vec<f32>,
    /// Whose: rows of one group never lie on both sides of a split.
    pub group: u64,
}

/// One row of each group, as ascending places among `groups`: which one, `seed` says.
pub fn one_each(groups: impl Iterator<Item = u64>, seed: u64) -> Vec<usize> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed.wrapping_add(7000));
    let mut chosen: HashMap<u64, (usize, usize)> = HashMap::new();
    for (index, group) in groups.enumerate() {
        let (rows, place) = chosen.entry(group).or_insert((0, index));
        *rows += 1;
        // Each of a group's rows is as likely as any other.
        if *rows > 1 && rng.random_range(0..*rows) == 0 {
            *place = index;
        }
    }
    let mut places: Vec<usize> = chosen.into_values().map(|(_, place)| place).collect();
    places.sort_unstable();
    places
}

/// What another screen would make of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// It reaches the distribution screen with no reason for review.
    Passes,
    /// A value that the model requires is missing.
    Incomplete,
    /// More values are missing than may be filled in.
    Missing,
    /// A value is outside its expected or possible range.
    Range,
    /// A consistency rule is broken.
    Rule,
}

/// The rows of a file.
#[derive(Debug, Default)]
pub struct Admitted {
    /// Those that get as far as this screen.
    pub passing: Vec<Patient>,
    /// Those that only lack values: good enough to fit, not to calibrate.
    pub partial: Vec<Patient>,
    /// How many were stopped, by what.
    pub left_out: Vec<(Earlier, usize)>,
    /// The same as shares of the rows with every required value, the mean over patients: one who
    /// has many rows counts as one.
    pub shares: Vec<(Earlier, f64)>,
}

impl Admitted {
    /// Sorts the rows of the `file`th file of a fit.
    pub fn of(spec: &ModelSpec, table: &Table, file: u32) -> Self {
        let stops = [
            Earlier::Incomplete,
            Earlier::Missing,
            Earlier::Range,
            Earlier::Rule,
        ];
        let mut admitted = Self {
            left_out: stops.map(|stop| (stop, 0)).to_vec(),
            ..Self::default()
        };
        let mut by_patient: BTreeMap<u64, Vec<Earlier>> = BTreeMap::new();
        for (index, row) in table.rows().enumerate() {
            let group = Self::group(table, index, file);
            let stopped = earlier(spec, row, false);
            if stopped != Earlier::Incomplete {
                by_patient.entry(group).or_default().push(stopped);
            }
            for (by, count) in &mut admitted.left_out {
                *count += usize::from(*by == stopped);
            }
            let to = if stopped == Earlier::Passes {
                &mut admitted.passing
            } else if earlier(spec, row, true) == Earlier::Passes {
                &mut admitted.partial
            } else {
                continue;
            };
            #[expect(
                clippy::cast_possible_truncation,
                reason = "the screen computes in float32"
            )]
            let values = row.iter().map(|v| *v as f32).collect();
            to.push(Patient { values, group });
        }
        admitted.shares = stops.map(|stop| (stop, share(&by_patient, stop))).to_vec();
        admitted
    }

    /// Whose row it is: a number of its own where the file does not say.
    pub fn group(table: &Table, index: usize, file: u32) -> u64 {
        match table.groups().and_then(|groups| groups.get(index)) {
            Some(group) => u64::from(*group),
            None => (u64::from(file) + 1) << 32 | index as u64,
        }
    }

    /// The screen that stops a row, if one does.
    pub fn stage(spec: &ModelSpec, row: &[f64]) -> Earlier {
        earlier(spec, row, false)
    }

    /// How many rows were stopped by a screen.
    pub fn stopped(&self, by: Earlier) -> usize {
        let of = self.left_out.iter().filter(|(earlier, _)| *earlier == by);
        of.map(|(_, count)| count).sum()
    }

    /// The share of patients' rows that was stopped by a screen.
    pub fn share(&self, by: Earlier) -> f64 {
        let of = self.shares.iter().filter(|(earlier, _)| *earlier == by);
        of.map(|(_, share)| share).sum()
    }
}

/// The mean over patients of the share of their rows that `by` stopped.
fn share(by_patient: &BTreeMap<u64, Vec<Earlier>>, by: Earlier) -> f64 {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    let of = |rows: &Vec<Earlier>| {
        number(rows.iter().filter(|stopped| **stopped == by).count()) / number(rows.len())
    };
    by_patient.values().map(of).sum::<f64>() / number(by_patient.len().max(1))
}

/// Judges a row as the screens before this one do; with `lenient`, missing values are no reason.
fn earlier(spec: &ModelSpec, values: &[f64], lenient: bool) -> Earlier {
    let measured = || spec.features.iter().zip(values);
    let absent = measured().filter(|(_, v)| v.is_nan());
    let required = absent.clone().any(|(f, _)| f.missing == Missing::Reject);
    let too_many = u32::try_from(absent.count()).is_ok_and(|n| n > spec.review.max_missing);
    if !lenient && required {
        return Earlier::Incomplete;
    }
    if !lenient && too_many {
        return Earlier::Missing;
    }
    let outside = |(feature, value): (&Feature, &f64)| {
        !value.is_nan() && !feature.expected.contains_nearly(*value)
            || feature.kind != Kind::Quantity && value.fract() != 0.0 && !value.is_nan()
    };
    if measured().any(outside) {
        return Earlier::Range;
    }
    if spec.rules.iter().any(|rule| rule.is_broken_by(values)) {
        return Earlier::Rule;
    }
    Earlier::Passes
}

/// What fitting has to know about a model's features.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the screen computes in float32"
)]
pub fn traits(spec: &ModelSpec) -> Vec<Trait> {
    let describe = |feature: &Feature| {
        let units = feature.declared.other_units().into_iter().map(|unit| {
            let offset = unit.apply(0.0);
            ((unit.apply(1.0) - offset) as f32, offset as f32)
        });
        Trait {
            name: feature.name.clone(),
            expected: (feature.expected.min as f32, feature.expected.max as f32),
            precision: feature.precision.map(|p| p as f32),
            whole: feature.kind != Kind::Quantity,
            optional: feature.missing != Missing::Reject,
            units: units.collect(),
        }
    };
    spec.features.iter().map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{specimens, training_data::Columns};

    #[test]
    fn one_patient_with_many_rows_counts_as_one() {
        let text = include_str!("../../../models/icu-mortality/synthetic.csv");
        let mut lines = text.lines();
        let mut file = format!("patient,{}\n", lines.next().unwrap());
        for (patient, line) in lines.by_ref().take(9).enumerate() {
            file = format!("{file}{patient},{line}\n");
        }
        // The tenth has ninety rows, all with a heart rate that a person has to look at.
        let mut fields: Vec<&str> = lines.next().unwrap().split(',').collect();
        fields[2] = "300";
        file += &format!("9,{}\n", fields.join(",")).repeat(90);
        let columns = Columns {
            group: Some("patient".to_owned()),
            ..Columns::default()
        };
        let table = Table::read(file.as_bytes(), &specimens::icu(), &columns).unwrap();
        let admitted = Admitted::of(&specimens::icu(), &table, 0);
        assert_eq!(admitted.stopped(Earlier::Range), 90);
        assert!((admitted.share(Earlier::Range) - 0.1).abs() < 1e-12);
        let alone = Table::read(file.as_bytes(), &specimens::icu(), &Columns::default()).unwrap();
        let admitted = Admitted::of(&specimens::icu(), &alone, 0);
        assert!((admitted.share(Earlier::Range) - 90.0 / 99.0).abs() < 1e-12);
    }
}
