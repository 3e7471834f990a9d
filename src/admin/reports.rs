//! What there is to know about the server.

use serde_json::{Value, json};

use super::Administration;
use crate::{
    authn::Principal,
    bundle::{Authority, LoadedModel},
    clock,
    containment::{Hold, Stopped, Subject},
    extraction::Step,
    inference,
};

/// The server as a whole.
pub(super) fn state(of: &Administration) -> Value {
    let application = &of.application;
    let stopped = application.pipeline.containment.stopped();
    let models = application.pipeline.models.all();
    let held = models.iter().filter(|m| hold(m, &stopped).is_some());
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "onnxruntime": inference::VERSION,
        "started": clock::rfc3339_at(of.started),
        "time": clock::rfc3339(),
        "hardening": application.hardening,
        "reloads_good": application.reloads.all_good(),
        "draining": application.drain.is_cancelled(),
        "audit_log": application.audit.is_healthy(),
        "read_only": stopped.read_only(),
        "models": {"loaded": models.len(), "quarantined": held.count()},
        "callers": {"configured": application.pipeline.authenticator.configured().len(), "quarantined": stopped.callers().count()},
    })
}

/// The models that the principal may use, served or stopped.
pub(super) fn models(of: &Administration, principal: &Principal) -> Value {
    let pipeline = &of.application.pipeline;
    let stopped = pipeline.containment.stopped();
    let models = pipeline.models.all();
    let models = models.iter().filter(|m| principal.uses(&m.spec().name));
    let quarantines = stopped
        .models()
        .filter(|(name, ..)| principal.uses(name))
        .map(|(name, version, hold)| json!({"name": name, "version": version, "hold": hold}));
    json!({
        "policy": policy(of),
        "read_only": stopped.read_only(),
        "models": models.map(|m| model(m, &stopped)).collect::<Vec<_>>(),
        "quarantines": quarantines.collect::<Vec<_>>(),
    })
}

fn policy(of: &Administration) -> Value {
    match &*of.deployer.authority() {
        Authority::Keys(_) => Value::Null,
        Authority::Policy(in_force) => {
            let terms = in_force.terms();
            json!({
                "serial": terms.serial(),
                "expires": terms.expires_text(),
                "on_expiry": terms.on_expiry(),
                "digest": format!("sha256:{}", in_force.policy().digest()),
            })
        }
    }
}

/// A loaded model, and what holds it back.
pub(super) fn model(model: &LoadedModel, stopped: &Stopped) -> Value {
    let spec = model.spec();
    let approvals = model.approvers().iter();
    let approvals = approvals
        .map(|approver| json!({"role": approver.role, "key": format!("sha256:{}", approver.key)}));
    json!({
        "name": spec.name,
        "version": spec.version,
        "title": spec.title,
        "digest": model.named_digest(),
        "state": model_state(model, stopped),
        "quarantine": hold(model, stopped),
        "provider": model.engine().provider().name(),
        "policy_serial": model.policy_serial(),
        "approvals": approvals.collect::<Vec<_>>(),
        "queued_rows": model.engine().queued_rows(),
    })
}

fn hold<'s>(model: &LoadedModel, stopped: &'s Stopped) -> Option<&'s Hold> {
    stopped.model(&model.spec().name, model.spec().version)
}

pub(super) fn model_state(model: &LoadedModel, stopped: &Stopped) -> &'static str {
    if hold(model, stopped).is_some() {
        "quarantined"
    } else if !model.engine().is_alive() {
        "failed"
    } else if !model.is_approved_now() {
        "policy-expired"
    } else {
        "serving"
    }
}

/// Who is configured to call, and who was stopped.
pub(super) fn callers(of: &Administration) -> Value {
    let pipeline = &of.application.pipeline;
    let (stopped, callers) = (
        pipeline.containment.stopped(),
        pipeline.authenticator.configured(),
    );
    let configured = callers.iter().map(|caller| {
        let mut shown = subject(&Subject::Caller(caller.name.clone()), &stopped);
        if let Some(fields) = shown.as_object_mut() {
            fields.insert("queries".to_owned(), queries(of, &caller.name));
            let roles = caller.roles.iter().map(|role| role.as_str());
            fields.insert("roles".to_owned(), roles.collect());
            fields.insert("models".to_owned(), json!(caller.models));
        }
        shown
    });
    let gone = |name: &str| callers.iter().all(|caller| caller.name != name);
    // A quarantine outlives the caller's entry in the configuration.
    let gone = stopped.callers().filter(|(name, _)| gone(name));
    let gone = gone.map(|(name, _)| subject(&Subject::Caller(name.to_owned()), &stopped));
    json!({"callers": configured.chain(gone).collect::<Vec<_>>()})
}

/// What a caller asked about each model today, and how far the response to it is.
fn queries(of: &Administration, caller: &str) -> Value {
    let accounts = of.application.pipeline.admitter.accounts();
    let Some(account) = accounts.named(caller) else {
        return json!([]);
    };
    let limits = account.limits();
    let asked = account.asked(clock::since_epoch().as_secs()).into_iter();
    let models = asked.map(|asked| {
        json!({
            "model": asked.model,
            "rows": asked.rows,
            "budget": limits.rows_per_day.limit(),
            "response": asked.step.as_str(),
            "patterns": limits.patterns,
        })
    });
    models.collect()
}

/// How many callers and models there are at each step of the response to query patterns.
pub(super) fn steps(of: &Administration) -> Vec<(Step, usize)> {
    let now = clock::since_epoch().as_secs();
    let mut steps: Vec<_> = Step::ALL
        .into_iter()
        .skip(1)
        .map(|step| (step, 0))
        .collect();
    for account in of.application.pipeline.admitter.accounts().all() {
        for asked in account.asked(now) {
            let of_step = steps.iter_mut().filter(|(step, _)| *step == asked.step);
            of_step.for_each(|(_, callers)| *callers += 1);
        }
    }
    steps
}

/// Whether something is stopped, and why.
pub(super) fn subject(subject: &Subject, stopped: &Stopped) -> Value {
    let state = |hold: Option<&Hold>, other| match hold {
        Some(_) => "quarantined",
        None => other,
    };
    match subject {
        Subject::Caller(name) => {
            let hold = stopped.caller(name);
            json!({"name": name, "state": state(hold, "active"), "quarantine": hold})
        }
        Subject::Model { name, version } => {
            let mut holds = stopped.models().filter(|(n, v, _)| {
                n == name && (v.is_none() || version.is_none() || v == version)
            });
            let exact = holds.next().map(|(_, _, hold)| hold);
            json!({
                "name": name,
                "version": version,
                "state": state(exact, "released"),
                "quarantine": exact,
            })
        }
        Subject::Deployments => json!({"read_only": stopped.read_only()}),
    }
}
