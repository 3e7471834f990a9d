//! What can be said of a bundle's networks: without running them, and by running them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::anyhow;
use aws_lc_rs::digest::{SHA256, digest};
use vitalgate::{
    bundle::{
        MODEL_FILE, REFERENCE_FILE, engine_spec,
        model::{MemberSpec, ModelSpec},
    },
    inference::{
        Engine, Execution, GraphSummary, PINNED_SHA256, Runtime, TensorSummary, find_library,
        inspect,
    },
    row::Row,
    screening::Screen,
};

use super::Failure;
use vitalgate::error_chain::one_line;

/// A member whose graph the server accepts.
#[derive(Debug)]
pub(super) struct Network {
    pub(super) name: String,
    pub(super) file: String,
    pub(super) bytes: usize,
    pub(super) sha256: String,
    pub(super) graph: GraphSummary,
}

/// Reads `model.json`, `reference.json` and every network's graph, or says why the server would refuse them.
/// Nothing is run.
pub(super) fn examine(
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<(Arc<ModelSpec>, Vec<Network>), String> {
    let model = files
        .get(MODEL_FILE)
        .ok_or_else(|| format!("{MODEL_FILE} is missing"))?;
    let spec = ModelSpec::parse(model).map_err(|error| one_line(&error))?;
    let networks = spec
        .members
        .iter()
        .map(|member| network(member, spec.features.len(), files))
        .collect::<Result<_, _>>()?;
    if let Some(bytes) = files.get(REFERENCE_FILE) {
        Screen::parse(bytes, &spec).map_err(|error| one_line(&error))?;
    }
    Ok((spec, networks))
}

fn network(
    member: &MemberSpec,
    features: usize,
    files: &BTreeMap<String, Vec<u8>>,
) -> Result<Network, String> {
    let MemberSpec {
        name,
        file,
        input,
        output,
    } = member;
    let onnx = files
        .get(file)
        .ok_or_else(|| format!("member {name}: {file} is missing"))?;
    let refused = |reason: String| format!("member {name}: {file}: {reason}");
    let graph = inspect(onnx).map_err(|error| refused(one_line(&error)))?;
    if graph.inputs.len() != 1 {
        return Err(refused(format!(
            "takes {} inputs, expected exactly one",
            graph.inputs.len()
        )));
    }
    let shape = find("input", input, &graph.inputs).map_err(refused)?;
    if !takes(shape, features) {
        return Err(refused(format!(
            "input {input:?} must be float32[N, {features}], but is {shape}"
        )));
    }
    let shape = find("output", output, &graph.outputs).map_err(refused)?;
    if !may_give(shape) {
        return Err(refused(format!(
            "output {output:?} must be float32[N, 1] or float32[N], but is {shape}"
        )));
    }
    Ok(Network {
        name: name.clone(),
        file: file.clone(),
        bytes: onnx.len(),
        sha256: hex::encode(digest(&SHA256, onnx)),
        graph,
    })
}

fn find<'a>(role: &str, name: &str, tensors: &'a [TensorSummary]) -> Result<&'a str, String> {
    let found = tensors.iter().find(|tensor| tensor.name == name);
    found.map(|tensor| tensor.shape.as_str()).ok_or_else(|| {
        let names: Vec<_> = tensors.iter().map(|t| format!("{:?}", t.name)).collect();
        format!("has no {role} {name:?}; it has {}", names.join(", "))
    })
}

fn dimensions(shape: &str) -> Option<Vec<&str>> {
    let dims = shape.strip_prefix("float32[")?.strip_suffix(']')?;
    Some(dims.split(", ").collect())
}

fn is_free(dimension: &str) -> bool {
    dimension.parse::<i64>().is_err()
}

fn takes(shape: &str, features: usize) -> bool {
    let dims = dimensions(shape);
    matches!(dims.as_deref(), Some([rows, columns]) if is_free(rows) && columns.parse() == Ok(features))
}

/// An output may leave its shape open: ONNX Runtime then infers it, and has the last word.
fn may_give(shape: &str) -> bool {
    let dims = dimensions(shape);
    shape == "float32"
        || match dims.as_deref() {
            Some([rows]) => is_free(rows),
            Some([rows, columns]) => is_free(rows) && (is_free(columns) || *columns == "1"),
            Some(_) | None => false,
        }
}

/// Starts the networks in ONNX Runtime, on the CPU, which checks their shapes and every known
/// answer. Takes the networks' bytes out of `files`.
pub(super) fn run(
    path: &Path,
    spec: &ModelSpec,
    mut files: BTreeMap<String, Vec<u8>>,
) -> Result<(), Failure> {
    let refused = |error: &dyn std::error::Error| {
        Failure::DoesNotHold(anyhow!("{}: {}", path.display(), one_line(error)))
    };
    let missing =
        |error: &dyn std::error::Error| Failure::Environment(anyhow!("{}", one_line(error)));
    let library = find_library(None).map_err(|error| missing(&error))?;
    let runtime = Runtime::load(&library, PINNED_SHA256).map_err(|error| missing(&error))?;
    let engine = engine_spec(path, spec, &mut files, Execution::Cpu)
        .map_err(|error| Failure::DoesNotHold(anyhow!("{}", one_line(&error))))?;
    match Engine::<Row>::start(&runtime, &engine) {
        Ok(_) => Ok(()),
        Err(error) if error.is_environment() => Err(missing(&error)),
        Err(error) => Err(refused(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_that_cannot_fit_are_told_without_running() {
        for good in ["float32[N, 20]", "float32[?, 20]", "float32[batch, 20]"] {
            assert!(takes(good, 20), "{good}");
        }
        for bad in [
            "float32[1, 20]",
            "float32[N, 19]",
            "float32[N, C]",
            "float32[20]",
            "float32",
            "float64[N, 20]",
            "not a tensor",
        ] {
            assert!(!takes(bad, 20), "{bad}");
        }
        for good in ["float32[N, 1]", "float32[N]", "float32[?, ?]", "float32"] {
            assert!(may_give(good), "{good}");
        }
        for bad in [
            "float32[N, 2]",
            "float32[4]",
            "int64[N]",
            "float32[N, 1, 1]",
        ] {
            assert!(!may_give(bad), "{bad}");
        }
    }
}
