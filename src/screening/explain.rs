//! Says which values make a row atypical, and what would be typical given the others.

use crate::{
    bundle::model::Kind,
    disposition::{Code, Finding, ReviewReason, Words},
    phi::Phi,
    row::Row,
    units::round_to_step,
};

use super::Driver;

/// Values named at most.
const NAMED: usize = 3;
/// A value is named beside the first if its evidence comes this close, in nats,
const CLOSE: f32 = 3.0;
/// or is as strong as this by itself.
const STRONG: f32 = 8.0;

/// The reason for review of an atypical row.
pub(super) fn reason(row: &Row, drivers: &[Driver]) -> ReviewReason {
    let mut findings: Vec<(f32, Finding)> = Vec::with_capacity(NAMED);
    for driver in drivers {
        let first = findings.first();
        let far = first.is_some_and(|(first, _)| first - driver.evidence > CLOSE);
        let enough = far && driver.evidence < STRONG;
        if findings.len() == NAMED || enough {
            break;
        }
        if let Some(finding) = finding(row, driver) {
            findings.push((driver.evidence, finding));
        }
    }
    ReviewReason {
        code: Code::Atypical,
        features: findings
            .iter()
            .map(|(_, finding)| finding.feature)
            .collect(),
        words: Words::Findings,
        findings: findings.into_iter().map(|(_, finding)| finding).collect(),
    }
}

/// The value given beside the one that would be typical, in the unit it was sent in; `None`
/// where the two do not differ.
fn finding(row: &Row, driver: &Driver) -> Option<Finding> {
    let feature = row.spec().features.get(driver.feature)?;
    let declared = *row.values().get(driver.feature)?;
    let typical = f64::from(driver.typical).clamp(feature.expected.min, feature.expected.max);
    let typical = match feature.kind {
        Kind::Quantity => typical,
        Kind::Ordinal | Kind::Boolean => typical.round(),
    };
    let step = feature.precision.unwrap_or(0.0);
    if (typical - declared).abs() <= step.max(declared.abs() * 1e-3) {
        return None;
    }
    let (value, typical, unit, step) = match row.submitted(driver.feature) {
        Some((conversion, unit)) => (
            conversion.invert(declared),
            conversion.invert(typical),
            unit,
            conversion.step(step),
        ),
        None => (declared, typical, feature.unit.as_str(), step),
    };
    let typical = two_digits(typical, step);
    Some(Finding {
        feature: driver.feature,
        value: Phi::new(value),
        typical: Phi::new(typical),
        unit: Phi::new(unit.to_owned()),
    })
}

/// To two significant digits, but not finer than the instrument reads: "about" says no more.
fn two_digits(value: f64, step: f64) -> f64 {
    if value == 0.0 || !value.is_finite() {
        return value;
    }
    #[expect(clippy::cast_possible_truncation, reason = "an exponent")]
    let power = value.abs().log10().floor() as i32 - 1;
    // A temperature of 38 differs from one of 37 by two degrees in a hundred.
    let digit = 10_f64.powi(power.min(0));
    round_to_step(value, digit.max(step)).value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn typical_values_are_rounded_as_people_say_them() {
        for (value, step, said) in [
            (33.71, 0.1, "34"),
            (138.7, 1.0, "139"),
            (4.13, 0.1, "4.1"),
            (0.9312, 0.1, "0.9"),
            (0.004_62, 0.0001, "0.0046"),
            (2138.0, 5.0, "2140"),
            (7.412, 0.0, "7.4"),
        ] {
            assert_eq!(
                format!("{:.6}", two_digits(value, step))
                    .trim_end_matches('0')
                    .trim_end_matches('.'),
                said,
                "{value}"
            );
        }
    }
}
