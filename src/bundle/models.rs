//! The models being served: a table that is replaced as a whole, and read without a lock.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use arc_swap::ArcSwap;

use super::{Authority, LoadError, LoadedModel, approve};
use crate::{
    config::ServedModel,
    inference::{Execution, Runtime},
    telemetry::catalogue::MODEL_LOADS,
};

/// By name and version.
type Table = BTreeMap<String, BTreeMap<u32, Arc<LoadedModel>>>;

/// The models being served. A request sees one table or the next, never half of a change, and
/// keeps the model that it found for as long as it lasts.
#[derive(Debug)]
pub struct Models(ArcSwap<Table>);

/// Verifies, approves and starts one version of a model.
pub(crate) fn load(
    repository: &Path,
    served: &ServedModel,
    authority: &Authority,
    runtime: &Runtime,
    execution: Execution,
) -> Result<LoadedModel, LoadError> {
    let loaded = verify_and_start(repository, served, authority, runtime, execution);
    let result = loaded.as_ref().map_or_else(LoadError::result, |_| "loaded");
    MODEL_LOADS.with([result.into()]).increment(1);
    loaded
}

fn verify_and_start(
    repository: &Path,
    served: &ServedModel,
    authority: &Authority,
    runtime: &Runtime,
    execution: Execution,
) -> Result<LoadedModel, LoadError> {
    let ServedModel { name, version } = served;
    let directory = repository.join(name).join(version.to_string());
    let model = LoadedModel::start(approve(&directory, authority)?, runtime, execution)?;
    let spec = model.spec();
    if spec.name != *name || spec.version != *version {
        return Err(LoadError::Mismatch {
            path: directory,
            problem: format!("the bundle is {} version {}", spec.name, spec.version),
        });
    }
    tracing::info!(
        model = name,
        version,
        digest = model.digest(),
        "model verified and loaded"
    );
    Ok(model)
}

impl Models {
    /// Verifies and starts everything that the configuration serves. One failure fails all: a
    /// server that starts with fewer models than it was told to serve is a silent outage.
    pub fn load(
        repository: &Path,
        served: &[ServedModel],
        authority: &Authority,
        runtime: &Runtime,
        execution: Execution,
    ) -> Result<Self, LoadError> {
        let mut table = Table::new();
        for one in served {
            let model = load(repository, one, authority, runtime, execution)?;
            insert(&mut table, Arc::new(model));
        }
        Ok(Self(ArcSwap::from_pointee(table)))
    }

    /// A version of a model, the highest one when none is asked for.
    pub fn get(&self, name: &str, version: Option<u32>) -> Option<Arc<LoadedModel>> {
        let table = self.0.load();
        let versions = table.get(name)?;
        let found = match version {
            Some(version) => versions.get(&version),
            None => versions.last_key_value().map(|(_, model)| model),
        };
        found.cloned()
    }

    /// Whether a model of this name is served.
    pub fn contains(&self, name: &str) -> bool {
        self.0.load().contains_key(name)
    }

    /// All, by name and version.
    pub fn all(&self) -> Vec<Arc<LoadedModel>> {
        let table = self.0.load();
        table.values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// Serves a model from the next request on, in place of what had its name and version.
    pub(crate) fn put(&self, model: &Arc<LoadedModel>) -> Option<Arc<LoadedModel>> {
        let spec = model.spec();
        let before = self.0.rcu(|table| {
            let mut table = Table::clone(table);
            insert(&mut table, Arc::clone(model));
            table
        });
        before.get(&spec.name)?.get(&spec.version).cloned()
    }

    /// Stops serving a version from the next request on.
    pub(crate) fn take(&self, name: &str, version: u32) -> Option<Arc<LoadedModel>> {
        let before = self.0.rcu(|table| {
            let mut table = Table::clone(table);
            if let Some(versions) = table.get_mut(name) {
                versions.remove(&version);
                if versions.is_empty() {
                    table.remove(name);
                }
            }
            table
        });
        before.get(name)?.get(&version).cloned()
    }
}

fn insert(table: &mut Table, model: Arc<LoadedModel>) {
    let spec = model.spec();
    table
        .entry(spec.name.clone())
        .or_default()
        .insert(spec.version, model);
}
