//! Changes: why, to what, announced, made.

use std::sync::Arc;

use axum::{body::Body, http::HeaderMap};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Administration, Declined, reports, routes::Call, target::Change};
use crate::{
    admission::Admitter,
    authn::Principal,
    clock,
    config::ServedModel,
    containment::{Hold, Reason, StateError, Subject},
    deployment,
    disposition::Code,
    error_chain::one_line,
    receive::{self, Framing, Media},
};

/// The body of a change.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    reason: String,
    /// For read-only mode, and for nothing else.
    on: Option<bool>,
}

/// Reads the body of a change: JSON with the reason, and for read-only mode which way.
pub(super) async fn read(
    of: &Administration,
    change: Change,
    (headers, body): (HeaderMap, Body),
    framing: &Framing,
) -> Result<Explained, Declined> {
    let body = receive::whole(&headers, body, Media::Json, &of.body, framing).await?;
    // What is wrong with it is not repeated: it may be anybody's text.
    let wanted: Wanted = serde_json::from_slice(body.expose()).map_err(|_| Code::InvalidChange)?;
    Explained::new(change, &wanted.reason, wanted.on)
}

/// A change, and why it is made.
pub(super) struct Explained {
    change: Change,
    reason: Reason,
}

impl Explained {
    /// If the reason is fit to be recorded, and it is said which way where there are two.
    pub(super) fn new(change: Change, reason: &str, on: Option<bool>) -> Result<Self, Declined> {
        let reason = Reason::new(reason)
            .map_err(|unfit| Declined::because(Code::InvalidChange, one_line(&unfit)))?;
        let change = match (change, on) {
            (Change::ReadOnly, Some(true)) => Change::Stop(Subject::Deployments),
            (Change::ReadOnly, Some(false)) => Change::Release(Subject::Deployments),
            (Change::ReadOnly, None) | (_, Some(_)) => return Err(Code::InvalidChange.into()),
            (change, None) => change,
        };
        Ok(Self { change, reason })
    }

    /// What is to be done, as the record says it.
    pub(super) fn target(&self) -> String {
        self.change.target()
    }
}

/// Makes an authorized change, if there is what it is about, and if the log took note of it.
pub(super) async fn make(
    call: &mut Call,
    principal: &Arc<Principal>,
    Explained { change, reason }: Explained,
) -> Result<Value, Declined> {
    let of = Arc::clone(&call.administration);
    check(&of, principal, &change)?;
    call.trail.target = Some(change.target());
    call.trail.reason = Some(reason.as_str().to_owned());
    let audit = &of.application.audit;
    if let Some(served) = frozen_by_read_only(&change) {
        of.application.pipeline.containment.check_deployments()?;
        call.trail.model = of
            .application
            .pipeline
            .models
            .get(&served.name, Some(served.version));
    }
    audit.announce(&call.trail).await?;
    let hold = || Hold {
        since: clock::rfc3339(),
        by: principal.name().to_owned(),
        reason: reason.clone(),
    };
    match change {
        Change::Load(served) => load(call, served).await,
        Change::Unload(served) => unload(call, &served),
        Change::Stop(subject) => contain(&of, subject, Some(hold())).await,
        Change::Release(subject) => contain(&of, subject, None).await,
        Change::ReadOnly => Err(Code::Internal.into()),
    }
}

fn frozen_by_read_only(change: &Change) -> Option<&ServedModel> {
    match change {
        Change::Load(served) | Change::Unload(served) => Some(served),
        Change::Stop(_) | Change::Release(_) | Change::ReadOnly => None,
    }
}

/// Whether there is what the change is about. A misspelt quarantine must not look like one.
fn check(of: &Administration, principal: &Principal, change: &Change) -> Result<(), Code> {
    let pipeline = &of.application.pipeline;
    let (models, callers) = (&pipeline.models, &pipeline.authenticator);
    match change {
        Change::Load(s) if of.deployer.has(&s.name, Some(s.version)) => Ok(()),
        Change::Load(_) => Err(Code::NotInRepository),
        Change::Unload(s) if models.get(&s.name, Some(s.version)).is_some() => Ok(()),
        Change::Unload(s) if models.contains(&s.name) => Err(Code::UnknownVersion),
        Change::Unload(_) => Err(Code::UnknownModel),
        Change::Stop(Subject::Model { name, version }) => {
            let known =
                |version| models.get(name, version).is_some() || of.deployer.has(name, version);
            match (known(None), known(*version)) {
                (_, true) => Ok(()),
                (true, false) => Err(Code::UnknownVersion),
                (false, false) => Err(Code::UnknownModel),
            }
        }
        // Whoever can be stopped by themselves can be locked out by a slip.
        Change::Stop(Subject::Caller(name)) if name == principal.name() => {
            Err(Code::SelfQuarantine)
        }
        Change::Stop(Subject::Caller(name)) if callers.may_know(name) => Ok(()),
        Change::Stop(Subject::Caller(_)) => Err(Code::UnknownCaller),
        // What was stopped can be released, even when it is gone since.
        Change::Release(subject) => {
            let stopped = of.application.pipeline.containment.stopped();
            match subject {
                Subject::Model { name, version } => {
                    let is = |(n, v, _): (&str, Option<u32>, &Hold)| n == name && v == *version;
                    let known = stopped.models().any(is)
                        || models.get(name, *version).is_some()
                        || of.deployer.has(name, *version);
                    known.then_some(()).ok_or(Code::UnknownModel)
                }
                Subject::Caller(name) => {
                    let known = stopped.caller(name).is_some() || callers.may_know(name);
                    known.then_some(()).ok_or(Code::UnknownCaller)
                }
                Subject::Deployments => Ok(()),
            }
        }
        Change::Stop(Subject::Deployments) | Change::ReadOnly => Ok(()),
    }
}

async fn load(call: &mut Call, served: ServedModel) -> Result<Value, Declined> {
    let of = Arc::clone(&call.administration);
    let turn = of.deployer.turn().ok_or(Code::DeploymentInProgress)?;
    let loading = {
        let of = Arc::clone(&of);
        move || {
            let loaded = of.deployer.load(&turn, &served);
            (turn, loaded)
        }
    };
    let (_turn, loaded) = tokio::task::spawn_blocking(loading)
        .await
        .map_err(|_panicked| Code::Internal)?;
    let mut model = loaded.map_err(|error| {
        let cause = one_line(&error);
        tracing::warn!(cause, "a model was not loaded");
        Declined::because(Code::LoadRefused, cause)
    })?;
    let models = &of.application.pipeline.models;
    if let Some(before) = models.get(&model.spec().name, Some(model.spec().version)) {
        model.go_on_watching(&before);
    }
    let model = Arc::new(model);
    let before = of.application.pipeline.models.put(&model);
    call.trail.model = Some(Arc::clone(&model));
    let replaced = before.map(|before| {
        let digest = before.named_digest().to_owned();
        call.tasks.spawn(deployment::retire(before));
        digest
    });
    let stopped = of.application.pipeline.containment.stopped();
    Ok(json!({"loaded": reports::model(&model, &stopped), "replaced": replaced}))
}

fn unload(call: &mut Call, served: &ServedModel) -> Result<Value, Declined> {
    let of = &call.administration;
    let _turn = of.deployer.turn().ok_or(Code::DeploymentInProgress)?;
    let taken = of
        .application
        .pipeline
        .models
        .take(&served.name, served.version)
        .ok_or(Code::UnknownVersion)?;
    let digest = taken.named_digest().to_owned();
    call.trail.model = Some(Arc::clone(&taken));
    call.tasks.spawn(deployment::retire(taken));
    Ok(json!({
        "unloaded": {"name": served.name, "version": served.version, "digest": digest},
    }))
}

fn pardon(admitter: &Admitter, caller: &str) -> bool {
    let mut any = false;
    if let Some(account) = admitter.accounts().named(caller) {
        account.each_ledger(|_, ledger| any |= ledger.pardon());
    }
    any
}

async fn contain(
    of: &Arc<Administration>,
    subject: Subject,
    hold: Option<Hold>,
) -> Result<Value, Declined> {
    let application = Arc::clone(&of.application);
    let (stopping, subject_told) = (hold.is_some(), subject.clone());
    let changing = move || -> Result<(bool, Subject), StateError> {
        let pipeline = &application.pipeline;
        let mut changed = match hold {
            Some(hold) => pipeline.containment.stop(&subject, hold)?,
            None => pipeline.containment.release(&subject)?,
        };
        if let (false, Subject::Caller(name)) = (stopping, &subject) {
            // What the caller's queries led to by itself ends with it; its budget stays spent.
            changed |= pardon(&pipeline.admitter, name);
        }
        Ok((changed, subject))
    };
    let pipeline = &of.application.pipeline;
    let changed = tokio::task::spawn_blocking(changing)
        .await
        .map_err(|_panicked| Code::Internal)?;
    let (changed, subject) = changed.map_err(|error| {
        tracing::error!(cause = one_line(&error), "incident controls are not kept");
        let cause = if stopping {
            "It is in force, but a restart would forget it."
        } else {
            "Nothing was released."
        };
        Declined::because(Code::StateUnwritable, cause)
    })?;
    let released = match &subject_told {
        Subject::Caller(name) if !stopping => Some(name.as_str()),
        Subject::Caller(_) | Subject::Model { .. } | Subject::Deployments => None,
    };
    if let (Some(fleet), Some(caller)) = (pipeline.extraction.fleet(), released) {
        let models = pipeline.models.all();
        let mut models: Vec<String> = models.iter().map(|m| m.spec().name.clone()).collect();
        models.dedup();
        fleet.pardon(caller, models).await;
    }
    if let Some(fleet) = pipeline.extraction.fleet() {
        fleet.tell();
    }
    let stopped = of.application.pipeline.containment.stopped();
    let mut answer = reports::subject(&subject, &stopped);
    if let Some(fields) = answer.as_object_mut() {
        fields.insert("changed".to_owned(), changed.into());
    }
    Ok(answer)
}
