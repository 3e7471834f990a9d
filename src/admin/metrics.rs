//! Everything that was counted, and what can be read off the server when somebody asks.

use std::collections::BTreeMap;

use super::{
    Administration,
    reports::{self, model_state},
};
use crate::{
    bundle::{Authority, LoadedModel},
    clock,
    containment::Stopped,
    disposition::Code,
    drift::{self, Monitor, RateReport},
    inference,
    telemetry::{self, ModelLabels, catalogue as c, count, number},
};

/// All metrics, in the Prometheus text format.
pub(super) fn exposition(of: &Administration) -> Result<String, Code> {
    // A recorder of its own, so that a model that is gone leaves no gauge behind.
    let recorder = telemetry::recorder().map_err(|_| Code::Internal)?;
    metrics::with_local_recorder(&recorder, || read_off(of));
    Ok(of.telemetry.render() + &recorder.handle().render())
}

fn read_off(of: &Administration) {
    let application = &of.application;
    let stopped = application.pipeline.containment.stopped();
    let version = env!("CARGO_PKG_VERSION");
    c::BUILD_INFO
        .with([version.into(), inference::VERSION.into()])
        .set(1.0);
    c::START_TIME.with([]).set(of.started.as_secs_f64());
    telemetry::process::read_off();
    for (measure, outcome) in application.hardening.measures() {
        c::HARDENING.with([measure.into()]).set(flag(outcome.done));
    }
    let admitter = &application.pipeline.admitter;
    c::IN_FLIGHT.with([]).set(count(admitter.in_flight()));
    c::PLACES.with([]).set(count(admitter.capacity()));
    c::DRAINING
        .with([])
        .set(flag(application.drain.is_cancelled()));
    c::READ_ONLY
        .with([])
        .set(flag(stopped.read_only().is_some()));
    c::CALLERS_QUARANTINED
        .with([])
        .set(count(stopped.callers().count()));
    budgets(of);
    if let Some(fleet) = application.pipeline.extraction.fleet() {
        c::STORE_UP.with([]).set(flag(fleet.is_up()));
    }
    for (step, callers) in reports::steps(of) {
        c::CALLERS_LIMITED
            .with([step.as_str().into()])
            .set(count(callers));
    }
    for (name, outcome) in application.reloads.snapshot() {
        let good = outcome.failure.is_none();
        c::RELOAD_GOOD.with([name.clone().into()]).set(flag(good));
        for (result, times) in [
            ("success", outcome.successes),
            ("failure", outcome.failures),
        ] {
            c::RELOADS
                .with([name.clone().into(), result.into()])
                .absolute(times);
        }
    }
    audit_log(of);
    models(&application.pipeline.models.all(), &stopped);
    release_policy(of);
}

fn budgets(of: &Administration) {
    let now = clock::since_epoch().as_secs();
    let mut used: BTreeMap<(String, String), f64> = BTreeMap::new();
    for account in of.application.pipeline.admitter.accounts().all() {
        let Some(limit) = account.limits().rows_per_day.limit() else {
            continue;
        };
        for asked in account.asked(now) {
            let share = f64::from(asked.rows) / f64::from(limit.max(1));
            // Some callers share a label.
            let caller = account.label().to_string();
            let most = used.entry((caller, asked.model)).or_default();
            *most = most.max(share);
        }
    }
    for ((caller, model), share) in used {
        c::BUDGET_USED
            .with([caller.into(), model.into()])
            .set(share);
    }
}

fn audit_log(of: &Administration) {
    let audit = &of.application.audit;
    let head = audit.head();
    c::AUDIT_HEALTHY.with([]).set(flag(audit.is_healthy()));
    c::AUDIT_QUEUED.with([]).set(count(audit.queued()));
    c::AUDIT_RECORDS.with([]).set(number(head.records));
    let unproven = head.records.saturating_sub(head.proven);
    c::AUDIT_UNPROVEN.with([]).set(number(unproven));
    if let Some(time) = head.checkpoint_time {
        c::AUDIT_CHECKPOINT.with([]).set(time.as_secs_f64());
    }
}

fn models(models: &[std::sync::Arc<LoadedModel>], stopped: &Stopped) {
    for state in ["serving", "quarantined", "failed", "policy-expired"] {
        let in_it = models.iter().filter(|m| model_state(m, stopped) == state);
        c::MODELS.with([state.into()]).set(count(in_it.count()));
    }
    for model in models {
        let (labels, engine) = (model.labels(), model.engine());
        let digest = model.named_digest().to_owned();
        let (provider, state) = (engine.provider().name(), model_state(model, stopped));
        c::MODEL_INFO
            .with([
                labels.model(),
                labels.version(),
                digest.into(),
                provider.into(),
                state.into(),
            ])
            .set(1.0);
        if let Some(monitor) = model.drift() {
            watched(labels, monitor);
        }
        c::QUEUED_ROWS
            .with([labels.model(), labels.version()])
            .set(count(engine.queued_rows()));
    }
}

/// A series with too few rows is absent, not zero.
fn watched(labels: &ModelLabels, monitor: &Monitor) {
    for report in monitor.report(clock::since_epoch()) {
        let window = || [labels.model(), labels.version(), report.window.into()];
        let named = |name: &str| {
            let [model, version, window] = window();
            // Names come with the model: one of its features, or one of ours.
            [model, version, window, labels.series(name)]
        };
        let tested = |name: &str, test: &'static str| {
            let [model, version, window, series] = named(name);
            [model, version, window, series, test.into()]
        };
        c::DRIFT_ROWS.with(window()).set(f64::from(report.rows));
        for series in &report.series {
            c::DRIFT_PSI.with(named(&series.name)).set(series.psi);
            c::DRIFT_JS
                .with(named(&series.name))
                .set(series.jensen_shannon);
            c::DRIFT_KS.with(named(&series.name)).set(series.distance);
        }
        let values = report
            .series
            .iter()
            .map(|s| (&s.name, "values", s.evidence, s.alarm));
        let rate = |test| move |r: &'_ RateReport| (r.name.clone(), test, r.evidence, r.alarm);
        let missing = report.missing.iter().map(rate("missing"));
        let rates = report.rates.iter().map(rate("rate"));
        let values =
            values.map(|(name, test, evidence, alarm)| (name.clone(), test, evidence, alarm));
        let joint = report.joint.iter();
        let joint = joint.map(|j| (drift::POPULATION.to_owned(), "joint", j.evidence, j.alarm));
        for (name, test, evidence, alarm) in values.chain(missing).chain(rates).chain(joint) {
            c::DRIFT_EVIDENCE.with(tested(&name, test)).set(evidence);
            c::DRIFT_ALARM.with(tested(&name, test)).set(flag(alarm));
        }
        for missing in &report.missing {
            c::DRIFT_MISSING
                .with(named(&missing.name))
                .set(missing.share);
        }
        for rate in &report.rates {
            c::DRIFT_RATE.with(named(&rate.name)).set(rate.share);
        }
    }
    for (direction, sum) in ["up", "down"]
        .into_iter()
        .zip(monitor.cumulative().into_iter().flatten())
    {
        c::DRIFT_CUSUM
            .with([labels.model(), labels.version(), direction.into()])
            .set(sum);
    }
}

fn release_policy(of: &Administration) {
    let authority = of.deployer.authority();
    let enforced = matches!(&*authority, Authority::Policy(_));
    c::POLICY_ENFORCED.with([]).set(flag(enforced));
    if let Authority::Policy(in_force) = &*authority {
        let terms = in_force.terms();
        let expires = terms.expires() - time::OffsetDateTime::UNIX_EPOCH;
        c::POLICY_SERIAL.with([]).set(number(terms.serial()));
        c::POLICY_EXPIRY.with([]).set(expires.as_seconds_f64());
    }
}

fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}
