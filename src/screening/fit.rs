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

use std::collections::{BTreeMap, HashSet};

use nalgebra::DMatrix;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{
    CHANNELS, ReferenceError, SWEEPS, Screen,
    curve::Curve,
    reference::{
        DataDigest, FORMAT, FitRecord, RawCalibration, RawComponent, RawGaussian, RawMarginal,
        RawPrototypes, RawReference,
    },
    screen::CLIP,
};

mod calibrate;
mod clusters;
mod corruption;
mod gaussian;
mod marginals;
mod mixture;
mod network;
mod train;

pub use calibrate::{Scored, calibrate, score};

use gaussian::Gaussian;

/// What fitting has to know about a feature.
#[derive(Clone, Debug)]
pub struct Trait {
    /// The feature's name.
    pub name: String,
    /// Values outside go to review before this screen is asked.
    pub expected: (f32, f32),
    /// Measurement step.
    pub precision: Option<f32>,
    /// Whether only whole numbers are values.
    pub whole: bool,
    /// Whether the value may be missing.
    pub optional: bool,
    /// Other units it is measured in: slope and offset from them to the declared unit.
    pub units: Vec<(f32, f32)>,
}

impl Trait {
    /// The value on its measurement grid.
    pub fn rounded(&self, value: f32) -> f32 {
        match self.precision.or(self.whole.then_some(1.0)) {
            Some(step) => {
                let (value, step) = (f64::from(value), f64::from(step));
                #[expect(clippy::cast_possible_truncation, reason = "values are float32 here")]
                let rounded = ((value / step).round() * step) as f32;
                rounded
            }
            None => value,
        }
    }

    /// Whether the value would get past the range check.
    pub fn accepts(&self, value: f32) -> bool {
        self.expected.0 <= value && value <= self.expected.1
    }
}

/// A patient's values, NaN where not measured.
#[derive(Clone, Debug)]
pub struct Patient {
    /// In the model's order and units, rounded as the server rounds.
    pub values: Vec<f32>,
    /// Whose: rows of one group never lie on both sides of a split.
    pub group: u64,
}

/// How good a fit is wanted, and so how long it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quality {
    /// Seconds; to see whether everything works.
    Quick,
    /// One network.
    Standard,
    /// Six networks, distilled into one.
    Best,
}

/// What a [`Quality`] means.
#[derive(Clone, Copy, Debug)]
struct Settings {
    teachers: u64,
    epochs: u64,
    student_epochs: u64,
}

impl Quality {
    /// As the command line and the record write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quick => "quick",
            Self::Standard => "standard",
            Self::Best => "best",
        }
    }

    fn settings(self) -> Settings {
        match self {
            Self::Quick => Settings {
                teachers: 1,
                epochs: 12,
                student_epochs: 0,
            },
            Self::Standard => Settings {
                teachers: 1,
                epochs: 200,
                student_epochs: 0,
            },
            Self::Best => Settings {
                teachers: 6,
                epochs: 250,
                student_epochs: 400,
            },
        }
    }
}

/// How to fit.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of everything random.
    pub seed: u64,
    /// The share of patients like these that may be flagged.
    pub alpha: f64,
    /// Each channel's share of the flags.
    pub shares: [f32; CHANNELS],
    /// Time for quality.
    pub quality: Quality,
    /// Whether the network also learns unit errors, decimal slips and swapped fields.
    pub templates: bool,
    /// The share of patients kept aside for calibration.
    pub calibration_share: f64,
    /// Every number that is written is of at least so many patients.
    pub min_rows: usize,
    /// How many values of a row the server fills in at most.
    pub max_missing: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seed: 1,
            alpha: 0.01,
            shares: [0.6, 0.2, 0.1, 0.1],
            quality: Quality::Standard,
            templates: false,
            calibration_share: 0.2,
            min_rows: 5,
            max_missing: 0,
        }
    }
}

/// Told how far a fit is.
pub trait Progress {
    /// So many steps will be taken.
    fn start(&self, steps: u64);
    /// So many more were taken.
    fn advance(&self, steps: u64);
}

/// Nobody watches.
impl Progress for () {
    fn start(&self, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// Why nothing was fitted.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    /// Too few patients for what is to be estimated.
    #[error("{found} patients to {what}, at least {least} are needed")]
    TooFew {
        /// What for.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there must be.
        least: usize,
    },
    /// A row of another width.
    #[error("a row has {found} values, the model has {expected} features")]
    Width {
        /// Features of the model.
        expected: usize,
        /// Values in the row.
        found: usize,
    },
    /// A feature without values.
    #[error("{feature}: too few values are measured, at least {least} are needed")]
    Unmeasured {
        /// Which.
        feature: String,
        /// How many there must be.
        least: usize,
    },
    /// An estimate that cannot be computed.
    #[error("the {0} of these rows cannot be estimated: do features depend on each other exactly?")]
    Degenerate(&'static str),
    /// What was fitted would not be accepted.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
}

/// What was fitted, and which patients calibrated it.
#[derive(Debug)]
pub struct Fitted {
    /// What is written.
    pub reference: RawReference,
    /// The same, ready to judge.
    pub screen: Screen,
    /// Scores of the patients kept aside.
    pub calibration: Vec<Scored>,
}

/// The patients in normal scores, and what describes them.
struct Space {
    traits: Vec<Trait>,
    maps: Vec<Curve>,
    continuous: Vec<bool>,
    spreads: Vec<f32>,
    mean: Vec<f32>,
    omega: Vec<Vec<f32>>,
    raw: Vec<Vec<f32>>,
    z: Vec<Vec<f32>>,
    /// Rows of each patient.
    groups: Vec<Vec<usize>>,
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
    enough("calibrate", calibration.len(), least)?;

    let mut marginals = Vec::with_capacity(d);
    for (j, feature) in traits.iter().enumerate() {
        let values: Vec<f32> = fitting.iter().map(|p| p.values[j]).collect();
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
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let (space, gaussian, scores) = space(traits, &marginals, &rows)?;
    let points = scores.transpose();
    let components = (fitting.len() / (10 * d)).clamp(1, 10);
    let mixture =
        mixture::fit(&points, components, &mut rng).ok_or(FitError::Degenerate("mixture"))?;
    let prototypes = prototypes(&gaussian, &points, &rows, options, &mut rng)?;
    progress.start(train::steps(space.groups.len(), options));
    let network = train::train(&space, options, progress);

    let mut reference = RawReference {
        format: FORMAT,
        name: name.0.to_owned(),
        version: name.1,
        fit: record(options, rows.len(), in_fit.len(), calibration.len()),
        features: marginals,
        gaussian: RawGaussian {
            mean: space.mean.clone(),
            precision: space.omega.clone(),
        },
        mixture: mixture.iter().map(raw_component).collect(),
        network: network.layers(),
        prototypes,
        calibration: RawCalibration {
            alpha: options.alpha,
            shares: options.shares.to_vec(),
            strata: vec![calibrate::placeholder(options.alpha)],
        },
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
        fit_rows,
        fit_groups,
        calibration_rows,
        screened_out: 0,
        validation: None,
        min_rows: options.min_rows,
    }
}

/// Scores of all rows (one a row, filled in), and the normal distribution that they have.
fn space(
    traits: &[Trait],
    marginals: &[RawMarginal],
    rows: &[&Patient],
) -> Result<(Space, Gaussian, DMatrix<f64>), FitError> {
    let d = traits.len();
    let maps: Option<Vec<Curve>> = marginals.iter().map(|m| Curve::through(&m.knots)).collect();
    let maps = maps.ok_or(FitError::Degenerate("marginals"))?;
    let scores = |p: &&Patient| -> Vec<f32> {
        let pairs = p.values.iter().zip(&maps);
        pairs
            .map(|(v, map)| {
                if v.is_nan() {
                    *v
                } else {
                    map.at(*v).clamp(-CLIP, CLIP)
                }
            })
            .collect()
    };
    let z: Vec<Vec<f32>> = rows.iter().map(scores).collect();
    let mut filled = DMatrix::from_fn(rows.len(), d, |i, j| f64::from(z[i][j]));
    filled.apply(|v| {
        if v.is_nan() {
            *v = 0.0;
        }
    });
    // What is missing takes its conditional mean under the first estimate, for the second.
    let mut gaussian = Gaussian::ledoit_wolf(&filled).ok_or(FitError::Degenerate("covariance"))?;
    for (i, scores) in z.iter().enumerate() {
        if scores.iter().any(|v| v.is_nan()) {
            let mut row: Vec<f64> = scores.iter().map(|v| f64::from(*v)).collect();
            gaussian.fill(&mut row);
            for (j, value) in row.iter().enumerate() {
                filled[(i, j)] = *value;
            }
        }
    }
    gaussian = Gaussian::ledoit_wolf(&filled).ok_or(FitError::Degenerate("covariance"))?;
    let quantile =
        |knots: &[(f32, f32)], z: f32| Curve::through(knots).map_or(0.0, |curve| curve.inverse(z));
    let spread = |m: &RawMarginal| quantile(&m.knots, 1.28) - quantile(&m.knots, -1.28);
    let mut groups = BTreeMap::<u64, Vec<usize>>::new();
    for (index, row) in rows.iter().enumerate() {
        groups.entry(row.group).or_default().push(index);
    }
    let space = Space {
        traits: traits.to_vec(),
        continuous: marginals.iter().map(|m| m.knots.len() > 16).collect(),
        spreads: marginals.iter().map(spread).collect(),
        mean: gaussian.mean.iter().map(|m| narrow(*m)).collect(),
        omega: narrow_rows(&gaussian.precision),
        raw: rows.iter().map(|p| p.values.clone()).collect(),
        groups: groups.into_values().collect(),
        maps,
        z,
    };
    Ok((space, gaussian, filled))
}

/// Means of clusters of at least `min_rows` patients (not rows) each.
fn prototypes(
    gaussian: &Gaussian,
    points: &DMatrix<f64>,
    rows: &[&Patient],
    options: &Options,
    rng: &mut ChaCha8Rng,
) -> Result<RawPrototypes, FitError> {
    let whitening = gaussian
        .whitening()
        .ok_or(FitError::Degenerate("whitening"))?;
    let mut centred = points.clone();
    for mut column in centred.column_iter_mut() {
        column -= &gaussian.mean;
    }
    let white = &whitening * centred;
    let wanted = (rows.len() / (3 * options.min_rows)).clamp(1, 512);
    let mut clusters = clusters::k_means(&white, wanted, 12, rng);
    loop {
        let mut patients = vec![HashSet::new(); clusters.centres.ncols()];
        for (row, &cluster) in rows.iter().zip(&clusters.of) {
            patients[cluster].insert(row.group);
        }
        let small: Vec<usize> = (0..patients.len())
            .filter(|&k| patients[k].len() < options.min_rows)
            .collect();
        if small.is_empty() || patients.len() == 1 {
            break;
        }
        // Their rows go to the nearest of the others.
        clusters.centres = clusters.centres.remove_columns_at(&small);
        clusters.of = clusters::assign(&white, &clusters.centres);
        clusters.centres = clusters::means(&white, &clusters.of, &clusters.centres);
    }
    // The mean of exactly the patients that were counted.
    let means = clusters::means(&white, &clusters.of, &clusters.centres);
    Ok(RawPrototypes {
        whitening: narrow_rows(&whitening),
        centroids: narrow_rows(&means.transpose()),
    })
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

impl Space {
    fn len(&self) -> usize {
        self.z.len()
    }

    fn scores(&self, row: usize) -> &[f32] {
        &self.z[row]
    }

    fn raw(&self, row: usize) -> &[f32] {
        &self.raw[row]
    }

    fn spread(&self, feature: usize) -> f32 {
        self.spreads[feature]
    }

    fn score(&self, feature: usize, value: f32) -> f32 {
        self.maps[feature].at(value).clamp(-CLIP, CLIP)
    }

    /// The score of the value nearest to a wished-for score that a patient could have.
    fn snap(&self, feature: usize, z: f32) -> f32 {
        if z.is_nan() {
            return z;
        }
        let (low, high) = self.traits[feature].expected;
        let value = self.maps[feature].inverse(z.clamp(-CLIP, CLIP));
        let value = self.traits[feature].rounded(value).clamp(low, high);
        self.score(feature, value)
    }

    /// Mean and standard deviation of a score given the others of a row.
    fn conditional(&self, row: usize, feature: usize) -> (f32, f32) {
        let omega = &self.omega[feature];
        let z = self.scores(row);
        let parts = omega.iter().zip(z).zip(&self.mean);
        let y: f32 = parts
            .map(|((o, z), m)| if z.is_nan() { 0.0 } else { o * (z - m) })
            .sum();
        let own = if z[feature].is_nan() {
            self.mean[feature]
        } else {
            z[feature]
        };
        (own - y / omega[feature], omega[feature].sqrt().recip())
    }

    /// What the network reads, as [`Screen`] makes it.
    fn network_input(&self, z: &[f32], input: &mut [f32]) {
        let d = z.len();
        let absent: Vec<usize> = (0..d).filter(|&j| z[j].is_nan()).collect();
        let mut centred: Vec<f32> = z
            .iter()
            .zip(&self.mean)
            .map(|(z, m)| if z.is_nan() { 0.0 } else { z - m })
            .collect();
        let mut y = vec![0.0_f32; d];
        for (row, c) in self.omega.iter().zip(&centred) {
            for (y, o) in y.iter_mut().zip(row) {
                *y += o * c;
            }
        }
        for _ in 0..if absent.is_empty() { 0 } else { SWEEPS } {
            for &j in &absent {
                let step = -y[j] / self.omega[j][j];
                centred[j] += step;
                for (y, o) in y.iter_mut().zip(&self.omega[j]) {
                    *y += o * step;
                }
            }
        }
        for j in 0..d {
            let missing = z[j].is_nan();
            let r = if missing {
                0.0
            } else {
                y[j] / self.omega[j][j].sqrt()
            };
            input[j] = centred[j] + self.mean[j];
            input[d + j] = r;
            input[2 * d + j] = (r * r).min(36.0) * 0.25;
            input[3 * d + j] = f32::from(u8::from(missing));
        }
    }
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
