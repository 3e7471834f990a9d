//! A ward's honest day, by a simulated clock: 200 patients, each scored again every two hours by one
//! record system with the budget that the rule gives. Hardly anybody is slowed, and nobody stopped.
#![cfg(feature = "tools")]

use std::{collections::BTreeMap, fs, path::Path};

use aws_lc_rs::hmac;
use rand::{RngExt, SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;

use super::{Clinical, Detail, Embedder, Ledger, Query, Step, Terms};
use crate::{
    bundle::model::ModelSpec,
    clinical,
    config::{CallerLimits, RowsPerDay},
    schema, screening,
    screening::{InDistribution, Screen},
    specimens,
};

const PATIENTS: usize = 200;
/// In a day, one every two hours.
const SCORINGS: usize = 12;
const HOUR: u64 = 3_600_000;
/// Midnight of some day, Unix milliseconds.
const MIDNIGHT: u64 = 20_000 * 24 * HOUR;
/// What is measured together changes together: a cuff, a chemistry panel, a blood count.
const PANELS: [&[usize]; 3] = [&[3, 4, 5], &[10, 11, 12, 13, 14, 15, 19], &[16, 17, 18]];

type Values = [f64; 20];

fn screen() -> Screen {
    let text = include_bytes!("../../models/icu-mortality/bundle/reference.json");
    Screen::new(&serde_json::from_slice(text).unwrap()).unwrap()
}

fn body(spec: &ModelSpec, values: &Values) -> String {
    let written = spec
        .features
        .iter()
        .zip(values)
        .filter(|(_, v)| !v.is_nan());
    let members: Vec<String> = written
        .map(|(f, v)| format!("\"{}\": {v}", f.name))
        .collect();
    format!("{{\"observations\": {{{}}}}}", members.join(", "))
}

/// The columns of a table by their places; empty fields are missing values.
fn table(path: &Path) -> Option<Vec<Vec<f64>>> {
    let text = fs::read_to_string(path).ok()?;
    let rows = text.lines().skip(1);
    let number = |field: &str| field.parse().unwrap_or(f64::NAN);
    Some(rows.map(|r| r.split(',').map(number).collect()).collect())
}

/// Real patients at 24, 30, 36, 42 and 48 h, where the data is there.
fn real() -> Option<Vec<[Values; 5]>> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data");
    let mut stays: BTreeMap<u64, BTreeMap<u64, Values>> = BTreeMap::new();
    let mut note = |row: &[f64], hour: f64, from: usize| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "small and whole"
        )]
        let (patient, hour) = (row[0] as u64, hour as u64);
        let values = row[from..from + 20].try_into().unwrap();
        stays.entry(patient).or_default().insert(hour, values);
    };
    for row in table(&data.join("icu2012_ab.csv"))? {
        note(&row, 24.0, 2);
    }
    for row in table(&data.join("icu2012_ab_snapshots.csv"))? {
        note(&row, row[1], 2);
    }
    // Bicarbonate and magnesium may be missing, the others may not.
    let complete = |v: &Values| (0..20).all(|j| j == 14 || j == 19 || !v[j].is_nan());
    let of = |hours: &BTreeMap<u64, Values>| {
        let all = [24, 30, 36, 42, 48].map(|hour| hours.get(&hour).copied().filter(complete));
        all.into_iter().collect::<Option<Vec<_>>>()?.try_into().ok()
    };
    Some(stays.values().filter_map(of).collect())
}

/// Synthetic patients; between two of their snapshots a third of the values move a little.
fn synthetic(rng: &mut ChaCha8Rng) -> Vec<[Values; 5]> {
    let text = include_str!("../../models/icu-mortality/synthetic.csv");
    let number = |field: &str| field.parse().unwrap();
    let rows = text
        .lines()
        .skip(1)
        .map(|r| r.split(',').map(number).collect::<Vec<f64>>());
    rows.map(|row| {
        let mut values: Values = row.try_into().unwrap();
        std::array::from_fn(|_| {
            for (j, value) in values.iter_mut().enumerate() {
                let moves = ![0, 1, 3, 4, 5, 7, 8].contains(&j) && rng.random_range(0..3) == 0;
                if moves {
                    *value *= 1.0 + rng.random_range(-0.05..0.05);
                }
            }
            values
        })
    })
    .collect()
}

/// The twelve scorings of a stay: what is new at a snapshot comes at one of the hours before it.
fn scorings(stay: &[Values; 5], rng: &mut ChaCha8Rng) -> Vec<Values> {
    let mut scorings = Vec::new();
    for pair in stay.windows(2) {
        let mut changes: [usize; 20] = std::array::from_fn(|_| rng.random_range(1..=3));
        for panel in PANELS {
            for &j in panel {
                changes[j] = changes[panel[0]];
            }
        }
        for step in 1..=3 {
            scorings.push(std::array::from_fn(|j| {
                pair[usize::from(step >= changes[j])][j]
            }));
        }
    }
    assert_eq!(scorings.len(), SCORINGS);
    scorings
}

/// Scorings that were answered with less than they should have been, and all; and how far it went.
fn day(mut stays: Vec<[Values; 5]>, seed: u64) -> (usize, usize, Step) {
    let (spec, screen) = (specimens::icu(), screen());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    stays.shuffle(&mut rng);
    let ward: Vec<Vec<Values>> = stays
        .iter()
        .take(PATIENTS)
        .map(|s| scorings(s, &mut rng))
        .collect();
    assert_eq!(ward.len(), PATIENTS);
    let key = hmac::Key::new(hmac::HMAC_SHA256, &seed.to_le_bytes());
    let names: Vec<&str> = spec.features.iter().map(|f| f.name.as_str()).collect();
    let embedder = Embedder::new(&key, &screen, names.into_iter());
    let limits = CallerLimits {
        // 200 beds x 24 / 2 x 1.5.
        rows_per_day: RowsPerDay::Limited(3600),
        ..CallerLimits::DEFAULT
    };
    let terms = Terms::new(&limits, Clinical::RecordSystem, &spec.queries);
    let (mut ledger, mut less, mut all, mut furthest) = (Ledger::default(), 0, 0, Step::None);
    for scoring in 0..SCORINGS {
        for (patient, stay) in ward.iter().enumerate() {
            let bytes = body(&spec, &stay[scoring]);
            let observed = schema::parse(&spec, bytes.as_bytes()).unwrap();
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes.as_bytes());
            let mut query = Query {
                fingerprint: u64::from_le_bytes(digest.as_ref()[..8].try_into().unwrap()),
                embedding: Some(embedder.embed(&screen, observed.row().values().iter().copied())),
                flagged: false,
                answered: true,
                version: 1,
            };
            let screened = clinical::check_ranges(observed).and_then(clinical::check_consistency);
            let screened = screened.map(|c| screening::check_distribution(Some(&screen), c));
            query.flagged = screened.as_ref().map_or(true, InDistribution::is_flagged);
            query.answered = screened.is_ok_and(|s| s.leads_on());
            let minutes = u64::try_from(patient * 120 / PATIENTS).unwrap();
            let now = MIDNIGHT + u64::try_from(scoring).unwrap() * 2 * HOUR + minutes * 60_000;
            // And whoever is flagged is sent again at once, unchanged.
            for _ in 0..=u8::from(query.flagged) {
                let verdict = ledger.enter(&query, &terms, now);
                less += usize::from(verdict.outcome != Ok(Detail::Full));
                all += 1;
                furthest = furthest.max(verdict.step);
            }
        }
    }
    (less, all, furthest)
}

#[test]
fn a_ward_that_is_scored_every_two_hours_is_hardly_ever_slowed() {
    let mut wards = vec![("synthetic", synthetic(&mut ChaCha8Rng::seed_from_u64(1)))];
    match real() {
        Some(stays) => wards.push(("real", stays)),
        None => println!("skipped: real patients, for want of ../shared/data"),
    }
    for (kind, stays) in wards {
        let (mut less, mut all) = (0, 0);
        for seed in 0..2 {
            let (slowed, scorings, furthest) = day(stays.clone(), seed);
            println!("{kind} patients, day {seed}: {slowed} of {scorings}, as far as {furthest:?}");
            assert!(furthest <= Step::BandsOnly, "{furthest:?}");
            (less, all) = (less + slowed, all + scorings);
        }
        assert!(less * 200 <= all, "{kind}: {less} of {all} were slowed");
    }
}
