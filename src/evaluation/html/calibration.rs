//! Predicted against observed, one SVG.

#![expect(clippy::cast_precision_loss, reason = "positions on a page")]

use super::{super::metrics::Calibration, add, escape};

/// Predicted against observed.
pub(super) fn plot(found: &Calibration) -> String {
    let highest = found
        .bins
        .iter()
        .flat_map(|b| [b.predicted, b.observed.high])
        .fold(0.1, f64::max);
    let most = (highest * 10.0).ceil() / 10.0;
    let (left, top, side) = (70.0, 20.0, 320.0);
    let x = |v: f64| left + side * v / most;
    let y = |v: f64| top + side * (1.0 - v / most);
    let mut svg = "<svg viewBox=\"0 0 900 390\" role=\"img\" aria-label=\"Calibration\"><title>Calibration</title>"
        .to_owned();
    for tick in 0..=5 {
        let value = most * f64::from(tick) / 5.0;
        add!(
            svg,
            "<line class=\"grid\" x1=\"{0:.1}\" x2=\"{0:.1}\" y1=\"{1}\" y2=\"{2}\"/>\
             <line class=\"grid\" x1=\"{left}\" x2=\"{3}\" y1=\"{4:.1}\" y2=\"{4:.1}\"/>\
             <text class=\"soft\" x=\"{0:.1}\" y=\"{5}\" text-anchor=\"middle\">{6:.0} %</text>\
             <text class=\"soft\" x=\"{7}\" y=\"{8:.1}\" text-anchor=\"end\">{6:.0} %</text>",
            x(value),
            top,
            top + side,
            left + side,
            y(value),
            top + side + 20.0,
            100.0 * value,
            left - 8.0,
            y(value) + 4.5
        );
    }
    add!(
        svg,
        "<line class=\"axis\" stroke-dasharray=\"4 4\" x1=\"{}\" y1=\"{}\" x2=\"{}\" y2=\"{}\"/>",
        x(0.0),
        y(0.0),
        x(most),
        y(most)
    );
    for bin in &found.bins {
        let at = x(bin.predicted);
        add!(
            svg,
            "<line class=\"sa bar\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/>\
             <circle class=\"fa\" cx=\"{at:.1}\" cy=\"{:.1}\" r=\"5\"/>",
            y(bin.observed.low),
            y(bin.observed.high),
            y(bin.observed.value)
        );
    }
    add!(
        svg,
        "<text class=\"soft\" x=\"{}\" y=\"{}\" text-anchor=\"middle\">predicted</text>\
         <text class=\"soft\" transform=\"rotate(-90 16 {middle})\" x=\"16\" y=\"{middle}\" \
         text-anchor=\"middle\">observed</text>",
        left + side / 2.0,
        top + side + 42.0,
        middle = top + side / 2.0
    );
    let notes = [
        "Each dot: a tenth of the patients,".to_owned(),
        "the share in whom it happened and its 95 % interval.".to_owned(),
        "On the dashed line, prediction and outcome agree.".to_owned(),
        format!(
            "Mean distance (expected calibration error): {:.3}",
            found.ece
        ),
    ];
    for (line, text) in notes.iter().enumerate() {
        add!(
            svg,
            "<text class=\"soft\" x=\"{}\" y=\"{:.1}\">{}</text>",
            left + side + 40.0,
            top + 40.0 + 22.0 * line as f64,
            escape(text)
        );
    }
    svg.push_str("</svg>");
    svg
}
