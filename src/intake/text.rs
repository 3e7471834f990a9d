//! The report for people.

use crate::error_chain::printable;

use super::{Check, Finding, Report};

/// Lines listed on a terminal; the JSON has more.
const SHOWN: usize = 20;

pub(super) fn report(report: &Report) -> String {
    let mut lines = of_file(report);
    for further in &report.further {
        lines.push(format!("file       {}", printable(&further.file)));
        lines.extend(of_file(&further.report));
    }
    lines.push(if report.passes() {
        "result     nothing found that speaks against these rows".to_owned()
    } else {
        format!(
            "result     a person has to look: {}",
            printable(&report.found_in_words())
        )
    });
    lines.push(format!("report     sha256:{}", report.digest()));
    lines.join("\n")
}

fn of_file(report: &Report) -> Vec<String> {
    let mut lines = vec![format!(
        "data       {} rows, {} usable, {} with outcome ({} of them positive)",
        report.rows, report.usable, report.labelled, report.positive
    )];
    lines.extend(report.groups.map(|n| format!("groups     {n}")));
    lines.push(format!("sha256     {}", report.data_sha256));
    for check in &report.checks {
        lines.extend(check_lines(check));
    }
    lines
}

fn check_lines(check: &Check) -> Vec<String> {
    let mut lines = vec![format!(
        "{:<9}  {}: {}",
        check.verdict.as_str(),
        check.name,
        printable(&check.summary)
    )];
    for finding in &check.findings {
        lines.extend(finding_lines(finding));
    }
    lines
}

fn finding_lines(finding: &Finding) -> Vec<String> {
    let place = match (finding.between, &finding.batch) {
        (Some((first, last)), _) => format!("lines {first} to {last}: "),
        (None, Some(batch)) => format!("batch {}: ", printable(batch)),
        (None, None) => String::new(),
    };
    let mut lines = vec![format!("             {place}{}", printable(&finding.what))];
    if !finding.lines.is_empty() {
        let shown: Vec<String> = finding
            .lines
            .iter()
            .take(SHOWN)
            .map(u64::to_string)
            .collect();
        let more = match finding.rows.saturating_sub(shown.len()) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        lines.push(format!("             lines {}{more}", shown.join(", ")));
    }
    lines
}
