//! The rules of a `model.json`, one function a part of it.

use std::collections::{HashMap, HashSet};

use super::{
    Agreement, Feature, Kind, KnownAnswer, MAX_FEATURES, MemberSpec, Missing, ModelError,
    OutcomeSpec, OutputSpec, QueriesSpec, RawFeature, RawKnownAnswer, RawModel, RawRule, invalid,
};
use crate::{clinical::Rule, units::DeclaredUnit};

pub(super) fn identifier(place: &str, name: &str, extra: char) -> Result<(), ModelError> {
    let ok = (1..=64).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == extra);
    if ok {
        Ok(())
    } else {
        Err(invalid(
            place,
            format!("{name:?} should be 1 to 64 of a-z, 0-9 and {extra:?}, a letter first"),
        ))
    }
}

/// Everything that people are shown: on terminals, in records and in answers.
pub(super) fn texts(raw: &RawModel) -> impl Iterator<Item = (&'static str, &str)> {
    [
        ("title", raw.title.as_str()),
        ("intended_use", &raw.intended_use),
        ("outcome.name", &raw.outcome.name),
    ]
    .into_iter()
    .chain(
        raw.outcome
            .bands
            .iter()
            .map(|b| ("band name", b.name.as_str())),
    )
    .chain(
        raw.features
            .iter()
            .flat_map(|f| f.titles.values().chain([&f.title]))
            .map(|title| ("feature title", title.as_str())),
    )
    .chain(
        raw.consistency
            .iter()
            .map(|r| ("consistency rule id", r.id.as_str())),
    )
    .chain(
        raw.consistency
            .iter()
            .flat_map(|r| r.messages.values().chain([&r.message]))
            .map(|message| ("consistency rule message", message.as_str())),
    )
}

pub(super) fn features(
    raw: Vec<RawFeature>,
) -> Result<(Vec<Feature>, HashMap<String, usize>), ModelError> {
    if raw.is_empty() || raw.len() > MAX_FEATURES {
        return Err(invalid(
            "features",
            format!("1 to {MAX_FEATURES}, found {}", raw.len()),
        ));
    }
    let mut by_name = HashMap::new();
    let mut features = Vec::with_capacity(raw.len());
    for f in raw {
        identifier("feature", &f.name, '_')?;
        if by_name.insert(f.name.clone(), features.len()).is_some() {
            return Err(invalid(format!("feature {}", f.name), "declared twice"));
        }
        features.push(feature(f)?);
    }
    Ok((features, by_name))
}

pub(super) fn feature(f: RawFeature) -> Result<Feature, ModelError> {
    let wrong = |problem: &str| invalid(format!("feature {}", f.name), problem);
    for interval in [f.possible, f.expected] {
        if !(interval.min.is_finite() && interval.max.is_finite() && interval.min <= interval.max) {
            return Err(wrong("an interval needs finite min <= max"));
        }
    }
    if !(f.possible.contains(f.expected.min) && f.possible.contains(f.expected.max)) {
        return Err(wrong("the expected range must lie inside the possible one"));
    }
    if f.precision.is_some_and(|p| !(p.is_finite() && p > 0.0)) {
        return Err(wrong("precision must be positive"));
    }
    if let Some(u) = &f.uncertainty {
        let declared = [u.absolute, u.relative].into_iter().flatten();
        let sound = |v: f64| v.is_finite() && v > 0.0;
        if declared.clone().count() == 0 || !declared.clone().all(sound) {
            return Err(wrong("uncertainty needs absolute or relative, above 0"));
        }
        if u.relative.is_some_and(|relative| relative > 1.0) {
            return Err(wrong("a relative uncertainty is at most 1"));
        }
        if u.source.trim().is_empty() || u.source.chars().any(char::is_control) {
            return Err(wrong("uncertainty needs a source, text of one line"));
        }
        if f.kind != Kind::Quantity {
            return Err(wrong("only a measured quantity has an uncertainty"));
        }
    }
    if f.kind == Kind::Boolean && !(f.possible.min >= 0.0 && f.possible.max <= 1.0) {
        return Err(wrong("a boolean's possible range lies within 0 to 1"));
    }
    if let Missing::Impute(value) = f.missing {
        if !f.expected.contains(value) {
            return Err(wrong("the imputed value must lie in the expected range"));
        }
        if f.kind != Kind::Quantity && value.fract() != 0.0 {
            return Err(wrong("the imputed value must be a whole number"));
        }
    }
    if f.molar_mass.is_some_and(|m| !(m.is_finite() && m > 0.0)) || f.valence == Some(0) {
        return Err(wrong("molar_mass and valence must be positive"));
    }
    let declared = DeclaredUnit::parse(&f.unit, f.molar_mass, f.valence).map_err(|source| {
        ModelError::Unit {
            feature: f.name.clone(),
            unit: f.unit.clone(),
            source,
        }
    })?;
    Ok(Feature {
        name: f.name,
        title: f.title,
        titles: f.titles,
        kind: f.kind,
        unit: f.unit,
        declared,
        loinc: f.loinc,
        possible: f.possible,
        expected: f.expected,
        precision: f.precision,
        uncertainty: f.uncertainty,
        missing: f.missing,
    })
}

pub(super) fn rules(
    raw: Vec<RawRule>,
    features: &[Feature],
    by_name: &HashMap<String, usize>,
) -> Result<Vec<Rule>, ModelError> {
    let mut ids = HashSet::new();
    raw.into_iter()
        .map(|r| {
            let place = format!("consistency rule {}", r.id);
            if !ids.insert(r.id.clone()) {
                return Err(invalid(place, "declared twice"));
            }
            Rule::compile(r, features, by_name).map_err(|problem| invalid(place, problem))
        })
        .collect()
}

pub(super) fn members(
    members: &[MemberSpec],
    agreement: Option<Agreement>,
) -> Result<(), ModelError> {
    if members.is_empty() || members.len() > 8 {
        return Err(invalid(
            "members",
            format!("1 to 8, found {}", members.len()),
        ));
    }
    for (i, m) in members.iter().enumerate() {
        identifier("member", &m.name, '-')?;
        if members.iter().take(i).any(|other| other.name == m.name) {
            return Err(invalid(format!("member {}", m.name), "declared twice"));
        }
        if m.file != format!("members/{}.onnx", m.name) {
            // Its name must not lead anybody who unpacks the bundle out of it.
            let place = format!("member {}", m.name);
            return Err(invalid(place, "file must be members/<name>.onnx"));
        }
    }
    match agreement {
        None if members.len() > 1 => Err(invalid("agreement", "an ensemble needs a bound")),
        Some(a) if !(a.max_logit_spread > 0.0 && a.alpha > 0.0 && a.alpha < 1.0) => Err(invalid(
            "agreement",
            "needs max_logit_spread > 0 and 0 < alpha < 1",
        )),
        Some(a)
            if a.quorum
                .is_some_and(|q| q == 0 || q as usize > members.len()) =>
        {
            Err(invalid(
                "agreement.quorum",
                format!("must be 1 to {}, the number of members", members.len()),
            ))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn outcome(outcome: &OutcomeSpec, output: OutputSpec) -> Result<(), ModelError> {
    let edges: Vec<f64> = outcome.bands.iter().filter_map(|b| b.below).collect();
    let ascending = edges.iter().zip(edges.iter().skip(1)).all(|(a, b)| a < b);
    let inside = edges.iter().all(|e| *e > 0.0 && *e < 1.0);
    let last_open = outcome.bands.last().is_some_and(|b| b.below.is_none());
    if !(ascending && inside && last_open && edges.len() + 1 == outcome.bands.len()) {
        return Err(invalid(
            "outcome.bands",
            "need ascending `below` edges between 0 and 1, and a last band without one",
        ));
    }
    if !(output.precision > 0.0 && output.precision <= 0.5) {
        return Err(invalid(
            "output.precision",
            "must be above 0 and at most 0.5",
        ));
    }
    let in_one = output.precision.recip();
    if (in_one - in_one.round()).abs() > 1e-6 {
        // In steps of 0.35 a probability of 0.99 would be released as 1.05.
        return Err(invalid("output.precision", "must divide 1"));
    }
    // An edge elsewhere would tell a caller on which side of it the unrounded output lies:
    // more than the declared precision (SCREENING, output hardening).
    let steps = |e: f64| e / output.precision - 0.5;
    if edges
        .iter()
        .any(|&e| (steps(e) - steps(e).round()).abs() > 1e-6)
    {
        return Err(invalid(
            "outcome.bands",
            "edges must lie half-way between two released probabilities",
        ));
    }
    Ok(())
}

pub(super) fn queries(queries: QueriesSpec) -> Result<(), ModelError> {
    let QueriesSpec {
        rescoring_hours,
        review_rate,
    } = queries;
    if !(0.1..=24.0).contains(&rescoring_hours) {
        return Err(invalid("queries.rescoring_hours", "must be .1 to 24"));
    }
    if !(review_rate > 0.0 && review_rate <= 0.2) {
        let problem = "must be above 0 and at most .2";
        return Err(invalid("queries.review_rate", problem));
    }
    Ok(())
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the networks compute in float32"
)]
pub(super) fn known_answers(
    raw: Vec<RawKnownAnswer>,
    features: usize,
    members: &[MemberSpec],
) -> Result<Vec<KnownAnswer>, ModelError> {
    if raw.is_empty() {
        return Err(invalid(
            "known_answers",
            "at least one is needed to prove the provider",
        ));
    }
    raw.into_iter()
        .map(|k| {
            let wrong = |p: &str| invalid(format!("known answer {}", k.name), p);
            if k.inputs.len() != features {
                return Err(wrong("needs one input a feature"));
            }
            if k.outputs.len() != members.len() {
                return Err(wrong("needs one output a member"));
            }
            let outputs = members
                .iter()
                .map(|m| k.outputs.get(&m.name).map(|&v| v as f32))
                .collect::<Option<Vec<_>>>()
                .ok_or_else(|| wrong("names a member that does not exist"))?;
            if !(k.tolerance > 0.0 && k.tolerance <= 0.01) {
                return Err(wrong("tolerance must be above 0 and at most 0.01"));
            }
            let inputs: Vec<f32> = k.inputs.iter().map(|&v| v as f32).collect();
            if inputs.iter().any(|v| !v.is_finite()) {
                return Err(wrong("needs finite float32 inputs"));
            }
            Ok(KnownAnswer {
                name: k.name,
                inputs,
                outputs,
                tolerance: k.tolerance as f32,
            })
        })
        .collect()
}
