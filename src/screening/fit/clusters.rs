//! Seeded k-means, for the mixture's start and for the prototypes.

use nalgebra::DMatrix;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Centres (one a column) and the cluster of each point.
pub(super) struct Clusters {
    pub(super) centres: DMatrix<f64>,
    pub(super) of: Vec<usize>,
}

/// k-means++ (Arthur and Vassilvitskii 2007), then Lloyd's steps. Points are columns.
pub(super) fn k_means(
    points: &DMatrix<f64>,
    k: usize,
    steps: usize,
    rng: &mut ChaCha8Rng,
) -> Clusters {
    let n = points.ncols();
    let mut centres = DMatrix::zeros(points.nrows(), k);
    let mut nearest = vec![f64::INFINITY; n];
    for cluster in 0..k {
        let total: f64 = nearest.iter().filter(|d| d.is_finite()).sum();
        let mut chosen = rng.random_range(0..n);
        if cluster > 0 && total > 0.0 {
            let mut left = rng.random::<f64>() * total;
            for (i, distance) in nearest.iter().enumerate() {
                left -= distance;
                if left <= 0.0 {
                    chosen = i;
                    break;
                }
            }
        }
        centres.set_column(cluster, &points.column(chosen));
        for (i, distance) in nearest.iter_mut().enumerate() {
            let difference = points.column(i) - points.column(chosen);
            *distance = distance.min(difference.norm_squared());
        }
    }
    let mut of = assign(points, &centres);
    for _ in 0..steps {
        centres = means(points, &of, &centres);
        of = assign(points, &centres);
    }
    Clusters { centres, of }
}

/// The nearest centre of each point.
pub(super) fn assign(points: &DMatrix<f64>, centres: &DMatrix<f64>) -> Vec<usize> {
    let products = centres.tr_mul(points);
    let half: Vec<f64> = centres
        .column_iter()
        .map(|c| 0.5 * c.norm_squared())
        .collect();
    let nearest = |column: nalgebra::DVectorView<'_, f64>| {
        let mut best = (f64::NEG_INFINITY, 0);
        for (k, product) in column.iter().enumerate() {
            if product - half[k] > best.0 {
                best = (product - half[k], k);
            }
        }
        best.1
    };
    products
        .column_iter()
        .map(|column| nearest(column.as_view()))
        .collect()
}

/// The mean of each cluster; an empty one keeps its centre.
#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
pub(super) fn means(points: &DMatrix<f64>, of: &[usize], before: &DMatrix<f64>) -> DMatrix<f64> {
    let mut sums = DMatrix::zeros(before.nrows(), before.ncols());
    let mut counts = vec![0_usize; before.ncols()];
    for (i, &k) in of.iter().enumerate() {
        let mut sum = sums.column_mut(k);
        sum += points.column(i);
        counts[k] += 1;
    }
    for (k, &count) in counts.iter().enumerate() {
        if count == 0 {
            sums.set_column(k, &before.column(k));
        } else {
            sums.column_mut(k).scale_mut(1.0 / count as f64);
        }
    }
    sums
}
