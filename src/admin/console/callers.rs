//! Who calls, with which budget, and whom the server or an operator holds back.

use maud::{Markup, html};

use super::{ROOT, View, form::control, in_path, state, table};
use crate::{
    admission::Today,
    authz::Action,
    clock,
    config::{CallerLimits, Patterns},
    containment::Stopped,
    extraction::Step,
};

pub(super) fn page(view: &View<'_>) -> String {
    let pipeline = &view.of.application.pipeline;
    let stopped = pipeline.containment.stopped();
    let callers = pipeline.authenticator.configured();
    let rows = html! {
        @for caller in &callers {
            @let roles: Vec<&str> = caller.roles.iter().map(|role| role.as_str()).collect();
            (row(view, &caller.name, &roles.join(", "), &caller.models.join(", "), &stopped))
        }
        // A quarantine outlives the caller's entry in the configuration.
        @for (name, _) in stopped.callers().filter(|(name, _)| callers.iter().all(|c| c.name != *name)) {
            (row(view, name, "not configured", "", &stopped))
        }
    };
    let head = [
        "Caller",
        "State",
        "Roles",
        "Models",
        "Limits",
        "Rows today, by model",
        "Control",
    ];
    let main = html! {
        section aria-labelledby="callers" {
            h2 id="callers" { "Callers and budgets" }
            p { "A budget counts different rows of a model in a day; queries that look like probing are answered with less, step by step, and the steps fade within hours." }
            (table("Callers", &head, &rows))
        }
    };
    view.page("Callers", &format!("{ROOT}/callers"), &main)
}

fn row(view: &View<'_>, name: &str, roles: &str, models: &str, stopped: &Stopped) -> Markup {
    let hold = stopped.caller(name);
    let (limits, queries) = queries(view, name);
    let limited = queries.iter().any(|q| q.step > Step::None);
    html! {
        tr {
            th scope="row" { (name) }
            td {
                @match hold {
                    Some(hold) => { (state("quarantined")) " since " (hold.since) " by " (hold.by) ": " (hold.reason.as_str()) },
                    None => (state("active")),
                }
            }
            td { (roles) }
            td { (models) }
            td { @match limits {
                None => span.soft { "not seen yet" },
                Some(limits) => { (limits.requests_per_second) "/s, " (limits.concurrent_requests) " at once" @if limits.patterns == Patterns::Shadow { ", patterns only watched" } },
            } }
            td {
                @if queries.is_empty() { span.soft { "none" } }
                @for query in &queries {
                    div { (query.model) ": " (used(query, limits)) @if query.step > Step::None { " " span.state.warn { (query.step.as_str()) } } }
                }
            }
            td { @if view.may(Action::Quarantine) { (controls(view, name, hold.is_some(), limited)) } }
        }
    }
}

fn controls(view: &View<'_>, name: &str, held: bool, limited: bool) -> Markup {
    let path = format!("/callers/{}", in_path(name));
    let own = name == view.principal.name();
    html! {
        @if held || limited {
            (control(view, &format!("{path}/release"), "Release", &format!("Lets {name} call again, and ends what followed from how it asked. Its budget stays spent."), None))
        }
        @if !held && !own {
            (control(view, &format!("{path}/quarantine"), "Quarantine", &format!("Refuses every request of {name} until somebody releases it."), None))
        }
    }
}

fn used(query: &Today, limits: Option<CallerLimits>) -> String {
    match limits.and_then(|limits| limits.rows_per_day.limit()) {
        Some(limit) => format!("{} of {limit}", query.rows),
        None => format!("{}, no limit", query.rows),
    }
}

fn queries(view: &View<'_>, caller: &str) -> (Option<CallerLimits>, Vec<Today>) {
    let accounts = view.of.application.pipeline.admitter.accounts();
    match accounts.named(caller) {
        Some(account) => (
            Some(*account.limits()),
            account.asked(clock::since_epoch().as_secs()),
        ),
        None => (None, Vec::new()),
    }
}
