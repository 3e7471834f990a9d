//! What is said about a window: how far each series is from its reference, and whether that is an
//! alarm.

use super::{DOUBT, FALSE_ALARMS, LEAST, Series, statistics};

/// What is said about a window.
#[derive(Clone, Debug)]
pub struct WindowReport {
    /// `100`, `1h` or `24h`.
    pub window: &'static str,
    /// Rows in it.
    pub rows: u32,
    /// Series with enough values.
    pub series: Vec<SeriesReport>,
    /// Share of rows without a value, by feature; none when there are too few rows.
    pub missing: Vec<RateReport>,
    /// Shares of reviews and rejections.
    pub rates: Vec<RateReport>,
    /// All features together, less those that have an alarm of their own.
    pub joint: Option<JointReport>,
}

/// How far the mean patient is from the reference's.
#[derive(Clone, Copy, Debug)]
pub struct JointReport {
    /// Mahalanobis's distance of the features' mean places (ridits).
    pub distance: f64,
    /// −log10 of its probability, after Bonferroni.
    pub evidence: f64,
    /// Whether that is an alarm.
    pub alarm: bool,
}

/// How far a series is from its reference.
#[derive(Clone, Debug)]
pub struct SeriesReport {
    /// A feature's index, or past the features: probability, atypicality.
    pub name: String,
    /// Population stability index.
    pub psi: f64,
    /// Jensen–Shannon divergence, bits.
    pub jensen_shannon: f64,
    /// Kolmogorov–Smirnov distance.
    pub distance: f64,
    /// −log10 of its probability, after Bonferroni.
    pub evidence: f64,
    /// Whether that is an alarm.
    pub alarm: bool,
}

/// A share of rows, compared with the reference's.
#[derive(Clone, Debug)]
pub struct RateReport {
    /// A feature, or a disposition.
    pub name: String,
    /// The share.
    pub share: f64,
    /// −log10 of the probability of so many, after Bonferroni.
    pub evidence: f64,
    /// Whether that is an alarm.
    pub alarm: bool,
}

/// Judges probabilities by how often they are looked at.
pub(super) struct Judge {
    pub(super) comparisons: f64,
    pub(super) looks: f64,
}

impl Judge {
    /// −log10 after Bonferroni, and whether it is an alarm.
    fn evidence(&self, p: f64) -> (f64, bool) {
        let corrected = (p * self.comparisons).min(1.0);
        (
            corrected.max(1e-300).recip().log10(),
            corrected * self.looks < FALSE_ALARMS,
        )
    }

    pub(super) fn series(&self, series: &Series, sums: &[f64]) -> Option<SeriesReport> {
        let (observed, _) = series.counted(sums);
        let reference = &series.histogram.counts;
        if observed.iter().sum::<f64>() < LEAST {
            return None;
        }
        let (distance, p) = statistics::kolmogorov_smirnov(observed, reference);
        let (evidence, alarm) = self.evidence(p);
        Some(SeriesReport {
            name: series.name.clone(),
            psi: statistics::psi(observed, reference),
            jensen_shannon: statistics::jensen_shannon(observed, reference),
            distance,
            evidence,
            alarm,
        })
    }

    pub(super) fn missing(&self, series: &Series, sums: &[f64], rows: f64) -> Option<RateReport> {
        let (observed, missing) = series.counted(sums);
        let n = missing + observed.iter().sum::<f64>();
        self.rate(&series.name, (missing, n), (series.histogram.missing, rows))
    }

    pub(super) fn joint(&self, (distance, p): (f64, f64)) -> JointReport {
        let (evidence, alarm) = self.evidence(p);
        JointReport {
            distance,
            evidence,
            alarm,
        }
    }

    pub(super) fn rate(
        &self,
        name: &str,
        (k, n): (f64, f64),
        (k0, n0): (f64, f64),
    ) -> Option<RateReport> {
        if n < LEAST {
            return None;
        }
        let (evidence, alarm) = self.evidence(statistics::excess(k, n, k0, n0, DOUBT));
        Some(RateReport {
            name: name.to_owned(),
            share: k / n,
            evidence,
            alarm,
        })
    }
}
