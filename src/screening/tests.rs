//! The screen against the formulas, written out plainly.
#![cfg(feature = "tools")]

use nalgebra::{DMatrix, DVector};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    reference::{
        FitRecord, RawCalibration, RawComponent, RawGaussian, RawLayer, RawMarginal, RawPrototypes,
        RawStratum,
    },
    *,
};

/// A positive definite matrix.
fn precision(d: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
    let a = DMatrix::from_fn(d, d, |_, _| rng.random_range(-1.0_f32..1.0));
    let p = &a * a.transpose() / 4.0 + DMatrix::identity(d, d);
    p.row_iter()
        .map(|row| row.iter().copied().collect())
        .collect()
}

fn vector(n: usize, spread: f32, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..n).map(|_| rng.random_range(-spread..spread)).collect()
}

/// A reference of no patients, of an awkward width.
fn reference(rng: &mut ChaCha8Rng) -> RawReference {
    let d = 7;
    let layer = |outputs: usize, inputs: usize, rng: &mut ChaCha8Rng| RawLayer {
        weights: (0..outputs).map(|_| vector(inputs, 0.4, rng)).collect(),
        bias: vector(outputs, 0.5, rng),
    };
    RawReference {
        drift: None,
        format: FORMAT,
        name: "test".to_owned(),
        version: 1,
        fit: FitRecord {
            tool: String::new(),
            seed: 0,
            quality: String::new(),
            templates: false,
            data: Vec::new(),
            unseen: None,
            fit_rows: 0,
            fit_groups: 0,
            calibration_rows: 0,
            screened_out: 0,
            validation: None,
            min_rows: 5,
        },
        features: (0..d)
            .map(|j| RawMarginal {
                name: format!("f{j}"),
                knots: vec![(-3.0, -2.0), (0.5, 0.1), (4.0, 2.5)],
            })
            .collect(),
        gaussian: RawGaussian {
            mean: vector(d, 0.3, rng),
            precision: precision(d, rng),
        },
        mixture: (0..3)
            .map(|_| RawComponent {
                log_peak: rng.random_range(-4.0..-1.0),
                mean: vector(d, 1.0, rng),
                precision: precision(d, rng),
            })
            .collect(),
        network: vec![
            layer(10, 4 * d, rng),
            layer(9, 10, rng),
            layer(d + 1, 9, rng),
        ],
        prototypes: RawPrototypes {
            whitening: precision(d, rng),
            centroids: (0..20).map(|_| vector(d, 2.0, rng)).collect(),
        },
        calibration: RawCalibration {
            alpha: 0.05,
            blend: 0.25,
            shares: vec![0.6, 0.2, 0.2],
            strata: vec![RawStratum {
                missing: 0,
                masked: false,
                surprisal: vec![vec![(-5.0, 0.0), (0.0, 1.0), (5.0, 4.0)]; CHANNELS],
                scores: (0..99_u8).map(|i| 0.05 * f32::from(i)).collect(),
            }],
        },
        agreement: None,
        stability: None,
        budget: None,
    }
}

fn matrix(rows: &[Vec<f32>]) -> DMatrix<f64> {
    DMatrix::from_fn(rows.len(), rows[0].len(), |i, j| f64::from(rows[i][j]))
}

fn column(values: &[f32]) -> DVector<f64> {
    DVector::from_iterator(values.len(), values.iter().map(|v| f64::from(*v)))
}

/// −log of a mixture's density, and each `−log p(z_j | the others)`, by marginal densities: the
/// density without a coordinate has the covariance without its row and column.
fn mixture(components: &[RawComponent], z: &DVector<f64>) -> (f64, Vec<f64>) {
    let d = z.len();
    let log_sum = |logs: &[f64]| {
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        most + logs.iter().map(|l| (l - most).exp()).sum::<f64>().ln()
    };
    let normal = |z: &DVector<f64>, mean: &DVector<f64>, covariance: &DMatrix<f64>| {
        let e = z - mean;
        let inverse = covariance.clone().try_inverse().unwrap();
        let spread = (covariance.determinant() * std::f64::consts::TAU.powi(z.len() as i32)).ln();
        -0.5 * ((e.transpose() * inverse * &e)[0] + spread)
    };
    let parts: Vec<(f64, DVector<f64>, DMatrix<f64>)> = components
        .iter()
        .map(|c| {
            let p = matrix(&c.precision);
            let log_weight = f64::from(c.log_peak)
                - 0.5 * (p.determinant() / std::f64::consts::TAU.powi(d as i32)).ln();
            (log_weight, column(&c.mean), p.try_inverse().unwrap())
        })
        .collect();
    let joint: Vec<f64> = parts.iter().map(|(w, m, s)| w + normal(z, m, s)).collect();
    let surprise = (0..d).map(|j| {
        let without: Vec<f64> = parts
            .iter()
            .map(|(w, m, s)| {
                let s = s.clone().remove_row(j).remove_column(j);
                w + normal(&z.clone().remove_row(j), &m.clone().remove_row(j), &s)
            })
            .collect();
        log_sum(&without) - log_sum(&joint)
    });
    (-log_sum(&joint), surprise.collect())
}

/// The scores of a row, step by step, in double precision.
fn plainly(raw: &RawReference, values: &[f64]) -> [f64; CHANNELS] {
    let mean = column(&raw.gaussian.mean);
    let omega = matrix(&raw.gaussian.precision);
    let d = values.len();
    let mut z = mean.clone();
    for j in 0..d {
        if !values[j].is_nan() {
            let x = values[j];
            let knots: Vec<(f64, f64)> = raw.features[j]
                .knots
                .iter()
                .map(|(x, y)| (f64::from(*x), f64::from(*y)))
                .collect();
            let (a, b) = if x < knots[1].0 {
                (knots[0], knots[1])
            } else {
                (knots[1], knots[2])
            };
            z[j] = (a.1 + (x - a.0) * (b.1 - a.1) / (b.0 - a.0)).clamp(-8.0, 8.0);
        }
    }
    for _ in 0..SWEEPS {
        for j in (0..d).filter(|&j| values[j].is_nan()) {
            let y = (omega.row(j) * (&z - &mean))[0];
            z[j] -= y / omega[(j, j)];
        }
    }
    let y = &omega * (&z - &mean);
    let absent = |j: usize| values[j].is_nan();
    let r: Vec<f64> = (0..d)
        .map(|j| {
            if absent(j) {
                0.0
            } else {
                y[j] / omega[(j, j)].sqrt()
            }
        })
        .collect();
    let squares = r.iter().map(|r| (r * r).min(36.0) / 4.0);
    let bits = (0..d).map(|j| f64::from(u8::from(absent(j))));
    let input = z
        .iter()
        .copied()
        .chain(r.iter().copied())
        .chain(squares)
        .chain(bits);
    let mut activation = DVector::from_iterator(4 * d, input);
    for (index, layer) in raw.network.iter().enumerate() {
        activation = matrix(&layer.weights) * activation + column(&layer.bias);
        if index + 1 < raw.network.len() {
            activation.apply(|a| *a = a.max(0.0));
        }
    }
    let (density, surprise) = mixture(&raw.mixture, &z);
    let surprise = (0..d).filter(|&j| !absent(j)).map(|j| surprise[j]);
    let white = matrix(&raw.prototypes.whitening) * (&z - &mean);
    let distance = |c: &Vec<f32>| (column(c) - &white).norm();
    let nearest = raw.prototypes.centroids.iter().map(distance);
    [
        activation[d],
        surprise.fold(f64::NEG_INFINITY, f64::max),
        density,
        nearest.fold(f64::INFINITY, f64::min),
    ]
}

#[test]
fn it_computes_what_the_formulas_say() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let raw = reference(&mut rng);
    let screen = Screen::new(&raw).unwrap();
    let mut scratch = Scratch::default();
    for case in 0..400 {
        let mut values: Vec<f64> = (0..7).map(|_| rng.random_range(-6.0..8.0)).collect();
        for value in &mut values {
            if case % 2 == 1 && rng.random_bool(0.3) {
                *value = f64::NAN;
            }
        }
        let absent = values.iter().filter(|v| v.is_nan()).count();
        if absent == values.len() {
            continue;
        }
        let expected = plainly(&raw, &values);
        let (found, missing) = screen.scores(values.iter().copied(), &mut scratch);
        assert_eq!(missing, absent);
        for (channel, (expected, found)) in Channel::ALL.iter().zip(expected.iter().zip(found)) {
            let off = (expected - f64::from(found)).abs() / expected.abs().max(1.0);
            assert!(
                off < 2e-3,
                "{values:?} {channel:?}: {expected}, found {found}"
            );
        }
    }
}

#[test]
fn a_row_is_judged_by_its_oddest_channel() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let raw = reference(&mut rng);
    let screen = Screen::new(&raw).unwrap();
    let judge = |scores| screen.calibration().judge(&scores, 0);
    // The curve gives 4 at a score of 5, 0 at one of -5; together with the surprise that is
    // 4 / 1.25, less what a share of 0.6 costs.
    let first = judge([5.0, -5.0, -5.0, -5.0]);
    assert!((first.combined - (3.2 + 0.6_f32.ln())).abs() < 1e-5);
    assert_eq!(first.channel(), Channel::Replaced);
    assert!((first.channels[0] - (-4.0_f64).exp()).abs() < 1e-6);
    assert_eq!(judge([0.0, 5.0, 0.0, 0.0]).channel(), Channel::Surprise);
    // 99 scores 0, 0.05 … 4.9: at least 2.69 are 45.
    assert!((first.p - 46.0 / 100.0).abs() < 1e-9, "{}", first.p);
    assert!(!first.flagged);
    // The density has a share of 0.2.
    let rare = judge([0.0, 0.0, 12.0, 0.0]);
    assert!((rare.combined - (8.2 + 0.2_f32.ln())).abs() < 1e-5);
    assert_eq!(rare.channel(), Channel::Density);
    let odd = judge([12.0, 0.0, 0.0, 0.0]);
    assert!(odd.flagged && odd.p <= 0.05, "{odd:?}");
    let unknown = judge([f32::MAX.sqrt(), 0.0, 0.0, 0.0]);
    assert!(unknown.flagged && (unknown.p - 0.01).abs() < 1e-9);
}

#[test]
fn a_reference_that_does_not_fit_is_refused() {
    let good = reference(&mut ChaCha8Rng::seed_from_u64(8));
    assert!(Screen::new(&good).is_ok());
    let refused = |what: &str, change: &dyn Fn(&mut RawReference)| {
        let mut raw = good.clone();
        change(&mut raw);
        assert!(Screen::new(&raw).is_err(), "{what}");
    };
    refused("another format", &|r| {
        r.format = 3;
    });
    refused("no features", &|r| {
        r.features.clear();
    });
    refused("too many knots", &|r| {
        r.features[0].knots = (0..66_u8).map(|i| (f32::from(i), f32::from(i))).collect();
    });
    refused("knots that descend", &|r| {
        r.features[0].knots.reverse();
    });
    refused("a mean too few", &|r| {
        r.gaussian.mean.pop();
    });
    refused("a row too few", &|r| {
        r.gaussian.precision.pop();
    });
    refused("a number that is none", &|r| {
        r.gaussian.precision[1][2] = f32::NAN;
    });
    refused("a variance that is none", &|r| {
        r.gaussian.precision[1][1] = 0.0;
    });
    refused("no component", &|r| {
        r.mixture.clear();
    });
    refused("an infinite peak", &|r| {
        r.mixture[0].log_peak = f32::INFINITY;
    });
    refused("a component of another width", &|r| {
        r.mixture[1].mean.pop();
    });
    refused("no layer", &|r| {
        r.network.clear();
    });
    refused("layers that do not join", &|r| {
        r.network.remove(1);
    });
    refused("a bias too few", &|r| {
        r.network[0].bias.pop();
    });
    refused("a weight that is none", &|r| {
        r.network[2].weights[0][0] = f32::NAN;
    });
    refused("no prototype", &|r| {
        r.prototypes.centroids.clear();
    });
    refused("too many prototypes", &|r| {
        r.prototypes.centroids = vec![vec![0.0; 7]; 513];
    });
    refused("an alpha of 0", &|r| {
        r.calibration.alpha = 0.0;
    });
    refused("an alpha that too few scores can reach", &|r| {
        r.calibration.alpha = 0.005;
    });
    refused("shares of more than all", &|r| {
        r.calibration.shares = vec![0.4; 4];
    });
    refused("a channel too few", &|r| {
        r.calibration.shares.pop();
    });
    refused("no stratum", &|r| {
        r.calibration.strata.clear();
    });
    refused("a stratum out of order", &|r| {
        r.calibration.strata[0].missing = 1;
    });
    refused("scores that descend", &|r| {
        r.calibration.strata[0].scores.reverse();
    });
    refused("a curve too few", &|r| {
        r.calibration.strata[0].surprisal.pop();
    });
}

#[test]
fn no_value_is_left_in_the_scratch() {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let screen = Screen::new(&reference(&mut rng)).unwrap();
    let mut scratch = Scratch::default();
    screen.judge([1.5; 7], &mut scratch);
    assert!(!screen.drivers(&mut scratch).is_empty());
    scratch.wipe();
    let text = format!("{scratch:?}");
    let numbers = text.split(|c: char| !(c.is_ascii_digit() || c == '.' || c == '-'));
    assert!(
        numbers
            .filter_map(|n| n.parse::<f32>().ok())
            .all(|n| n == 0.0),
        "{text}"
    );
}
