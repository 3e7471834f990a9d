//! The report on a terminal.

use crate::error_chain::printable;

use super::{
    Report,
    detection::Figures,
    families::Seen,
    latency::Quantiles,
    metrics::{Calibration, Estimate},
};

pub(super) fn report(report: &Report) -> String {
    let mut lines = vec![
        format!(
            "{} version {}  {}",
            report.model.name, report.model.version, report.model.digest
        ),
        format!(
            "{} rows ({} lack a required value), {} with outcome; sha256 {}",
            report.data.rows, report.data.incomplete, report.data.labelled, report.data.sha256
        ),
    ];
    lines.extend(
        report
            .notes
            .iter()
            .map(|note| format!("NOTE  {}", printable(note))),
    );
    if !report.families.is_empty() {
        lines.push(String::new());
        lines.extend(detection(report));
    }
    if !report.false_flags.is_empty() {
        lines.push(String::new());
        lines.extend(flags(report));
    }
    lines.push(String::new());
    lines.extend(burden(report));
    if report.calibration.is_some() {
        lines.push(String::new());
        lines.extend(model(report));
    }
    lines.push(String::new());
    lines.extend(latency(report));
    lines.join("\n")
}

fn detection(report: &Report) -> Vec<String> {
    let alpha = report.alpha.unwrap_or_default();
    let mut lines = vec![
        format!(
            "Corrupted rows that earlier screens let through, alpha {alpha} (* not seen in fitting, \
             ~ fitting makes its like, T fitting made it)"
        ),
        format!(
            "  {:<32} {:>6} {:>6} {:>7} {:>7} {:>8} {:>9} {:>6}",
            "family", "before", "reach", "AUROC", "FPR95", "flagged", "stopped", "top-1"
        ),
    ];
    for figures in report.families.iter().chain(&report.other) {
        lines.push(family(figures));
    }
    if let Some(mean) = &report.mean {
        lines.push(format!(
            "  {:<32} {:>6} {:>6} {:>7.3} {:>7.3} {:>8.3}   (exact 1 %: {:.3})",
            format!("mean of {}", mean.families),
            "",
            "",
            mean.auroc,
            mean.fpr_at_95_tpr,
            mean.detected,
            mean.detected_at_exact_1_percent
        ));
    }
    lines
}

fn family(figures: &Figures) -> String {
    let mark = match figures.seen {
        Some(Seen::HeldOut) => "*",
        Some(Seen::Generic) => "~",
        Some(Seen::Template) => "T",
        None => " ",
    };
    let before = figures.rejected + figures.out_of_range + figures.inconsistent;
    let top1 = figures.top1.map_or_else(String::new, |t| format!("{t:.2}"));
    format!(
        "{mark} {:<32} {:>5.0}% {:>6} {:>7} {:>7} {:>8} {:>8.0}% {top1:>6}",
        figures.title,
        100.0 * share(before, figures.made),
        figures.reached,
        measured(figures.auroc),
        measured(figures.fpr_at_95_tpr),
        measured(figures.detected),
        100.0 * figures.stopped
    )
}

/// To three decimals; a dash where nothing was there to measure.
pub(super) fn measured(figure: f64) -> String {
    if figure.is_nan() {
        "–".to_owned()
    } else {
        format!("{figure:.3}")
    }
}

fn flags(report: &Report) -> Vec<String> {
    let mut lines = vec!["False flags among clean rows with nothing missing".to_owned()];
    for at in &report.false_flags {
        lines.push(format!(
            "  alpha {:<6} {:>5} of {} ({:.2} %), 99 % interval {} to {}: {}; {} of {} re-splits within, mean {:.2} %",
            at.alpha,
            at.flagged,
            at.rows,
            100.0 * at.share,
            at.interval.0,
            at.interval.1,
            if at.within { "within" } else { "OUTSIDE" },
            at.resplits_within,
            at.resplits,
            100.0 * at.resplits_mean
        ));
    }
    lines
}

fn burden(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "Rejected or sent to review, of rows with every required value ({} of {} rows lack one: \
         rejected for it and not counted)",
        report.data.incomplete, report.data.rows
    )];
    if let Some(budget) = &report.budget {
        let how = if budget.within { "within" } else { "OVER" };
        lines.push(format!("  {how} {budget}"));
    }
    for stratum in &report.burden {
        let codes: Vec<String> = stratum
            .codes
            .iter()
            .map(|(code, count)| format!("{code} {count}"))
            .collect();
        lines.push(format!(
            "  {:<8} {:<24} {:>5} of {:<5} {}  {}",
            stratum.by,
            printable(&stratum.name),
            stratum.rejected + stratum.reviewed,
            stratum.rows,
            percent(&stratum.share),
            match stratum.incomplete {
                0 => codes.join(", "),
                n => format!("{} (and {n} not counted)", codes.join(", ")),
            }
        ));
    }
    lines
}

fn percent(share: &Estimate) -> String {
    format!(
        "{:>5.1} % [{:.1}, {:.1}]",
        100.0 * share.value,
        100.0 * share.low,
        100.0 * share.high
    )
}

fn model(report: &Report) -> Vec<String> {
    let line = |(name, c): (&str, &Calibration)| {
        format!(
            "  {:<32} {:>5} rows  AUROC {}  Brier {}  ECE {:.3}",
            printable(name),
            c.rows,
            estimate(&c.auroc),
            estimate(&c.brier),
            c.ece
        )
    };
    let title = "The model (95 % intervals)".to_owned();
    std::iter::once(title)
        .chain(report.models().map(line))
        .collect()
}

fn estimate(e: &Estimate) -> String {
    format!("{:.3} [{:.3}, {:.3}]", e.value, e.low, e.high)
}

fn latency(report: &Report) -> Vec<String> {
    let line = |(name, q): (&str, Quantiles)| {
        format!(
            "  {name:<32} p50 {:.2} us  p99 {:.2} us  ({} calls)",
            q.p50, q.p99, q.calls
        )
    };
    let title = "Time a row on this machine".to_owned();
    std::iter::once(title)
        .chain(report.latency.parts().map(line))
        .collect()
}

pub(super) fn share(part: usize, whole: usize) -> f64 {
    let number = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    number(part) / number(whole.max(1))
}
