//! Incident controls: which models and callers are stopped, and whether deployments are frozen.
//!
//! The request path reads one immutable table without a lock. A change replaces the table and is
//! written to disk before it is confirmed, so that a restart releases nothing. What stops
//! something is in force before it is written, what releases something is written before it is
//! in force: whichever step fails, the server errs on the side of stopping.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use self::store::Store;
use crate::{authn::Principal, bundle::LoadedModel, disposition::Code};

mod reason;
mod sharing;
mod store;
#[cfg(test)]
mod tests;

pub use self::reason::{Reason, UnfitReason};
pub use self::sharing::SharedChange;
pub use self::store::StateError;

/// Why something is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    /// Since when, RFC 3339.
    pub since: String,
    /// The principal who stopped it.
    pub by: String,
    /// In that principal's words.
    pub reason: Reason,
}

/// What can be stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// Predictions of a model: of one version, or of every version there is or will be.
    Model {
        /// Its name.
        name: String,
        /// All versions when none.
        version: Option<u32>,
    },
    /// Every request of a caller, by name of the principal.
    Caller(String),
    /// Loading, unloading and promoting models: read-only mode.
    Deployments,
}

/// Everything that is stopped.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stopped {
    models: BTreeMap<String, ModelHolds>,
    callers: BTreeMap<String, Hold>,
    read_only: Option<Hold>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ModelHolds {
    all: Option<Hold>,
    versions: BTreeMap<u32, Hold>,
}

impl Stopped {
    /// Why a version of a model is stopped, if it is.
    pub fn model(&self, name: &str, version: u32) -> Option<&Hold> {
        let holds = self.models.get(name)?;
        holds.all.as_ref().or_else(|| holds.versions.get(&version))
    }

    /// Why a caller is stopped, if it is.
    pub fn caller(&self, name: &str) -> Option<&Hold> {
        self.callers.get(name)
    }

    /// Why deployments are frozen, if they are.
    pub fn read_only(&self) -> Option<&Hold> {
        self.read_only.as_ref()
    }

    /// The models and versions that were stopped, served or not.
    pub fn models(&self) -> impl Iterator<Item = (&str, Option<u32>, &Hold)> {
        self.models.iter().flat_map(|(name, holds)| {
            let all = holds.all.iter().map(|hold| (None, hold));
            let versions = holds.versions.iter().map(|(v, hold)| (Some(*v), hold));
            all.chain(versions)
                .map(move |(version, hold)| (name.as_str(), version, hold))
        })
    }

    /// The callers that were stopped, configured or not.
    pub fn callers(&self) -> impl Iterator<Item = (&str, &Hold)> {
        self.callers
            .iter()
            .map(|(name, hold)| (name.as_str(), hold))
    }

    fn slot(&mut self, subject: &Subject) -> Slot<'_> {
        match subject {
            Subject::Model {
                name,
                version: None,
            } => Slot::One(&mut self.models.entry(name.clone()).or_default().all),
            Subject::Model {
                name,
                version: Some(version),
            } => Slot::Version(
                &mut self.models.entry(name.clone()).or_default().versions,
                *version,
            ),
            Subject::Caller(name) => Slot::Name(&mut self.callers, name.clone()),
            Subject::Deployments => Slot::One(&mut self.read_only),
        }
    }

    /// Stops a subject; the first hold stays when there is one. Whether anything changed.
    fn stop(&mut self, subject: &Subject, hold: Hold) -> bool {
        match self.slot(subject) {
            Slot::One(Some(_)) => false,
            Slot::One(none) => none.replace(hold).is_none(),
            Slot::Version(holds, version) => insert_new(holds, version, hold),
            Slot::Name(holds, name) => insert_new(holds, name, hold),
        }
    }

    /// Releases a subject. Whether it was stopped.
    fn release(&mut self, subject: &Subject) -> bool {
        let released = match self.slot(subject) {
            Slot::One(hold) => hold.take().is_some(),
            Slot::Version(holds, version) => holds.remove(&version).is_some(),
            Slot::Name(holds, name) => holds.remove(&name).is_some(),
        };
        self.models
            .retain(|_, holds| holds.all.is_some() || !holds.versions.is_empty());
        released
    }
}

/// Where a subject's hold is kept.
enum Slot<'a> {
    One(&'a mut Option<Hold>),
    Version(&'a mut BTreeMap<u32, Hold>, u32),
    Name(&'a mut BTreeMap<String, Hold>, String),
}

fn insert_new<K: Ord>(holds: &mut BTreeMap<K, Hold>, key: K, hold: Hold) -> bool {
    let new = !holds.contains_key(&key);
    if new {
        holds.insert(key, hold);
    }
    new
}

/// Neither the caller nor the model of one request is stopped: made only by
/// [`Containment::confirm`], asked for by [`crate::hardening::release`].
#[derive(Debug)]
pub struct Uncontained(());

#[cfg(test)]
impl Uncontained {
    /// As if nothing were stopped.
    pub(crate) fn example() -> Self {
        Self(())
    }
}

/// The controls in force.
#[derive(Debug)]
pub struct Containment {
    current: ArcSwap<Stopped>,
    store: Option<Store>,
    // Held while a change is made; the request path never takes it.
    changing: Mutex<()>,
    unshared: Mutex<sharing::Unshared>,
}

impl Containment {
    /// Takes up what the state directory remembers, for this process alone. Without a directory
    /// nothing is stopped, and nothing is remembered.
    pub fn open(directory: Option<&Path>) -> Result<Self, StateError> {
        let store = directory.map(Store::open).transpose()?;
        let stopped = store.as_ref().map(Store::read).transpose()?;
        let stopped = stopped.unwrap_or_default();
        Ok(Self {
            unshared: Mutex::new(sharing::since_before(&stopped)),
            current: ArcSwap::from_pointee(stopped),
            store,
            changing: Mutex::new(()),
        })
    }

    /// Everything that is stopped now.
    pub fn stopped(&self) -> Arc<Stopped> {
        self.current.load_full()
    }

    /// Refuses a caller that is stopped: by its own name, or by that of the certificate's holder,
    /// whose tokens may name others. The holder is only looked for when anybody is stopped.
    pub fn check_caller(
        &self,
        caller: &Principal,
        holder: impl FnOnce() -> Option<Arc<Principal>>,
    ) -> Result<(), Code> {
        let current = self.current.load();
        if current.callers.is_empty() {
            return Ok(());
        }
        let is_stopped = |name: &str| current.caller(name).is_some();
        if is_stopped(caller.name()) || holder().is_some_and(|holder| is_stopped(holder.name())) {
            return Err(Code::CallerQuarantined);
        }
        Ok(())
    }

    /// Looks again, before a prediction is released, whether the caller or the model is stopped: a
    /// body may be long in coming.
    ///
    /// # Errors
    /// `CALLER_QUARANTINED` or `MODEL_QUARANTINED`.
    pub fn confirm(
        &self,
        caller: &Principal,
        holder: impl FnOnce() -> Option<Arc<Principal>>,
        model: &LoadedModel,
    ) -> Result<Uncontained, Code> {
        self.check_caller(caller, holder)?;
        self.check_model(model)?;
        Ok(Uncontained(()))
    }

    /// Refuses predictions of a model that is stopped.
    pub fn check_model(&self, model: &LoadedModel) -> Result<(), Code> {
        let spec = model.spec();
        match self.current.load().model(&spec.name, spec.version) {
            Some(_) => Err(Code::ModelQuarantined),
            None => Ok(()),
        }
    }

    /// Refuses a change of what is served in read-only mode.
    pub fn check_deployments(&self) -> Result<(), Code> {
        match self.current.load().read_only() {
            Some(_) => Err(Code::ReadOnly),
            None => Ok(()),
        }
    }

    /// Stops a subject from the next decision on. Whether it was not stopped before. An error
    /// means that it is stopped, but only until the next start. Waits for the disk.
    pub fn stop(&self, subject: &Subject, hold: Hold) -> Result<bool, StateError> {
        self.note(subject, Some(hold.clone()));
        self.apply_stop(subject, hold)
    }

    fn apply_stop(&self, subject: &Subject, hold: Hold) -> Result<bool, StateError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stopped = Stopped::clone(&self.current.load());
        let changed = stopped.stop(subject, hold);
        let stopped = Arc::new(stopped);
        self.current.store(Arc::clone(&stopped));
        // Even if nothing changed: an earlier attempt may not have reached the disk.
        self.keep(&stopped)?;
        Ok(changed)
    }

    /// Releases a subject from the next decision on. Whether it was stopped. An error means that
    /// it is still stopped. Waits for the disk.
    pub fn release(&self, subject: &Subject) -> Result<bool, StateError> {
        let changed = self.apply_release(subject)?;
        self.note(subject, None);
        Ok(changed)
    }

    fn apply_release(&self, subject: &Subject) -> Result<bool, StateError> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stopped = Stopped::clone(&self.current.load());
        let changed = stopped.release(subject);
        self.keep(&stopped)?;
        self.current.store(Arc::new(stopped));
        Ok(changed)
    }

    fn keep(&self, stopped: &Stopped) -> Result<(), StateError> {
        self.store.as_ref().map_or(Ok(()), |s| s.write(stopped))
    }
}
