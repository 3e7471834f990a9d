//! Fits the distribution of a model's patients: rows → [`RawReference`], aggregates only.
//!
//! The order is that of `super::screen`: maps, normal distribution, mixture, prototypes, the
//! network, and at last the calibration, on patients that nothing else has seen, with the very
//! code that will judge them in service. Everything random comes from one seed, and all sums
//! run in one order, so that the same rows give the same reference on the same kind of machine.

#![expect(
    clippy::indexing_slicing,
    reason = "offline numerics over rows whose width was checked on entry"
)]

use std::collections::HashSet;

use nalgebra::DMatrix;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    Screen,
    reference::{
        DataDigest, FORMAT, FitRecord, RawComponent, RawGaussian, RawMarginal, RawReference,
    },
};

mod calibrate;
mod clusters;
mod corruption;
mod gaussian;
mod marginals;
mod mixture;
mod network;
mod options;
mod patients;
mod prototypes;
mod space;
mod train;

pub use calibrate::{Scored, calibrate, score};
pub use options::{FitError, Options, Progress, Quality};
pub use patients::{Admitted, Earlier, Patient, Trait, one_each, traits};

use prototypes::prototypes;
use space::{Space, space};

/// What was fitted, and which patients calibrated it.
#[derive(Debug)]
pub struct Fitted {
    /// What is written.
    pub reference: RawReference,
    /// The same, ready to judge.
    pub screen: Screen,
    /// Scores of the patients kept aside.
    pub calibration: Vec<Scored>,
    /// The groups that were kept aside.
    pub aside: HashSet<u64>,
}

/// Fits `patients`; `more` are further rows of the same patients or of others, used for fitting
/// only, and not at all if their patient is among those who calibrate. Rows that an earlier screen would stop should be left out by the
/// caller: they will not get here in service either.
pub fn fit(
    name: (&str, u32),
    traits: &[Trait],
    patients: &[Patient],
    more: &[Patient],
    options: &Options,
    progress: &dyn Progress,
) -> Result<Fitted, FitError> {
    let d = traits.len();
    if let Some(row) = patients.iter().chain(more).find(|p| p.values.len() != d) {
        return Err(FitError::Width {
            expected: d,
            found: row.values.len(),
        });
    }
    let (fitting, calibration) = split(patients, options);
    let groups = |of: &[&Patient]| -> HashSet<u64> { of.iter().map(|p| p.group).collect() };
    let (in_fit, aside) = (groups(&fitting), groups(&calibration));
    enough("fit", in_fit.len(), (5 * d).max(100))?;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count"
    )]
    let least = (1.0 / options.alpha).ceil() as usize;
    enough("calibrate", aside.len(), least)?;

    // A row each, so that what is counted is patients.
    let people = one_each(fitting.iter().map(|p| p.group), options.seed);
    let mut marginals = Vec::with_capacity(d);
    for (j, feature) in traits.iter().enumerate() {
        let values: Vec<f32> = people.iter().map(|&i| fitting[i].values[j]).collect();
        let least = options.min_rows.max(20);
        if values.iter().filter(|v| !v.is_nan()).count() < least {
            return Err(FitError::Unmeasured {
                feature: feature.name.clone(),
                least,
            });
        }
        let knots = marginals::knots(&values, options.min_rows);
        marginals.push(RawMarginal {
            name: feature.name.clone(),
            knots,
        });
    }
    let rows: Vec<&Patient> = fitting
        .iter()
        .copied()
        .chain(more.iter().filter(|p| !aside.contains(&p.group)))
        // What is mostly missing says little about how values go together.
        .filter(|p| 4 * p.values.iter().filter(|v| v.is_nan()).count() <= d)
        .collect();
    let in_rows = groups(&rows);
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let (space, gaussian, scores) = space(traits, &marginals, &rows)?;
    let points = scores.transpose();
    let components = (people.len() / (10 * d)).clamp(1, 10);
    let patients_of: Vec<u64> = rows.iter().map(|p| p.group).collect();
    let mixture = mixture::fit(
        &points,
        &patients_of,
        (components, options.min_rows),
        &mut rng,
    )
    .ok_or(FitError::Degenerate("mixture"))?;
    let prototypes = prototypes(&gaussian, &points, &rows, options, &mut rng)?;
    progress.start(train::steps(space.groups.len(), options));
    let network = train::train(&space, options, progress);

    let mut reference = RawReference {
        format: FORMAT,
        name: name.0.to_owned(),
        version: name.1,
        fit: record(options, rows.len(), in_rows.len(), calibration.len()),
        features: marginals,
        gaussian: RawGaussian {
            mean: space.mean.clone(),
            precision: space.omega.clone(),
        },
        mixture: mixture.iter().map(raw_component).collect(),
        network: network.layers(),
        prototypes,
        calibration: calibrate::placeholder(options.alpha),
        agreement: None,
        stability: None,
        budget: None,
        drift: None,
    };
    let screen = Screen::new(&reference)?;
    let aside_scores = score(&screen, &calibration, traits, options);
    reference.calibration = calibrate(&aside_scores, options);
    Ok(Fitted {
        screen: Screen::new(&reference)?,
        reference,
        calibration: aside_scores,
        aside,
    })
}

fn enough(what: &'static str, found: usize, least: usize) -> Result<(), FitError> {
    if found < least {
        return Err(FitError::TooFew { what, found, least });
    }
    Ok(())
}

/// Patients to fit and patients to calibrate, by group.
fn split<'p>(patients: &'p [Patient], options: &Options) -> (Vec<&'p Patient>, Vec<&'p Patient>) {
    let mut groups: Vec<u64> = patients.iter().map(|p| p.group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed.wrapping_add(500));
    groups.shuffle(&mut rng);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a count of patients"
    )]
    let aside = (groups.len() as f64 * options.calibration_share).round() as usize;
    let aside: HashSet<u64> = groups.into_iter().take(aside).collect();
    patients.iter().partition(|p| !aside.contains(&p.group))
}

fn record(
    options: &Options,
    fit_rows: usize,
    fit_groups: usize,
    calibration_rows: usize,
) -> FitRecord {
    FitRecord {
        tool: concat!("vitalgate ", env!("CARGO_PKG_VERSION")).to_owned(),
        seed: options.seed,
        quality: options.quality.as_str().to_owned(),
        templates: options.templates,
        data: Vec::<DataDigest>::new(),
        unseen: None,
        fit_rows,
        fit_groups,
        calibration_rows,
        screened_out: 0,
        validation: None,
        min_rows: options.min_rows,
    }
}

fn raw_component(component: &mixture::Component) -> RawComponent {
    RawComponent {
        log_peak: narrow(component.log_peak),
        mean: component.mean.iter().map(|m| narrow(*m)).collect(),
        precision: narrow_rows(&component.precision),
    }
}

/// As it is written: float32 with six digits.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the screen computes in float32"
)]
fn narrow(value: f64) -> f32 {
    marginals::round(value as f32)
}

fn narrow_rows(matrix: &DMatrix<f64>) -> Vec<Vec<f32>> {
    matrix
        .row_iter()
        .map(|row| row.iter().map(|v| narrow(*v)).collect())
        .collect()
}

/// A standard normal number (Box and Muller).
fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let u: f32 = 1.0 - rng.random::<f32>();
    let angle = std::f32::consts::TAU * rng.random::<f32>();
    (-2.0 * u.ln()).sqrt() * angle.cos()
}

/// `count` of the first `n` numbers, in random order.
fn pick_some(n: usize, count: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    rand::seq::index::sample(rng, n, count.min(n)).into_vec()
}
