//! The report as one HTML page: no script, no network, plots as inline SVG.
//!
//! Colours are Okabe and Ito's, which people who do not see all colours can tell apart; marks
//! differ in shape too. The page follows the reader's light or dark setting and prints.

use super::{
    Report,
    burden::Stratum,
    detection::Figures,
    families::Seen,
    metrics::Estimate,
    text::{measured, share},
};

mod calibration;
mod plots;

const STYLE: &str = include_str!("html/report.css");

/// The whole page.
pub fn page(report: &Report) -> String {
    let mut body = String::new();
    head(report, &mut body);
    if !report.families.is_empty() {
        detection(report, &mut body);
    }
    if !report.false_flags.is_empty() {
        flags(report, &mut body);
    }
    burden(report, &mut body);
    model(report, &mut body);
    foot(report, &mut body);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
         'unsafe-inline'\"><meta name=\"viewport\" content=\"width=device-width\">\
         <title>{name} version {version}: evaluation</title><style>{STYLE}</style></head>\
         <body><main>{body}</main></body></html>\n",
        name = escape(&report.model.name),
        version = report.model.version,
    )
}

/// Text that is text.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// Adds to a page.
macro_rules! add {
    ($page:expr, $($text:tt)*) => { $page.push_str(&format!($($text)*)) };
}
use add;

/// A plot, which scrolls where the page is too narrow for it.
fn plot(svg: &str, page: &mut String) {
    add!(page, "<div class=\"wide\" tabindex=\"0\">{svg}</div>");
}

fn head(report: &Report, page: &mut String) {
    add!(
        page,
        "<header><p class=\"kicker\">Evaluation before approval</p><h1>{} <span>version {}</span></h1>\
         <p>{}</p><p class=\"digest\">bundle {}<br>rows sha256:{}</p></header>",
        escape(&report.model.name),
        report.model.version,
        escape(&report.model.title),
        escape(&report.model.digest),
        escape(&report.data.sha256)
    );
    for note in &report.notes {
        add!(page, "<p class=\"note\">{}</p>", escape(note));
    }
    add!(page, "<div class=\"tiles\">");
    let mut tile = |value: String, label: &str| {
        add!(
            page,
            "<div><strong>{value}</strong><span>{}</span></div>",
            escape(label)
        );
    };
    if let Some(mean) = &report.mean {
        tile(
            format!("{:.3}", mean.auroc),
            "AUROC, corrupted rows, mean of families",
        );
        tile(
            format!("{:.0}\u{a0}%", 100.0 * mean.detected),
            "of them flagged",
        );
    }
    if let (Some(alpha), Some(at)) = (report.alpha, own_alpha(report)) {
        let label = format!("clean rows flagged at alpha {alpha}");
        tile(format!("{:.1}\u{a0}%", 100.0 * at), &label);
    }
    if let Some(all) = report.burden.first() {
        tile(
            format!("{:.1}\u{a0}%", 100.0 * all.share.value),
            "patients rejected or reviewed",
        );
    }
    if let Some(model) = &report.calibration {
        tile(format!("{:.3}", model.auroc.value), "AUROC of the model");
    }
    if let Some(q) = report.latency.screen_us {
        tile(
            format!("{:.1}\u{a0}µs", q.p50),
            "distribution screen, median",
        );
    }
    add!(page, "</div>");
}

fn own_alpha(report: &Report) -> Option<f64> {
    let alpha = report.alpha?;
    let near = |a: f64| (a - alpha).abs() < 1e-9;
    report
        .false_flags
        .iter()
        .find(|f| near(f.alpha))
        .map(|f| f.share)
}

fn detection(report: &Report, page: &mut String) {
    add!(
        page,
        "<section><h2>Corrupted rows</h2><p>Copies of the patients with values gone wrong. Only \
         those that ranges, rules and missing values let through are scored by the distribution \
         screen; the bars show what stopped the rest.</p>"
    );
    plot(&plots::auroc(&report.families, report.other.as_ref()), page);
    plot(
        &plots::stopped(&report.families, report.other.as_ref()),
        page,
    );
    add!(
        page,
        "<div class=\"wide\" tabindex=\"0\"><table><thead><tr><th>family<th>in fitting<th>made<th>reach the screen<th>AUROC\
         <th>FPR at 95 % TPR<th>flagged<th>flagged, exact 1 %<th>stopped in all\
         <th>names the wrong value first (of those flagged)</thead><tbody>"
    );
    for figures in report.families.iter().chain(&report.other) {
        family(figures, page);
    }
    if let Some(mean) = &report.mean {
        add!(
            page,
            "<tr class=\"mean\"><td>mean of {}<td><td><td><td>{:.3}<td>{:.3}<td>{:.3}<td>{:.3}<td><td>",
            mean.families,
            mean.auroc,
            mean.fpr_at_95_tpr,
            mean.detected,
            mean.detected_at_exact_1_percent
        );
    }
    add!(
        page,
        "</tbody></table></div><p class=\"small\">flagged: at the bundle's alpha. exact 1 %: at the \
         threshold that flags 1 % of these very clean rows. The mean leaves out families that \
         fitting made itself.</p></section>"
    );
}

fn family(figures: &Figures, page: &mut String) {
    add!(
        page,
        "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{:.0}\u{a0}%<td>{}",
        escape(&figures.title),
        seen(figures.seen),
        figures.made,
        figures.reached,
        measured(figures.auroc),
        measured(figures.fpr_at_95_tpr),
        measured(figures.detected),
        measured(figures.detected_at_exact_1_percent),
        100.0 * figures.stopped,
        match (figures.top1, figures.top1_flagged) {
            (Some(all), Some(flagged)) => format!("{all:.2} ({flagged:.2})"),
            (Some(all), None) => format!("{all:.2}"),
            (None, _) => String::new(),
        }
    );
}

fn seen(seen: Option<Seen>) -> &'static str {
    match seen {
        Some(Seen::HeldOut) => "held out",
        Some(Seen::Generic) => "its like",
        Some(Seen::Template) => "made in fitting",
        None => "",
    }
}

fn flags(report: &Report, page: &mut String) {
    add!(
        page,
        "<section><h2>False flags</h2><p>Of patients with nothing missing, how many are flagged, \
         and where that count lies in 99 of 100 cases if the patients of the calibration and \
         these are alike (beta-binomial).</p>"
    );
    plot(&plots::flags(&report.false_flags), page);
    add!(
        page,
        "<div class=\"wide\" tabindex=\"0\"><table><thead><tr><th>alpha<th>flagged<th>share<th>99 % interval<th>\
         <th>re-splits within<th>mean over re-splits</thead><tbody>"
    );
    for at in &report.false_flags {
        add!(
            page,
            "<tr><td>{} %<td>{} of {}<td>{:.2}\u{a0}%<td>{} to {}<td>{}<td>{} of {}<td>{:.2}\u{a0}%",
            100.0 * at.alpha,
            at.flagged,
            at.rows,
            100.0 * at.share,
            at.interval.0,
            at.interval.1,
            if at.within { "within" } else { "outside" },
            at.resplits_within,
            at.resplits,
            100.0 * at.resplits_mean
        );
    }
    add!(page, "</tbody></table></div></section>");
}

fn burden(report: &Report, page: &mut String) {
    if report.burden.is_empty() {
        return;
    }
    add!(
        page,
        "<section><h2>Who is rejected or sent to review</h2><p>Of rows with every required value: \
         {} of {} lack one, are rejected for it and are not counted here. A group far to the \
         right of the others bears more of the screening.</p>",
        report.data.incomplete,
        report.data.rows
    );
    if let Some(budget) = &report.budget {
        let how = if budget.within { "Within" } else { "Over" };
        add!(
            page,
            "<p><strong>{how}</strong> {}.</p>",
            escape(&budget.to_string())
        );
    }
    plot(&plots::burden(&report.burden, report.budget.as_ref()), page);
    add!(
        page,
        "<div class=\"wide\" tabindex=\"0\"><table><thead><tr><th>by<th>group<th>rows<th>not counted<th>rejected<th>reviewed<th>share<th>95 % \
         interval<th>codes</thead><tbody>"
    );
    for stratum in &report.burden {
        burden_row(stratum, page);
    }
    add!(page, "</tbody></table></div></section>");
}

fn burden_row(stratum: &Stratum, page: &mut String) {
    let codes: Vec<String> = stratum
        .codes
        .iter()
        .map(|(code, count)| format!("{} {count}", escape(code)))
        .collect();
    add!(
        page,
        "<tr><td>{}<td>{}<td>{}<td>{}<td>{}<td>{}<td>{:.1}\u{a0}%<td>{:.1} to {:.1}<td class=\"codes\">{}",
        escape(&stratum.by),
        escape(&stratum.name),
        stratum.rows,
        stratum.incomplete,
        stratum.rejected,
        stratum.reviewed,
        100.0 * stratum.share.value,
        100.0 * stratum.share.low,
        100.0 * stratum.share.high,
        codes.join("<br>")
    );
}

fn model(report: &Report, page: &mut String) {
    let Some(all) = &report.calibration else {
        return;
    };
    add!(
        page,
        "<section><h2>The model</h2><p>{}: {} of {} patients ({:.1} %). Intervals are 95 %.</p>",
        escape(&report.model.outcome),
        all.positive,
        all.rows,
        100.0 * share(all.positive, all.rows)
    );
    plot(&calibration::plot(all), page);
    add!(
        page,
        "<div class=\"wide\" tabindex=\"0\"><table><thead><tr><th><th>rows<th>AUROC<th>Brier score<th>calibration error</thead><tbody>"
    );
    for (name, c) in report.models() {
        add!(
            page,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{:.3}",
            escape(name),
            c.rows,
            estimate(&c.auroc),
            estimate(&c.brier),
            c.ece
        );
    }
    add!(page, "</tbody></table></div></section>");
}

fn estimate(e: &Estimate) -> String {
    format!(
        "{:.3} <small>{:.3} to {:.3}</small>",
        e.value, e.low, e.high
    )
}

fn foot(report: &Report, page: &mut String) {
    add!(
        page,
        "<section><h2>Time a row, on the machine that measured</h2><div class=\"wide\" tabindex=\"0\"><table><thead>\
         <tr><th><th>calls<th>median<th>99th of 100</thead><tbody>"
    );
    for (name, q) in report.latency.parts() {
        add!(
            page,
            "<tr><td>{name}<td>{}<td>{:.2}\u{a0}µs<td>{:.2}\u{a0}µs",
            q.calls,
            q.p50,
            q.p99
        );
    }
    add!(
        page,
        "</tbody></table></div></section><footer>{}, seed {}",
        escape(&report.tool),
        report.seed
    );
    if let Some(fit) = &report.fit {
        let of = |key: &str| fit.get(key).map(ToString::to_string).unwrap_or_default();
        add!(
            page,
            "; distribution fitted to {} rows and calibrated on {}, quality {}, seed {}, templates {}",
            of("fit_rows"),
            of("calibration_rows"),
            escape(of("quality").trim_matches('"')),
            of("seed"),
            of("templates")
        );
    }
    add!(page, ".</footer>");
}
