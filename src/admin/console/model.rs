//! One version of a model: where it comes from, what became of its requests, and whether its
//! patients are still those it was made for.

use std::time::Duration;

use maud::{Markup, html};

use super::{ROOT, View, chart, form::control, state, table};
use crate::{
    admin::{Declined, reports::model_state},
    authz::Action,
    bundle::LoadedModel,
    clock,
    containment::Stopped,
    disposition::Code,
    drift::{self, Monitor, WindowReport},
    telemetry::history,
};

pub(super) fn page(
    view: &View<'_>,
    name: &str,
    version: u32,
    query: &str,
) -> Result<String, Declined> {
    let pipeline = &view.of.application.pipeline;
    if !view.principal.uses(name) {
        return Err(Code::ModelNotPermitted.into());
    }
    let model = pipeline.models.get(name, Some(version));
    let model = model.ok_or(Code::UnknownVersion)?;
    let window = match query.strip_prefix("window=") {
        Some(asked) => drift::windows().find(|window| *window == asked),
        None => query.is_empty().then_some("24h"),
    };
    let window = window.ok_or(Code::InvalidQuery)?;
    let (stopped, now) = (pipeline.containment.stopped(), clock::since_epoch());
    let title = format!("{name} {version}");
    let main = html! {
        section aria-labelledby="provenance" {
            h2 id="provenance" { "Provenance" }
            (provenance(&model, &stopped))
        }
        section aria-labelledby="controls" {
            h2 id="controls" { "Controls" }
            (controls(view, &model, &stopped))
        }
        section aria-labelledby="dispositions" {
            h2 id="dispositions" { "Dispositions over time, all versions" }
            (chart::day("day", &history::last_day(Some(name), now), now))
        }
        section aria-labelledby="drift" {
            h2 id="drift" { "Drift" }
            @match model.drift() {
                None => p { (state("not watched")) ": the bundle has no histograms of its patients." },
                Some(monitor) => (watched(&title, monitor, window, &model, now)),
            }
        }
    };
    Ok(view.page(&title, "", &main))
}

fn provenance(model: &LoadedModel, stopped: &Stopped) -> Markup {
    let spec = model.spec();
    let hold = stopped.model(&spec.name, spec.version);
    let approvals = html! {
        @for approver in model.approvers() {
            tr {
                th scope="row" { (approver.role.as_deref().unwrap_or("any key of trust.keys")) }
                td { code { "sha256:" (approver.key) } }
            }
        }
    };
    html! {
        dl.facts {
            dt { "State" } dd { (state(model_state(model, stopped))) @if let Some(hold) = hold { " since " (hold.since) " by " (hold.by) ": " (hold.reason.as_str()) } }
            dt { "Title" } dd { (spec.title) }
            dt { "Intended use" } dd { (spec.intended_use) }
            dt { "Digest of the signed bytes" } dd { code { "sha256:" (model.digest()) } }
            dt { "Approved under" } dd { @match model.policy_serial() {
                Some(serial) => { "release policy serial " (serial) },
                None => "trust.keys, without a release policy",
            } }
            dt { "Networks" } dd { (spec.members.len()) ", run by " (model.engine().provider().name()) }
        }
        h3 { "Signatures that were verified when it was loaded" }
        (table("Signatures", &["Signed as", "Key"], &approvals))
        @if !model.card().is_empty() {
            details { summary { "Model card" } pre tabindex="0" { (model.card()) } }
        }
    }
}

fn controls(view: &View<'_>, model: &LoadedModel, stopped: &Stopped) -> Markup {
    let spec = model.spec();
    let one = format!("/models/{}/versions/{}", spec.name, spec.version);
    let holds = || stopped.models().filter(|(name, ..)| *name == spec.name);
    let held = holds().any(|(_, version, _)| version == Some(spec.version));
    let all_held = holds().any(|(_, version, _)| version.is_none());
    html! {
        @if view.may_with(Action::Quarantine, &spec.name) {
            @if held {
                (control(view, &format!("{one}/release"), "Release this version", "It answers again.", None))
            } @else {
                (control(view, &format!("{one}/quarantine"), "Quarantine this version", "It gives no prediction until somebody releases it; its callers are told so.", None))
            }
            @if all_held {
                (control(view, &format!("/models/{}/release", spec.name), "Release every version", "They answer again, but for those that are stopped by themselves.", None))
            } @else {
                (control(view, &format!("/models/{}/quarantine", spec.name), "Quarantine every version", "No version of it gives a prediction, now or when loaded later, until somebody releases them.", None))
            }
        }
        @if view.may_with(Action::Deploy, &spec.name) {
            (control(view, &format!("{one}/unload"), "Unload", "It ends once its requests are answered. Other versions go on.", None))
        }
        @if !view.may_with(Action::Quarantine, &spec.name) && !view.may_with(Action::Deploy, &spec.name) {
            p { "You may look, and nothing else." }
        }
    }
}

fn watched(
    title: &str,
    monitor: &Monitor,
    window: &'static str,
    model: &LoadedModel,
    now: Duration,
) -> Markup {
    let reports = monitor.report(now);
    let spec = model.spec();
    let here = format!("{ROOT}/models/{}/versions/{}", spec.name, spec.version);
    let said = |window: &str| match window {
        "100" => "last 100 rows",
        "1h" => "last hour",
        _ => "last 24 hours",
    };
    let report = reports.iter().find(|report| report.window == window);
    html! {
        ul.windows aria-label="Window" {
            @for name in drift::windows() {
                li { a href={ (here) "?window=" (name) "#drift" } aria-current=[(name == window).then_some("true")] { (said(name)) } }
            }
        }
        @if let Some(report) = report {
            p { (report.rows) " rows in the " (said(window)) ", each encounter once; below 20 values nothing is said." }
            (summary(report, monitor))
            ul.key {
                li.observed { span { "now" } } li.reference { span { "reference (line)" } }
            }
            (series(title, report, &monitor.shares(window, now)))
        }
    }
}

fn summary(report: &WindowReport, monitor: &Monitor) -> Markup {
    html! {
        dl.facts {
            @if let Some(joint) = report.joint {
                dt { "All features together" }
                dd { (alarm(joint.alarm)) ", " (improbable(joint.evidence)) }
            }
            @for rate in &report.rates {
                dt { "Share " (if rate.name == "review" { "sent to review" } else { "rejected" }) }
                dd { (chart::percent(rate.share)) ", " (alarm(rate.alarm)) }
            }
            @if let Some([up, down]) = monitor.cumulative() {
                dt { "Mean prediction, cumulative" }
                dd { (alarm(up >= 1.0 || down >= 1.0)) ": " (chart::percent(up)) " of the threshold upwards, " (chart::percent(down)) " downwards" }
            }
        }
    }
}

fn alarm(on: bool) -> Markup {
    state(if on { "alarm" } else { "no alarm" })
}

/// Evidence in words: −log10 of a probability.
fn improbable(evidence: f64) -> String {
    if evidence < 1.0 {
        "as by chance".to_owned()
    } else {
        format!("by chance once in 10^{evidence:.0} looks")
    }
}

fn series(title: &str, report: &WindowReport, shares: &[drift::Shares]) -> Markup {
    let found = |name: &str| report.series.iter().find(|s| s.name == name);
    let missing = |name: &str| report.missing.iter().find(|m| m.name == name);
    let on =
        |name: &str| found(name).is_some_and(|s| s.alarm) || missing(name).is_some_and(|m| m.alarm);
    let mut shares: Vec<&drift::Shares> = shares.iter().collect();
    // What alarms comes first, and else the model's order.
    shares.sort_by_key(|shares| !on(&shares.name));
    let rows = html! {
        @for (index, shares) in shares.into_iter().enumerate() {
            @let (found, missing) = (found(&shares.name), missing(&shares.name));
            @let on = on(&shares.name);
            tr {
                th scope="row" { (shares.name) }
                td { @if found.is_none() && missing.is_none() { (state("too few values")) } @else { (alarm(on)) } }
                td { (chart::bins(&format!("bins-{index}"), &shares.name, shares)) }
                @match found {
                    Some(found) => {
                        td { (format!("{:.2}", found.psi)) }
                        td { (format!("{:.2}", found.distance)) }
                        td { (format!("{:.1}", found.evidence)) }
                    },
                    None => { td { "–" } td { "–" } td { "–" } },
                }
                td { (missing.map_or_else(|| "–".to_owned(), |m| chart::percent(m.share))) }
            }
        }
    };
    let head = [
        "Series",
        "State",
        "Now against the reference",
        "PSI",
        "KS",
        "Evidence",
        "Missing",
    ];
    html! {
        (table(&format!("Drift of {title}"), &head, &rows))
        p.soft { "PSI: population stability index. KS: Kolmogorov–Smirnov distance. Evidence: −log10 of the probability of what is seen if nothing had changed, after Bonferroni." }
    }
}
