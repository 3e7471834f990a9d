//! Latency by percentile, both axes logarithmic, so that the tail is seen.

use std::path::Path;

use anyhow::{Error, anyhow};
use plotters::prelude::*;

use crate::{outcome::Run, report::milliseconds};

/// The horizontal axis ends at this many nines: 99.999 %.
const NINES: f64 = 5.0;
const STEPS: u32 = 200;
const COLOURS: [RGBColor; 6] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
];

/// Draws all runs into one SVG.
pub(crate) fn percentiles(runs: &[Run], path: &Path) -> Result<(), Error> {
    let lines = runs
        .iter()
        .map(|run| Ok((run.label.clone(), line(run)?)))
        .collect::<Result<Vec<_>, Error>>()?;
    draw(&lines, path).map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

/// Points (number of nines, milliseconds).
fn line(run: &Run) -> Result<Vec<(f64, f64)>, Error> {
    let latency = run.latency()?;
    Ok((0..=STEPS)
        .map(|step| {
            let nines = NINES * f64::from(step) / f64::from(STEPS);
            let quantile = 1.0 - 10f64.powf(-nines);
            (nines, milliseconds(&latency, quantile).max(1e-3))
        })
        .collect())
}

fn draw(
    lines: &[(String, Vec<(f64, f64)>)],
    path: &Path,
) -> Result<(), Box<dyn std::error::Error>> {
    let values = || {
        lines
            .iter()
            .flat_map(|(_, points)| points)
            .map(|point| point.1)
    };
    let lowest = values().fold(f64::INFINITY, f64::min);
    let highest = values().fold(0.0, f64::max);
    let area = SVGBackend::new(path, (900, 560)).into_drawing_area();
    area.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&area)
        .margin(16)
        .caption("Latency by percentile", ("sans-serif", 20))
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(0.0..NINES, (lowest / 1.5..highest * 1.5).log_scale())?;
    chart
        .configure_mesh()
        .x_desc("percentile")
        .y_desc("milliseconds")
        .x_labels(6)
        .x_label_formatter(&|nines| {
            let decimals = if *nines > 2.5 { 3 } else { 0 };
            format!("{:.*} %", decimals, 100.0 * (1.0 - 10f64.powf(-nines)))
        })
        .draw()?;
    for ((label, points), colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        chart
            .draw_series(LineSeries::new(
                points.iter().copied(),
                colour.stroke_width(2),
            ))?
            .label(label)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .draw()?;
    area.present()?;
    Ok(())
}
