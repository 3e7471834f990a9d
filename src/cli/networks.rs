//! A bundle's networks, run on rows of a file whatever the screens say of them.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use anyhow::anyhow;
use vitalgate::{
    bundle::{engine_spec, model::ModelSpec, parse_model},
    error_chain::one_line,
    evaluation::{self, path::Plain},
    inference::{Engine, EngineSpec, Execution, PINNED_SHA256, Runtime, find_library},
    intake::Ruler,
    training_data::Table,
};

use super::{Failure, bundle::read_bundle};

/// Networks, ready to run.
pub(crate) struct Networks {
    spec: Arc<ModelSpec>,
    engine: Engine<Plain>,
}

impl Networks {
    /// Starts those of a bundle.
    pub(crate) fn start(
        spec: &Arc<ModelSpec>,
        runtime: &Runtime,
        engine: &EngineSpec,
    ) -> Result<Self, Failure> {
        let engine = Engine::start(runtime, engine)
            .map_err(|error| Failure::DoesNotHold(anyhow!("{}", one_line(&error))))?;
        Ok(Self {
            spec: Arc::clone(spec),
            engine,
        })
    }

    /// Those that lie beside a model.json; `None` where there are none to run.
    pub(crate) fn beside(model: &Path) -> Option<Self> {
        let directory = model.parent()?;
        let files = read_bundle(directory).ok()?.unverified().clone();
        let spec = parse_model(directory, &files).ok()?;
        let engine = members(directory, &spec, files).ok()?;
        Self::start(&spec, &runtime().ok()?, &engine).ok()
    }

    /// The engine.
    pub(crate) fn engine(&self) -> &Engine<Plain> {
        &self.engine
    }

    /// Each member's probability for every row; empty where a row cannot be scored.
    pub(crate) fn probabilities(&self, table: &Table) -> Result<Vec<Vec<f64>>, Failure> {
        evaluation::predictions(&self.spec, &self.engine, table)
            .map_err(|e| Failure::Environment(anyhow!("{}", one_line(&e))))
    }

    /// The mean of the networks for every row, to compare outcomes with.
    pub(crate) fn ruler(&self, table: &Table) -> Result<Ruler, Failure> {
        let mean = |p: Vec<f64>| {
            let count = u32::try_from(p.len()).ok().filter(|n| *n > 0);
            count.map_or(f64::NAN, |n| p.iter().sum::<f64>() / f64::from(n))
        };
        let predicted = self.probabilities(table)?;
        Ok(Ruler {
            source: format!("{} version {}", self.spec.name, self.spec.version),
            probabilities: predicted.into_iter().map(mean).collect(),
        })
    }
}

/// The pinned ONNX Runtime.
pub(crate) fn runtime() -> Result<Runtime, Failure> {
    let missing =
        |error: &dyn std::error::Error| Failure::Environment(anyhow!("{}", one_line(error)));
    let library = find_library(None).map_err(|e| missing(&e))?;
    Runtime::load(&library, PINNED_SHA256).map_err(|e| missing(&e))
}

/// What an engine is started from.
pub(crate) fn members(
    directory: &Path,
    spec: &ModelSpec,
    mut files: BTreeMap<String, Vec<u8>>,
) -> Result<EngineSpec, Failure> {
    engine_spec(directory, spec, &mut files, Execution::Cpu)
        .map_err(|error| Failure::DoesNotHold(anyhow!("{}", one_line(&error))))
}
