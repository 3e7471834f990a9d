//! The histograms that drift is measured against: the member `drift` of `reference.json`.

use anyhow::anyhow;
use vitalgate::{
    bundle::model::ModelSpec,
    drift::{
        PROBABILITY,
        reference::{RawDrift, RawHistogram, correlation, histogram},
    },
    error_chain::one_line,
    screening::{
        fit::{Admitted, Earlier, one_each},
        reference::RawReference,
    },
    training_data::Table,
};

use super::{Failure, FitArguments, Networks, Rows, read_file, replace, written};

/// Counts the rows that the server would not reject, one a patient, and the predictions on those
/// of `--unseen`, one a patient where the file says whose they are.
pub(super) fn count(
    arguments: &FitArguments,
    spec: &ModelSpec,
    rows: &Rows,
    networks: Option<&Networks>,
) -> Result<RawDrift, Failure> {
    let table = &rows.table;
    let stages = table
        .rows()
        .enumerate()
        .map(|(index, row)| (index, row, Admitted::stage(spec, row)));
    let complete: Vec<_> = stages
        .filter(|(_, row, stage)| *stage != Earlier::Incomplete && possible(spec, row))
        .collect();
    let groups = complete
        .iter()
        .map(|(index, ..)| Admitted::group(table, *index, 0));
    let people = one_each(groups, arguments.seed).into_iter();
    let kept: Vec<_> = people
        .filter_map(|place| complete.get(place))
        .map(|(_, row, stage)| (*row, *stage))
        .collect();
    let passing = |stage: &Earlier| *stage == Earlier::Passes;
    let stopped = kept.iter().filter(|(_, stage)| !passing(stage)).count();
    let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let least = arguments.min_rows;
    // A few rows would be single patients.
    let few = |n: u32| if number(least) <= n { n } else { 0 };
    let features = spec.features.iter().enumerate().map(|(index, feature)| {
        #[expect(clippy::cast_possible_truncation, reason = "edges are float32")]
        let values = kept
            .iter()
            .filter_map(|(row, _)| row.get(index).map(|v| *v as f32));
        let counted = histogram(&feature.name, &values.collect::<Vec<f32>>(), least);
        RawHistogram {
            missing: few(counted.missing),
            ..counted
        }
    });
    let features: Vec<RawHistogram> = features.collect();
    Ok(RawDrift {
        rows: number(kept.len()),
        stopped: few(number(stopped)),
        correlation: correlation(&features, kept.iter().map(|(row, _)| *row)),
        features,
        probability: match &rows.unseen {
            Some(table) => Some(predictions(arguments, networks, table)?),
            None => None,
        },
    })
}

/// What the networks beside model.json say of rows that they were not trained on.
fn predictions(
    arguments: &FitArguments,
    networks: Option<&Networks>,
    table: &Table,
) -> Result<RawHistogram, Failure> {
    let networks = networks.ok_or_else(|| {
        Failure::DoesNotHold(anyhow!(
            "{}: --unseen needs the networks beside it, and ONNX Runtime",
            arguments.features.display()
        ))
    })?;
    let predicted = networks.ruler(table)?.probabilities.into_iter().enumerate();
    let known: Vec<(usize, f64)> = predicted.filter(|(_, p)| !p.is_nan()).collect();
    let groups = known
        .iter()
        .map(|(index, _)| Admitted::group(table, *index, 0));
    let people = one_each(groups, arguments.seed).into_iter();
    #[expect(clippy::cast_possible_truncation, reason = "edges are float32")]
    let values: Vec<f32> = people
        .filter_map(|place| known.get(place))
        .map(|(_, p)| *p as f32)
        .collect();
    Ok(histogram(PROBABILITY, &values, arguments.min_rows))
}

/// Whether each value that was measured can be.
fn possible(spec: &ModelSpec, row: &[f64]) -> bool {
    let mut measured = spec.features.iter().zip(row).filter(|(_, v)| !v.is_nan());
    measured.all(|(feature, value)| feature.possible.contains_nearly(*value))
}

/// Nobody looks for signs of tampering here, but values that cannot be are refused as well.
fn refuse_impossible(
    arguments: &FitArguments,
    spec: &ModelSpec,
    table: &Table,
) -> Result<(), Failure> {
    let rows = table.rows().enumerate();
    let mut wrong = rows.filter(|(_, row)| !possible(spec, row));
    match wrong.next() {
        Some((first, _)) if !arguments.allow => Err(Failure::DoesNotHold(anyhow!(
            "{}: {} row(s) have a value that is not possible, the first on line {}; --allow \
             leaves them out",
            arguments.data.display(),
            1 + wrong.count(),
            table.line(first)
        ))),
        _ => Ok(()),
    }
}

/// Replaces the histograms of a reference that was fitted before to this model, and nothing else.
pub(super) fn replace_in(
    arguments: &FitArguments,
    spec: &ModelSpec,
    rows: &Rows,
    drift: RawDrift,
) -> Result<(), Failure> {
    refuse_impossible(arguments, spec, &rows.table)?;
    let bytes = read_file(&arguments.out)?;
    let wrong =
        |reason: String| Failure::DoesNotHold(anyhow!("{}: {reason}", arguments.out.display()));
    let mut reference: RawReference =
        serde_json::from_slice(&bytes).map_err(|error| wrong(one_line(&error)))?;
    if (&reference.name, reference.version) != (&spec.name, spec.version) {
        return Err(wrong(format!(
            "fitted to {} version {}, not to {} version {}",
            reference.name, reference.version, spec.name, spec.version
        )));
    }
    let fitted = reference.features.iter().map(|feature| &feature.name);
    if !fitted.eq(spec.features.iter().map(|feature| &feature.name)) {
        return Err(wrong(format!(
            "fitted to other features than those of {}, or in another order",
            arguments.features.display()
        )));
    }
    reference.drift = Some(drift);
    let text = written(&reference).map_err(Failure::does_not_hold)?;
    replace(&arguments.out, text.as_bytes())
}
