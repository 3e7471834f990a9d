//! The scores as one normal distribution: its precision after Ledoit and Wolf.

use nalgebra::{Cholesky, DMatrix, DVector, Dyn};

/// Mean and precision of scores (one row a patient).
pub(super) struct Gaussian {
    pub(super) mean: DVector<f64>,
    pub(super) precision: DMatrix<f64>,
}

impl Gaussian {
    /// O. Ledoit and M. Wolf, "A well-conditioned estimator for large-dimensional covariance
    /// matrices", J. Multivariate Analysis 88 (2004): the covariance, shrunk towards a multiple
    /// of the identity as far as its own sampling error suggests.
    #[expect(clippy::cast_precision_loss, reason = "counts of rows and features")]
    pub(super) fn ledoit_wolf(rows: &DMatrix<f64>) -> Option<Self> {
        let (n, d) = (rows.nrows() as f64, rows.ncols() as f64);
        let mean = rows.row_mean();
        let mut centred = rows.clone();
        for mut row in centred.row_iter_mut() {
            row -= &mean;
        }
        let covariance = centred.tr_mul(&centred) / n;
        let scale = covariance.trace() / d;
        let squares = centred.map(|x| x * x);
        let fourth = squares.tr_mul(&squares) / n;
        let error = (fourth.sum() - covariance.norm_squared()) / n;
        let identity = DMatrix::identity(rows.ncols(), rows.ncols());
        let distance = (&covariance - &identity * scale).norm_squared();
        let shrinkage = if distance > 0.0 {
            (error / distance).clamp(0.0, 1.0)
        } else {
            1.0
        };
        let shrunk = covariance * (1.0 - shrinkage) + identity * (shrinkage * scale);
        Some(Self {
            mean: mean.transpose(),
            precision: Cholesky::new(shrunk)?.inverse(),
        })
    }

    /// Lᵀ of Ω = L Lᵀ, which makes the covariance of scores the identity.
    pub(super) fn whitening(&self) -> Option<DMatrix<f64>> {
        let factor: Cholesky<f64, Dyn> = Cholesky::new(self.precision.clone())?;
        Some(factor.l().transpose())
    }

    /// Fills in what is missing (NaN) by its conditional mean, as the server does.
    pub(super) fn fill(&self, row: &mut [f64]) {
        let absent: Vec<usize> = (0..row.len()).filter(|&j| row[j].is_nan()).collect();
        for &j in &absent {
            row[j] = self.mean[j];
        }
        for _ in 0..crate::screening::SWEEPS {
            for &j in &absent {
                let y: f64 = (0..row.len())
                    .map(|i| self.precision[(j, i)] * (row[i] - self.mean[i]))
                    .sum();
                row[j] -= y / self.precision[(j, j)];
            }
        }
    }
}
