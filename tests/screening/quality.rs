//! Fits on real patients, where the rows are at hand, and holds the fit to what it promises.

use std::{fs, path::Path};

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use vitalgate::{
    bundle::model::ModelSpec,
    evaluation::{
        families::{Corrupter, Family},
        metrics::separation,
    },
    screening::{
        Scratch,
        fit::{Admitted, Earlier, Options, Patient, Quality, calibrate, fit, score, traits},
    },
    training_data::{Columns, Table},
};

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
    let Ok(bytes) = fs::read(&data) else {
        println!("not run: {} is not there", data.display());
        return;
    };
    let model = super::fitting::models().join("icu-mortality/bundle/model.json");
    let spec = ModelSpec::parse(&fs::read(model).unwrap()).unwrap();
    let columns = Columns {
        group: Some("RecordID".to_owned()),
        ..Columns::default()
    };
    let table = Table::read(&bytes, &spec, &columns).unwrap();
    let mut patients = Admitted::of(&spec, &table, 0).passing;
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
    let rows: Vec<Vec<f64>> = test
        .iter()
        .map(|p| p.values.iter().map(|v| f64::from(*v)).collect())
        .collect();
    let rows: Vec<&[f64]> = rows.iter().map(Vec::as_slice).collect();
    let corrupter = Corrupter::new(&spec, &rows);
    let mut scratch = Scratch::default();
    let mut combined = |row: &[f64]| {
        let judgement = fitted.screen.judge(row.iter().copied(), &mut scratch);
        f64::from(judgement.combined)
    };
    let clean: Vec<f64> = rows.iter().map(|row| combined(row)).collect();
    let mut areas = Vec::new();
    for family in Family::ALL {
        let copies = (0..rows.len())
            .step_by(2)
            .filter_map(|row| corrupter.copy(family, row, &mut rng));
        let odd: Vec<f64> = copies
            .filter(|(row, _)| Admitted::stage(&spec, row) == Earlier::Passes)
            .map(|(row, _)| combined(&row))
            .collect();
        if odd.len() > 50 {
            areas.push(separation(&clean, &odd));
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "a handful of families")]
    let mean = areas.iter().sum::<f64>() / areas.len() as f64;
    assert!(areas.len() >= 10 && mean > 0.75, "{areas:.3?}");

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
