//! Charts, as inline SVG: each has a title, a description and its numbers in a table.

use std::time::Duration;

use maud::{Markup, html};

use super::{moment, table};
use crate::{
    drift::Shares,
    telemetry::history::{Counts, OUTCOMES, SPAN, SPANS},
};

/// Spans in a row of the table: an hour.
const HOUR: usize = 12;

/// Requests for predictions over the last day, by what became of them.
pub(super) fn day(id: &str, spans: &[Counts], now: Duration) -> Markup {
    let total = |counts: &Counts| counts.iter().map(|c| u64::from(*c)).sum::<u64>();
    let most = spans.iter().map(total).max().unwrap_or_default();
    let all: u64 = spans.iter().map(total).sum();
    if all == 0 {
        return html! { p { "No request for a prediction in the last 24 hours." } };
    }
    let describe = format!(
        "Bars of five minutes over the last 24 hours, the newest on the right. {all} requests in all, at most {most} in five minutes. The table below has the numbers."
    );
    html! {
        figure.day {
            figcaption { "Last 24 hours; the highest bar is " (most) " requests in five minutes." }
            ul.key {
                @for outcome in OUTCOMES { li class=(outcome.as_str()) { span { (outcome.as_str()) } } }
            }
            svg role="img" aria-labelledby={ (id) "-title " (id) "-desc" } viewBox={ "0 0 " (SPANS * 3) " 100" } preserveAspectRatio="none" {
                title id={ (id) "-title" } { "Dispositions over time" }
                desc id={ (id) "-desc" } { (describe) }
                @for (place, counts) in spans.iter().enumerate() { (bar(place * 3, counts, most)) }
            }
            p.axis aria-hidden="true" { span { "24 h ago" } span { "12 h ago" } span { "now" } }
        }
        details {
            summary { "The numbers, by hour" }
            (hours(spans, now))
        }
    }
}

fn bar(x: usize, counts: &Counts, most: u64) -> Markup {
    #[expect(clippy::cast_precision_loss, reason = "pixels")]
    let height = |count: u64| count as f64 * 100.0 / most.max(1) as f64;
    let mut below = 0;
    let parts = OUTCOMES.iter().zip(counts).map(|(outcome, count)| {
        below += u64::from(*count);
        (
            outcome.as_str(),
            100.0 - height(below),
            height(u64::from(*count)),
        )
    });
    html! {
        @for (class, y, height) in parts {
            @if height > 0.0 {
                rect class=(class) x=(x) y={ (format!("{y:.2}")) } width="3" height={ (format!("{height:.2}")) } {}
            }
        }
    }
}

fn hours(spans: &[Counts], now: Duration) -> Markup {
    let newest = now.as_secs() / SPAN * SPAN;
    let mut rows: Vec<(u64, Counts)> = Vec::new();
    for (index, hour) in spans.chunks(HOUR).enumerate().rev() {
        let mut sums = Counts::default();
        for counts in hour {
            for (sum, count) in sums.iter_mut().zip(counts) {
                *sum = sum.saturating_add(*count);
            }
        }
        let ago = u64::try_from(SPANS - index * HOUR - 1).unwrap_or_default() * SPAN;
        if sums.iter().any(|sum| *sum > 0) {
            rows.push((newest.saturating_sub(ago), sums));
        }
    }
    let head: Vec<&str> = ["Hour from"]
        .into_iter()
        .chain(OUTCOMES.iter().map(|outcome| outcome.as_str()))
        .collect();
    let rows = html! {
        @for (began, sums) in rows {
            tr {
                th scope="row" { (moment(Duration::from_secs(began))) }
                @for sum in sums { td { (sum) } }
            }
        }
    };
    table("Dispositions by hour", &head, &rows)
}

/// Shares of a series' values by bin, against the reference.
pub(super) fn bins(id: &str, title: &str, shares: &Shares) -> Markup {
    let Some(observed) = &shares.observed else {
        return html! { span.soft { "too few values to show" } };
    };
    let both = || observed.iter().chain(&shares.reference);
    let most = both().copied().fold(f64::MIN_POSITIVE, f64::max);
    let width = 10;
    let rows = || observed.iter().zip(&shares.reference).enumerate();
    let y = |share: f64| 100.0 - share * 100.0 / most;
    let steps: Vec<String> = rows()
        .map(|(place, (_, share))| {
            let (left, y) = (place * width, y(*share));
            format!(
                "{}{left} {y:.1}H{}",
                if place == 0 { "M" } else { "L" },
                left + width
            )
        })
        .collect();
    html! {
        svg.bins role="img" aria-labelledby={ (id) "-title " (id) "-desc" } viewBox={ "0 0 " (observed.len() * width) " 100" } preserveAspectRatio="none" {
            title id={ (id) "-title" } { (title) }
            desc id={ (id) "-desc" } { "Share of values by bin: filled now, the line is the reference. The table beside it has the numbers." }
            @for (place, (share, _)) in rows() {
                rect.observed x=(place * width + 1) y={ (format!("{:.1}", y(*share))) } width=(width - 2) height={ (format!("{:.1}", 100.0 - y(*share))) } {}
            }
            path.reference d=(steps.concat()) vector-effect="non-scaling-stroke" {}
        }
        details {
            summary { "Numbers" span.soft { " of " (title) } }
            (table(&format!("Shares of {title}"), &["Values", "Now", "Reference"], &html! {
                @for (place, (now, then)) in rows() {
                    tr { th scope="row" { (range(&shares.edges, place)) } td { (percent(*now)) } td { (percent(*then)) } }
                }
            }))
        }
    }
}

/// Whole percent: of few values, no more can be said.
pub(super) fn percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

fn range(edges: &[f32], place: usize) -> String {
    let low = place.checked_sub(1).and_then(|before| edges.get(before));
    match (low, edges.get(place)) {
        (None, Some(high)) => format!("below {high}"),
        (Some(low), Some(high)) => format!("{low} to {high}"),
        (Some(low), None) => format!("{low} and above"),
        (None, None) => "all".to_owned(),
    }
}
