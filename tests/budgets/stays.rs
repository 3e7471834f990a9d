//! Stays of patients, scored every two hours: real ones where the data is, else made up.

use std::{fs, path::Path};

use vitalgate::{bundle::model::ModelSpec, screening::Screen};

pub(crate) const PATIENTS: usize = 200;
/// Scorings of each: 30 hours.
pub(crate) const SCORINGS: usize = 16;

pub(crate) struct Model {
    pub(crate) spec: std::sync::Arc<ModelSpec>,
    pub(crate) screen: Screen,
}

impl Model {
    pub(crate) fn icu() -> Self {
        let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/icu-mortality/bundle");
        let read = |name: &str| fs::read(bundle.join(name)).unwrap();
        let spec = ModelSpec::parse(&read("model.json")).unwrap();
        let screen = Screen::parse(&read("reference.json"), &spec).unwrap();
        Self {
            screen: screen.unwrap(),
            spec,
        }
    }

    /// As the server rounds: to the declared step.
    fn rounded(&self, row: &[f64]) -> Vec<f64> {
        let features = self.spec.features.iter();
        let steps = features.map(|f| f.precision.unwrap_or(0.01));
        let values = row.iter().zip(steps);
        values
            .map(|(value, step)| (value / step).round() * step)
            .collect()
    }
}

/// Seeded uniform numbers in [0, 1) (xorshift64*).
pub(crate) struct Seeded(pub(crate) u64);

impl Seeded {
    pub(crate) fn next(&mut self) -> f64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        mixed as f64 / (1u64 << 53) as f64
    }
}

/// For each patient its rows, two hours apart.
pub(crate) fn stays(model: &Model, seeded: &mut Seeded) -> Vec<Vec<Vec<f64>>> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let snapshots = fs::read_to_string(shared.join("icu2012_ab_snapshots.csv"));
    if let Ok(text) = &snapshots {
        println!("real stays, {PATIENTS} patients");
        return real(model, text, seeded);
    }
    println!("the real stays are not here; made-up patients");
    made_up(model, seeded)
}

/// An hour and its values.
type Snapshot = (f64, Vec<f64>);

/// Snapshots at 18, 30, 36, 42 and 48 h. Between two a value changes once, at a time of its own;
/// pressures, rate, temperature and urine (the columns that are charted hourly) move along.
fn real(model: &Model, text: &str, seeded: &mut Seeded) -> Vec<Vec<Vec<f64>>> {
    let mut patients: Vec<(String, Vec<Snapshot>)> = Vec::new();
    for line in text.lines().skip(1) {
        let fields: Vec<&str> = line.split(',').collect();
        let values = fields[2..]
            .iter()
            .map(|f| f.parse().unwrap_or(f64::NAN))
            .collect();
        let hour = fields[1].parse().unwrap();
        match patients.last_mut() {
            Some((id, rows)) if id == fields[0] => rows.push((hour, values)),
            _ => patients.push((fields[0].to_owned(), vec![(hour, values)])),
        }
    }
    patients.retain(|(_, rows)| rows.len() == 5);
    let every = patients.len() / PATIENTS;
    let chosen = patients.into_iter().step_by(every).take(PATIENTS);
    chosen
        .map(|(_, rows)| interpolated(model, rows, seeded))
        .collect()
}

fn interpolated(model: &Model, mut rows: Vec<Snapshot>, seeded: &mut Seeded) -> Vec<Vec<f64>> {
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    let features = rows[0].1.len();
    let turns: Vec<Vec<f64>> = (0..4)
        .map(|_| (0..features).map(|_| seeded.next()).collect())
        .collect();
    let at = |hour: f64| {
        let next = rows
            .iter()
            .position(|(h, _)| *h > hour)
            .unwrap_or(4)
            .clamp(1, 4);
        let ((from, a), (to, b)) = (&rows[next - 1], &rows[next]);
        let passed = ((hour - from) / (to - from)).min(1.0);
        let value = |j: usize| {
            if (2..7).contains(&j) {
                a[j] + (b[j] - a[j]) * passed
            } else if passed >= turns[next - 1][j] {
                b[j]
            } else {
                a[j]
            }
        };
        model.rounded(&(0..features).map(value).collect::<Vec<_>>())
    };
    (0..SCORINGS).map(|n| at(18.0 + 2.0 * n as f64)).collect()
}

fn made_up(model: &Model, seeded: &mut Seeded) -> Vec<Vec<Vec<f64>>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/icu-mortality/synthetic.csv");
    let text = fs::read_to_string(path).unwrap();
    let lines = text.lines().skip(1).take(PATIENTS);
    let patients = lines.map(|line| -> Vec<f64> {
        line.split(',')
            .map(|f| f.parse().unwrap_or(f64::NAN))
            .collect()
    });
    patients
        .map(|mut row| {
            let mut rows = Vec::new();
            for _ in 0..SCORINGS {
                for (j, value) in row.iter_mut().enumerate().skip(2) {
                    let changes = seeded.next() < if j < 7 { 0.8 } else { 0.12 };
                    // Whole numbers that say what is or is not do not move by a share.
                    if changes && j != 8 && j != 7 {
                        *value *= 1.0 + 0.06 * (seeded.next() - 0.5);
                    }
                }
                rows.push(model.rounded(&row));
            }
            rows
        })
        .collect()
}
