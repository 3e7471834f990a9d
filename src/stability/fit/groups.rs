//! Gathers the corners of many patients into what most of a kind have in common.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::GROUP;

/// Majorities of groups of similar corners, for groupings of several sizes (k-means).
pub(super) fn groups(corners: &[Vec<i8>], seed: u64) -> Vec<Vec<i8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut found = Vec::new();
    for size in [2, 4, 8, 16, 32, 64] {
        let mut centres: Vec<Vec<i8>> = (0..size)
            .filter_map(|_| {
                corners
                    .get(rng.random_range(0..corners.len().max(1)))
                    .cloned()
            })
            .collect();
        let mut members = vec![0; centres.len()];
        for _ in 0..15 {
            let mut sums = vec![vec![0_i32; corners.first().map_or(0, Vec::len)]; centres.len()];
            members.fill(0);
            for corner in corners {
                let alike = |centre: &Vec<i8>| -> i32 {
                    let products = centre.iter().zip(corner);
                    products.map(|(a, b)| i32::from(*a) * i32::from(*b)).sum()
                };
                let nearest = centres.iter().enumerate().max_by_key(|(_, c)| alike(c));
                let Some((nearest, _)) = nearest else {
                    continue;
                };
                if let (Some(sum), Some(count)) = (sums.get_mut(nearest), members.get_mut(nearest))
                {
                    *count += 1;
                    for (sum, sign) in sum.iter_mut().zip(corner) {
                        *sum += i32::from(*sign);
                    }
                }
            }
            for ((centre, sum), count) in centres.iter_mut().zip(&sums).zip(&members) {
                if *count > 0 {
                    for (sign, sum) in centre.iter_mut().zip(sum) {
                        *sign = if *sign == 0 || *sum == 0 {
                            *sign
                        } else {
                            sum.signum() as i8
                        };
                    }
                }
            }
        }
        let large = centres.into_iter().zip(members);
        found.extend(
            large
                .filter(|(_, count)| *count >= GROUP)
                .map(|(centre, _)| centre),
        );
    }
    found
}
