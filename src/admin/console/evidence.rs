//! The audit log: where it ends, what of it is signed, and what was written last.

use std::time::Duration;

use maud::{Markup, html};
use serde::Deserialize;
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

/// What is shown of a record.
#[derive(Deserialize)]
struct Record {
    seq: u64,
    time: String,
    principal: Option<String>,
    action: Option<String>,
    target: Option<String>,
    reason: Option<String>,
    model: Option<String>,
    version: Option<u32>,
    disposition: String,
    #[serde(default)]
    codes: Vec<String>,
}

fn records(newest: &Value) -> Markup {
    let lines = newest.get("lines").and_then(Value::as_array);
    let lines = lines.into_iter().flatten().rev().filter_map(Value::as_str);
    let records = lines.filter_map(|line| serde_json::from_str::<Record>(line).ok());
    let rows = html! {
        @for record in records {
            tr {
                th scope="row" { (record.seq) }
                td { (record.time.get(..19).unwrap_or_default().replace('T', " ")) }
                td { (record.principal.unwrap_or_default()) }
                td {
                    (record.action.unwrap_or_default())
                    @if let Some(target) = record.target { div { (target) } }
                    @if let Some(reason) = record.reason { div.soft { (reason) } }
                }
                td { (record.model.unwrap_or_default()) @if let Some(version) = record.version { " " (version) } }
                td { (record.disposition) }
                td { (record.codes.join(", ")) }
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
