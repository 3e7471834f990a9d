//! Copies of patients in which values have gone wrong.

#![expect(
    clippy::indexing_slicing,
    reason = "offline; rows are as wide as the model"
)]

use rand::{RngExt, seq::index::sample};
use rand_chacha::ChaCha8Rng;

use super::Family;
use crate::{
    bundle::model::{Kind, ModelSpec},
    units::{Conversion, round_to_step},
};

/// Makes corrupted copies of a population's rows.
pub struct Corrupter<'a> {
    spec: &'a ModelSpec,
    rows: &'a [&'a [f64]],
    units: Vec<Vec<Conversion>>,
    medians: Vec<f64>,
    sds: Vec<f64>,
}

impl<'a> Corrupter<'a> {
    /// Rows as wide as the model, NaN where not measured; at least one.
    pub fn new(spec: &'a ModelSpec, rows: &'a [&'a [f64]]) -> Self {
        let (mut medians, mut sds) = (Vec::new(), Vec::new());
        for j in 0..spec.features.len() {
            let mut column: Vec<f64> = rows.iter().map(|r| r[j]).filter(|v| !v.is_nan()).collect();
            column.sort_by(f64::total_cmp);
            let n = f64::from(u32::try_from(column.len().max(1)).unwrap_or(u32::MAX));
            let mean = column.iter().sum::<f64>() / n;
            let variance = column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n;
            medians.push(column.get(column.len() / 2).copied().unwrap_or(f64::NAN));
            sds.push(variance.sqrt());
        }
        Self {
            spec,
            rows,
            units: spec
                .features
                .iter()
                .map(|f| f.declared.other_units())
                .collect(),
            medians,
            sds,
        }
    }

    /// A corrupted copy of a row and which features differ from it; `None` when this family
    /// changes nothing of this row.
    pub fn copy(
        &self,
        family: Family,
        row: usize,
        rng: &mut ChaCha8Rng,
    ) -> Option<(Vec<f64>, Vec<usize>)> {
        let own = self.rows[row];
        let mut values = own.to_vec();
        let measured: Vec<usize> = (0..own.len()).filter(|&j| !own[j].is_nan()).collect();
        self.alter(family, &measured, &mut values, rng);
        let mut changed = Vec::new();
        for (j, value) in values.iter_mut().enumerate() {
            *value = self.on_grid(j, *value);
            let differs = (*value - own[j]).abs() > 1e-9 * own[j].abs().max(1.0);
            if value.is_nan() != own[j].is_nan() || differs {
                changed.push(j);
            }
        }
        (!changed.is_empty()).then_some((values, changed))
    }

    fn alter(&self, family: Family, measured: &[usize], values: &mut [f64], rng: &mut ChaCha8Rng) {
        match family {
            Family::Unit => {
                let convertible = measured.iter().filter(|&&j| !self.units[j].is_empty());
                if let Some(&j) = one(&convertible.copied().collect::<Vec<_>>(), rng)
                    && let Some(conversion) = one(&self.units[j], rng)
                {
                    let offset = conversion.apply(0.0);
                    let slope = conversion.apply(1.0) - offset;
                    values[j] = (values[j] - offset) / slope;
                }
            }
            Family::Slip => {
                let quantities: Vec<usize> = self.quantities(measured);
                if let Some(&j) = one(&quantities, rng) {
                    values[j] *= if rng.random_bool(0.5) { 10.0 } else { 0.1 };
                }
            }
            Family::Swap => {
                if let [a, b] = some(measured, 2, rng)[..] {
                    values.swap(a, b);
                }
            }
            Family::One => self.replace(&some(measured, 1, rng), values, rng),
            Family::Three => self.replace(&some(measured, 3, rng), values, rng),
            Family::Shuffled => self.replace(measured, values, rng),
            Family::Half => {
                let other = self.rows[rng.random_range(0..self.rows.len())];
                for j in some(measured, measured.len() / 2, rng) {
                    if !other[j].is_nan() {
                        values[j] = other[j];
                    }
                }
            }
            Family::Uniform => {
                for j in some(measured, 2, rng) {
                    let range = self.spec.features[j].expected;
                    values[j] = range.min + (range.max - range.min) * rng.random::<f64>();
                }
            }
            Family::Stuck => {
                for j in some(measured, measured.len().div_ceil(3), rng) {
                    values[j] = self.medians[j];
                }
            }
            Family::Noise => {
                for j in some(&self.quantities(measured), 4, rng) {
                    values[j] += self.sds[j] * normal(rng);
                }
            }
            Family::Transposed => {
                if let Some(&j) = one(&self.quantities(measured), rng) {
                    values[j] = transposed(values[j], rng).unwrap_or(values[j]);
                }
            }
            Family::Saturated => {
                if let Some(&j) = one(&self.quantities(measured), rng) {
                    let range = self.spec.features[j].expected;
                    values[j] = if rng.random_bool(0.5) {
                        range.min
                    } else {
                        range.max
                    };
                }
            }
            Family::Shifted => {
                let length = rng.random_range(3..=5).min(measured.len());
                let start = rng.random_range(0..=measured.len() - length);
                let run = &measured[start..start + length];
                let before: Vec<f64> = run.iter().map(|&j| values[j]).collect();
                for (at, &j) in run.iter().enumerate() {
                    values[j] = before[(at + 1) % length];
                }
            }
        }
    }

    fn replace(&self, features: &[usize], values: &mut [f64], rng: &mut ChaCha8Rng) {
        for &j in features {
            for _ in 0..20 {
                let donor = self.rows[rng.random_range(0..self.rows.len())][j];
                if !donor.is_nan() {
                    values[j] = donor;
                    break;
                }
            }
        }
    }

    fn quantities(&self, measured: &[usize]) -> Vec<usize> {
        let is_quantity = |&&j: &&usize| self.spec.features[j].kind == Kind::Quantity;
        measured.iter().filter(is_quantity).copied().collect()
    }

    /// As the feature's instrument would show the value.
    fn on_grid(&self, j: usize, value: f64) -> f64 {
        let feature = &self.spec.features[j];
        let step = match feature.kind {
            Kind::Quantity => feature.precision,
            Kind::Ordinal | Kind::Boolean => Some(1.0),
        };
        step.map_or(value, |step| round_to_step(value, step).value)
    }
}

/// The value with two neighbouring digits that differ changed round.
fn transposed(value: f64, rng: &mut ChaCha8Rng) -> Option<f64> {
    let mut text: Vec<u8> = value.to_string().into_bytes();
    let pairs: Vec<usize> = (0..text.len().saturating_sub(1))
        .filter(|&i| {
            let (a, b) = (text[i], text[i + 1]);
            a.is_ascii_digit() && b.is_ascii_digit() && a != b
        })
        .collect();
    let &at = one(&pairs, rng)?;
    text.swap(at, at + 1);
    std::str::from_utf8(&text).ok()?.parse().ok()
}

fn one<'t, T>(from: &'t [T], rng: &mut ChaCha8Rng) -> Option<&'t T> {
    (!from.is_empty()).then(|| &from[rng.random_range(0..from.len())])
}

fn some(from: &[usize], count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let chosen = sample(rng, from.len(), count.min(from.len()));
    chosen.into_iter().map(|i| from[i]).collect()
}

/// Box and Muller.
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let u: f64 = 1.0 - rng.random::<f64>();
    let angle = std::f64::consts::TAU * rng.random::<f64>();
    (-2.0 * u.ln()).sqrt() * angle.cos()
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;
    use crate::{
        specimens,
        training_data::{Columns, Table},
    };

    fn synthetic() -> Table {
        let text = include_str!("../../../models/icu-mortality/synthetic.csv");
        Table::read(text.as_bytes(), &specimens::icu(), &Columns::default()).unwrap()
    }

    #[test]
    fn every_family_changes_what_it_says_it_changes() {
        let (table, spec) = (synthetic(), specimens::icu());
        let rows: Vec<&[f64]> = table.rows().collect();
        let corrupter = Corrupter::new(&spec, &rows);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for family in Family::ALL {
            let mut made = 0;
            for (index, own) in rows.iter().enumerate() {
                let Some((values, changed)) = corrupter.copy(family, index, &mut rng) else {
                    continue;
                };
                made += 1;
                let most = match family {
                    Family::Unit
                    | Family::Slip
                    | Family::One
                    | Family::Transposed
                    | Family::Saturated => 1,
                    Family::Swap | Family::Uniform => 2,
                    Family::Three => 3,
                    Family::Noise => 4,
                    Family::Shifted => 5,
                    Family::Half => 10,
                    Family::Stuck => 7,
                    Family::Shuffled => 20,
                };
                assert!(!changed.is_empty() && changed.len() <= most, "{family:?}");
                for j in 0..own.len() {
                    let same = (values[j] - own[j]).abs() < 1e-9;
                    assert_eq!(same, !changed.contains(&j), "{family:?}");
                }
            }
            assert!(made > 150, "{family:?}: {made}");
        }
    }

    #[test]
    fn a_unit_error_is_by_a_factor_of_the_bundles_own_units() {
        let spec = specimens::icu();
        let rows: Vec<Vec<f64>> = synthetic().rows().map(<[f64]>::to_vec).collect();
        let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
        let corrupter = Corrupter::new(&spec, &rows);
        let glucose = &corrupter.units[spec.by_name["glucose"]];
        let mmol = spec.features[spec.by_name["glucose"]]
            .declared
            .convert("mmol/L")
            .unwrap();
        assert!(glucose.contains(&mmol));
        assert!(
            corrupter.units[spec.by_name["gcs"]].is_empty(),
            "a score has no other unit"
        );
        assert!(corrupter.units[spec.by_name["male"]].is_empty());
    }

    #[test]
    fn digits_change_places() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        assert_eq!(transposed(138.0, &mut rng).map(|v| v > 138.0), Some(true));
        assert_eq!(transposed(77.0, &mut rng), None);
    }
}
