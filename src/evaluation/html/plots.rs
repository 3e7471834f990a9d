//! The plots, each one SVG.

#![expect(clippy::cast_precision_loss, reason = "positions on a page")]

use super::{
    super::{
        FEW_COPIES,
        burden::{Budget, Stratum},
        detection::Figures,
        families::Seen,
        flags::FalseFlags,
    },
    add, escape, share,
};

const LEFT: f64 = 230.0;
const RIGHT: f64 = 850.0;
const ROW: f64 = 24.0;
const TOP: f64 = 40.0;

/// A plot with a row for each thing, along one axis from `from` to `to`.
struct Rows {
    svg: String,
    from: f64,
    to: f64,
}

impl Rows {
    fn new(rows: usize, title: &str, (from, to): (f64, f64), ticks: &[(f64, String)]) -> Self {
        let bottom = TOP + ROW * rows as f64;
        let mut plot = Self {
            svg: format!(
                "<svg viewBox=\"0 0 900 {}\" role=\"img\" aria-label=\"{title}\"><title>{title}</title>",
                bottom + 30.0,
                title = escape(title)
            ),
            from,
            to,
        };
        for (at, label) in ticks {
            let x = plot.x(*at);
            add!(
                plot.svg,
                "<line class=\"grid\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{bottom}\"/>\
                 <text class=\"soft\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                TOP - 8.0,
                bottom + 18.0,
                escape(label)
            );
        }
        plot
    }

    fn x(&self, value: f64) -> f64 {
        let part = (value - self.from) / (self.to - self.from);
        LEFT + (RIGHT - LEFT) * part.clamp(0.0, 1.0)
    }

    fn label(&mut self, row: usize, text: &str) -> f64 {
        let y = TOP + ROW * (row as f64 + 0.5);
        add!(
            self.svg,
            "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            LEFT - 12.0,
            y + 4.5,
            escape(text)
        );
        y
    }

    fn text(&mut self, x: f64, y: f64, anchor: &str, text: &str) {
        add!(
            self.svg,
            "<text class=\"soft\" x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{}</text>",
            escape(text)
        );
    }

    fn end(mut self) -> String {
        self.svg.push_str("</svg>");
        self.svg
    }
}

/// AUROC of each family, by whether fitting has seen it.
pub(super) fn auroc(families: &[Figures], other: Option<&Figures>) -> String {
    let ticks: Vec<(f64, String)> = (5..=10)
        .map(|t| f64::from(t) / 10.0)
        .map(|t| (t, format!("{t:.1}")))
        .collect();
    let rows = families.len() + usize::from(other.is_some());
    let mut plot = Rows::new(
        rows,
        "AUROC of the distribution screen",
        (0.45, 1.0),
        &ticks,
    );
    legend(
        &mut plot,
        "AUROC",
        &[
            ("fa", true, "held out"),
            ("fc", false, "fitting makes its like"),
            ("fb", false, "made in fitting"),
        ],
    );
    for (row, figures) in families.iter().chain(other).enumerate() {
        let y = plot.label(row, &figures.title);
        if figures.reached < FEW_COPIES {
            let few = format!(
                "{} of {} reach the screen: too few to say",
                figures.reached, figures.made
            );
            plot.text(plot.x(0.5), y + 4.5, "start", &few);
            continue;
        }
        let x = plot.x(figures.auroc);
        let (start, class) = (
            plot.x(0.5),
            if figures.seen == Some(Seen::Template) {
                "b"
            } else {
                "a"
            },
        );
        add!(
            plot.svg,
            "<line class=\"sg\" x1=\"{start:.1}\" x2=\"{x:.1}\" y1=\"{y}\" y2=\"{y}\"/>"
        );
        match figures.seen {
            Some(Seen::HeldOut) | None => {
                add!(
                    plot.svg,
                    "<circle class=\"f{class}\" cx=\"{x:.1}\" cy=\"{y}\" r=\"6\"/>"
                );
            }
            Some(Seen::Generic) => {
                add!(
                    plot.svg,
                    "<rect class=\"fc\" x=\"{:.1}\" y=\"{:.1}\" width=\"11\" height=\"11\"/>",
                    x - 5.5,
                    y - 5.5
                );
            }
            Some(Seen::Template) => {
                add!(
                    plot.svg,
                    "<rect class=\"fb\" x=\"{:.1}\" y=\"{:.1}\" width=\"11\" height=\"11\"/>",
                    x - 5.5,
                    y - 5.5
                );
            }
        }
        let label = format!("{:.3}", figures.auroc);
        plot.text(x + 12.0, y + 4.5, "start", &label);
    }
    plot.end()
}

fn legend(plot: &mut Rows, title: &str, entries: &[(&str, bool, &str)]) {
    plot.text(LEFT - 12.0, 20.0, "end", title);
    let mut x = LEFT;
    for (class, round, text) in entries {
        if *round {
            add!(
                plot.svg,
                "<circle class=\"{class}\" cx=\"{:.1}\" cy=\"15.5\" r=\"6\"/>",
                x + 6.0
            );
        } else {
            add!(
                plot.svg,
                "<rect class=\"{class}\" x=\"{x:.1}\" y=\"10\" width=\"11\" height=\"11\"/>"
            );
        }
        plot.text(x + 18.0, 20.0, "start", text);
        x += 36.0 + 7.2 * text.chars().count() as f64;
    }
}

/// What stops the copies of each family.
pub(super) fn stopped(families: &[Figures], other: Option<&Figures>) -> String {
    let ticks: Vec<(f64, String)> = (0..=5)
        .map(|t| f64::from(t) / 5.0)
        .map(|t| (t, format!("{:.0} %", 100.0 * t)))
        .collect();
    let rows = families.len() + usize::from(other.is_some());
    let mut plot = Rows::new(rows, "What stops corrupted rows", (0.0, 1.0), &ticks);
    legend(
        &mut plot,
        "Stopped by",
        &[
            ("fb", false, "impossible value"),
            ("fd", false, "expected range"),
            ("fe", false, "rule"),
            ("fa", false, "distribution"),
            ("fg", false, "not stopped"),
        ],
    );
    for (row, figures) in families.iter().chain(other).enumerate() {
        let y = plot.label(row, &figures.title);
        let parts = [
            (figures.rejected, "fb"),
            (figures.out_of_range, "fd"),
            (figures.inconsistent, "fe"),
            (figures.flagged, "fa"),
            (figures.reached - figures.flagged, "fg"),
        ];
        let mut before = 0;
        for (count, class) in parts {
            let (from, to) = (
                plot.x(share(before, figures.made)),
                plot.x(share(before + count, figures.made)),
            );
            before += count;
            add!(
                plot.svg,
                "<rect class=\"{class}\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"15\"/>",
                y - 7.5,
                (to - from).max(0.0)
            );
        }
    }
    plot.end()
}

/// Shares flagged, and where they should lie.
pub(super) fn flags(flags: &[FalseFlags]) -> String {
    let most = flags
        .iter()
        .map(|f| share(f.interval.1.max(f.flagged), f.rows))
        .fold(0.01, f64::max)
        * 1.08;
    let step = if most > 0.04 { 0.01 } else { 0.005 };
    let ticks: Vec<(f64, String)> = (0..20)
        .map(|t| f64::from(t) * step)
        .filter(|t| *t <= most)
        .map(|t| (t, format!("{:.1} %", 100.0 * t)))
        .collect();
    let mut plot = Rows::new(flags.len(), "False flags", (0.0, most), &ticks);
    legend(
        &mut plot,
        "Flagged",
        &[("fa", true, "share"), ("fg", false, "99 % interval")],
    );
    for (row, at) in flags.iter().enumerate() {
        let y = plot.label(row, &format!("alpha {} %", 100.0 * at.alpha));
        let of = |count: usize| share(count, at.rows);
        let (low, high) = (plot.x(of(at.interval.0)), plot.x(of(at.interval.1)));
        add!(
            plot.svg,
            "<line class=\"sg band\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y}\" y2=\"{y}\"/>"
        );
        let aim = plot.x(at.alpha);
        add!(
            plot.svg,
            "<line class=\"axis\" x1=\"{aim:.1}\" x2=\"{aim:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>",
            y - 9.0,
            y + 9.0
        );
        let x = plot.x(at.share);
        let class = if at.within { "fa" } else { "fb" };
        add!(
            plot.svg,
            "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y}\" r=\"5.5\"/>"
        );
    }
    plot.end()
}

/// Shares rejected or reviewed by group, beside what the bundle allows.
pub(super) fn burden(strata: &[Stratum], budget: Option<&Budget>) -> String {
    let most = strata
        .iter()
        .map(|s| s.share.high)
        .filter(|h| *h < 0.5)
        .fold(0.06, f64::max)
        * 1.05;
    let step = if most > 0.3 {
        0.1
    } else if most > 0.12 {
        0.05
    } else {
        0.01
    };
    let ticks: Vec<(f64, String)> = (0..20)
        .map(|t| f64::from(t) * step)
        .filter(|t| *t <= most)
        .map(|t| (t, format!("{:.0} %", 100.0 * t)))
        .collect();
    let mut plot = Rows::new(
        strata.len(),
        "Rejected or sent to review",
        (0.0, most),
        &ticks,
    );
    legend(
        &mut plot,
        "",
        &[("fa", true, "share"), ("fg", false, "95 % interval")],
    );
    if let Some(Budget { total, .. }) = budget {
        let x = plot.x(*total);
        add!(
            plot.svg,
            "<line class=\"sb\" stroke-dasharray=\"5 4\" x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{:.1}\"/>",
            TOP - 12.0,
            TOP + ROW * strata.len() as f64
        );
        plot.text(
            x + 6.0,
            TOP - 4.0,
            "start",
            &format!("budget {:.1} %", 100.0 * total),
        );
    }
    for (row, stratum) in strata.iter().enumerate() {
        let name = if stratum.by == "all" {
            "all".to_owned()
        } else {
            format!("{}: {}", stratum.by, stratum.name)
        };
        let y = plot.label(row, &name);
        let (low, high) = (plot.x(stratum.share.low), plot.x(stratum.share.high));
        add!(
            plot.svg,
            "<line class=\"sg band\" x1=\"{low:.1}\" x2=\"{high:.1}\" y1=\"{y}\" y2=\"{y}\"/>\
             <circle class=\"fa\" cx=\"{:.1}\" cy=\"{y}\" r=\"5.5\"/>",
            plot.x(stratum.share.value)
        );
    }
    plot.end()
}
