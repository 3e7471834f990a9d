//! Judges a bundle on rows of patients, before people approve it.
//!
//! Every row goes through the stages that a request goes through ([`path`]). What is asked: how
//! well corrupted copies are told from patients, by family and only among those that earlier
//! screens let through ([`detection`]); whether an alpha of 1% flags 1% ([`flags`]); how many
//! patients a person has to look at, and whether that falls on some more than on others
//! ([`burden`]); whether explanations name the value that is wrong; how good the model is
//! ([`metrics`]); and how long it all takes ([`latency`]).
//!
//! The figures mean something only for rows that neither the networks nor the screen were fitted
//! to; the report says when the file is one that the screen was fitted to.

use std::{collections::BTreeMap, sync::Arc};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::{
    bundle::model::ModelSpec,
    inference::{Engine, ScoreError},
    row::Row,
    screening::{
        Screen,
        fit::{Admitted, one_each},
        reference::RawReference,
    },
    training_data::Table,
};

pub mod burden;
pub mod detection;
pub mod families;
pub mod flags;
mod html;
pub mod latency;
pub mod metrics;
pub mod path;
mod report;
mod text;

pub use html::page;
pub use report::{Data, Identity, Means, Report};

use detection::{Figures, Scores, Tally};
use families::{Corrupter, Family, Seen};
use metrics::Calibration;
use path::{Bench, Earlier, Ended, Plain};

/// A bundle, ready to be judged.
pub struct Subject<'a> {
    /// Its clinical meaning.
    pub spec: &'a Arc<ModelSpec>,
    /// Its root digest, hex.
    pub digest: &'a str,
    /// Its fitted distribution, as read and as written.
    pub screen: Option<(&'a Screen, &'a RawReference)>,
    /// Its networks, for rows on the request path.
    pub engine: &'a Engine<Row>,
    /// The same networks, for rows whatever the screens say.
    pub plain: &'a Engine<Plain>,
}

/// How to judge.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Of everything random.
    pub seed: u64,
    /// Copies of a family that reach the screen: enough, when there are so many.
    pub copies: usize,
    /// Re-splits of calibration and test rows.
    pub resplits: usize,
}

/// Told how far the judging is.
pub trait Watch {
    /// So many steps will be taken.
    fn start(&self, steps: u64);
    /// A step begins.
    fn step(&self, what: &str);
}

/// Rows as other detectors can be given them: by name of the set.
pub type Exported = BTreeMap<String, Vec<Vec<f64>>>;

/// Judges a bundle. `other` has rows of another population.
pub fn evaluate(
    subject: &Subject<'_>,
    table: &Table,
    other: Option<&Table>,
    options: Options,
    watch: &dyn Watch,
) -> Result<(Report, Exported), ScoreError> {
    watch.start(
        5 + if subject.screen.is_some() {
            Family::ALL.len() as u64
        } else {
            0
        },
    );
    let mut exported = Exported::new();
    watch.step("the model");
    let ended = ends(subject, table)?;
    let predictions = predictions(subject.spec, subject.plain, table)?;
    let (calibration, released, members) = model(subject.spec, table, &ended, &predictions);
    let labels = |row: usize| {
        table
            .labels()
            .and_then(|l| l.values.get(row).copied().flatten())
    };

    watch.step("the clean rows");
    let mut bench = Bench::new(subject.spec, subject.screen.map(|s| s.0));
    let Clean {
        tally: clean,
        reaching,
        complete,
    } = clean_rows(table, options.seed, &mut bench);
    exported.insert(
        "clean".to_owned(),
        reaching.iter().map(|r| r.to_vec()).collect(),
    );

    let families = corrupted(
        subject,
        (&reaching, &clean.scores),
        &mut bench,
        (options, watch),
        &mut exported,
    );
    let other_figures = other
        .filter(|_| subject.screen.is_some())
        .map(|other| another(other, &clean.scores, &mut bench, &mut exported));

    watch.step("false flags");
    let calibrated = subject
        .screen
        .and_then(|(_, raw)| raw.calibration.strata.first());
    let false_flags = calibrated.map_or_else(Vec::new, |stratum| {
        let scores: Vec<f64> = stratum.scores.iter().map(|s| f64::from(*s)).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed.wrapping_add(99));
        flags::false_flags(&scores, &complete, options.resplits, &mut rng)
    });

    watch.step("who is affected");
    let rows: Vec<_> = table
        .rows()
        .zip(ended)
        .enumerate()
        .map(|(at, (row, ended))| (row, labels(at), ended))
        .collect();
    let incomplete = rows.iter().filter(|r| burden::is_incomplete(&r.2)).count();
    let burden = burden::burden(subject.spec, &rows, &subject.spec.outcome.name);

    watch.step("latency");
    let latency = latency::measure(subject, &reaching)?;
    let report = Report {
        format: 1,
        tool: concat!("vitalgate ", env!("CARGO_PKG_VERSION")).to_owned(),
        model: Identity {
            name: subject.spec.name.clone(),
            version: subject.spec.version,
            title: subject.spec.title.clone(),
            digest: format!("sha256:{}", subject.digest),
            outcome: subject.spec.outcome.name.clone(),
        },
        data: Data {
            sha256: table.sha256().to_owned(),
            rows: table.len(),
            incomplete,
            labelled: table
                .labels()
                .map_or(0, |l| l.values.iter().flatten().count()),
            other_sha256: other.map(|t| t.sha256().to_owned()),
        },
        seed: options.seed,
        alpha: subject.screen.map(|(_, raw)| raw.calibration.alpha),
        fit: subject
            .screen
            .and_then(|(_, raw)| serde_json::to_value(&raw.fit).ok()),
        notes: notes(subject, table, reaching.len()),
        mean: means(&families),
        families,
        other: other_figures,
        false_flags,
        budget: burden::budget(subject.spec, &burden, subject.screen.map(|s| s.1)),
        burden,
        calibration,
        calibration_released: released,
        members,
        latency,
    };
    Ok((report, exported))
}

/// The rows as they are.
struct Clean<'t> {
    tally: Tally,
    /// Those that reach the distribution screen.
    reaching: Vec<&'t [f64]>,
    /// Scores of those with nothing missing, one a patient: a patient's rows are never on both
    /// sides of a split.
    complete: Vec<f64>,
}

fn clean_rows<'t>(table: &'t Table, seed: u64, bench: &mut Bench<'_>) -> Clean<'t> {
    let (mut tally, mut reaching, mut complete) = (Tally::default(), Vec::new(), Vec::new());
    for (index, row) in table.rows().enumerate() {
        let (earlier, judged) = bench.screen(row);
        if earlier == Earlier::Passed {
            reaching.push(row);
        }
        if let Some(judged) = judged.as_ref().filter(|j| j.missing == 0) {
            let patient = Admitted::group(table, index, 0);
            complete.push((patient, f64::from(judged.judgement.combined)));
        }
        tally.add((earlier, judged), None);
    }
    let people = one_each(complete.iter().map(|(patient, _)| *patient), seed).into_iter();
    let scores = people.filter_map(|place| complete.get(place));
    Clean {
        tally,
        reaching,
        complete: scores.map(|(_, score)| *score).collect(),
    }
}

/// Another population's rows, which should be found odd.
fn another(
    table: &Table,
    clean: &Scores,
    bench: &mut Bench<'_>,
    exported: &mut Exported,
) -> Figures {
    let (mut tally, mut kept) = (Tally::default(), Vec::new());
    for row in table.rows() {
        let outcome = bench.screen(row);
        if outcome.1.is_some() {
            kept.push(row.to_vec());
        }
        tally.add(outcome, None);
    }
    exported.insert("other_population".to_owned(), kept);
    tally.figures(("other_population", "another population", None), clean)
}

/// Copies of the rows that reach the screen, corrupted in every way and judged.
fn corrupted(
    subject: &Subject<'_>,
    (rows, clean): (&[&[f64]], &Scores),
    bench: &mut Bench<'_>,
    (options, watch): (Options, &dyn Watch),
    exported: &mut Exported,
) -> Vec<Figures> {
    let Some((_, reference)) = subject.screen.filter(|_| !rows.is_empty()) else {
        return Vec::new();
    };
    let corrupter = Corrupter::new(subject.spec, rows);
    let mut families = Vec::new();
    for (at, family) in Family::ALL.into_iter().enumerate() {
        watch.step(family.title());
        let mut rng = ChaCha8Rng::seed_from_u64(options.seed.wrapping_add(100 + at as u64));
        let (tally, kept) = detection::family(
            family,
            &corrupter,
            (rows.len(), options.copies),
            bench,
            &mut rng,
        );
        let mark = family.seen(reference.fit.templates);
        families.push(tally.figures((family.as_str(), family.title(), Some(mark)), clean));
        exported.insert(family.as_str().to_owned(), kept);
    }
    families
}

/// How every row's path ends.
fn ends(subject: &Subject<'_>, table: &Table) -> Result<Vec<Ended>, ScoreError> {
    let screen = subject.screen.map(|s| s.0);
    let decided = table
        .rows()
        .map(|row| latency::block_on(path::decide(subject.spec, screen, subject.engine, row)));
    decided.collect()
}

/// Each network's probability for every row, empty where a row cannot be scored.
pub fn predictions(
    spec: &Arc<ModelSpec>,
    plain: &Engine<Plain>,
    table: &Table,
) -> Result<Vec<Vec<f64>>, ScoreError> {
    let predicted = table.rows().map(|row| match Plain::of(spec, row) {
        Some(row) => latency::block_on(plain.score(row)).map(|row| row.outputs().to_vec()),
        None => Ok(Vec::new()),
    });
    predicted.collect()
}

type Judgements = (
    Option<Calibration>,
    Option<Calibration>,
    Vec<(String, Calibration)>,
);

/// The model's figures where the outcome is known: on all rows, on those that are answered, and
/// each network's.
fn model(spec: &ModelSpec, table: &Table, ended: &[Ended], predictions: &[Vec<f64>]) -> Judgements {
    let labels = table
        .labels()
        .map(|l| l.values.as_slice())
        .unwrap_or_default();
    let usable: Vec<(usize, bool)> = labels
        .iter()
        .enumerate()
        .filter(|(row, _)| {
            predictions
                .get(*row)
                .is_some_and(|p| !p.is_empty() && p.iter().all(|v| !v.is_nan()))
        })
        .filter_map(|(row, label)| label.map(|l| (row, l)))
        .collect();
    let judge = |rows: &[(usize, bool)], of: &dyn Fn(&[f64]) -> f64| {
        let p: Vec<f64> = rows
            .iter()
            .filter_map(|(row, _)| predictions.get(*row).map(|p| of(p)))
            .collect();
        let truth: Vec<bool> = rows.iter().map(|r| r.1).collect();
        metrics::calibration(&p, &truth)
    };
    let mean =
        |p: &[f64]| p.iter().sum::<f64>() / f64::from(u32::try_from(p.len()).unwrap_or(u32::MAX));
    let released: Vec<(usize, bool)> = usable
        .iter()
        .filter(|(row, _)| ended.get(*row).is_some_and(|e| e.codes.is_empty()))
        .copied()
        .collect();
    let members = spec
        .members
        .iter()
        .enumerate()
        .filter_map(|(index, member)| {
            let of = |p: &[f64]| p.get(index).copied().unwrap_or(f64::NAN);
            judge(&usable, &of).map(|c| (member.name.clone(), c))
        });
    (
        judge(&usable, &mean),
        judge(&released, &mean),
        members.collect(),
    )
}

/// The score above which this share of the clean rows lies.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "a rank among rows"
)]
fn exact_threshold(clean: &[f64], share: f64) -> f64 {
    let mut sorted = clean.to_vec();
    sorted.sort_by(f64::total_cmp);
    let above = (share * sorted.len() as f64) as usize;
    let at = sorted.len().checked_sub(above + 1);
    at.and_then(|i| sorted.get(i))
        .copied()
        .unwrap_or(f64::INFINITY)
}

/// Fewer copies than this that reach the screen have no figures of their own.
const FEW_COPIES: usize = 100;

fn means(families: &[Figures]) -> Option<Means> {
    let counts = |f: &&Figures| f.seen != Some(Seen::Template) && f.reached >= FEW_COPIES;
    let unseen: Vec<&Figures> = families.iter().filter(counts).collect();
    let count = f64::from(u32::try_from(unseen.len()).ok().filter(|n| *n > 0)?);
    let mean = |of: &dyn Fn(&Figures) -> f64| unseen.iter().map(|f| of(f)).sum::<f64>() / count;
    Some(Means {
        families: unseen.len(),
        auroc: mean(&|f| f.auroc),
        fpr_at_95_tpr: mean(&|f| f.fpr_at_95_tpr),
        detected: mean(&|f| f.detected),
        detected_at_exact_1_percent: mean(&|f| f.detected_at_exact_1_percent),
    })
}

fn notes(subject: &Subject<'_>, table: &Table, reaching: usize) -> Vec<String> {
    let mut notes = Vec::new();
    match subject.screen {
        None => notes.push(
            "the bundle has no fitted distribution: nothing about corrupted rows is measured"
                .to_owned(),
        ),
        Some((_, raw)) if raw.fit.data.iter().any(|d| d.sha256 == table.sha256()) => notes.push(
            "the distribution was fitted to this very file: its figures are too good; judge it \
             on patients that were kept aside"
                .to_owned(),
        ),
        Some(_) => {}
    }
    if subject.screen.is_some() && reaching < FEW_COPIES {
        notes.push(format!(
            "rows that reach the distribution screen: {reaching}; figures of fewer than \
             {FEW_COPIES} say little"
        ));
    }
    if table.groups().is_some() {
        notes.push(
            "false flags and their re-splits count one row a patient; everything else counts rows"
                .to_owned(),
        );
    }
    if table.labels().is_none() {
        notes.push("the file has no outcomes: the model itself is not judged".to_owned());
    }
    notes
}
