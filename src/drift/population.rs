//! Whether the patients as a whole have changed: all features at once.
//!
//! Another ward shifts many values a little. Each of them alone is nothing much, and a test that
//! pays for being one of many sees none of it; together they are plain. The features' mean places
//! in the reference (ridits) are compared by Hotelling's T², with their covariance among the
//! reference's patients. It needs no count that is not kept already.

use statrs::function::beta::beta_reg;

use super::{
    LEAST, Series,
    reference::Histogram,
    statistics::{effective, quadratic},
};

/// Added to each correlation with itself, so that features that say the same do no harm.
const RIDGE: f64 = 1e-3;

/// What the features' places vary by among the reference's patients.
#[derive(Clone, Debug)]
pub(super) struct Population {
    /// By feature and bin.
    ridits: Vec<Vec<f64>>,
    /// Lower triangle with its diagonal.
    covariance: Vec<Vec<f64>>,
    rows: f64,
}

impl Population {
    /// Of `correlation`, whose row `i` has the correlations of feature `i` with those before it.
    /// None when it is not of these features, or is no correlation.
    pub(super) fn new(features: &[Histogram], correlation: &[Vec<f32>], rows: f64) -> Option<Self> {
        let shaped = correlation.iter().enumerate();
        let shaped = shaped
            .into_iter()
            .all(|(index, row)| row.len() == index && row.iter().all(|r| (-1.0..=1.0).contains(r)));
        if correlation.len() != features.len() || !shaped {
            return None;
        }
        let ridits: Vec<_> = features.iter().map(Histogram::ridits).collect();
        let deviations: Vec<f64> = features
            .iter()
            .zip(&ridits)
            .map(|(histogram, ridits)| {
                let squares = histogram.counts.iter().zip(ridits);
                let sum: f64 = squares.map(|(count, ridit)| count * ridit * ridit).sum();
                (sum / (histogram.total() + histogram.missing)).sqrt()
            })
            .collect();
        let covariance: Vec<Vec<f64>> = correlation
            .iter()
            .zip(&deviations)
            .map(|(row, own)| {
                let others = row.iter().zip(&deviations);
                let others = others.map(|(r, other)| f64::from(*r) * own * other);
                others.chain([(1.0 + RIDGE) * own * own]).collect()
            })
            .collect();
        // A feature with one bin has no place to shift to, and no variance.
        let varies = deviations.iter().all(|deviation| *deviation > 0.0);
        let definite = quadratic(&covariance, &vec![0.0; features.len()]).is_some();
        (!varies || definite).then_some(Self {
            ridits,
            covariance,
            rows,
        })
    }

    /// Mahalanobis's distance of the mean patient from the reference's, and the probability of
    /// one as large without a shift; of the features that are not `left_out`, because they have
    /// an alarm of their own. None where there are too few rows, or fewer than two features.
    pub(super) fn compare(
        &self,
        series: &[Series],
        sums: &[f64],
        left_out: &[bool],
    ) -> Option<(f64, f64)> {
        let kept = |index: usize| !left_out.get(index).copied().unwrap_or_default();
        let (mut means, mut rows) = (Vec::new(), f64::INFINITY);
        for (series, ridits) in series.iter().zip(&self.ridits) {
            let (observed, missing) = series.counted(sums);
            let n = missing + observed.iter().sum::<f64>();
            let places = observed.iter().zip(ridits);
            // Who lacks the value is where the mean is.
            means.push(places.map(|(count, ridit)| count * ridit).sum::<f64>() / n.max(1.0));
            rows = rows.min(n);
        }
        let varies = |index: usize| {
            let own = self.covariance.get(index).and_then(|row| row.last());
            own.is_some_and(|variance| *variance > 0.0)
        };
        let used: Vec<bool> = (0..means.len()).map(|i| kept(i) && varies(i)).collect();
        let covariance: Vec<Vec<f64>> = only(self.covariance.iter(), &used)
            .map(|row| only(row.iter(), &used).copied().collect())
            .collect();
        let means: Vec<f64> = only(means.iter(), &used).copied().collect();
        if rows < LEAST || means.len() < 2 {
            return None;
        }
        let square = quadratic(&covariance, &means)?;
        let t2 = effective(rows, self.rows) * square;
        Some((
            square.sqrt(),
            hotelling(t2, crate::telemetry::count(means.len()), self.rows),
        ))
    }
}

/// Those of `items` that are used.
fn only<'a, T: 'a>(
    items: impl Iterator<Item = &'a T>,
    used: &[bool],
) -> impl Iterator<Item = &'a T> {
    items
        .zip(used)
        .filter_map(|(item, used)| used.then_some(item))
}

/// The upper tail of Hotelling's T² with `d` features, whose covariance is of `m` patients:
/// T²·(m − d)/(d·(m − 1)) is F distributed with d and m − d degrees of freedom.
fn hotelling(t2: f64, d: f64, m: f64) -> f64 {
    if m <= d {
        return 1.0;
    }
    let rest = 1.0 / (1.0 + t2.max(0.0) / (m - 1.0));
    beta_reg((m - d) / 2.0, d / 2.0, rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `scipy.stats.f.sf(t2*(m-d)/(d*(m-1)), d, m-d)`.
    #[test]
    fn the_tail_is_hotellings() {
        for (t2, d, m, expected) in [
            (77.060_725_899, 20.0, 4988.0, 1.640_595_115e-8),
            (30.0, 10.0, 483.0, 1.342_491_164e-3),
        ] {
            let p = hotelling(t2, d, m);
            assert!((p / expected - 1.0).abs() < 1e-6, "{p} {expected}");
        }
        assert!((hotelling(0.0, 5.0, 100.0) - 1.0).abs() < 1e-12);
        assert!((hotelling(9.0, 5.0, 5.0) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn what_is_no_correlation_is_refused() {
        let histogram = || Histogram::uniform(4, 100.0);
        let of = |correlation: &[Vec<f32>]| {
            let features = [histogram(), histogram(), histogram()];
            Population::new(&features, correlation, 100.0).is_some()
        };
        assert!(of(&[vec![], vec![0.5], vec![0.5, 0.5]]));
        assert!(!of(&[vec![], vec![0.5]]), "of two features");
        assert!(!of(&[vec![], vec![0.5], vec![0.5]]), "a row too short");
        assert!(!of(&[vec![], vec![1.5], vec![0.0, 0.0]]), "beyond 1");
        assert!(!of(&[vec![], vec![f32::NAN], vec![0.0, 0.0]]), "no number");
        let impossible = [vec![], vec![0.99], vec![0.99, -0.99]];
        assert!(!of(&impossible), "nothing varies like that");
    }
}
