//! Scores of patients kept aside → what counts as odd.

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{Options, Patient, Trait};
use crate::screening::{
    CHANNELS, Scratch, Screen,
    calibration::{ALARMS, Combination},
    curve::Curve,
    reference::{RawCalibration, RawStratum},
};

/// Fewer patients than this make no stratum of their own.
const STRATUM: usize = 200;
/// Tail probabilities at which the surprisal curve has its knots; beyond the last it goes on as
/// an exponential tail.
const TAIL: [f64; 13] = [
    0.999, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.15, 0.1, 0.05,
];

/// How much the mixture's surprise counts beside the network. Chosen on other splits of the same
/// patients that docs/screening.md reports on; from 0.15 to 0.5 it makes little difference.
const BLEND: f32 = 0.25;
/// Shares of the flags: of these two, of the density, of the prototypes. The last two are for
/// other populations, where the first is weaker.
const SHARES: [f32; ALARMS] = [0.9, 0.05, 0.05];

/// A patient's scores.
#[derive(Clone, Copy, Debug)]
pub struct Scored {
    /// In each channel.
    pub scores: [f32; CHANNELS],
    /// How many values are missing.
    pub missing: u32,
    /// Whether values were hidden for the sake of a stratum.
    pub masked: bool,
}

/// Scores patients; where too few lack as many values as the server would fill in, copies with
/// hidden values join them.
pub fn score(
    screen: &Screen,
    patients: &[&Patient],
    traits: &[Trait],
    options: &Options,
) -> Vec<Scored> {
    let mut scratch = Scratch::default();
    let mut one = |values: &[f32], masked: bool| {
        let values = values.iter().map(|v| f64::from(*v));
        let (scores, missing) = screen.scores(values, &mut scratch);
        Scored {
            scores,
            missing: u32::try_from(missing).unwrap_or(u32::MAX),
            masked,
        }
    };
    let mut scored: Vec<Scored> = patients.iter().map(|p| one(&p.values, false)).collect();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed.wrapping_add(3000));
    for missing in 1..=options.max_missing.min(15) {
        if scored.iter().filter(|s| s.missing == missing).count() >= STRATUM {
            continue;
        }
        for patient in patients {
            let mut values = patient.values.clone();
            let already = values.iter().filter(|v| v.is_nan()).count();
            let Some(to_hide) = (missing as usize).checked_sub(already).filter(|n| *n > 0) else {
                continue;
            };
            let mut hideable: Vec<usize> = (0..values.len())
                .filter(|&j| traits[j].optional && !values[j].is_nan())
                .collect();
            if hideable.len() < to_hide {
                continue;
            }
            hideable.shuffle(&mut rng);
            for &j in &hideable[..to_hide] {
                values[j] = f32::NAN;
            }
            scored.push(one(&values, true));
        }
    }
    scored
}

/// Calibrates on scored patients.
pub fn calibrate(scored: &[Scored], options: &Options) -> RawCalibration {
    let mut strata: Vec<RawStratum> = Vec::new();
    for missing in 0..=options.max_missing.min(15) {
        let here = |s: &&Scored| s.missing == missing;
        let own: Vec<&Scored> = scored.iter().filter(here).filter(|s| !s.masked).collect();
        let masked = own.len() < STRATUM && missing > 0;
        let members: Vec<&Scored> = scored
            .iter()
            .filter(here)
            .filter(|s| masked || !s.masked)
            .collect();
        if stratum_of(missing, masked, &members, options).is_none() && missing > 0 {
            // Too few even so: compared with those who lack fewer.
            break;
        }
        strata.extend(stratum_of(missing, masked, &members, options));
    }
    RawCalibration {
        alpha: options.alpha,
        blend: BLEND,
        shares: SHARES.to_vec(),
        strata,
    }
}

fn stratum_of(
    missing: u32,
    masked: bool,
    members: &[&Scored],
    options: &Options,
) -> Option<RawStratum> {
    #[expect(clippy::cast_precision_loss, reason = "a count of patients")]
    if (members.len() as f64 + 1.0) * options.alpha < 1.0 {
        return None;
    }
    let surprisal: Vec<Vec<(f32, f32)>> = (0..CHANNELS)
        .map(|c| tail(members.iter().map(|s| s.scores[c]).collect()))
        .collect();
    let curves: Vec<Curve> = surprisal
        .iter()
        .map(|k| Curve::through(k))
        .collect::<Option<_>>()?;
    let combination = Combination::new(BLEND, SHARES);
    let mut scores: Vec<f32> = members
        .iter()
        .map(|s| {
            let surprisals = std::array::from_fn(|c| curves[c].at(s.scores[c]).max(0.0));
            combination.of(&surprisals).0
        })
        .collect();
    scores.sort_by(f32::total_cmp);
    Some(RawStratum {
        missing,
        masked,
        surprisal,
        scores,
    })
}

/// Knots `[score, -ln p]` of a channel.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "ranks among patients; scores are float32"
)]
fn tail(mut scores: Vec<f32>) -> Vec<(f32, f32)> {
    scores.sort_by(f32::total_cmp);
    let n = scores.len();
    let mut knots: Vec<(f32, f32)> = Vec::new();
    let mut push = |score: f32, surprisal: f32| {
        let score = super::marginals::round(score);
        if knots
            .last()
            .is_none_or(|last| score > last.0 + 1e-6 * last.0.abs())
        {
            knots.push((score, super::marginals::round(surprisal)));
        }
    };
    for p in TAIL {
        let rank = ((1.0 - p) * n as f64) as usize;
        push(scores[rank.min(n - 1)], -(p.ln()) as f32);
    }
    let last = ((1.0 - TAIL[TAIL.len() - 1]) * n as f64) as usize;
    let beyond = &scores[last.min(n - 1)..];
    let excess: f32 = beyond.iter().map(|s| s - beyond[0]).sum::<f32>() / beyond.len() as f32;
    push(
        beyond[0] + excess.max(1e-3),
        1.0 - TAIL[TAIL.len() - 1].ln() as f32,
    );
    knots
}

/// A calibration that lets a reference be evaluated before it is calibrated.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a count"
)]
pub(super) fn placeholder(alpha: f64) -> RawCalibration {
    RawCalibration {
        alpha,
        blend: BLEND,
        shares: SHARES.to_vec(),
        strata: vec![RawStratum {
            missing: 0,
            masked: false,
            surprisal: vec![vec![(0.0, 0.0), (1.0, 1.0)]; CHANNELS],
            scores: vec![0.0; (1.0 / alpha).ceil() as usize],
        }],
    }
}
