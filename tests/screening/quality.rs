//! Fits on real patients, where the rows are at hand, and holds the fit to what it promises.

use std::{fs, path::Path};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use vitalgate::{
    bundle::model::ModelSpec,
    screening::{
        Scratch,
        evaluation::{Family, Population, auroc},
        fit::{Options, Patient, Quality, calibrate, fit, score},
        rows::{Columns, Earlier, Groups, Rows, earlier, traits},
    },
};

const MAP: [(&str, &str); 20] = [
    ("Age", "age"),
    ("Male", "male"),
    ("HR", "heart_rate"),
    ("SBP", "systolic_bp"),
    ("DBP", "diastolic_bp"),
    ("MAP", "mean_bp"),
    ("Temp", "temperature"),
    ("GCS", "gcs"),
    ("MechVent", "mechanical_ventilation"),
    ("Urine24", "urine_24h"),
    ("BUN", "bun"),
    ("Creatinine", "creatinine"),
    ("Na", "sodium"),
    ("K", "potassium"),
    ("HCO3", "bicarbonate"),
    ("Glucose", "glucose"),
    ("WBC", "wbc"),
    ("HCT", "hematocrit"),
    ("Platelets", "platelets"),
    ("Mg", "magnesium"),
];

/// How many of `n` new patients are flagged when `m` calibrated the threshold is beta-binomial;
/// the 99% interval of their share, normal approximation.
fn interval(alpha: f64, m: usize, n: usize) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "counts of patients")]
    let (m, n) = (m as f64, n as f64);
    // p ≤ alpha happens for the ⌊alpha (m+1)⌋ highest ranks of m + 1.
    let share = (alpha * (m + 1.0)).floor() / (m + 1.0);
    let sd = (share * (1.0 - share) * (1.0 / (m + 2.0) + 1.0 / n)).sqrt();
    (share - 2.6 * sd, share + 2.6 * sd)
}

#[test]
fn a_quick_fit_finds_corrupted_patients_and_keeps_alpha() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/icu2012_ab.csv");
    let Ok(file) = fs::File::open(&data) else {
        println!("not run: {} is not there", data.display());
        return;
    };
    let model = super::fitting::models().join("icu-mortality/bundle/model.json");
    let spec = ModelSpec::parse(&fs::read(model).unwrap()).unwrap();
    let columns = Columns {
        map: MAP
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect(),
        group: Some("RecordID".to_owned()),
    };
    let mut patients = Rows::read(file, &spec, &columns, &mut Groups::default())
        .unwrap()
        .patients;
    patients.retain(|p| earlier(&spec, &p.values, false) == Earlier::Passes);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    patients.shuffle(&mut rng);
    // Part of them: this runs without optimisation.
    patients.truncate(2600);
    let test = patients.split_off(1600);
    let traits = traits(&spec);
    let options = Options {
        quality: Quality::Quick,
        max_missing: spec.review.max_missing,
        ..Options::default()
    };
    let fitted = fit((&spec.name, 1), &traits, &patients, &[], &options, &()).unwrap();

    // Corrupted patients score higher: worse than this and the network learned nothing.
    let rows: Vec<&[f32]> = test.iter().map(|p| p.values.as_slice()).collect();
    let population = Population::new(&rows);
    let mut scratch = Scratch::default();
    let mut combined = |row: &[f32]| {
        let values = row.iter().map(|v| f64::from(*v));
        fitted.screen.judge(values, &mut scratch).combined
    };
    let clean: Vec<f32> = rows.iter().map(|row| combined(row)).collect();
    let passes = |row: &[f32]| earlier(&spec, row, false) == Earlier::Passes;
    let mut areas = Vec::new();
    for family in Family::ALL {
        let corrupted: Vec<f32> = (0..rows.len())
            .step_by(2)
            .filter_map(|i| family.corrupt(&traits, &population, i, &passes, &mut rng))
            .map(|(row, _)| combined(&row))
            .collect();
        areas.push(auroc(&clean, &corrupted));
    }
    let mean = areas.iter().sum::<f64>() / 10.0;
    assert!(mean > 0.75, "{areas:.3?}");

    // Calibration and test patients, dealt out again and again.
    let aside: Vec<&Patient> = test.iter().collect();
    let mut scored = score(&fitted.screen, &aside, &traits, &options);
    scored.extend(&fitted.calibration);
    scored.retain(|s| s.missing == 0 && !s.masked);
    let half = scored.len() / 2;
    let levels = [0.005, 0.01, 0.02, 0.05];
    let mut outside = 0;
    for _ in 0..100 {
        scored.shuffle(&mut rng);
        let (calibration, held_out) = scored.split_at(half);
        let mut reference = fitted.reference.clone();
        reference.calibration = calibrate(calibration, &options);
        let screen = vitalgate::screening::Screen::new(&reference).unwrap();
        for alpha in levels {
            let judge = |s: &&vitalgate::screening::fit::Scored| {
                screen.calibration().judge(&s.scores, 0).p <= alpha
            };
            #[expect(clippy::cast_precision_loss, reason = "a count of patients")]
            let flagged = held_out.iter().filter(judge).count() as f64 / held_out.len() as f64;
            let (low, high) = interval(alpha, calibration.len(), held_out.len());
            outside += usize::from(!(low..=high).contains(&flagged));
        }
    }
    // One in a hundred is expected outside; the deals are of the same patients, so together.
    assert!(outside <= 20, "{outside} of 400 outside");
}
