//! Deployments while the server runs: another version is verified, approved and started exactly
//! as at the start, beside what serves, and takes its place only when it could.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::{
    bundle::{Authority, LoadError, LoadedModel, Models, load},
    config::{Config, ServedModel, Trust},
    inference::{Execution, Runtime},
};

/// How often it is looked whether a model that left still has requests.
const RETIRING: Duration = Duration::from_millis(50);

/// Loads models.
#[derive(Debug)]
pub struct Deployer {
    repository: PathBuf,
    trust: Trust,
    runtime: Runtime,
    execution: Execution,
    authority: ArcSwap<Authority>,
    busy: Arc<Mutex<()>>,
}

/// The right to change what is served: one deployment at a time, or two would take the memory
/// of four models and might end in either's version.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "held")] OwnedMutexGuard<()>);

impl Deployer {
    /// Establishes who approves models, and loads all that the configuration serves.
    pub fn start(config: &Config, runtime: Runtime) -> Result<(Models, Self), LoadError> {
        let authority = Authority::establish(&config.trust)?;
        let execution = config.onnxruntime.execution;
        let models = Models::load(
            &config.repository,
            &config.models,
            &authority,
            &runtime,
            execution,
        )?;
        let deployer = Self {
            repository: config.repository.clone(),
            trust: config.trust.clone(),
            runtime,
            execution,
            authority: ArcSwap::from_pointee(authority),
            busy: Arc::default(),
        };
        Ok((models, deployer))
    }

    /// Who approves models now.
    pub fn authority(&self) -> Arc<Authority> {
        self.authority.load_full()
    }

    /// Whether the repository has a version of the model, any one when none is asked for.
    pub fn has(&self, name: &str, version: Option<u32>) -> bool {
        let model = self.repository.join(name);
        let directory = match version {
            Some(version) => model.join(version.to_string()),
            None => model,
        };
        is_directory_name(name) && directory.is_dir()
    }

    /// The versions of models in the repository, loaded or not; at most `most`.
    pub fn available(&self, most: usize) -> Vec<ServedModel> {
        let mut available = Vec::new();
        for name in directories(&self.repository).filter(|name| is_directory_name(name)) {
            for text in directories(&self.repository.join(&name)) {
                let version = text.parse().ok().filter(|v: &u32| v.to_string() == text);
                let name = name.clone();
                available.extend(version.map(|version| ServedModel { name, version }));
            }
        }
        available.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
        available.truncate(most);
        available
    }

    /// The right to change what is served, unless somebody has it.
    pub fn turn(&self) -> Option<Turn> {
        Arc::clone(&self.busy).try_lock_owned().ok().map(Turn)
    }

    /// Verifies, approves and starts a version, which does not serve yet. The release policy is
    /// read anew, so that one that names another model need not wait for a restart; one that is
    /// wrong or older than the last refuses the load. Takes seconds: not for the request path.
    pub fn load(&self, _turn: &Turn, served: &ServedModel) -> Result<LoadedModel, LoadError> {
        if !is_directory_name(&served.name) {
            return Err(LoadError::Mismatch {
                path: self.repository.clone(),
                problem: "a model's name is of a-z, 0-9, -".to_owned(),
            });
        }
        let authority = Arc::new(Authority::establish(&self.trust)?);
        self.authority.store(Arc::clone(&authority));
        load(
            &self.repository,
            served,
            &authority,
            &self.runtime,
            self.execution,
        )
    }

    /// Where bundles are.
    pub fn repository(&self) -> &Path {
        &self.repository
    }
}

/// Names of the directories in one; none when it cannot be read.
fn directories(of: &Path) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(of).into_iter().flatten().flatten();
    let directories = entries.filter(|entry| entry.file_type().is_ok_and(|t| t.is_dir()));
    directories.filter_map(|entry| entry.file_name().into_string().ok())
}

/// As the configuration takes names: nothing that could leave the repository.
fn is_directory_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    !name.is_empty() && name.chars().all(plain)
}

/// Ends a model that no longer serves, once the requests admitted to it are done. Ending waits
/// for its threads, which no request should.
pub async fn retire(model: Arc<LoadedModel>) {
    while Arc::strong_count(&model) > 1 {
        tokio::time::sleep(RETIRING).await;
    }
    let (name, version) = (model.spec().name.clone(), model.spec().version);
    // It ends even if nobody waits for it.
    drop(tokio::task::spawn_blocking(move || drop(model)).await);
    tracing::info!(model = name, version, "model ended");
}
