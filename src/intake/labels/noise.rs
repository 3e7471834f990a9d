//! How many outcomes of a file seem flipped.
//!
//! Patients at very low risk seldom have the outcome, and when a share ρ of all outcomes is
//! flipped, at least ρ of them seem to. So two models are compared by likelihood (Bootkrajang and
//! Kabán 2012, label-noise robust logistic regression, with the flip probabilities equal):
//! P(outcome) = σ(a + b s), and ρ + (1 − 2ρ) σ(a + b s), where s is the normal score of a
//! patient's rank by risk. Ranks, because a risk learned from flipped outcomes has learned the
//! floor too. The rank comes from a regression fitted to the file itself, whose folds keep
//! patients together, and, if there is one, from a trained model.
//!
//! What this cannot see: flips that follow the patients' risk (only the sickest survivors),
//! flips well below one per cent, and, without a model, about half of all files in which two per
//! cent were flipped at random.

use crate::{
    intake::{columns::ratio, logistic::sigmoid},
    statistics::normal_tail,
};

pub(super) fn probability(p: f64) -> String {
    if p < 1e-4 {
        format!("{p:.0e}")
    } else {
        format!("{p:.2}")
    }
}

/// How many outcomes seem flipped.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noise {
    /// Most likely share of all outcomes; below 0 when there are even fewer surprises than
    /// expected.
    pub(super) share: f64,
    /// Shares with a log-likelihood within 1.35 of the highest: 90%.
    pub(super) interval: (f64, f64),
    /// Signed root of twice the likelihood ratio against none; about standard normal if there
    /// are none.
    pub(super) root: f64,
    intercept: f64,
    slope: f64,
}

impl Noise {
    pub(super) fn estimate(scores: &[f64], truth: &[bool]) -> Self {
        let rate = ratio(truth.iter().filter(|y| **y).count(), truth.len()).clamp(1e-3, 0.999);
        let mut at = ((rate / (1.0 - rate)).ln(), 1.0);
        let mut profile = Vec::new();
        for step in -5..=80_i32 {
            let share = f64::from(step) * 0.001;
            let (log, a, b) = maximise(scores, truth, share, at);
            at = (a, b);
            profile.push((share, log, a, b));
        }
        let none = profile[5].1;
        let mut best = profile[5];
        for point in &profile {
            if point.1 > best.1 + 1e-9 {
                best = *point;
            }
        }
        let within = profile
            .iter()
            .filter(|p| p.1 >= best.1 - 1.353)
            .map(|p| p.0);
        let (low, high) = within.fold((f64::MAX, f64::MIN), |(l, h), s| (l.min(s), h.max(s)));
        Self {
            share: best.0,
            interval: (low, high),
            root: (2.0 * (best.1 - none)).max(0.0).sqrt() * best.0.signum(),
            intercept: best.2,
            slope: best.3,
        }
    }

    pub(super) fn words(&self) -> String {
        format!(
            "{:.1} % of outcomes seem wrong (90 % interval {:.1} to {:.1}, p = {})",
            100.0 * self.share.max(0.0),
            100.0 * self.interval.0.max(0.0),
            100.0 * self.interval.1.max(0.0),
            probability(normal_tail(self.root))
        )
    }

    /// Positions by the chance that their outcome was flipped, highest first.
    pub(super) fn suspects(&self, scores: &[f64], truth: &[bool], share: f64) -> Vec<usize> {
        let chance = |i: usize| {
            let p = sigmoid(self.intercept + self.slope * scores[i]);
            let (true_one, flipped) = if truth[i] { (p, 1.0 - p) } else { (1.0 - p, p) };
            share * flipped / (share * flipped + (1.0 - share) * true_one)
        };
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| chance(b).total_cmp(&chance(a)));
        order
    }
}

/// Fisher scoring for a and b at a fixed share; the log-likelihood there.
fn maximise(scores: &[f64], truth: &[bool], share: f64, start: (f64, f64)) -> (f64, f64, f64) {
    let (mut a, mut b) = start;
    let likely = |p: f64| (share + (1.0 - 2.0 * share) * p).clamp(1e-6, 1.0 - 1e-6);
    for _ in 0..25 {
        let (mut ga, mut gb, mut haa, mut hab, mut hbb) = (0.0, 0.0, 1e-9, 0.0, 1e-9);
        for (s, y) in scores.iter().zip(truth) {
            let p = sigmoid(a + b * s);
            let q = likely(p);
            let slope = (1.0 - 2.0 * share) * p * (1.0 - p);
            let score = (f64::from(u8::from(*y)) - q) / (q * (1.0 - q)) * slope;
            let weight = slope * slope / (q * (1.0 - q));
            ga += score;
            gb += score * s;
            haa += weight;
            hab += weight * s;
            hbb += weight * s * s;
        }
        let determinant = haa * hbb - hab * hab;
        let (da, db) = (
            ((hbb * ga - hab * gb) / determinant).clamp(-1.0, 1.0),
            ((haa * gb - hab * ga) / determinant).clamp(-1.0, 1.0),
        );
        a += da;
        b += db;
        if da.abs() + db.abs() < 1e-7 {
            break;
        }
    }
    let log = scores.iter().zip(truth).map(|(s, y)| {
        let q = likely(sigmoid(a + b * s));
        if *y { q.ln() } else { (1.0 - q).ln() }
    });
    (log.sum(), a, b)
}
