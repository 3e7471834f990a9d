//! Pushes, and what they find. The networks' part is in `tests/stability`.

use super::*;
use crate::{screening::reference::RawStability, specimens};

/// A consensus that nobody looked at for stability.
pub(crate) fn unlooked(consensus: Consensus) -> Stable {
    let (row, clearance, mean) = consensus.into_parts();
    Stable {
        row,
        clearance,
        mean,
        stability: Stability::NotConfigured,
    }
}

#[test]
fn a_push_stays_within_the_uncertainty_and_the_possible() {
    let spec = specimens::icu();
    let feature = |name: &str| &spec.features[spec.by_name[name]];
    let sodium = feature("sodium");
    let step = sodium.uncertainty.as_ref().unwrap().at(140.0);
    assert!(step > 0.0 && step < 5.0);
    for (sign, pushed) in [(1.0, 140.0 + step), (-1.0, 140.0 - step), (0.0, 140.0)] {
        assert!((push(sodium, sign, 140.0) - pushed).abs() < 1e-12);
    }
    let most = sodium.possible.max;
    assert!((push(sodium, 1.0, most) - most).abs() < 1e-12);
    // What declares none does not move.
    assert!((push(feature("age"), 1.0, 70.0) - 70.0).abs() < 1e-12);
}

#[test]
fn the_nearest_edge_counts() {
    let spec = specimens::icu();
    for (p, expected) in [(0.05, 0.0), (0.14, 0.01), (0.25, 0.1), (0.99, 0.34)] {
        assert!((distance(&spec, p) - expected).abs() < 1e-12, "{p}");
    }
}

#[test]
fn patterns_are_checked_when_they_are_read() {
    let raw = |margin, pushes: &[&[i8]]| RawStability {
        margin,
        pushes: pushes.iter().map(|p| p.to_vec()).collect(),
    };
    assert!(Pushes::new(&raw(0.02, &[&[1, -1], &[0, 1]]), 2).is_ok());
    for wrong in [
        raw(0.0, &[&[1, 1]]),
        raw(f64::NAN, &[&[1, 1]]),
        raw(0.6, &[&[1, 1]]),
        raw(0.02, &[]),
        raw(0.02, &[&[1]]),
        raw(0.02, &[&[1, 2]]),
        raw(0.02, &[&[1, 1][..]; 65]),
    ] {
        assert!(Pushes::new(&wrong, 2).is_err(), "{wrong:?}");
    }
}
