//! Outcomes: stretches where their rate jumps, and rows whose outcome their own values contradict.
//!
//! A wrong outcome of one patient cannot be told from a surprising one; many can ([`noise`]).
//! A trained model, the *ruler*, also says how many outcomes to expect in all.

#![expect(
    clippy::indexing_slicing,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "offline numerics; lengths come from one table"
)]

use std::collections::HashMap;

use crate::{
    evaluation::metrics::auroc,
    statistics::{normal_scores, normal_tail},
    training_data::Table,
};

use super::{
    ALPHA, Check, Finding, MAX_LINES, Verdict,
    batches::{homogeneity, inflation_of},
    columns::{Columns, ratio},
    counted, lines,
    logistic::{cross_fitted, sigmoid},
    scan::{Stretch, scan},
};

mod noise;

use noise::{Noise, probability};

/// Fewer rows of either outcome than this allow no regression.
const FEW: usize = 30;
/// Fewer rows than this show no noise of a few per cent.
const FEW_ROWS: usize = 500;
/// One-sided bounds on the signed root of the likelihood ratio: 5% by the file itself, 10% by a
/// trained model, which knows the patients better and errs to the safe side on its own.
const OWN_BOUND: f64 = 1.645;
const RULER_BOUND: f64 = 1.282;
/// Two-sided .3%: a model's expected number of outcomes against those in the file.
const RATE_BOUND: f64 = 2.97;

/// What a trained model predicts for each row of a table.
#[derive(Clone)]
pub struct Ruler {
    /// Which model, in words.
    pub source: String,
    /// A probability for each row, NaN where the model predicts nothing.
    pub probabilities: Vec<f64>,
}

/// The outcomes and what is expected of them.
pub(super) struct Outcomes {
    labels: Vec<Option<bool>>,
    /// By the file's own regression; empty when there is none.
    logits: Vec<f64>,
    ruler: Option<Ruler>,
}

impl Outcomes {
    pub(super) fn of(table: &Table, columns: &Columns, ruler: Option<&Ruler>, seed: u64) -> Self {
        let labels = table.labels().map(|l| l.values.clone()).unwrap_or_default();
        let count = |wanted: bool| labels.iter().filter(|l| **l == Some(wanted)).count();
        let enough = count(true) >= FEW && count(false) >= FEW;
        let logits = if enough {
            cross_fitted(columns, &labels, seed)
        } else {
            Vec::new()
        };
        let ruler = ruler
            .filter(|r| r.probabilities.len() == table.len())
            .cloned();
        Self {
            labels,
            logits,
            ruler,
        }
    }

    /// Rows whose outcome is known, with it.
    fn known(&self) -> Vec<(usize, bool)> {
        let known = self.labels.iter().enumerate();
        known
            .filter_map(|(row, label)| label.map(|l| (row, l)))
            .collect()
    }
}

/// Stretches and batches with another rate of the outcome, or of outcomes that surprise.
pub(super) fn rate(table: &Table, columns: &Columns, outcomes: &Outcomes) -> Check {
    const NAME: &str = "label_rate";
    let known = outcomes.known();
    let Some(labels) = table.labels().filter(|_| !known.is_empty()) else {
        return Check::new(NAME, Verdict::NotAsked, "the file has no outcomes");
    };
    let truth: Vec<f64> = known.iter().map(|&(_, y)| f64::from(u8::from(y))).collect();
    let mut series = vec![("the outcome's rate", truth.clone())];
    if !outcomes.logits.is_empty() {
        let p: Vec<f64> = known
            .iter()
            .map(|&(row, _)| sigmoid(outcomes.logits[row]))
            .collect();
        let residual = truth.iter().zip(&p).map(|(y, p)| y - p);
        series.push(("the outcome's rate given the patients", residual.collect()));
        let surprise = truth
            .iter()
            .zip(&p)
            .map(|(y, p)| (y - p).abs() - 2.0 * p * (1.0 - p));
        series.push((
            "outcomes that contradict the patients' values",
            surprise.collect(),
        ));
    }
    let mut findings = Vec::new();
    findings.extend(only_one(&known));
    let tests = series.len() as f64;
    for (what, values) in &series {
        let Some(stretch) = scan_known(columns, &known, values).filter(|s| s.p * tests < ALPHA)
        else {
            continue;
        };
        let inside: Vec<usize> = (stretch.from..stretch.to).collect();
        let positive = inside.iter().filter(|&&i| known[i].1).count();
        findings.push(Finding {
            what: format!(
                "{what} differs: {:.1} % of {} rows, {:.1} % elsewhere",
                100.0 * ratio(positive, inside.len()),
                inside.len(),
                100.0
                    * ratio(
                        known.iter().filter(|k| k.1).count() - positive,
                        known.len() - inside.len()
                    )
            ),
            features: Vec::new(),
            between: Some((
                table.line(known[stretch.from].0),
                table.line(known[stretch.to - 1].0),
            )),
            batch: None,
            rows: inside.len(),
            lines: Vec::new(),
        });
    }
    findings.extend(batch_rates(table, columns, &known));
    let elsewhere = (findings.iter()).filter(|f| f.between.is_some() || f.batch.is_some());
    let summary = format!(
        "{} in {:.1} % of {} rows; {} with another rate",
        labels.header,
        100.0 * ratio(known.iter().filter(|k| k.1).count(), known.len()),
        known.len(),
        counted(
            elsewhere.count(),
            "stretch or batch",
            "stretches or batches"
        )
    );
    let verdict = if findings.is_empty() {
        Verdict::Pass
    } else {
        Verdict::Found
    };
    Check::new(NAME, verdict, summary).with(findings)
}

/// Every row has the same outcome: there is nothing to learn from, or somebody wrote it.
fn only_one(known: &[(usize, bool)]) -> Option<Finding> {
    let positive = known.iter().filter(|k| k.1).count();
    let same = positive == 0 || positive == known.len();
    (same && known.len() >= FEW).then(|| Finding {
        what: format!(
            "all {} rows have the same outcome, {}",
            known.len(),
            u8::from(positive > 0)
        ),
        features: Vec::new(),
        between: None,
        batch: None,
        rows: known.len(),
        lines: Vec::new(),
    })
}

/// Scans a series over the rows whose outcome is known; where rows are grouped, over the groups.
/// The stretch is in positions of `known`.
fn scan_known(columns: &Columns, known: &[(usize, bool)], values: &[f64]) -> Option<Stretch> {
    if columns.groups.is_none() {
        return scan(values);
    }
    let mut units: Vec<(usize, f64, f64)> = Vec::new();
    let mut position = HashMap::new();
    for (&(row, _), value) in known.iter().zip(values) {
        let at = *position.entry(columns.unit(row)).or_insert(units.len());
        match units.get_mut(at) {
            Some((_, sum, count)) => (*sum, *count) = (*sum + value, *count + 1.0),
            None => units.push((columns.unit(row), *value, 1.0)),
        }
    }
    let means: Vec<f64> = units.iter().map(|(_, sum, count)| sum / count).collect();
    let mut stretch = scan(&means)?;
    let inside = |k: &(usize, bool)| {
        position
            .get(&columns.unit(k.0))
            .is_some_and(|at| (stretch.from..stretch.to).contains(at))
    };
    let (first, last) = (
        known.iter().position(inside)?,
        known.iter().rposition(inside)?,
    );
    (stretch.from, stretch.to) = (first, last + 1);
    Some(stretch)
}

fn batch_rates(table: &Table, columns: &Columns, known: &[(usize, bool)]) -> Vec<Finding> {
    let Some(batches) = table.batches().filter(|b| b.names.len() <= 200) else {
        return Vec::new();
    };
    let worth = columns.units() as f64 / columns.len as f64;
    let mut findings = Vec::new();
    for (index, name) in batches.names.iter().enumerate() {
        let counts = |inside: bool, label: bool| {
            let here = known
                .iter()
                .filter(|&&(row, y)| (batches.of[row] as usize == index) == inside && y == label);
            here.count()
        };
        let (yes, no) = (counts(true, true), counts(true, false));
        let (others, not_others) = (counts(false, true), counts(false, false));
        let scaled = |n: usize| n as f64 * worth;
        let p = homogeneity(
            [
                (scaled(yes), scaled(others)),
                (scaled(no), scaled(not_others)),
            ]
            .into_iter(),
        );
        if yes + no >= FEW && p * (batches.names.len() as f64) < ALPHA {
            findings.push(Finding {
                what: format!(
                    "the outcome's rate differs: {:.1} % of {} rows, {:.1} % in the others",
                    100.0 * ratio(yes, yes + no),
                    yes + no,
                    100.0 * ratio(others, others + not_others)
                ),
                features: Vec::new(),
                between: None,
                batch: Some(name.clone()),
                rows: yes + no,
                lines: Vec::new(),
            });
        }
    }
    findings
}

/// Outcomes that are likely wrong.
pub(super) fn conflicts(table: &Table, outcomes: &Outcomes) -> Check {
    const NAME: &str = "label_noise";
    let known = outcomes.known();
    if outcomes.logits.is_empty() || known.len() < FEW_ROWS {
        let few = format!("needs {FEW_ROWS} rows with outcomes, {FEW} of either");
        let ruler = outcomes.ruler.as_ref().filter(|_| known.len() >= FEW);
        let Some(measured) = ruler.map(|ruler| expected(ruler, &known)) else {
            return Check::new(NAME, Verdict::NotAsked, few);
        };
        // Their number can still be compared with what is expected.
        let summary = format!("{few}; {}", measured.words);
        let verdict = if measured.unlikely {
            Verdict::Found
        } else {
            Verdict::NotAsked
        };
        return Check::new(NAME, verdict, summary);
    }
    let truth: Vec<bool> = known.iter().map(|k| k.1).collect();
    let logits: Vec<f64> = known.iter().map(|&(row, _)| outcomes.logits[row]).collect();
    let own = normal_scores(&logits);
    let noise = Noise::estimate(&own, &truth);
    let mut found = noise.root > OWN_BOUND;
    let mut told = vec![format!(
        "by a regression on the file itself (AUROC {:.3}): {}",
        auroc(&logits, &truth),
        noise.words()
    )];
    let mut ranks = own;
    let (mut best, mut likely) = (noise, noise.share);
    if let Some(ruler) = &outcomes.ruler {
        let measured = against_ruler(ruler, &known);
        found |= measured.found;
        likely = likely.max(measured.share);
        told.push(measured.words);
        for (rank, theirs) in ranks.iter_mut().zip(&measured.scores) {
            *rank += theirs;
        }
        ranks = normal_scores(&ranks);
        best = Noise::estimate(&ranks, &truth);
    }
    let summary = told.join("; ");
    if !found {
        return Check::new(NAME, Verdict::Pass, summary);
    }
    let share = likely.max(best.share).clamp(0.005, 0.2);
    let suspects = best.suspects(&ranks, &truth, share);
    let count = ((share * known.len() as f64).ceil() as usize).clamp(10, MAX_LINES);
    let rows: Vec<usize> = suspects.iter().take(count).map(|&i| known[i].0).collect();
    let finding = Finding {
        what: format!(
            "outcomes that the rows' own values contradict most, most suspect first; about {:.1} % \
             of all may be wrong, and not every one listed is",
            100.0 * share
        ),
        features: Vec::new(),
        between: None,
        batch: None,
        rows: rows.len(),
        lines: lines(table, &rows),
    };
    Check::new(NAME, Verdict::Found, summary).with(vec![finding])
}

/// How many outcomes a trained model expects.
struct Expected {
    /// There are more or fewer.
    unlikely: bool,
    words: String,
}

fn expected(ruler: &Ruler, known: &[(usize, bool)]) -> Expected {
    let judged: Vec<(f64, f64)> = known
        .iter()
        .map(|&(row, y)| (ruler.probabilities[row], f64::from(u8::from(y))))
        .filter(|(p, _)| !p.is_nan())
        .collect();
    let expected: f64 = judged.iter().map(|(p, _)| p).sum();
    let count: f64 = judged.iter().map(|(_, y)| y).sum();
    let residuals: Vec<f64> = judged.iter().map(|(p, y)| y - p).collect();
    let variance: f64 = judged.iter().map(|(p, _)| p * (1.0 - p)).sum();
    // Where less than one is expected, one is no news.
    let z = (count - expected) / (variance * inflation_of(&residuals)).sqrt().max(1.0);
    let percent = |n: f64| 100.0 * n / judged.len().max(1) as f64;
    Expected {
        unlikely: z.abs() > RATE_BOUND,
        words: format!(
            "by {}: {:.1} % have the outcome where it expects {:.1} % (p = {})",
            ruler.source,
            percent(count),
            percent(expected),
            probability(2.0 * normal_tail(z.abs()))
        ),
    }
}

struct AgainstRuler {
    found: bool,
    share: f64,
    words: String,
    scores: Vec<f64>,
}

fn against_ruler(ruler: &Ruler, known: &[(usize, bool)]) -> AgainstRuler {
    let expected = expected(ruler, known);
    let p: Vec<f64> = known
        .iter()
        .map(|&(row, _)| ruler.probabilities[row])
        .collect();
    let scores = normal_scores(&p);
    let judged = p.iter().zip(&scores).zip(known);
    let (ranks, truth): (Vec<f64>, Vec<bool>) = judged
        .filter(|((p, _), _)| !p.is_nan())
        .map(|((_, score), k)| (*score, k.1))
        .unzip();
    let noise = Noise::estimate(&ranks, &truth);
    AgainstRuler {
        share: noise.share,
        found: noise.root > RULER_BOUND || expected.unlikely,
        words: format!("{}; {}", expected.words, noise.words()),
        scores,
    }
}
