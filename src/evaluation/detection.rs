//! What is found of each family, on the copies that get as far as the distribution screen.

#![expect(
    clippy::cast_precision_loss,
    reason = "counts of rows are far below 2^52"
)]

use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::screening::Channel;

use super::{
    families::{Corrupter, Family, Seen},
    metrics::{false_positives_at_95, separation},
    path::{Bench, Earlier, Judged},
};

/// Rounds of copies that are made at most.
const ROUNDS: usize = 5;

/// A family's figures.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// Stable name.
    pub family: String,
    /// For people.
    pub title: String,
    /// Whether fitting has seen it.
    pub seen: Option<Seen>,
    /// Corrupted copies that were made.
    pub made: usize,
    /// Of these, rejected before the screen.
    pub rejected: usize,
    /// Of these, sent to review for a range or for missing values.
    pub out_of_range: usize,
    /// Of these, sent to review by a consistency rule.
    pub inconsistent: usize,
    /// Of these, judged by the distribution screen.
    pub reached: usize,
    /// Of those judged, flagged at the bundle's alpha.
    pub flagged: usize,
    /// `flagged / reached`.
    pub detected: f64,
    /// Detected when the threshold is set on the clean rows themselves at 1%.
    pub detected_at_exact_1_percent: f64,
    /// The share of all copies that no screen lets through to a prediction, agreement aside.
    pub stopped: f64,
    /// Of the screen's combined score.
    pub auroc: f64,
    /// Of each channel.
    pub channels: Vec<(String, f64)>,
    /// Clean rows flagged at the threshold that finds 95% of the copies.
    pub fpr_at_95_tpr: f64,
    /// Of copies with one wrong value: how often the screen names it first.
    pub top1: Option<f64>,
    /// The same, of those that are flagged.
    pub top1_flagged: Option<f64>,
}

/// Rows that reached the screen, as scored.
#[derive(Default)]
pub(super) struct Scores {
    pub(super) combined: Vec<f64>,
    channels: Vec<Vec<f64>>,
}

impl Scores {
    pub(super) fn push(&mut self, judged: &Judged) {
        self.combined.push(f64::from(judged.judgement.combined));
        self.channels.resize(Channel::ALL.len(), Vec::new());
        for (list, p) in self.channels.iter_mut().zip(judged.judgement.channels) {
            list.push(-p.max(1e-300).ln());
        }
    }
}

/// Corrupted rows that reached the screen, for comparison with other detectors.
pub(super) type Kept = Vec<Vec<f64>>;

/// Makes copies of the first `rows` rows, round after round, until `enough` reach the screen.
pub(super) fn family(
    family: Family,
    corrupter: &Corrupter<'_>,
    (rows, enough): (usize, usize),
    bench: &mut Bench<'_>,
    rng: &mut ChaCha8Rng,
) -> (Tally, Kept) {
    let mut tally = Tally::default();
    let mut kept = Vec::new();
    for _ in 0..ROUNDS {
        for row in 0..rows {
            let Some((values, changed)) = corrupter.copy(family, row, rng) else {
                continue;
            };
            if tally.scores.combined.len() >= enough {
                return (tally, kept);
            }
            let outcome = bench.screen(&values);
            if outcome.1.is_some() {
                kept.push(values);
            }
            tally.add(outcome, Some(&changed));
        }
    }
    (tally, kept)
}

/// Rows as they were judged.
#[derive(Default)]
pub(super) struct Tally {
    made: usize,
    rejected: usize,
    out_of_range: usize,
    inconsistent: usize,
    flagged: usize,
    single: (usize, usize),
    single_flagged: (usize, usize),
    pub(super) scores: Scores,
}

impl Tally {
    pub(super) fn add(
        &mut self,
        (earlier, judged): (Earlier, Option<Judged>),
        changed: Option<&[usize]>,
    ) {
        use crate::disposition::Code;
        self.made += 1;
        match earlier {
            Earlier::Rejected(_) => self.rejected += 1,
            Earlier::Review(codes)
                if codes.contains(&Code::ImplausibleCombination) && codes.len() == 1 =>
            {
                self.inconsistent += 1;
            }
            Earlier::Review(_) => self.out_of_range += 1,
            Earlier::Passed => {}
        }
        let Some(judged) = judged else { return };
        self.scores.push(&judged);
        let flagged = judged.judgement.flagged;
        self.flagged += usize::from(flagged);
        if let Some([only]) = changed {
            let named = usize::from(judged.top == Some(*only));
            self.single = (self.single.0 + named, self.single.1 + 1);
            if flagged {
                self.single_flagged = (self.single_flagged.0 + named, self.single_flagged.1 + 1);
            }
        }
    }

    pub(super) fn figures(
        &self,
        (name, title, seen): (&str, &str, Option<Seen>),
        clean: &Scores,
    ) -> Figures {
        let reached = self.scores.combined.len();
        let stopped = self.rejected + self.out_of_range + self.inconsistent + self.flagged;
        let channels = Channel::ALL
            .iter()
            .zip(clean.channels.iter().zip(&self.scores.channels));
        let exact = super::exact_threshold(&clean.combined, 0.01);
        let above = self.scores.combined.iter().filter(|s| **s > exact).count();
        let of = |(named, all): (usize, usize)| (all >= 20).then(|| named as f64 / all as f64);
        Figures {
            family: name.to_owned(),
            title: title.to_owned(),
            seen,
            made: self.made,
            rejected: self.rejected,
            out_of_range: self.out_of_range,
            inconsistent: self.inconsistent,
            reached,
            flagged: self.flagged,
            detected: self.flagged as f64 / reached as f64,
            detected_at_exact_1_percent: above as f64 / reached as f64,
            stopped: stopped as f64 / self.made.max(1) as f64,
            auroc: separation(&clean.combined, &self.scores.combined),
            channels: channels
                .map(|(channel, (clean, odd))| {
                    (channel.as_str().to_owned(), separation(clean, odd))
                })
                .collect(),
            fpr_at_95_tpr: false_positives_at_95(&clean.combined, &self.scores.combined),
            top1: of(self.single),
            top1_flagged: of(self.single_flagged),
        }
    }
}
