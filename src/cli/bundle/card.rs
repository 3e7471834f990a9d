//! The card for people, made of `model.json` when nobody wrote one, and the words it shares with
//! `inspect`.

use vitalgate::bundle::model::{
    Interval, Kind, Missing, OnViolation, OutcomeSpec, RawFeature, ReviewPolicy,
};
use vitalgate::error_chain::printable;

/// A feature in words, in the order of [`FEATURE_COLUMNS`].
pub(super) fn feature_row(feature: &RawFeature) -> [String; 8] {
    let kind = match feature.kind {
        Kind::Quantity => "quantity",
        Kind::Ordinal => "ordinal",
        Kind::Boolean => "boolean",
    };
    let step = feature
        .precision
        .map_or_else(|| "-".to_owned(), |step| step.to_string());
    let missing = match feature.missing {
        Missing::Reject => "reject".to_owned(),
        Missing::Impute(value) => format!("impute {value}"),
    };
    [
        feature.name.clone(),
        printable(&feature.title),
        kind.to_owned(),
        printable(&feature.unit),
        range(feature.possible),
        range(feature.expected),
        step,
        missing,
    ]
}

/// What [`feature_row`] says.
pub(super) const FEATURE_COLUMNS: [&str; 8] = [
    "name", "title", "kind", "unit", "possible", "expected", "step", "missing",
];

fn range(interval: Interval) -> String {
    format!("{} to {}", interval.min, interval.max)
}

/// The bands with their edges.
pub(super) fn bands(outcome: &OutcomeSpec) -> String {
    let words: Vec<_> = outcome
        .bands
        .iter()
        .map(|band| match band.below {
            Some(edge) => format!("{} (below {edge})", printable(&band.name)),
            None => printable(&band.name),
        })
        .collect();
    words.join(", ")
}

/// What a violated rule leads to.
pub(super) fn violation(on_violation: OnViolation) -> &'static str {
    match on_violation {
        OnViolation::Review => "review",
        OnViolation::Reject => "reject",
    }
}

/// Whether a prediction goes with a review.
pub(super) fn policy(policy: ReviewPolicy) -> &'static str {
    match policy {
        ReviewPolicy::Withhold => "withhold: no prediction leaves with a review",
        ReviewPolicy::Attach => "attach: the prediction goes with the review",
    }
}

#[cfg(feature = "tools")]
/// A Markdown card with what `model.json` says, and a reminder of what it cannot say.
pub(super) fn markdown(model: &vitalgate::bundle::model::RawModel) -> String {
    let row = |cells: &[String]| {
        let cells: Vec<_> = cells.iter().map(|c| c.replace('|', "\\|")).collect();
        format!("| {} |", cells.join(" | "))
    };
    let mut lines = vec![
        format!("# {}, version {}", model.name, model.version),
        String::new(),
        printable(&model.title),
        String::new(),
        "## Intended use".to_owned(),
        printable(&model.intended_use),
        String::new(),
        "## Inputs".to_owned(),
        row(&FEATURE_COLUMNS.map(str::to_owned)),
        row(&FEATURE_COLUMNS.map(|_| "---".to_owned())),
    ];
    lines.extend(
        model
            .features
            .iter()
            .map(|feature| row(&feature_row(feature))),
    );
    lines.push(String::new());
    lines.push(
        "A value outside the possible range is rejected; one outside the expected range goes to a \
         person for review."
            .to_owned(),
    );
    if !model.consistency.is_empty() {
        lines.push(String::new());
        lines.push("## Consistency rules".to_owned());
    }
    lines.extend(model.consistency.iter().map(|rule| {
        format!(
            "- {} ({}): `{}`: {}",
            printable(&rule.id),
            violation(rule.on_violation),
            printable(&rule.rule),
            printable(&rule.message),
        )
    }));
    lines.push(String::new());
    lines.push("## Output".to_owned());
    lines.push(format!(
        "Probability of {}, rounded to steps of {}. Bands: {}. Review policy: {}; more than {} \
         missing values go to review.",
        printable(&model.outcome.name),
        model.output.precision,
        bands(&model.outcome),
        policy(model.review.policy),
        model.review.max_missing,
    ));
    lines.push(String::new());
    lines.push("## Not stated here".to_owned());
    lines.push(
        "This card was made from model.json. Who trained the model on what data, how well it does \
         and for whom, and its limits, must be written by those who know.\n"
            .to_owned(),
    );
    lines.join("\n")
}
