//! The bundle's review budget, divided among the screens.
//!
//! Ranges, rules and missing values stop what they stop: that is measured on the rows. The
//! distribution and the agreement of the networks are given a level each, and keep to it since
//! they are conformal. Levels are the usual ones unless less is left; what nobody needs is kept
//! in reserve, so that chance does not carry the whole over the budget. A level that somebody
//! asks for is given; the reserve is then below 0 when it is too much, and the report says so.

use vitalgate::{
    bundle::model::ModelSpec,
    screening::{
        fit::{Admitted, Earlier},
        reference::RawBudget,
    },
};

/// The distribution's level when nothing else is said and enough is left.
const USUAL_ALPHA: f64 = 0.01;

/// Divides `review.budget`, or says why it cannot be kept.
pub(super) fn divide(
    spec: &ModelSpec,
    admitted: &Admitted,
    alpha: Option<f64>,
) -> Result<RawBudget, String> {
    let mut budget = RawBudget {
        total: spec.review.budget,
        ranges: admitted.share(Earlier::Range),
        consistency: admitted.share(Earlier::Rule),
        missing: admitted.share(Earlier::Missing),
        distribution: alpha.unwrap_or(USUAL_ALPHA),
        agreement: match spec.agreement {
            Some(agreement) if spec.members.len() > 1 => agreement.alpha,
            Some(_) | None => 0.0,
        },
        reserve: 0.0,
    };
    let left = budget.total - budget.ranges - budget.consistency - budget.missing;
    let wanted = budget.distribution + budget.agreement;
    if alpha.is_none() && left <= 0.0 {
        let percent = |share: f64| format!("{:.2} %", 100.0 * share);
        return Err(format!(
            "review.budget is {}, of which ranges stop {}, rules {} and missing values {} of \
             these rows; nothing is left for the distribution and the agreement: correct the \
             ranges, state a larger budget, or say --alpha",
            percent(budget.total),
            percent(budget.ranges),
            percent(budget.consistency),
            percent(budget.missing),
        ));
    }
    if alpha.is_none() && wanted > left {
        let part = left / wanted;
        budget.distribution *= part;
        budget.agreement *= part;
    }
    budget.reserve = left - budget.distribution - budget.agreement;
    Ok(budget)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(budget: f64) -> std::sync::Arc<ModelSpec> {
        let path = concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/models/icu-mortality/bundle/model.json"
        );
        let text = std::fs::read_to_string(path).unwrap();
        let mut model: serde_json::Value = serde_json::from_str(&text).unwrap();
        model["review"]["budget"] = budget.into();
        ModelSpec::parse(model.to_string().as_bytes()).unwrap()
    }

    fn stopped(ranges: f64, rules: f64) -> Admitted {
        Admitted {
            shares: vec![(Earlier::Range, ranges), (Earlier::Rule, rules)],
            ..Admitted::default()
        }
    }

    #[test]
    fn levels_are_the_usual_ones_or_what_is_left() {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-12;
        let budget = divide(&spec(0.05), &stopped(0.005, 0.005), None).unwrap();
        assert!(near(budget.distribution, 0.01) && near(budget.agreement, 0.01));
        assert!(near(budget.ranges, 0.005) && near(budget.reserve, 0.02));
        let tight = divide(&spec(0.02), &stopped(0.01, 0.0), None).unwrap();
        assert!(near(tight.distribution, 0.005) && near(tight.agreement, 0.005));
        assert!(near(tight.reserve, 0.0));
        let asked = divide(&spec(0.02), &stopped(0.01, 0.0), Some(0.02)).unwrap();
        assert!(near(asked.distribution, 0.02) && near(asked.reserve, -0.02));
        let none = divide(&spec(0.02), &stopped(0.025, 0.0), None).unwrap_err();
        assert!(none.contains("ranges stop 2.50 %"), "{none}");
    }
}
