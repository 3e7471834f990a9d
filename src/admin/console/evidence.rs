//! The audit log: where it ends, what of it is signed, and what was written last.

use std::time::Duration;

use maud::{Markup, html};
use serde_json::Value;

use super::{ROOT, View, moment, state, table};
use crate::{
    admin::{Declined, audit},
    clock,
};

/// Records that are shown.
const SHOWN: usize = 50;

pub(super) async fn page(view: &View<'_>) -> Result<String, Declined> {
    let log = &view.of.application.audit;
    let (head, now) = (log.head(), clock::since_epoch());
    let unproven = head.records.saturating_sub(head.proven);
    let age = |time: Duration| now.saturating_sub(time).as_secs();
    let newest = audit::records(view.of, &format!("last={SHOWN}")).await?;
    let main = html! {
        section aria-labelledby="head" {
            h2 id="head" { "Head and verification" }
            dl.facts {
                dt { "State" } dd { (state(if log.is_healthy() { "good" } else { "takes no records: nothing is answered" })) }
                dt { "Records" } dd { (head.records) }
                dt { "Hash of the last" } dd { code { (hex::encode(head.hash)) } }
                dt { "Waiting to be written" } dd { (log.queued()) }
                dt { "Covered by a signed checkpoint" } dd { (head.proven) ", " (unproven) " not yet" }
                dt { "Last checkpoint" } dd { @match head.checkpoint_time {
                    Some(time) => { (moment(time)) ", " (age(time)) " s ago" },
                    None => "none since the start: nothing was new",
                } }
                dt { "Chain and checkpoints checked" } dd { "its end, at the start, " (moment(view.of.started)) }
            }
            p { "All of it is verified from outside, with the public key: " code { "vitalgate audit verify" } "." }
            @if let Some(checkpoint) = &head.checkpoint {
                h3 { "Last checkpoint, a signed note" }
                pre tabindex="0" { (checkpoint) }
            }
        }
        section aria-labelledby="records" {
            h2 id="records" { "Last records" }
            (records(&newest))
        }
    };
    Ok(view.page("Audit log", &format!("{ROOT}/audit"), &main))
}

fn records(newest: &Value) -> Markup {
    let lines = newest["lines"].as_array().map_or(&[][..], Vec::as_slice);
    let parsed = lines.iter().rev().filter_map(|line| line.as_str());
    let parsed = parsed.filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let rows = html! {
        @for record in parsed {
            tr {
                th scope="row" { (text(&record["seq"])) }
                td { (text(&record["time"]).chars().take(19).collect::<String>().replace('T', " ")) }
                td { (text(&record["principal"])) }
                td { (text(&record["action"])) @if record["target"].is_string() { div { (text(&record["target"])) } } @if record["reason"].is_string() { div.soft { (text(&record["reason"])) } } }
                td { (text(&record["model"])) " " (text(&record["version"])) }
                td { (text(&record["disposition"])) }
                td { (list(&record["codes"])) }
            }
        }
    };
    let head = [
        "Number",
        "Time, UTC",
        "Who",
        "What",
        "Model",
        "Disposition",
        "Codes",
    ];
    table("Last records", &head, &rows)
}

fn list(codes: &Value) -> String {
    let codes = codes.as_array().into_iter().flatten().map(text);
    codes.collect::<Vec<_>>().join(", ")
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => value.to_string(),
    }
}
