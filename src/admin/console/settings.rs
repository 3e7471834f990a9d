//! The configuration in force, without what is secret.

use maud::html;

use super::{ROOT, View, state, table};

pub(super) fn page(view: &View<'_>) -> String {
    let application = &view.of.application;
    let written = serde_json::to_string_pretty(&view.of.configuration).unwrap_or_default();
    let reloads = html! {
        @for (name, outcome) in application.reloads.snapshot() {
            tr {
                th scope="row" { (name) }
                td { @match &outcome.failure {
                    None => (state("good")),
                    Some(failure) => { (state("not good, the one before is in force")) " " (failure) },
                } }
                td { (outcome.successes) } td { (outcome.failures) }
            }
        }
    };
    let measures = html! {
        @for (name, outcome) in application.hardening.measures() {
            tr { th scope="row" { (name) } td { (state(if outcome.done { "good" } else { "not in force" })) } }
        }
    };
    let main = html! {
        section aria-labelledby="files" {
            h2 id="files" { "Files that are read again when they change" }
            (table("Files", &["What", "State", "Reloads", "Failures"], &reloads))
        }
        section aria-labelledby="measures" {
            h2 id="measures" { "Measures against patient data leaving memory" }
            (table("Measures", &["Measure", "State"], &measures))
        }
        section aria-labelledby="effective" {
            h2 id="effective" { "Effective configuration" }
            p { "As the server runs it; secrets are not shown." }
            pre tabindex="0" { (written) }
        }
    };
    view.page("Configuration", &format!("{ROOT}/configuration"), &main)
}
