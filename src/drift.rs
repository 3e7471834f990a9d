//! Are the patients still those that the model was made for?
//!
//! A single row cannot show a mild shift; many can. Each model version counts the rows it judges
//! in the bins of its own reference ([`mod@reference`], the member `drift` of `reference.json`), in
//! sliding windows of 100 rows, an hour and a day, and compares them when somebody asks for the
//! metrics. A version that is swapped in brings its own reference and begins with nothing.
//!
//! What is kept are counts in bins, and keyed hashes of encounters, so that a patient who is
//! scored again is one patient: re-scored rows depend on each other, and would look like a shift.
//! Rows that say no encounter are all counted. What an `evaluator` sends is not counted.
//!
//! An alarm is a probability so small that, over all that is compared and all the times that it
//! is, it should not come up once in a month without a shift ([`FALSE_ALARMS`]). Below
//! [`LEAST`] rows nothing is said at all: no number, and least of all that there is no drift.

use std::{
    collections::{HashSet, VecDeque},
    fmt,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use zeroize::{Zeroize, Zeroizing};

use crate::{bundle::model::ModelSpec, row::Row, screening::ReferenceError};

pub mod keeping;
mod kept;
mod population;
pub mod reference;
mod report;
mod shares;
mod statistics;
mod window;

use population::Population;
use reference::{Histogram, RawDrift, Reference};
use report::Judge;
pub use report::{JointReport, RateReport, SeriesReport, WindowReport};
pub use shares::{Shares, windows};
use window::{Block, ENCOUNTERS, SHAPES, Window};

/// Values below which nothing is reported.
pub const LEAST: f64 = 20.0;
/// Alarms without a shift, a month, in each window at most.
pub const FALSE_ALARMS: f64 = 0.1;
/// The share of its patients that a fit keeps aside to calibrate the distribution screen: p-values
/// are uniform no more exactly than so many rows can make them.
const CALIBRATING: f64 = 0.2;
/// Bins of the distribution screen's p-values.
const P_BINS: u8 = 10;
/// Rows that the reference's shares are in doubt by: the least that a fit writes.
const DOUBT: f64 = 5.0;
/// Share of reviews that screens behind the distribution screen may ask for (disagreement).
const LATER_REVIEWS: f64 = 0.01;
/// A shift of the mean that the cumulative sum does not add up, in ridits (half a ridit is the
/// whole way from the middle of the reference to its end).
const ALLOWANCE: f64 = 0.08;
/// Rows between false alarms of the cumulative sum: ten months at one a second.
const RUN_LENGTH: f64 = 2.6e7;
/// Name of the members' mean probability among the series.
pub const PROBABILITY: &str = "probability";
/// Name of the distribution screen's p-value among the series.
pub const ATYPICALITY: &str = "atypicality";
/// Name of all features together among the series.
pub const POPULATION: &str = "population";

/// How a counted row ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With a prediction and no reason for review.
    Passed,
    /// With reasons for review.
    Review,
    /// It cannot be a patient.
    Rejected,
}

/// A row's bins, on its way to be counted. Derived from a patient's values: it cannot be printed,
/// and is wiped.
pub struct Sighting(Zeroizing<Vec<u16>>);

impl fmt::Debug for Sighting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sighting(…)")
    }
}

/// A histogram with a place for each bin, and behind them one for rows without the value.
#[derive(Debug)]
struct Series {
    name: String,
    histogram: Histogram,
    first: u16,
}

impl Series {
    fn slot(&self, value: Option<f64>) -> u16 {
        #[expect(clippy::cast_possible_truncation, reason = "edges are float32")]
        let bin = match value {
            Some(value) if !value.is_nan() => self.histogram.bin(value as f32),
            _ => self.histogram.counts.len(),
        };
        self.first + u16::try_from(bin).unwrap_or_default()
    }

    fn counted<'c>(&self, sums: &'c [f64]) -> (&'c [f64], f64) {
        let first = usize::from(self.first);
        let bins = self.histogram.counts.len();
        let missing = sums.get(first + bins).copied().unwrap_or_default();
        (sums.get(first..first + bins).unwrap_or_default(), missing)
    }
}

/// Counts what a model version judges, and compares it with its reference.
#[derive(Debug)]
pub struct Monitor {
    features: Vec<Series>,
    probability: Option<Series>,
    atypicality: Option<Series>,
    population: Option<Population>,
    /// Where dispositions are counted: passed, review, rejected.
    dispositions: u16,
    rows: f64,
    stopped: f64,
    alpha: f64,
    cusum: Option<Cusum>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    windows: Vec<Window>,
    /// Cumulative sums up and down, as shares of their thresholds.
    sums: [f64; 2],
    summed: u64,
    /// Encounters that are in them: a patient must not be added day after day.
    added: HashSet<u64>,
}

impl State {
    /// Whether the cumulative sums have the encounter not yet. They begin anew at zero.
    fn is_new(&mut self, encounter: Option<u64>) -> bool {
        if self.sums.iter().all(|sum| *sum <= 0.0) || self.added.len() >= ENCOUNTERS {
            self.added.clear();
        }
        encounter.is_none_or(|encounter| self.added.insert(encounter))
    }
}

/// A cumulative sum of the probability's ridit (its place in the reference, −½ to ½).
#[derive(Debug)]
struct Cusum {
    ridits: Vec<f64>,
    /// Of the sums upwards and downwards; none when that way is closed.
    thresholds: [Option<f64>; 2],
}

impl Monitor {
    /// For a bundle's reference; `alpha` is the share of rows that its distribution screen flags.
    ///
    /// # Errors
    /// When the histograms are not of the model's features, or are no histograms.
    pub fn new(
        raw: &RawDrift,
        spec: &ModelSpec,
        alpha: Option<f64>,
    ) -> Result<Self, ReferenceError> {
        let reference = Reference::new(raw, spec)?;
        let mut next = 0_u16;
        let mut series = |name: &str, histogram: Histogram| {
            let first = next;
            next += u16::try_from(histogram.counts.len() + 1).unwrap_or_default();
            Series {
                name: name.to_owned(),
                histogram,
                first,
            }
        };
        let names = spec.features.iter().map(|f| f.name.as_str());
        let features: Vec<Series> = names
            .zip(reference.features)
            .map(|(name, histogram)| series(name, histogram))
            .collect();
        let cusum = reference.probability.as_ref().map(Cusum::new);
        let probability = reference.probability.map(|h| series(PROBABILITY, h));
        let uniform = alpha.map(|_| Histogram::uniform(P_BINS, CALIBRATING * reference.rows));
        let atypicality = uniform.map(|h| series(ATYPICALITY, h));
        let slots = usize::from(next) + 3;
        Ok(Self {
            features,
            probability,
            atypicality,
            population: reference.population,
            dispositions: next,
            rows: reference.rows,
            stopped: reference.stopped,
            alpha: alpha.unwrap_or(0.0),
            cusum,
            state: Mutex::new(State {
                windows: SHAPES
                    .iter()
                    .map(|shape| Window::new(*shape, slots))
                    .collect(),
                sums: [0.0; 2],
                summed: 0,
                added: HashSet::new(),
            }),
        })
    }

    /// The bins of a row that passed the distribution screen, which says its p-value.
    pub(crate) fn sighting(&self, row: &Row) -> Sighting {
        let p = row.oddness.as_ref().map(|oddness| oddness.expose().p);
        let measured = row.values().iter().enumerate();
        // A value that was filled in was not measured.
        self.bins(
            measured.map(|(index, value)| (!row.imputed.contains(index)).then_some(*value)),
            p,
        )
    }

    /// The bins of values in the model's order.
    pub fn bins(&self, values: impl Iterator<Item = Option<f64>>, p: Option<f64>) -> Sighting {
        let mut slots = Zeroizing::new(Vec::with_capacity(self.features.len() + 3));
        slots.extend(
            self.features
                .iter()
                .zip(values)
                .map(|(s, value)| s.slot(value)),
        );
        if let (Some(series), Some(_)) = (&self.atypicality, p) {
            slots.push(series.slot(p));
        }
        Sighting(slots)
    }

    /// Adds the members' mean probability.
    pub fn add_probability(&self, sighting: &mut Sighting, probability: f64) {
        if let Some(series) = &self.probability {
            sighting.0.push(series.slot(Some(probability)));
        }
    }

    /// Counts a row. A few hundred additions under a lock that nobody holds for long.
    pub fn count(
        &self,
        sighting: Option<Sighting>,
        ended: Ended,
        encounter: Option<u64>,
        now: Duration,
    ) {
        let disposition = match ended {
            Ended::Passed => 0,
            Ended::Review => 1,
            Ended::Rejected => 2,
        };
        let mut slots = sighting.map_or_else(Zeroizing::default, |sighting| sighting.0);
        slots.push(self.dispositions + disposition);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        for window in &mut state.windows {
            window.count(&slots, encounter, now);
        }
        if let (Some(series), Some(cusum)) = (&self.probability, &self.cusum) {
            let bins = series.first..series.first + u16::try_from(cusum.ridits.len()).unwrap_or(0);
            let slot = slots.iter().find(|slot| bins.contains(slot));
            if let Some(slot) = slot.filter(|_| state.is_new(encounter)) {
                state.summed += 1;
                cusum.add(usize::from(slot - series.first), &mut state.sums);
            }
        }
        drop(state);
        slots.zeroize();
    }

    /// The blocks of the longest window.
    fn day<T>(&self, with: impl FnOnce(&mut VecDeque<Block>) -> T) -> T
    where
        T: Default,
    {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let day = state.windows.last_mut();
        day.map_or_else(T::default, |window| with(window.blocks()))
    }

    /// How many comparisons are made in a window.
    fn comparisons(&self) -> f64 {
        let series = 2 * self.features.len()
            + usize::from(self.probability.is_some())
            + usize::from(self.atypicality.is_some())
            + usize::from(self.population.is_some())
            + 2;
        u32::try_from(series).map_or(f64::INFINITY, f64::from)
    }

    /// Compares every window with the reference.
    pub fn report(&self, now: Duration) -> Vec<WindowReport> {
        let windows: Vec<_> = {
            let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let windows = state.windows.iter_mut();
            windows.map(|w| (*w.shape(), w.sums(now))).collect()
        };
        let judged = windows.iter().map(|(shape, (sums, rows))| {
            let judge = self.judge(shape.looks);
            let all = self
                .features
                .iter()
                .chain(&self.probability)
                .chain(&self.atypicality);
            let missing = self.features.iter();
            WindowReport {
                window: shape.name,
                rows: *rows,
                series: all.filter_map(|s| judge.series(s, sums)).collect(),
                missing: missing
                    .filter_map(|s| judge.missing(s, sums, self.rows))
                    .collect(),
                rates: self.rates(&judge, sums),
                joint: None,
            }
        });
        let mut reports: Vec<WindowReport> = judged.collect();
        let Some(population) = &self.population else {
            return reports;
        };
        let named = self.alarmed(&reports);
        for (report, (shape, (sums, _))) in reports.iter_mut().zip(&windows) {
            let compared = population.compare(&self.features, sums, &named);
            report.joint = compared.map(|found| self.judge(shape.looks).joint(found));
        }
        reports
    }

    fn judge(&self, looks: f64) -> Judge {
        Judge {
            comparisons: self.comparisons(),
            looks,
        }
    }

    /// By feature, whether it has an alarm of its own in any window: what a short window names is
    /// no news of the population in a longer one.
    fn alarmed(&self, reports: &[WindowReport]) -> Vec<bool> {
        let of = |name: &str| {
            reports.iter().any(|report| {
                let mut values = report.series.iter().map(|s| (&s.name, s.alarm));
                let mut missing = report.missing.iter().map(|m| (&m.name, m.alarm));
                values.any(|(of, alarm)| alarm && of == name)
                    || missing.any(|(of, alarm)| alarm && of == name)
            })
        };
        self.features.iter().map(|s| of(&s.name)).collect()
    }

    fn rates(&self, judge: &Judge, sums: &[f64]) -> Vec<RateReport> {
        let first = usize::from(self.dispositions);
        let Some([passed, review, rejected]) = sums.get(first..first + 3) else {
            return Vec::new();
        };
        let rows = passed + review + rejected;
        // What the fit saw, what the distribution screen is calibrated to, and what may come later.
        let expected = self.stopped + self.rows * (self.alpha + LATER_REVIEWS);
        let rates = [("review", *review, expected), ("rejected", *rejected, 0.0)];
        let rates = rates
            .into_iter()
            .filter_map(|(name, k, expected)| judge.rate(name, (k, rows), (expected, self.rows)));
        rates.collect()
    }

    /// The cumulative sums of the probability, up and down, as shares of their thresholds: 1 is an
    /// alarm. None before there are enough rows.
    pub fn cumulative(&self) -> Option<[f64; 2]> {
        self.cusum.as_ref()?;
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (crate::telemetry::number(state.summed) >= LEAST).then_some(state.sums)
    }
}

impl Cusum {
    fn new(histogram: &Histogram) -> Self {
        let (total, ridits) = (histogram.total(), histogram.ridits());
        let shares: Vec<f64> = histogram.counts.iter().map(|c| c / total).collect();
        let downwards: Vec<f64> = ridits.iter().map(|r| -r).collect();
        let threshold = |steps: &[f64]| {
            statistics::lundberg(steps, &shares, ALLOWANCE).map(|root| RUN_LENGTH.ln() / root)
        };
        Self {
            thresholds: [threshold(&ridits), threshold(&downwards)],
            ridits,
        }
    }

    fn add(&self, bin: usize, sums: &mut [f64; 2]) {
        let ridit = self.ridits.get(bin).copied().unwrap_or_default();
        for ((sum, threshold), step) in sums.iter_mut().zip(self.thresholds).zip([ridit, -ridit]) {
            if let Some(threshold) = threshold {
                // It may not grow for ever, or it would take as long to come down again.
                *sum = (*sum + (step - ALLOWANCE) / threshold).clamp(0.0, 1.5);
            }
        }
    }
}

#[cfg(test)]
#[cfg(feature = "tools")]
mod tests;
