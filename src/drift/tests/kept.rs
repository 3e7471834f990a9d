//! What survives a restart, and what does not.

use serde_json::{Value, json};

use super::{super::kept::Hours, *};

const HOUR: u64 = 3600;
/// A whole hour.
const START: u64 = 1_700_000_000 / HOUR * HOUR;

fn at(hours: u64, seconds: u64) -> Duration {
    Duration::from_secs(START + hours * HOUR + seconds)
}

/// Counts so many patients in an hour, each as an encounter.
fn fill(monitor: &Monitor, rng: &mut ChaCha8Rng, hour: u64, patients: std::ops::Range<u64>) {
    for encounter in patients {
        let values = patient(rng);
        count(monitor, &values, rng, Some(encounter), at(hour, 1));
    }
}

/// Rows of each group.
fn rows(kept: &[Hours]) -> Vec<u64> {
    let written = serde_json::to_value(kept).unwrap();
    let groups = written.as_array().unwrap().iter();
    groups
        .map(|hours| hours["rows"].as_u64().unwrap())
        .collect()
}

fn day(monitor: &Monitor, now: Duration) -> WindowReport {
    monitor.report(now).pop().unwrap()
}

#[test]
fn only_hours_that_are_over_are_kept_never_of_fewer_than_20_patients_and_they_never_change() {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let monitor = monitor(&mut rng);
    let mut kept = Vec::new();
    for (hour, patients) in [(0, 0..25), (1, 25..32), (2, 32..45), (3, 45..75)] {
        fill(&monitor, &mut rng, hour, patients);
    }
    monitor.keep(&mut kept, at(0, 1800), false);
    assert!(kept.is_empty(), "the first hour is not over");
    monitor.keep(&mut kept, at(3, 1800), false);
    assert_eq!(
        rows(&kept),
        [25, 20],
        "7 and 13 go together, the fourth is not over"
    );
    let before = kept.clone();
    fill(&monitor, &mut rng, 4, 75..90);
    monitor.keep(&mut kept, at(4, 1800), false);
    assert_eq!(rows(&kept), [25, 20, 30]);
    assert_eq!(kept[..2], before);
    monitor.keep(&mut kept, at(4, 1900), true);
    assert_eq!(rows(&kept), [25, 20, 30], "15 are too few");
    monitor.keep(&mut kept, at(25, 0), false);
    assert_eq!(rows(&kept), [30], "a day later");
}

#[test]
fn hours_of_a_clock_that_was_ahead_are_not_kept() {
    let mut rng = ChaCha8Rng::seed_from_u64(16);
    let monitor = monitor(&mut rng);
    let mut kept = Vec::new();
    fill(&monitor, &mut rng, 1000, 0..30);
    monitor.keep(&mut kept, at(1001, 0), false);
    assert_eq!(rows(&kept), [30]);
    fill(&monitor, &mut rng, 0, 30..70);
    monitor.keep(&mut kept, at(0, 1800), true);
    assert_eq!(rows(&kept), [40]);
    // Or the server that starts next takes none of it.
    monitor.check_all(&kept, at(0, 1801)).unwrap();
}

#[test]
fn a_monitor_goes_on_where_another_ended() {
    let mut rng = ChaCha8Rng::seed_from_u64(12);
    let before = monitor(&mut ChaCha8Rng::seed_from_u64(1));
    for hour in 0..5 {
        fill(&before, &mut rng, hour, hour * 100..(hour + 1) * 100);
    }
    let mut kept = Vec::new();
    before.keep(&mut kept, at(4, 1800), true);
    let text = serde_json::to_string(&kept).unwrap();
    let mut read: Vec<Hours> = serde_json::from_str(&text).unwrap();
    let after = monitor(&mut ChaCha8Rng::seed_from_u64(1));
    after.check_all(&read, at(4, 1900)).unwrap();
    after.restore(&mut read);
    let (one, other) = (day(&before, at(4, 1900)), day(&after, at(4, 1900)));
    assert_eq!((one.rows, other.rows), (500, 500));
    for (one, other) in one.series.iter().zip(&other.series) {
        assert!((one.distance - other.distance).abs() < 1e-9, "{}", one.name);
        assert!((one.evidence - other.evidence).abs() < 1e-9, "{}", one.name);
    }
    // Other windows begin empty, and what is kept is kept on.
    assert!(
        after.report(at(4, 1900))[..2]
            .iter()
            .all(|report| report.rows == 0)
    );
    fill(&after, &mut rng, 5, 0..40);
    after.keep(&mut read, at(6, 0), false);
    assert_eq!(rows(&read), [100, 100, 100, 100, 100, 40]);
    assert_eq!(day(&after, at(6, 0)).rows, 540);
    // Hour by hour it is forgotten.
    assert_eq!(day(&after, at(26, 0)).rows, 240);
    assert_eq!(day(&after, at(30, 0)).rows, 0);
}

#[test]
fn the_same_patients_after_every_restart_are_no_shift() {
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    for ward in 0..20 {
        let patients: Vec<Vec<f32>> = (0..40).map(|_| patient(&mut rng)).collect();
        let mut kept = Vec::new();
        // Scored every two hours; a restart every six.
        for restart in 0..8 {
            let monitor = monitor(&mut ChaCha8Rng::seed_from_u64(1));
            monitor.restore(&mut kept);
            for round in 0..3 {
                let now = at(restart * 6 + round * 2, 1);
                for (encounter, values) in (0..).zip(&patients) {
                    count(&monitor, values, &mut rng, Some(encounter), now);
                }
                assert_eq!(
                    alarms(&monitor, now),
                    [""; 0],
                    "ward {ward}, restart {restart}"
                );
            }
            monitor.keep(&mut kept, at(restart * 6 + 5, 0), true);
        }
    }
}

#[test]
fn a_shift_is_still_seen_over_a_restart() {
    let mut rng = ChaCha8Rng::seed_from_u64(14);
    let mut kept = Vec::new();
    for restart in 0..2 {
        let monitor = monitor(&mut ChaCha8Rng::seed_from_u64(1));
        monitor.restore(&mut kept);
        for encounter in 0..60 {
            let mut values = patient(&mut rng);
            values[3] /= 18.0;
            count(&monitor, &values, &mut rng, Some(encounter), at(restart, 1));
        }
        monitor.keep(&mut kept, at(restart, 2), true);
        let found = alarms(&monitor, at(restart, 2));
        assert!(
            found
                .iter()
                .any(|a| a.starts_with("24h ") && a.ends_with("values")),
            "{found:?}"
        );
    }
}

#[test]
fn what_cannot_be_counts_of_this_model_is_refused() {
    let mut rng = ChaCha8Rng::seed_from_u64(15);
    let monitor = monitor(&mut rng);
    let now = at(2, 0);
    fill(&monitor, &mut rng, 0, 0..50);
    let mut kept = Vec::new();
    monitor.keep(&mut kept, now, false);
    let good = serde_json::to_value(&kept).unwrap();
    let check = |value: &Value| {
        let read: Result<Vec<Hours>, _> = serde_json::from_value(value.clone());
        read.is_ok_and(|hours| monitor.check_all(&hours, now).is_ok())
    };
    assert!(check(&good));
    let changed = |field: &str, to: Value| {
        let mut bad = good.clone();
        bad[0][field] = to;
        bad
    };
    let mut counts = good[0]["counts"].clone();
    counts.as_array_mut().unwrap().pop();
    let mut more = good[0]["counts"].clone();
    more[0] = json!(51);
    for bad in [
        changed("first", json!(START + 1)),
        changed("first", json!(START + HOUR)),
        changed("last", json!(START + 3 * HOUR)),
        changed("rows", json!(51)),
        changed("rows", json!(-1)),
        changed("counts", counts),
        changed("counts", more),
        changed("encounters", json!([1])),
        json!(vec![good[0].clone(); 97]),
        json!({}),
    ] {
        assert!(!check(&bad), "{bad}");
    }
    // Checked sums are no promise that somebody has counted so much.
    let (mut many, place) = (
        good.clone(),
        good[0]["counts"].as_array().unwrap().len() - 1,
    );
    many[0]["rows"] = json!(u32::MAX);
    many[0]["counts"] = json!(vec![0; place]);
    many[0]["counts"]
        .as_array_mut()
        .unwrap()
        .push(json!(u32::MAX));
    let many = json!(vec![many[0].clone(); 2]);
    let mut many: Vec<Hours> = serde_json::from_value(many).unwrap();
    monitor.check_all(&many, now).unwrap();
    monitor.restore(&mut many);
    assert_eq!(day(&monitor, now).rows, u32::MAX);
    let mut few = good.clone();
    few[0]["rows"] = json!(1);
    assert!(!check(&few));
}
