//! The histograms that drift is measured against: the member `drift` of `reference.json`.

use std::path::Path;

use anyhow::anyhow;
use vitalgate::{
    bundle::model::{Missing, ModelSpec},
    drift::{
        PROBABILITY,
        reference::{RawDrift, RawHistogram, histogram},
    },
    screening::{
        fit::Patient,
        reference::RawReference,
        rows::{self, Earlier},
    },
    training_data::Columns,
};

use super::{Failure, FitArguments, read_file, replace, written};
use crate::cli::evaluate::{read_table, ruler_beside};
use vitalgate::error_chain::one_line;

/// Counts the rows that the server would not reject, and the predictions on those of `--unseen`.
pub(super) fn count(
    arguments: &FitArguments,
    spec: &ModelSpec,
    everyone: &[Patient],
) -> Result<RawDrift, Failure> {
    let kept: Vec<&Patient> = everyone.iter().filter(|p| !is_rejected(spec, p)).collect();
    let stopped = kept
        .iter()
        .filter(|p| rows::earlier(spec, &p.values, false) != Earlier::Passes)
        .count();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let least = arguments.min_rows;
    // A few rows would be single patients.
    let few = |n: u32| if number(least) <= n { n } else { 0 };
    let features = spec.features.iter().enumerate().map(|(index, feature)| {
        let values = kept.iter().filter_map(|p| p.values.get(index).copied());
        let counted = histogram(&feature.name, &values.collect::<Vec<f32>>(), least);
        RawHistogram {
            missing: few(counted.missing),
            ..counted
        }
    });
    Ok(RawDrift {
        rows: number(kept.len()),
        stopped: few(number(stopped)),
        features: features.collect(),
        probability: match &arguments.unseen {
            Some(path) => Some(predictions(arguments, spec, path)?),
            None => None,
        },
    })
}

/// A value that the model needs is missing.
fn is_rejected(spec: &ModelSpec, patient: &Patient) -> bool {
    let measured = spec.features.iter().zip(&patient.values);
    measured
        .into_iter()
        .any(|(f, v)| f.missing == Missing::Reject && v.is_nan())
}

/// What the networks beside model.json say of rows that they were not trained on.
fn predictions(
    arguments: &FitArguments,
    spec: &ModelSpec,
    path: &Path,
) -> Result<RawHistogram, Failure> {
    let columns = Columns {
        label: None,
        group: None,
        batch: None,
        named: Vec::new(),
    };
    let table = read_table(path, spec, &columns)?;
    let predicted = ruler_beside(&arguments.features, &table).ok_or_else(|| {
        Failure::DoesNotHold(anyhow!(
            "{}: --unseen needs the networks beside it, and ONNX Runtime",
            arguments.features.display()
        ))
    })?;
    #[expect(clippy::cast_possible_truncation, reason = "edges are float32")]
    let values: Vec<f32> = predicted.probabilities.iter().map(|p| *p as f32).collect();
    let values: Vec<f32> = values.into_iter().filter(|p| !p.is_nan()).collect();
    Ok(histogram(PROBABILITY, &values, arguments.min_rows))
}

/// Replaces the histograms of a reference that was fitted before, and nothing else.
pub(super) fn replace_in(arguments: &FitArguments, drift: RawDrift) -> Result<(), Failure> {
    let bytes = read_file(&arguments.out)?;
    let mut reference: RawReference = serde_json::from_slice(&bytes).map_err(|error| {
        Failure::DoesNotHold(anyhow!("{}: {}", arguments.out.display(), one_line(&error)))
    })?;
    reference.drift = Some(drift);
    let text = written(&reference).map_err(Failure::does_not_hold)?;
    replace(&arguments.out, text.as_bytes())
}
