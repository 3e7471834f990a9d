//! A run as a table for people and as JSON for programs.

use std::{fmt::Write as _, time::Duration};

use anyhow::Error;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use crate::outcome::{Run, Tally, per_second};

const QUANTILES: [(&str, f64); 5] = [
    ("p50", 0.5),
    ("p90", 0.9),
    ("p99", 0.99),
    ("p99.9", 0.999),
    ("max", 1.0),
];

/// Latencies in milliseconds, a line for each kind of request.
pub(crate) fn table(run: &Run) -> Result<String, Error> {
    let mut text = format!("{}, {:.0} s\n", run.label, run.measured.as_secs_f64());
    write!(
        text,
        "{:<24}{:>10}{:>8}{:>8}",
        "", "right/s", "shed", "wrong"
    )?;
    for (name, _) in QUANTILES {
        write!(text, "{name:>9}")?;
    }
    text.push_str("  ms\n");
    let all = Tally {
        name: "all".to_owned(),
        right: run.right(),
        shed: run.tallies.iter().map(|tally| tally.shed).sum(),
        wrong: run.tallies.iter().map(|tally| tally.wrong).sum(),
        latency: run.latency()?,
    };
    for tally in run.tallies.iter().chain([&all]) {
        let rate = per_second(tally.right, run.measured);
        let Tally {
            name,
            shed,
            wrong,
            latency,
            ..
        } = tally;
        write!(text, "{name:<24}{rate:>10.0}{shed:>8}{wrong:>8}")?;
        for (_, quantile) in QUANTILES {
            write!(text, "{:>9.3}", milliseconds(latency, quantile))?;
        }
        text.push('\n');
    }
    for (kind, count) in &run.broken {
        writeln!(text, "broken connections: {count}, {kind}")?;
    }
    if run.unsent > 0 {
        writeln!(
            text,
            "due, and not sent for want of a free connection: {}",
            run.unsent
        )?;
    }
    if let Some(wrong) = &run.first_wrong {
        writeln!(text, "first wrong answer: {wrong}")?;
    }
    Ok(text)
}

/// Everything that [`table`] says.
pub(crate) fn json(runs: &[Run]) -> Result<Vec<u8>, Error> {
    let runs = runs
        .iter()
        .map(|run| {
            let tallies: Vec<_> = run
                .tallies
                .iter()
                .map(|tally| {
                    json!({
                        "name": tally.name,
                        "right": tally.right,
                        "shed": tally.shed,
                        "wrong": tally.wrong,
                        "latency_ms": quantiles(&tally.latency),
                    })
                })
                .collect();
            Ok(json!({
                "label": run.label,
                "rate": run.rate,
                "seconds": run.measured.as_secs_f64(),
                "goodput": run.goodput(),
                "latency_ms": quantiles(&run.latency()?),
                "unsent": run.unsent,
                "broken": run.broken,
                "first_wrong": run.first_wrong,
                "requests": tallies,
            }))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(serde_json::to_vec_pretty(&runs)?)
}

fn quantiles(latency: &Histogram<u64>) -> Value {
    QUANTILES
        .iter()
        .map(|&(name, quantile)| (name.to_owned(), milliseconds(latency, quantile).into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

pub(crate) fn milliseconds(latency: &Histogram<u64>, quantile: f64) -> f64 {
    Duration::from_nanos(latency.value_at_quantile(quantile)).as_secs_f64() * 1e3
}
