//! `vitalgate bundle stability`: which pushes show that a prediction hangs on measurement
//! uncertainty, and how many of those that do they find.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};
use vitalgate::{
    bundle::{MODEL_FILE, REFERENCE_FILE, model::ModelSpec, parse_model},
    error_chain::one_line,
    inference::Engine,
    screening::reference::{RawPush, RawReference, RawStability},
    stability::fit::{Copies, Measured, Networks},
    training_data::{Columns, Groups, Table},
};

use super::{Failure, bundle_directory, fit, print, read_bundle};
use crate::cli::{
    networks::{members, runtime},
    patients::{mapping, read_table},
};

#[derive(Debug, Args)]
pub(crate) struct StabilityArguments {
    /// The bundle, or the directory of its version, not signed yet.
    #[arg(long, value_name = "DIR")]
    bundle: PathBuf,
    /// Fit the pushes to these patients: CSV with a header.
    #[arg(long, value_name = "FILE")]
    fit: Option<PathBuf>,
    /// Measure them on these, to whom nothing was fitted: every corner of the uncertainties.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
    /// Of one network alone, as if it were the model.
    #[arg(long, value_name = "NAME", conflicts_with = "write")]
    member: Option<String>,
    /// Columns whose header is neither the feature's name nor a usual one.
    #[arg(long, value_name = "COLUMN=feature", value_delimiter = ',', value_parser = mapping)]
    map: Vec<(String, String)>,
    /// Pushes at most.
    #[arg(long, default_value_t = 48, value_parser = clap::value_parser!(u32).range(1..=64))]
    pushes: u32,
    /// Of everything random.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Write what was fitted into the bundle's reference.json. Needs --fit.
    #[arg(long, requires = "fit")]
    write: bool,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &StabilityArguments) -> Result<(), Failure> {
    let directory = bundle_directory(&arguments.bundle);
    let mut files = read_bundle(&directory)?.unverified().clone();
    let refused =
        |error: &dyn std::error::Error| Failure::DoesNotHold(anyhow!("{}", one_line(error)));
    if let Some(member) = &arguments.member {
        alone(&mut files, member)?;
    }
    let spec = parse_model(&directory, &files).map_err(|e| refused(&e))?;
    let columns = Columns {
        named: arguments
            .map
            .iter()
            .map(|(column, feature)| (feature.clone(), column.clone()))
            .collect(),
        // Outcomes are not asked for.
        further: true,
        ..Columns::default()
    };
    let table = |path: &Option<PathBuf>| {
        let read = path
            .as_ref()
            .map(|path| read_table(path, &spec, &columns, &mut Groups::default()));
        read.transpose()
    };
    let tables = (table(&arguments.fit)?, table(&arguments.data)?);
    let reference = files.get(REFERENCE_FILE).ok_or_else(|| {
        Failure::DoesNotHold(anyhow!("{}: no {REFERENCE_FILE}", directory.display()))
    })?;
    let mut reference: RawReference =
        serde_json::from_slice(reference).map_err(|error| refused(&error))?;
    let engine = members(&directory, &spec, files.clone())?;
    let engine = Engine::<Copies>::start(&runtime()?, &engine).map_err(|e| refused(&e))?;
    let (stability, measured) = tokio::runtime::Builder::new_current_thread()
        .build()
        .map_err(Failure::environment)?
        .block_on(work(arguments, &spec, &engine, &reference, tables))?;
    if arguments.write {
        reference.stability = Some(stability.clone());
        let text = fit::written(&reference).map_err(Failure::does_not_hold)?;
        fit::replace(&directory.join(REFERENCE_FILE), text.as_bytes())?;
    }
    report(arguments, &stability, measured)
}

async fn work(
    arguments: &StabilityArguments,
    spec: &Arc<ModelSpec>,
    engine: &Engine<Copies>,
    reference: &RawReference,
    (patients, unseen): (Option<Table>, Option<Table>),
) -> Result<(RawStability, Option<Measured>), Failure> {
    let networks = Networks::new(spec, engine);
    let stability = match (patients, &reference.stability) {
        (Some(patients), _) => networks
            .fit(patients.rows(), arguments.pushes as usize, arguments.seed)
            .await
            .map_err(Failure::does_not_hold)?,
        (None, Some(fitted)) => fitted.clone(),
        (None, None) => {
            let missing = anyhow!("{REFERENCE_FILE} has no fitted pushes; --fit fits some");
            return Err(Failure::DoesNotHold(missing));
        }
    };
    let Some(unseen) = unseen else {
        return Ok((stability, None));
    };
    let measured = networks.measure(unseen.rows(), &stability).await;
    Ok((stability, Some(measured.map_err(Failure::does_not_hold)?)))
}

/// Makes the bundle one of a single network.
fn alone(files: &mut BTreeMap<String, Vec<u8>>, member: &str) -> Result<(), Failure> {
    let unknown = || Failure::usage(anyhow!("the model has no member {member}"));
    let bytes = files.get_mut(MODEL_FILE).ok_or_else(unknown)?;
    let mut model: Value = serde_json::from_slice(bytes).map_err(Failure::does_not_hold)?;
    let members = model.get_mut("members").and_then(Value::as_array_mut);
    let members = members.ok_or_else(unknown)?;
    members.retain(|m| m.get("name").is_some_and(|name| name == member));
    if members.is_empty() {
        return Err(unknown());
    }
    let known = model.get_mut("known_answers").and_then(Value::as_array_mut);
    for known in known.into_iter().flatten() {
        if let Some(outputs) = known.get_mut("outputs").and_then(Value::as_object_mut) {
            outputs.retain(|name, _| name == member);
        }
    }
    // One network needs no quorum.
    if let Some(agreement) = model.get_mut("agreement").and_then(Value::as_object_mut) {
        agreement.remove("quorum");
    }
    *bytes = model.to_string().into_bytes();
    Ok(())
}

fn report(
    arguments: &StabilityArguments,
    stability: &RawStability,
    measured: Option<Measured>,
) -> Result<(), Failure> {
    let of = arguments.member.as_deref().unwrap_or("the whole model");
    if arguments.json {
        let share = measured.as_ref().map(Measured::share);
        let report = json!({"of": of, "pushes": stability.pushes.len(), "measured": measured, "share": share});
        return print(&report.to_string());
    }
    let most = |reach: fn(&RawPush) -> f64| stability.pushes.iter().map(reach).fold(0.0, f64::max);
    print(&format!(
        "{of}: {} pushes, within {} below and {} above the edge of a band (logits)",
        stability.pushes.len(),
        most(|push| push.up),
        most(|push| push.down),
    ))?;
    let Some(m) = measured else { return Ok(()) };
    print(&format!(
        "unseen rows           {}\n\
         within reach          {}; {:.1} pushes tried a row, on average over all\n\
         unstable at a corner  {}, {} of them within reach\n\
         of these named        {} ({:.3})",
        m.rows,
        m.near,
        m.tried,
        m.unstable,
        m.unstable_near,
        m.named,
        m.share()
    ))?;
    for edge in &m.edges {
        let (at, unstable, named) = (edge.at, edge.unstable, edge.named);
        print(&format!(
            "  nearest edge {at:<8} {unstable} unstable, {named} named"
        ))?;
    }
    Ok(())
}
