//! A series as it was in the reference and as it is in a window, for people to look at.

use std::{sync::PoisonError, time::Duration};

use super::{LEAST, Monitor, Series, window::SHAPES};

/// Shares of a series' values, by bin.
#[derive(Clone, Debug)]
pub struct Shares {
    /// A feature, `probability` or `atypicality`.
    pub name: String,
    /// Between bins, ascending.
    pub edges: Vec<f32>,
    /// In the reference.
    pub reference: Vec<f64>,
    /// In the window; none below 20 values.
    pub observed: Option<Vec<f64>>,
}

/// Names of the windows.
pub fn windows() -> impl Iterator<Item = &'static str> {
    SHAPES.iter().map(|shape| shape.name)
}

impl Monitor {
    /// Every series in the window of this name; none when there is no such window.
    pub fn shares(&self, window: &str, now: Duration) -> Vec<Shares> {
        let sums = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let mut windows = state.windows.iter_mut();
            windows
                .find(|w| w.shape().name == window)
                .map(|w| w.sums(now).0)
        };
        let all = self.features.iter();
        let all = all.chain(&self.probability).chain(&self.atypicality);
        sums.map(|sums| all.map(|series| series.shares(&sums)).collect())
            .unwrap_or_default()
    }
}

impl Series {
    fn shares(&self, sums: &[f64]) -> Shares {
        let of = |counts: &[f64], total: f64| counts.iter().map(|c| c / total).collect();
        let (observed, _) = self.counted(sums);
        let values = observed.iter().sum::<f64>();
        Shares {
            name: self.name.clone(),
            edges: self.histogram.edges().to_vec(),
            reference: of(&self.histogram.counts, self.histogram.total()),
            observed: (values >= LEAST).then(|| of(observed, values)),
        }
    }
}
