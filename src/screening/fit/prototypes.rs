//! Typical patients, for rows that are near none.

use std::collections::HashSet;

use nalgebra::DMatrix;
use rand_chacha::ChaCha8Rng;

use super::{FitError, Options, Patient, clusters, gaussian::Gaussian, narrow_rows};
use crate::screening::reference::RawPrototypes;

/// Means of clusters of at least `min_rows` patients (not rows) each.
pub(super) fn prototypes(
    gaussian: &Gaussian,
    points: &DMatrix<f64>,
    rows: &[&Patient],
    options: &Options,
    rng: &mut ChaCha8Rng,
) -> Result<RawPrototypes, FitError> {
    let whitening = gaussian
        .whitening()
        .ok_or(FitError::Degenerate("whitening"))?;
    let mut centred = points.clone();
    for mut column in centred.column_iter_mut() {
        column -= &gaussian.mean;
    }
    let white = &whitening * centred;
    let wanted = (rows.len() / (3 * options.min_rows)).clamp(1, 512);
    let mut clusters = clusters::k_means(&white, wanted, 12, rng);
    loop {
        let mut patients = vec![HashSet::new(); clusters.centres.ncols()];
        for (row, &cluster) in rows.iter().zip(&clusters.of) {
            patients[cluster].insert(row.group);
        }
        let small: Vec<usize> = (0..patients.len())
            .filter(|&k| patients[k].len() < options.min_rows)
            .collect();
        if small.is_empty() || patients.len() == 1 {
            break;
        }
        // Their rows go to the nearest of the others.
        clusters.centres = clusters.centres.remove_columns_at(&small);
        clusters.of = clusters::assign(&white, &clusters.centres);
        clusters.centres = clusters::means(&white, &clusters.of, &clusters.centres);
    }
    // The mean of exactly the patients that were counted.
    let means = clusters::means(&white, &clusters.of, &clusters.centres);
    Ok(RawPrototypes {
        whitening: narrow_rows(&whitening),
        centroids: narrow_rows(&means.transpose()),
    })
}
