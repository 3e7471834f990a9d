//! On invented populations, with a clock that runs as fast as rows are counted.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::{
    reference::{RawDrift, RawHistogram, correlation, histogram},
    *,
};
use crate::specimens;

mod kept;

const FEATURES: usize = 20;
const ROWS: usize = 4000;

/// A patient of an invented population: values that depend on each other, some missing.
fn patient(rng: &mut ChaCha8Rng) -> Vec<f32> {
    let severity = normal(rng);
    (0..FEATURES)
        .map(|index| {
            let value = 100.0 + 10.0 * (0.6 * severity + 0.8 * normal(rng));
            match index {
                1 => f32::from(u8::from(value > 100.0)),
                _ if rng.random::<f32>() < 0.02 => f32::NAN,
                _ => value.round(),
            }
        })
        .collect()
}

fn normal(rng: &mut ChaCha8Rng) -> f32 {
    let u: f32 = 1.0 - rng.random::<f32>();
    (-2.0 * u.ln()).sqrt() * (std::f32::consts::TAU * rng.random::<f32>()).cos()
}

fn monitor(rng: &mut ChaCha8Rng) -> Monitor {
    let spec = specimens::icu();
    assert_eq!(spec.features.len(), FEATURES);
    let rows: Vec<Vec<f32>> = (0..ROWS).map(|_| patient(rng)).collect();
    let column = |index: usize| rows.iter().map(|r| r[index]).collect::<Vec<f32>>();
    let names = spec.features.iter().enumerate();
    let probabilities: Vec<f32> = rows.iter().map(|r| probability(r)).collect();
    let features: Vec<RawHistogram> = names
        .map(|(index, feature)| histogram(&feature.name, &column(index), 5))
        .collect();
    let wide: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| row.iter().map(|v| f64::from(*v)).collect())
        .collect();
    let raw = RawDrift {
        rows: ROWS.try_into().unwrap(),
        stopped: 40,
        correlation: correlation(&features, wide.iter().map(Vec::as_slice)),
        features,
        probability: Some(histogram(PROBABILITY, &probabilities, 5)),
    };
    Monitor::new(&raw, &spec, Some(0.01)).unwrap()
}

/// What a model might say of a patient.
fn probability(values: &[f32]) -> f32 {
    let measured = values.iter().filter(|v| !v.is_nan());
    let logit: f32 = measured.map(|v| (v - 100.0) / 60.0).sum::<f32>() - 2.0;
    1.0 / (1.0 + (-logit).exp())
}

fn count(
    monitor: &Monitor,
    values: &[f32],
    rng: &mut ChaCha8Rng,
    encounter: Option<u64>,
    now: Duration,
) {
    let p = f64::from(rng.random::<f32>()).max(0.001);
    let measured = values.iter().map(|v| (!v.is_nan()).then(|| f64::from(*v)));
    let mut sighting = monitor.bins(measured, Some(p));
    let ended = if p <= 0.01 || rng.random::<f32>() < 0.01 {
        Ended::Review
    } else {
        monitor.add_probability(&mut sighting, f64::from(probability(values)));
        Ended::Passed
    };
    monitor.count(Some(sighting), ended, encounter, now);
}

/// Alarms as `window series test`.
fn alarms(monitor: &Monitor, now: Duration) -> Vec<String> {
    let mut alarms = Vec::new();
    for report in monitor.report(now) {
        let window = report.window;
        let values = report.series.iter().filter(|s| s.alarm);
        alarms.extend(values.map(|s| format!("{window} {} values", s.name)));
        let missing = report.missing.iter().filter(|r| r.alarm);
        alarms.extend(missing.map(|r| format!("{window} {} missing", r.name)));
        let rates = report.rates.iter().filter(|r| r.alarm);
        alarms.extend(rates.map(|r| format!("{window} {} rate", r.name)));
        let joint = report.joint.filter(|joint| joint.alarm);
        alarms.extend(joint.map(|_| format!("{window} {POPULATION} joint")));
    }
    if monitor
        .cumulative()
        .is_some_and(|sums| sums.iter().any(|s| *s >= 1.0))
    {
        alarms.push("cusum".to_owned());
    }
    alarms
}

#[test]
fn a_day_of_the_same_patients_gives_no_alarm() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let monitor = monitor(&mut rng);
    for second in 0..86_400_u32 {
        let now = Duration::from_secs(1_700_000_000 + u64::from(second));
        let values = patient(&mut rng);
        count(&monitor, &values, &mut rng, Some(u64::from(second)), now);
        if second % 60 == 0 {
            assert_eq!(alarms(&monitor, now), [""; 0], "after {second} s");
        }
    }
    let now = Duration::from_secs(1_700_086_400);
    let rows: Vec<u32> = monitor.report(now).iter().map(|r| r.rows).collect();
    assert!(
        rows[0] >= 80 && rows[1] > 3_000 && rows[2] > 80_000,
        "{rows:?}"
    );
}

#[test]
fn a_shift_is_found_within_100_rows_and_named() {
    type Shift = fn(&mut Vec<f32>);
    let cases: [(&str, Shift); 4] = [
        // Another unit at the interface.
        ("glucose values", |v| v[15] /= 18.0),
        // A sensor that is silent.
        ("temperature missing", |v| v[6] = f32::NAN),
        // Another ward: every value a little, in ways that do not go together here.
        ("population joint", |v| {
            for (index, value) in v.iter_mut().enumerate().filter(|(i, _)| *i != 1) {
                *value += if index % 2 == 0 { 3.5 } else { -3.5 };
            }
        }),
        // Another ward: everybody is sicker.
        ("probability values", |v| {
            for value in v.iter_mut() {
                *value += 12.0;
            }
        }),
    ];
    for (expected, shift) in cases {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let monitor = monitor(&mut rng);
        let mut found = Vec::new();
        for second in 0..200_u32 {
            let now = Duration::from_secs(1_700_000_000 + u64::from(second));
            let mut values = patient(&mut rng);
            if second >= 100 {
                shift(&mut values);
            }
            count(&monitor, &values, &mut rng, None, now);
            found = alarms(&monitor, now);
            assert!(
                second >= 100 || found.is_empty(),
                "{found:?} before the shift"
            );
        }
        assert!(
            found.contains(&format!("100 {expected}")),
            "{expected}: {found:?}"
        );
        // What the model says of a wrong value is wrong too; no other value is named.
        let follows = |alarm: &str| alarm.contains(PROBABILITY) || alarm == "cusum";
        let mut others = found
            .iter()
            .filter(|a| !a.contains(expected) && !follows(a));
        assert!(
            follows(expected) || others.next().is_none(),
            "{expected}: {found:?}"
        );
    }
}

#[test]
fn patients_who_are_scored_again_are_one_patient_each() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let monitor = monitor(&mut rng);
    // Ten patients who are all very ill, every two hours for a week.
    let patients: Vec<Vec<f32>> = (0..10)
        .map(|_| patient(&mut rng).iter().map(|v| v + 25.0).collect())
        .collect();
    for round in 0..84_u64 {
        for (number, values) in patients.iter().enumerate() {
            let now = Duration::from_secs(1_700_000_000 + round * 7_200);
            count(&monitor, values, &mut rng, Some(number as u64), now);
            assert_eq!(alarms(&monitor, now), [""; 0], "round {round}");
        }
    }
    let now = Duration::from_secs(1_700_000_000 + 83 * 7_200);
    for report in monitor.report(now) {
        assert!(report.rows <= 10, "{report:?}");
        // Too few to say anything at all.
        assert!(report.series.is_empty() && report.missing.is_empty() && report.rates.is_empty());
    }
    assert!(monitor.cumulative().is_none_or(|sums| sums[0] < 1.0));
}

#[test]
fn hours_go_by() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let monitor = monitor(&mut rng);
    let start = Duration::from_secs(1_700_000_000);
    for _ in 0..50 {
        let values = patient(&mut rng);
        count(&monitor, &values, &mut rng, None, start);
    }
    let rows = |hours: u64| -> Vec<u32> {
        let now = start + Duration::from_secs(hours * 3_600);
        monitor.report(now).iter().map(|r| r.rows).collect()
    };
    assert_eq!(rows(0), [50, 50, 50]);
    assert_eq!(rows(2), [50, 0, 50]);
    assert_eq!(rows(25), [50, 0, 0]);
}

#[test]
fn rows_of_a_clock_that_was_ahead_do_not_stay() {
    let mut rng = ChaCha8Rng::seed_from_u64(6);
    let monitor = monitor(&mut rng);
    let start = Duration::from_secs(1_700_000_000);
    let mut fill = |rows: u32, now: Duration| {
        for _ in 0..rows {
            let values = patient(&mut rng);
            count(&monitor, &values, &mut rng, None, now);
        }
    };
    let rows = |now: Duration| -> Vec<u32> { monitor.report(now).iter().map(|r| r.rows).collect() };
    fill(30, start + Duration::from_hours(24 * 365));
    fill(50, start);
    assert_eq!(rows(start), [80, 50, 50]);
    let day = start + Duration::from_hours(25);
    fill(20, day);
    assert_eq!(rows(day), [100, 20, 20]);
    // Set back by a minute, a clock counts on where it is.
    let minute = start + Duration::from_mins(25 * 60 - 1);
    fill(1, minute);
    assert_eq!(rows(minute)[1..], [21, 21]);
}

#[test]
fn a_histogram_is_of_enough_rows_in_every_bin() {
    let values: Vec<f32> = (0..997_u16).map(|i| f32::from(i % 311)).collect();
    let raw = histogram("x", &values, 20);
    assert!(raw.counts.iter().all(|&c| c >= 20), "{:?}", raw.counts);
    assert_eq!(raw.counts.iter().sum::<u32>(), 997);
    // Two values that many share are two bins.
    let binary: Vec<f32> = (0..100_u16).map(|i| f32::from(u8::from(i < 30))).collect();
    let raw = histogram("x", &binary, 5);
    assert_eq!((raw.counts.as_slice(), raw.edges.len()), (&[70, 30][..], 1));
    assert!(0.0 < raw.edges[0] && raw.edges[0] <= 1.0);
}

#[test]
fn a_sighting_says_nothing() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let monitor = monitor(&mut rng);
    let sighting = monitor.bins(
        patient(&mut rng).into_iter().map(|v| Some(f64::from(v))),
        None,
    );
    assert_eq!(format!("{sighting:?}"), "Sighting(…)");
}
