//! Scores → conformal p-values: how many of the patients kept aside look as odd as this one.
//!
//! Each channel's score becomes a surprisal (−ln of its tail probability among those patients).
//! The network and the surprise of the most surprising value look for the same faults and are
//! taken together, as a weighted mean of their surprisals; rare rows (density) and rows far from
//! every typical patient stand by themselves, for the sake of other populations. A row's combined
//! score is the largest of these three alarms, each first lowered by what its share of the
//! flags costs (−ln share). The combined score is then calibrated itself,
//! p = (1 + number of patients at least as odd) / (n + 1) (Vovk et al., conformal prediction;
//! split conformal), so that a row of the same population is flagged with probability `alpha`
//! whatever the channels are. Patients are compared with those who lack as many values
//! (Mondrian strata).

use super::{
    CHANNELS, Channel, ReferenceError,
    curve::Curve,
    ratio,
    reference::{RawCalibration, RawStratum},
};

/// Most strata, and most patients in one.
const MAX_STRATA: usize = 16;
const MAX_SCORES: usize = 100_000;

/// Alarms that a share of the flags is given to.
pub(super) const ALARMS: usize = 3;

/// How the channels' surprisals become one score.
#[derive(Clone, Copy, Debug)]
pub(super) struct Combination {
    /// Weight of the surprise beside the network.
    pub(super) blend: f32,
    /// −ln of each alarm's share.
    pub(super) costs: [f32; ALARMS],
}

impl Combination {
    /// For these shares of the flags.
    pub(super) fn new(blend: f32, shares: [f32; ALARMS]) -> Self {
        Self {
            blend,
            costs: shares.map(|share| -share.ln()),
        }
    }

    /// The combined score and the position of the channel that is most surprised.
    #[inline]
    pub(super) fn of(&self, surprisals: &[f32; CHANNELS]) -> (f32, usize) {
        let [replaced, surprise, density, prototype] = *surprisals;
        let together = (replaced + self.blend * surprise) / (1.0 + self.blend);
        let [c0, c1, c2] = self.costs;
        let first = usize::from(surprise > replaced);
        let alarms = [
            (together - c0, first),
            (density - c1, 2),
            (prototype - c2, 3),
        ];
        let higher = |a: (f32, usize), b: (f32, usize)| if b.0 > a.0 { b } else { a };
        alarms.into_iter().fold((f32::NEG_INFINITY, 0), higher)
    }
}

/// Calibrated thresholds of a reference.
#[derive(Clone, Debug)]
pub struct Calibration {
    alpha: f64,
    combination: Combination,
    strata: Vec<Stratum>,
}

#[derive(Clone, Debug)]
struct Stratum {
    surprisal: Vec<Curve>,
    scores: Vec<f32>,
}

/// What calibration makes of a row's scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Judgement {
    /// Each channel's own p-value.
    pub channels: [f64; CHANNELS],
    /// The conformal p-value that decides.
    pub p: f64,
    /// Whether it is at most alpha.
    pub flagged: bool,
    /// The channel that is most surprised, by its position.
    pub driver: usize,
    /// The score behind `p`: grows with oddness and, unlike `p`, has no lowest value.
    pub combined: f32,
}

impl Judgement {
    /// The channel that is most surprised.
    pub fn channel(&self) -> Channel {
        Channel::ALL
            .get(self.driver)
            .copied()
            .unwrap_or(Channel::Replaced)
    }
}

impl Calibration {
    pub(super) fn new(raw: &RawCalibration) -> Result<Self, ReferenceError> {
        let wrong = |problem: &str| ReferenceError::invalid("calibration", problem);
        if !(raw.alpha > 0.0 && raw.alpha < 0.5) {
            return Err(wrong("alpha must lie above 0 and below 0.5"));
        }
        let shares: [f32; ALARMS] =
            (raw.shares.as_slice().try_into()).map_err(|_| wrong("shares: one an alarm"))?;
        if !(0.0..=10.0).contains(&raw.blend) {
            return Err(wrong("blend must lie between 0 and 10"));
        }
        let sum: f32 = shares.iter().sum();
        if shares.iter().any(|&s| !(s > 0.0 && s <= 1.0)) || (sum - 1.0).abs() > 1e-3 {
            return Err(wrong("shares must be positive and sum to 1"));
        }
        if raw.strata.is_empty() || raw.strata.len() > MAX_STRATA {
            return Err(wrong("1 to 16 strata"));
        }
        let strata = raw.strata.iter().enumerate();
        Ok(Self {
            alpha: raw.alpha,
            combination: Combination::new(raw.blend, shares),
            strata: strata
                .map(|(index, stratum)| {
                    if usize::try_from(stratum.missing) != Ok(index) {
                        return Err(wrong("strata count the missing values from 0"));
                    }
                    Stratum::new(stratum, raw.alpha)
                })
                .collect::<Result<_, _>>()?,
        })
    }

    /// The share of in-distribution patients that is flagged.
    pub fn alpha(&self) -> f64 {
        self.alpha
    }

    /// Judges the scores of a row that lacks `missing` values.
    #[inline]
    pub fn judge(&self, scores: &[f32; CHANNELS], missing: usize) -> Judgement {
        let stratum = self.strata.get(missing).or(self.strata.last());
        let mut judgement = Judgement {
            channels: [1.0; CHANNELS],
            p: 0.0,
            flagged: true,
            driver: 0,
            combined: f32::INFINITY,
        };
        // There is one: `new` saw to it. Without, everything is odd.
        let Some(stratum) = stratum else {
            return judgement;
        };
        let mut surprisals = [0.0; CHANNELS];
        let curves = scores.iter().zip(&stratum.surprisal);
        let places = surprisals.iter_mut().zip(&mut judgement.channels);
        for ((score, curve), (surprisal, p)) in curves.zip(places) {
            *surprisal = curve.at(*score).max(0.0);
            *p = f64::from(-*surprisal).exp();
        }
        let (combined, driver) = self.combination.of(&surprisals);
        judgement.driver = driver;
        // A score that is no number compares with none, and counts as odd.
        let below = stratum.scores.partition_point(|&s| s < combined);
        let at_least = stratum.scores.len() - below;
        judgement.combined = combined;
        judgement.p = ratio(1 + at_least, 1 + stratum.scores.len());
        judgement.flagged = judgement.p <= self.alpha;
        judgement
    }
}

impl Stratum {
    fn new(raw: &RawStratum, alpha: f64) -> Result<Self, ReferenceError> {
        let wrong = |problem: &str| ReferenceError::invalid("calibration.strata", problem);
        if raw.surprisal.len() != CHANNELS {
            return Err(wrong("one curve a channel"));
        }
        let surprisal = raw.surprisal.iter().map(|knots| Curve::through(knots));
        let n = raw.scores.len();
        if n > MAX_SCORES || ratio(1, n + 1) > alpha {
            return Err(wrong("at least 1/alpha - 1 scores, at most 100000"));
        }
        let ascending = raw.scores.iter().zip(raw.scores.iter().skip(1));
        if raw.scores.iter().any(|s| !s.is_finite()) || ascending.clone().any(|(a, b)| a > b) {
            return Err(wrong("scores must be finite and ascending"));
        }
        Ok(Self {
            surprisal: surprisal
                .collect::<Option<_>>()
                .ok_or_else(|| wrong("a surprisal curve that does not ascend"))?,
            scores: raw.scores.clone(),
        })
    }
}
