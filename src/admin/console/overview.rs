//! The first page: is anything wrong?

use maud::{Markup, html};

use super::{ROOT, View, chart, form::control, in_path, moment, state, table};
use crate::{
    admin::reports::{model_state, steps},
    authz::Action,
    bundle::{Authority, LoadedModel},
    clock,
    config::ServedModel,
    containment::{Hold, Stopped},
    telemetry::history,
};

/// Versions in the repository that are listed at most.
const LISTED: usize = 200;

pub(super) fn page(view: &View<'_>) -> String {
    let pipeline = &view.of.application.pipeline;
    let stopped = pipeline.containment.stopped();
    let models = pipeline.models.all();
    let models: Vec<&LoadedModel> = models
        .iter()
        .map(AsRef::as_ref)
        .filter(|model| view.principal.uses(&model.spec().name))
        .collect();
    let now = clock::since_epoch();
    let main = html! {
        (tiles(view, &stopped, &models))
        section aria-labelledby="models" {
            h2 id="models" { "Models" }
            (self::models(view, &models, &stopped))
        }
        section aria-labelledby="dispositions" {
            h2 id="dispositions" { "Dispositions over time" }
            (chart::day("day", &history::last_day(None, now), now))
        }
        section aria-labelledby="stops" {
            h2 id="stops" { "Stopped by hand" }
            (stops(view, &stopped))
        }
        section aria-labelledby="repository" {
            h2 id="repository" { "In the repository, not loaded" }
            (repository(view, &models))
        }
    };
    view.page("Overview", ROOT, &main)
}

fn tiles(view: &View<'_>, stopped: &Stopped, models: &[&LoadedModel]) -> Markup {
    let application = &view.of.application;
    let serving = models
        .iter()
        .filter(|m| model_state(m, stopped) == "serving");
    let drifting = models
        .iter()
        .filter(|m| matches!(watched(m), Watched::Alarms(n) if n > 0));
    let limited: usize = steps(view.of).iter().map(|(_, callers)| callers).sum();
    let good = |good: bool, otherwise: &'static str| state(if good { "good" } else { otherwise });
    let in_flight = application.pipeline.admitter.in_flight();
    html! {
        dl.tiles {
            div { dt { "Models serving" } dd { (serving.count()) " of " (models.len()) } }
            div { dt { "Models that drift" } dd { (drifting.count()) } }
            div { dt { "Audit log" } dd { (good(application.audit.is_healthy(), "takes no records")) } }
            div { dt { "Files reloaded" } dd { (good(application.reloads.all_good(), "one is not good")) } }
            div { dt { "Callers limited" } dd { (limited) } }
            div { dt { "Requests in flight" } dd { (in_flight) } }
            div { dt { "Memory measures" } dd { (good(application.hardening.measures().iter().all(|(_, outcome)| outcome.done), "not all")) } }
            div { dt { "Up since" } dd { (moment(view.of.started)) } }
        }
    }
}

/// What there is to say of a model's drift, over all windows.
enum Watched {
    Not,
    /// Nothing yet, and least of all that there is none.
    TooFew,
    /// So many series have an alarm.
    Alarms(usize),
}

fn watched(model: &LoadedModel) -> Watched {
    let Some(monitor) = model.drift() else {
        return Watched::Not;
    };
    let reports = monitor.report(clock::since_epoch());
    if reports.iter().all(|report| report.rates.is_empty()) {
        return Watched::TooFew;
    }
    let mut alarmed: Vec<String> = Vec::new();
    for report in reports {
        let series = report.series.iter().filter(|s| s.alarm).map(|s| &s.name);
        let rates = report.missing.iter().chain(&report.rates);
        let rates = rates.filter(|r| r.alarm).map(|r| &r.name);
        alarmed.extend(series.chain(rates).cloned());
        if report.joint.is_some_and(|joint| joint.alarm) {
            alarmed.push(crate::drift::POPULATION.to_owned());
        }
    }
    alarmed.sort_unstable();
    alarmed.dedup();
    Watched::Alarms(alarmed.len())
}

fn models(view: &View<'_>, models: &[&LoadedModel], stopped: &Stopped) -> Markup {
    if models.is_empty() {
        return html! { p { "None is loaded that you may see." } };
    }
    let rows = html! {
        @for model in models {
            @let spec = model.spec();
            tr {
                th scope="row" {
                    a href={ (ROOT) "/models/" (spec.name) "/versions/" (spec.version) } { (spec.name) " " (spec.version) }
                }
                td { (state(model_state(model, stopped))) }
                td { @match watched(model) {
                    Watched::Not => (state("not watched")),
                    Watched::TooFew => (state("too few values")),
                    Watched::Alarms(0) => (state("no alarm")),
                    Watched::Alarms(n) => { span.state.bad { (n) @if n == 1 { " alarm" } @else { " alarms" } } },
                } }
                td { (approved_by(model)) }
                td { code { (model.digest().get(..12).unwrap_or_default()) "…" } }
                td { (model.engine().queued_rows()) }
            }
        }
    };
    let head = [
        "Model",
        "State",
        "Drift",
        "Approved by",
        "Digest",
        "Rows waiting",
    ];
    html! {
        (table("Models", &head, &rows))
        @if let Authority::Policy(in_force) = &*view.of.deployer.authority() {
            @let terms = in_force.terms();
            p { "Release policy serial " (terms.serial()) ", expires " (terms.expires_text()) "." }
        } @else {
            p { span.state.warn { "No release policy" } ": any one of the configured keys approves a model." }
        }
    }
}

fn approved_by(model: &LoadedModel) -> String {
    let roles = model.approvers().iter();
    let roles: Vec<&str> = roles
        .map(|a| a.role.as_deref().unwrap_or("a key"))
        .collect();
    roles.join(", ")
}

fn stops(view: &View<'_>, stopped: &Stopped) -> Markup {
    let models: Vec<(&str, Option<u32>, &Hold)> = stopped
        .models()
        .filter(|(name, ..)| view.principal.uses(name))
        .collect();
    let none = models.is_empty() && stopped.callers().next().is_none();
    let rows = html! {
        @for (name, version, hold) in models {
            @let (what, path) = match version {
                None => (format!("model {name}, every version"), format!("/models/{name}/release")),
                Some(v) => (format!("model {name} {v}"), format!("/models/{name}/versions/{v}/release")),
            };
            (held(&what, hold, &html! {
                @if view.may_with(Action::Quarantine, name) {
                    (control(view, &path, "Release", &format!("Lets {what} answer again."), None))
                }
            }))
        }
        @for (name, hold) in stopped.callers() {
            (held(&format!("caller {name}"), hold, &html! {
                @if view.may(Action::Quarantine) {
                    @let path = format!("/callers/{}/release", in_path(name));
                    (control(view, &path, "Release", &format!("Lets {name} call again."), None))
                }
            }))
        }
    };
    html! {
        @if none { p { "No model and no caller." } }
        @else { (table("Stopped by hand", &["What", "Since", "By", "Reason", "Control"], &rows)) }
        h3 { "Deployments" }
        @match stopped.read_only() {
            None => {
                p { "Read-only mode is off: models can be loaded and unloaded." }
                @if view.may(Action::Quarantine) {
                    (control(view, "/read-only", "Freeze deployments", "Nothing is loaded or unloaded until somebody ends it. Predictions go on.", Some(true)))
                }
            },
            Some(hold) => {
                p { span.state.warn { "Read-only mode" } " since " (hold.since) " by " (hold.by) ": " (hold.reason.as_str()) }
                @if view.may(Action::Quarantine) {
                    (control(view, "/read-only", "Allow deployments", "Models can be loaded and unloaded again.", Some(false)))
                }
            },
        }
    }
}

fn held(what: &str, hold: &Hold, control: &Markup) -> Markup {
    html! {
        tr {
            th scope="row" { (what) }
            td { (hold.since) } td { (hold.by) } td { (hold.reason.as_str()) }
            td { (control) }
        }
    }
}

fn repository(view: &View<'_>, loaded: &[&LoadedModel]) -> Markup {
    let is_loaded = |of: &ServedModel| {
        let mut specs = loaded.iter().map(|model| model.spec());
        specs.any(|spec| spec.name == of.name && spec.version == of.version)
    };
    let mut versions = view.of.deployer.available(LISTED);
    versions.retain(|of| view.principal.uses(&of.name) && !is_loaded(of));
    if versions.is_empty() {
        return html! { p { "Nothing else." } };
    }
    let rows = html! {
        @for ServedModel { name, version } in versions {
            tr {
                th scope="row" { (name) " " (version) }
                td {
                    @if view.may_with(Action::Deploy, &name) {
                        @let path = format!("/models/{name}/versions/{version}/load");
                        (control(view, &path, "Load", "Verifies its signatures and its approval, starts it, and serves it once it gave its known answers.", None))
                    }
                }
            }
        }
    };
    table("In the repository", &["Version", "Control"], &rows)
}
