//! How soon the drift monitor sees a shift, and how often it sees one where there is none.
//!
//! `cargo bench --bench drift`. Traffic is drawn from the ICU rows in `../shared/data`, or, when
//! they are not there, from the synthetic patients of the demo model; the output says which.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::indexing_slicing,
    reason = "a benchmark that cannot start must stop, and prints"
)]

use std::{fs, path::Path, sync::Arc, time::Duration};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use vitalgate::{
    bundle::{engine_spec, model::ModelSpec, parse_drift, parse_model, parse_screen},
    drift::{
        Ended, Monitor, POPULATION, PROBABILITY,
        reference::{RawDrift, RawHistogram, correlation, histogram},
    },
    evaluation::{path::Plain, predictions},
    inference::{Engine, Execution, PINNED_SHA256, Runtime, find_library},
    screening::{Scratch, Screen},
    training_data::{Columns, Table},
};

/// Streams a figure is of.
const STREAMS: u64 = 200;
/// Rows of a reference: as many as the shipped one has.
const ROWS: usize = 4_988;
const MONTH: u32 = 30 * 86_400;
/// Seconds between two looks: a scrape interval.
const LOOK: u32 = 15;
const START: Duration = Duration::from_secs(1_700_000_000);

/// What the monitor is told of a patient.
struct Patient {
    values: Vec<f64>,
    p: f64,
    probability: f64,
    ward: u32,
}

struct Model {
    spec: Arc<ModelSpec>,
    screen: Screen,
    plain: Engine<Plain>,
    shipped: Monitor,
}

fn model() -> Model {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/icu-mortality/bundle");
    let mut files = std::collections::BTreeMap::new();
    for name in ["model.json", "reference.json"] {
        files.insert(name.to_owned(), fs::read(bundle.join(name)).unwrap());
    }
    let spec = parse_model(&bundle, &files).unwrap();
    for member in &spec.members {
        files.insert(
            member.file.clone(),
            fs::read(bundle.join(&member.file)).unwrap(),
        );
    }
    let screen = parse_screen(&bundle, &files, &spec).unwrap().unwrap();
    let shipped = parse_drift(&bundle, &files, &spec, Some(&screen))
        .unwrap()
        .unwrap();
    let engine = engine_spec(&bundle, &spec, &mut files, Execution::Cpu).unwrap();
    let runtime = Runtime::load(&find_library(None).unwrap(), PINNED_SHA256).unwrap();
    Model {
        plain: Engine::start(&runtime, &engine).unwrap(),
        spec,
        screen,
        shipped,
    }
}

impl Model {
    /// The rows of a file that the server would not reject.
    fn patients(&self, bytes: &[u8], ward: Option<&str>) -> (Vec<Patient>, Vec<String>) {
        let columns = Columns {
            batch: ward.map(str::to_owned),
            ..Columns::default()
        };
        let table = Table::read(bytes, &self.spec, &columns).unwrap();
        let predicted = predictions(&self.spec, &self.plain, &table).unwrap();
        let mut scratch = Scratch::default();
        let mut patients = Vec::new();
        for (index, members) in predicted.iter().enumerate() {
            // The networks were asked only where the row could be parsed.
            if members.is_empty() {
                continue;
            }
            let values = table.row(index).to_vec();
            let p = self.screen.judge(values.iter().copied(), &mut scratch).p;
            let count = f64::from(u32::try_from(members.len()).unwrap());
            patients.push(Patient {
                values,
                p,
                probability: members.iter().sum::<f64>() / count,
                ward: table.batches().map_or(0, |batches| batches.of[index]),
            });
        }
        let wards = table.batches().map(|batches| batches.names.clone());
        (patients, wards.unwrap_or_default())
    }

    /// A reference that is a sample of these patients, as a fit's is of a population.
    fn sampled(&self, of: &[&Patient], rows: usize, rng: &mut ChaCha8Rng) -> RawDrift {
        let sample: Vec<&Patient> = (0..rows)
            .map(|_| of[rng.random_range(0..of.len())])
            .collect();
        #[expect(clippy::cast_possible_truncation, reason = "edges are float32")]
        let narrow = |v: f64| v as f32;
        let features = self
            .spec
            .features
            .iter()
            .enumerate()
            .map(|(index, feature)| {
                let values: Vec<f32> = sample.iter().map(|p| narrow(p.values[index])).collect();
                histogram(&feature.name, &values, 5)
            });
        let probabilities: Vec<f32> = sample
            .iter()
            .take(880)
            .map(|p| narrow(p.probability))
            .collect();
        let features: Vec<RawHistogram> = features.collect();
        RawDrift {
            rows: u32::try_from(rows).unwrap(),
            stopped: 0,
            correlation: correlation(&features, sample.iter().map(|p| p.values.as_slice())),
            features,
            probability: Some(histogram(PROBABILITY, &probabilities, 5)),
        }
    }

    fn monitor(&self, reference: &RawDrift) -> Monitor {
        Monitor::new(reference, &self.spec, Some(0.01)).unwrap()
    }
}

fn references(model: &Model, of: &[&Patient], rng: &mut ChaCha8Rng) -> Vec<RawDrift> {
    (0..10).map(|_| model.sampled(of, ROWS, rng)).collect()
}

fn of_stream(references: &[RawDrift], stream: u64) -> &RawDrift {
    &references[usize::try_from(stream).unwrap() % references.len()]
}

fn pick<'p>(of: &'p [Patient], rng: &mut ChaCha8Rng) -> &'p Patient {
    &of[rng.random_range(0..of.len())]
}

fn count(
    monitor: &Monitor,
    values: &[f64],
    patient: &Patient,
    encounter: Option<u64>,
    now: Duration,
) {
    let measured = values.iter().map(|v| (!v.is_nan()).then_some(*v));
    let mut sighting = monitor.bins(measured, Some(patient.p));
    let ended = if patient.p <= 0.01 {
        Ended::Review
    } else {
        monitor.add_probability(&mut sighting, patient.probability);
        Ended::Passed
    };
    monitor.count(Some(sighting), ended, encounter, now);
}

/// What alarms, and the evidence in the last 100 rows: the strongest of a single series, and of
/// all features together.
fn look(monitor: &Monitor, now: Duration) -> (Vec<String>, [f64; 2]) {
    let (mut alarms, mut single, mut together) = (Vec::new(), 0.0_f64, 0.0);
    for report in monitor.report(now) {
        for series in report.series {
            if report.window == "100" {
                single = single.max(series.evidence);
            }
            if series.alarm {
                alarms.push(format!("{} {}", report.window, series.name));
            }
        }
        if let Some(joint) = report.joint {
            if report.window == "100" {
                together = joint.evidence;
            }
            if joint.alarm {
                alarms.push(format!("{} {POPULATION}", report.window));
            }
        }
        let rates = report.missing.into_iter().map(|r| ("missing", r));
        for (kind, rate) in rates.chain(report.rates.into_iter().map(|r| ("rate", r))) {
            if rate.alarm {
                alarms.push(format!("{} {} {kind}", report.window, rate.name));
            }
        }
    }
    let summed = monitor.cumulative();
    if summed.is_some_and(|sums| sums.iter().any(|sum| *sum >= 1.0)) {
        alarms.push("cusum".to_owned());
    }
    (alarms, [single, together])
}

/// Rows of the same patients at one a second for a month, looked at every scrape.
fn a_month(model: &Model, population: &[Patient], seed: u64) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let all: Vec<&Patient> = population.iter().collect();
    let monitor = model.monitor(&model.sampled(&all, ROWS, &mut rng));
    let mut raised = Vec::<String>::new();
    let mut on = Vec::<String>::new();
    for second in 0..MONTH {
        let now = START + Duration::from_secs(u64::from(second));
        let patient = pick(population, &mut rng);
        count(
            &monitor,
            &patient.values,
            patient,
            Some(u64::from(second)),
            now,
        );
        if second % LOOK == 0 {
            let (alarms, _) = look(&monitor, now);
            raised.extend(alarms.iter().filter(|a| !on.contains(a)).cloned());
            on = alarms;
        }
    }
    raised
}

/// Of many streams: share that alarms within 100 and within 1,000 changed rows, median rows until
/// then, and shares with p < .001 after Bonferroni at 100 rows, by a single series and by all
/// features together.
fn detection(
    monitor: impl Fn(u64) -> Monitor,
    draw: impl Fn(&mut ChaCha8Rng) -> (Vec<f64>, usize),
    of: &[Patient],
) -> String {
    let (mut rows_until, mut at_001) = (Vec::new(), [0; 2]);
    for stream in 0..STREAMS {
        let mut rng = ChaCha8Rng::seed_from_u64(stream);
        let monitor = monitor(stream);
        let mut found = None;
        for row in 1..=1_000_u32 {
            let now = START + Duration::from_secs(u64::from(row));
            let (values, index) = draw(&mut rng);
            count(&monitor, &values, &of[index], None, now);
            if row % 5 == 0 && (found.is_none() || row == 100) {
                let (alarms, evidence) = look(&monitor, now);
                found = found.or((!alarms.is_empty()).then_some(row));
                for (sum, evidence) in at_001.iter_mut().zip(evidence) {
                    *sum += usize::from(row == 100 && evidence > 3.0);
                }
            }
            if found.is_some() && row >= 100 {
                break;
            }
        }
        rows_until.extend(found);
    }
    rows_until.sort_unstable();
    let share = |n: usize| 0.5 * f64::from(u32::try_from(n).unwrap());
    let soon = rows_until.iter().filter(|rows| **rows <= 100).count();
    let median = rows_until.get(rows_until.len() / 2);
    let median = median.map_or("–".to_owned(), ToString::to_string);
    format!(
        "| {:.1}% | {:.1}% | {median} | {:.1}% | {:.1}% |",
        share(soon),
        share(rows_until.len()),
        share(at_001[0]),
        share(at_001[1])
    )
}

fn main() {
    let model = model();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let data = root.join("../shared/data/icu2012_ab.csv");
    let (population, wards) = if let Ok(bytes) = fs::read(&data) {
        println!("traffic: rows of ../shared/data/icu2012_ab.csv");
        model.patients(&bytes, Some("ICUType"))
    } else {
        println!("traffic: the synthetic patients, since ../shared/data is not there");
        let synthetic = root.join("models/icu-mortality/synthetic.csv");
        model.patients(&fs::read(synthetic).unwrap(), None)
    };
    println!("{} patients\n", population.len());
    println!(
        "| traffic | alarm within 100 rows | within 1,000 | median rows | p < .001 at 100 rows, one series | all features |\n|---|---|---|---|---|---|"
    );
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let references = references(&model, &population.iter().collect::<Vec<_>>(), &mut rng);
    let fresh = |stream: u64| model.monitor(of_stream(&references, stream));
    let any = |rng: &mut ChaCha8Rng| rng.random_range(0..population.len());
    let same = |rng: &mut ChaCha8Rng| {
        let index = any(rng);
        (population[index].values.clone(), index)
    };
    println!(
        "| the same patients {}",
        detection(fresh, same, &population)
    );
    for (number, ward) in wards.iter().enumerate() {
        let of: Vec<usize> = (0..population.len())
            .filter(|&i| population[i].ward as usize == number)
            .collect();
        let draw = |rng: &mut ChaCha8Rng| {
            let index = of[rng.random_range(0..of.len())];
            (population[index].values.clone(), index)
        };
        let name = match ward.as_str() {
            "1.0" => "coronary unit only",
            "3.0" => "medical unit only",
            "4.0" => "surgical unit only",
            other => other,
        };
        println!(
            "| {name} ({} patients) {}",
            of.len(),
            detection(fresh, draw, &population)
        );
        let others: Vec<&Patient> = population
            .iter()
            .filter(|p| p.ward as usize != number)
            .collect();
        let others = self::references(&model, &others, &mut rng);
        let unknown = |stream: u64| model.monitor(of_stream(&others, stream));
        println!(
            "| the same, unknown to the model {}",
            detection(unknown, draw, &population)
        );
    }
    let at = |name: &str| model.spec.by_name[name];
    let changed = |feature: &str, factor: f64| {
        let feature = at(feature);
        let any = &any;
        let population = &population;
        move |rng: &mut ChaCha8Rng| {
            let index = any(rng);
            let mut values = population[index].values.clone();
            values[feature] = if factor.is_nan() {
                factor
            } else {
                values[feature] * factor
            };
            (values, index)
        }
    };
    for (what, feature, factor) in [
        ("glucose in mmol/L", "glucose", 1.0 / 18.016),
        ("creatinine in µmol/L", "creatinine", 88.42),
        ("urea for urea nitrogen", "bun", 2.14),
        ("haematocrit as a fraction", "hematocrit", 0.01),
        ("heart rate 10% low", "heart_rate", 0.9),
        ("magnesium in mmol/L", "magnesium", 0.4114),
        ("magnesium silent", "magnesium", f64::NAN),
        ("bicarbonate silent", "bicarbonate", f64::NAN),
    ] {
        let draw = changed(feature, factor);
        println!("| {what} {}", detection(fresh, draw, &population));
    }
    dependent(&model, &population);
    for seed in 1..=2 {
        let raised = a_month(&model, &population, seed);
        println!(
            "a month of the same patients, one a second, a look every {LOOK} s (seed {seed}): {} alarms {raised:?}",
            raised.len()
        );
    }
}

/// Ten patients, scored every two hours for a week, against the shipped reference.
fn dependent(model: &Model, population: &[Patient]) {
    let mut alarmed = 0;
    for start in 0..100 {
        let (monitor, mut any) = (&model.shipped, false);
        for round in 0..84_u64 {
            let now = START + Duration::from_secs(7 * 86_400 * 10 * start + round * 7_200);
            for number in 0..10_u64 {
                let index = usize::try_from(start * 10 + number).unwrap() % population.len();
                let patient = &population[index];
                count(
                    monitor,
                    &patient.values,
                    patient,
                    Some(start * 10 + number),
                    now,
                );
            }
            any |= !look(monitor, now).0.is_empty();
        }
        alarmed += u32::from(any);
    }
    println!(
        "\nten patients scored every two hours, 100 weeks of them: {alarmed} weeks with an alarm"
    );
}
