//! Finds the knee: the highest rate that the server keeps up with.

use anyhow::Error;

use crate::{arguments::Load, case::Mix, connection::Client, load, outcome::Run};

/// A rate is kept up with when so much of it is answered.
const KEPT_UP: f64 = 0.99;
/// The highest rate tried, as a share of the closed loop's.
const HIGHEST: f64 = 1.1;

/// The closed loop, and then open loops at rising rates.
pub(crate) fn run(client: &Client, mix: &Mix, load: &Load, steps: u32) -> Result<Vec<Run>, Error> {
    let closed = load::closed(client, mix, load)?;
    let most = closed.goodput() * HIGHEST;
    let mut runs = vec![closed];
    for step in 1..=steps {
        let rate = most * f64::from(step) / f64::from(steps);
        runs.push(load::open(client, mix, load, rate.max(1.0))?);
    }
    Ok(runs)
}

/// Requests a second at the knee.
pub(crate) fn knee(runs: &[Run]) -> Option<f64> {
    runs.iter()
        .filter_map(|run| run.rate.filter(|rate| run.goodput() >= KEPT_UP * rate))
        .max_by(f64::total_cmp)
}
