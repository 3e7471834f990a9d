//! Clean rows pass; rows that were tampered with are found, and where.

use rand::{RngExt, SeedableRng, seq::index::sample};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::{specimens, training_data::Columns as Headers};

/// A file that can be tampered with: a header and fields.
#[derive(Clone)]
struct File {
    header: String,
    rows: Vec<Vec<String>>,
}

impl File {
    /// Invented patients around the synthetic ones, with outcomes that follow their values.
    fn invented(count: usize) -> Self {
        let text = include_str!("../../models/icu-mortality/synthetic.csv");
        let mut lines = text.lines();
        let header = format!("{},died", lines.next().unwrap());
        let seeds: Vec<Vec<f64>> = lines
            .map(|line| line.split(',').map(|v| v.parse().unwrap()).collect())
            .collect();
        let mut rng = ChaCha8Rng::seed_from_u64(42);
        let noise = |rng: &mut ChaCha8Rng| (0..6).map(|_| rng.random::<f64>()).sum::<f64>() - 3.0;
        let rows = (0..count).map(|_| {
            let mut row = seeds[rng.random_range(0..seeds.len())].clone();
            for (j, value) in row.iter_mut().enumerate() {
                if ![1, 7, 8].contains(&j) {
                    // A temperature in Celsius varies less than other values do.
                    let spread = if j == 6 { 0.01 } else { 0.12 };
                    *value = (*value * (1.0 + spread * noise(&mut rng))).max(0.5);
                }
            }
            let risk =
                -2.6 + 0.05 * (row[0] - 60.0) + 0.35 * (9.0 - row[7]) + 0.05 * (row[10] - 25.0);
            let died = rng.random::<f64>() < 1.0 / (1.0 + (-risk).exp());
            let mut fields: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(j, v)| {
                    if [4, 3].contains(&j) {
                        format!("{v:.0}")
                    } else {
                        format!("{v:.2}")
                    }
                })
                .collect();
            for whole in [1, 7, 8] {
                fields[whole] = format!("{:.0}", row[whole]);
            }
            fields.push(u8::from(died).to_string());
            fields
        });
        Self {
            header,
            rows: rows.collect(),
        }
    }

    /// The cohort beside the project, if it is there.
    fn cohort() -> Option<Self> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/data/icu2012_ab.csv");
        let Ok(text) = std::fs::read_to_string(path) else {
            println!("skipped: the ICU cohort is not beside the project (../shared/data)");
            return None;
        };
        let mut lines = text.lines();
        let header = lines.next().unwrap().to_owned();
        let rows = lines.map(|line| line.split(',').map(str::to_owned).collect());
        Some(Self {
            header,
            rows: rows.collect(),
        })
    }

    fn at(&self, header: &str) -> usize {
        self.header.split(',').position(|h| h == header).unwrap()
    }

    fn table(&self, columns: &Headers) -> Table {
        let rows: Vec<String> = self.rows.iter().map(|r| r.join(",")).collect();
        let text = format!("{}\n{}\n", self.header, rows.join("\n"));
        Table::read(text.as_bytes(), &specimens::icu(), columns).unwrap()
    }

    fn validate(&self, columns: &Headers) -> Report {
        validate(&self.table(columns), &specimens::icu(), None, 1)
    }

    /// Looks at it as at a further file beside the first.
    fn validate_beside(&self, first: &Self) -> Report {
        let read = |file: &Self| file.table(&Headers::default());
        validate_beside(&read(first), &read(self), &specimens::icu(), None, 1)
    }

    /// Flips outcomes of these rows.
    fn flip(&mut self, rows: &[usize]) {
        let died = self.at("died");
        for &row in rows {
            let field = &mut self.rows[row][died];
            *field = if field == "0" { "1" } else { "0" }.to_owned();
        }
    }

    fn times(&mut self, header: &str, rows: std::ops::Range<usize>, factor: f64) {
        let at = self.at(header);
        for row in &mut self.rows[rows] {
            if let Ok(value) = row[at].parse::<f64>() {
                row[at] = format!("{:.2}", value * factor);
            }
        }
    }
}

fn found<'a>(report: &'a Report, name: &str) -> &'a Check {
    report.checks.iter().find(|c| c.name == name).unwrap()
}

/// How many of the listed lines are among these rows.
fn hits(check: &Check, rows: &[usize]) -> (usize, usize) {
    let listed = &check.findings[0].lines;
    let hit = listed
        .iter()
        .filter(|&&line| rows.iter().any(|&row| row as u64 + 2 == line));
    (hit.count(), listed.len())
}

#[test]
fn invented_patients_pass_and_the_report_says_of_what() {
    let file = File::invented(3000);
    let report = file.validate(&Headers::default());
    assert!(report.passes(), "{report}");
    assert_eq!((report.rows, report.labelled), (3000, 3000));
    assert!(report.digest().len() == 64 && report.json().contains("\"data_sha256\""));
    let properties = report.properties();
    let verdict = properties
        .iter()
        .find(|p| p.0 == "vitalgate:data:validation:verdict");
    assert_eq!(verdict.unwrap().1, "pass");
    assert_eq!(file.validate(&Headers::default()).digest(), report.digest());
}

#[test]
fn what_no_patient_has_and_what_stands_twice_is_listed_by_line() {
    let mut file = File::invented(600);
    let heart_rate = file.at("heart_rate");
    file.rows[10][heart_rate] = "700".to_owned();
    file.rows[20] = file.rows[5].clone();
    // A copy of another patient with one value changed and the other outcome.
    file.rows[30] = file.rows[6].clone();
    let bun = file.at("bun");
    file.rows[30][bun] = "17".to_owned();
    file.flip(&[30]);
    let report = file.validate(&Headers::default());
    let lines = |name: &str| found(&report, name).findings[0].lines.clone();
    assert_eq!(lines("impossible_values"), [12]);
    assert_eq!(lines("duplicate_rows"), [22]);
    assert_eq!(lines("conflicting_copies"), [8, 32]);
    assert!(!report.passes());
    let text = report.to_string();
    assert!(text.contains("heart_rate outside 0 to 350 /min"), "{text}");
    assert!(!text.contains("700"), "no value is shown: {text}");
}

#[test]
fn a_shifted_stretch_is_found_with_its_lines() {
    let mut file = File::invented(3000);
    file.times("glucose", 1200..1500, 1.35);
    let report = file.validate(&Headers::default());
    let check = found(&report, "shifted_batches");
    assert_eq!(check.verdict, Verdict::Found);
    let finding = &check.findings[0];
    assert_eq!(finding.features, ["glucose"]);
    let (first, last) = finding.between.unwrap();
    assert!(
        first.abs_diff(1202) < 50 && last.abs_diff(1501) < 50,
        "{first} {last}"
    );
}

#[test]
fn a_shift_at_either_end_of_the_file_is_said_to_be_there() {
    for (shifted, first, last) in [(0..200, 2, 201), (1300..1500, 1302, 1501)] {
        let mut file = File::invented(1500);
        file.times("glucose", shifted, 1.35);
        let report = file.validate(&Headers::default());
        let check = found(&report, "shifted_batches");
        let finding = &check.findings[0];
        let (from, to) = finding.between.unwrap();
        assert!(
            from.abs_diff(first) < 50 && to.abs_diff(last) < 50,
            "{report}"
        );
        assert!(finding.what.contains("glucose (level +"), "{report}");
        assert!(check.summary.starts_with("1 stretch of the file differs"));
    }
}

#[test]
fn a_feature_that_never_varies_is_found() {
    let mut file = File::invented(600);
    let (sodium, magnesium) = (file.at("sodium"), file.at("magnesium"));
    for row in &mut file.rows {
        row[sodium] = "140".to_owned();
        row[magnesium].clear();
    }
    let report = file.validate(&Headers::default());
    let check = found(&report, "constant_features");
    assert_eq!(check.verdict, Verdict::Found, "{report}");
    let named: Vec<&str> = check
        .findings
        .iter()
        .map(|f| f.features[0].as_str())
        .collect();
    assert_eq!(named, ["sodium", "magnesium"]);
    assert!(!report.to_string().contains("140"), "no value is shown");
}

/// A copy with every measured value a little different.
fn jittered(file: &File, row: &[String], spread: f64, rng: &mut ChaCha8Rng) -> Vec<String> {
    let whole = ["male", "gcs", "mechanical_ventilation", "died"].map(|h| file.at(h));
    let mut copy = row.to_vec();
    for (at, field) in copy.iter_mut().enumerate() {
        if let (false, Ok(value)) = (whole.contains(&at), field.parse::<f64>()) {
            let factor = 1.0 + spread * (2.0 * rng.random::<f64>() - 1.0);
            *field = format!("{:.2}", value * factor);
        }
    }
    copy
}

#[test]
fn a_flood_of_jittered_copies_is_found_whatever_its_size() {
    for (size, spread) in [(20, 0.001), (60, 0.01), (1000, 0.01)] {
        let mut file = File::invented(1500);
        let mut rng = ChaCha8Rng::seed_from_u64(11);
        let one = file.rows[6].clone();
        let copies: Vec<usize> = sample(&mut rng, 1500, size).into_vec();
        for &at in &copies {
            file.rows[at] = jittered(&file, &one, spread, &mut rng);
        }
        let report = file.validate(&Headers::default());
        let check = found(&report, "flood_of_copies");
        assert_eq!(check.verdict, Verdict::Found, "{size}: {report}");
        let (hit, listed) = hits(check, &copies);
        assert!(hit + 3 >= listed, "the row itself may be listed: {report}");
        let all = check.findings[0].rows;
        assert!(10 * all >= 9 * size, "{all} of {size}");
    }
}

#[test]
fn two_neighbours_without_a_value_that_others_have_are_no_shift() {
    let mut file = File::invented(3000);
    let male = file.at("male");
    for row in [1210, 1214] {
        file.rows[row][male].clear();
    }
    let report = file.validate(&Headers::default());
    let check = found(&report, "shifted_batches");
    assert!(check.findings.is_empty(), "{report}");
}

#[test]
fn a_batch_whose_values_were_shuffled_is_found_though_each_column_is_as_before() {
    let mut file = File::invented(3000);
    file.header.push_str(",site");
    for (index, row) in file.rows.iter_mut().enumerate() {
        row.push(format!("site-{}", index % 5));
    }
    let systolic = file.at("systolic_bp");
    let mut of_site: Vec<usize> = (0..3000).filter(|i| i % 5 == 3).collect();
    let values: Vec<String> = of_site
        .iter()
        .map(|&i| file.rows[i][systolic].clone())
        .collect();
    of_site.rotate_left(7);
    for (&row, value) in of_site.iter().zip(values) {
        file.rows[row][systolic] = value;
    }
    let columns = Headers {
        batch: Some("site".to_owned()),
        ..Headers::default()
    };
    let report = file.validate(&columns);
    let check = found(&report, "shifted_batches");
    assert_eq!(check.findings.len(), 1, "{report}");
    assert_eq!(check.findings[0].batch.as_deref(), Some("site-3"));
    assert!(check.findings[0].what.contains("dependence"), "{report}");
}

#[test]
fn a_stretch_of_flipped_outcomes_is_a_jump_of_their_rate() {
    let mut file = File::invented(3000);
    file.flip(&(2000..2120).collect::<Vec<_>>());
    let report = file.validate(&Headers::default());
    let check = found(&report, "label_rate");
    assert_eq!(check.verdict, Verdict::Found, "{report}");
    let (first, last) = check.findings[0].between.unwrap();
    assert!(
        first.abs_diff(2002) < 60 && last.abs_diff(2121) < 60,
        "{first} {last}"
    );
}

#[test]
fn scattered_flips_are_found_where_the_values_tell_the_outcome() {
    let mut file = File::invented(3000);
    let rows = sample(&mut ChaCha8Rng::seed_from_u64(5), 3000, 90).into_vec();
    file.flip(&rows);
    let report = file.validate(&Headers::default());
    let check = found(&report, "label_noise");
    assert_eq!(check.verdict, Verdict::Found, "{report}");
    let (hit, listed) = hits(check, &rows);
    assert!(10 * hit >= 3 * listed, "{hit} of {listed}: {report}");
}

#[test]
fn rows_of_one_patient_do_not_count_as_many() {
    // Each patient five times, a little changed: neighbours depend on each other.
    let mut file = File::invented(600);
    file.header.push_str(",patient");
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let glucose = file.at("glucose");
    let repeated = file.rows.iter().enumerate().flat_map(|(index, row)| {
        let mut row = row.clone();
        row.push(index.to_string());
        vec![row; 5]
    });
    file.rows = repeated.collect();
    for row in &mut file.rows {
        row[glucose] = format!("{:.0}", rng.random_range(80.0..200.0));
    }
    let columns = Headers {
        group: Some("patient".to_owned()),
        ..Headers::default()
    };
    let report = file.validate(&columns);
    assert_eq!(report.groups, Some(600));
    for name in [
        "shifted_batches",
        "label_rate",
        "duplicate_rows",
        "conflicting_copies",
        "flood_of_copies",
    ] {
        assert_eq!(found(&report, name).verdict, Verdict::Pass, "{report}");
    }
}

#[test]
fn values_that_few_patients_lack_in_a_row_of_several_are_no_shift() {
    let columns = Headers {
        group: Some("patient".to_owned()),
        ..Headers::default()
    };
    let invented = File::invented(600);
    let male = invented.at("male");
    let bun = invented.at("bun");
    for seed in 0..4 {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut file = invented.clone();
        file.header.push_str(",patient");
        let repeated = file.rows.iter().enumerate().flat_map(|(index, row)| {
            let mut row = row.clone();
            row.push(index.to_string());
            vec![row; 5]
        });
        file.rows = repeated.collect();
        // One row of five lacks a value, of few patients; two of them are neighbours.
        for index in sample(&mut rng, 600, 3).into_iter().chain([310, 314]) {
            file.rows[5 * index + 2][male].clear();
        }
        let report = file.validate(&columns);
        let check = found(&report, "shifted_batches");
        assert!(check.findings.is_empty(), "{seed}: {report}");

        // Where a stretch of patients lacks it, that is found.
        if seed > 0 {
            continue;
        }
        for index in 200..260 {
            file.rows[5 * index + 2][bun].clear();
        }
        let report = file.validate(&columns);
        let check = found(&report, "shifted_batches");
        assert_eq!(check.findings[0].features, ["bun"], "{report}");
    }
}

#[test]
fn a_further_file_is_compared_with_the_first() {
    let all = File::invented(3000);
    let (mut first, mut further) = (all.clone(), all.clone());
    first.rows.truncate(2000);
    further.rows.drain(..2000);
    // Other hours: a little lower.
    further.times("heart_rate", 0..1000, 0.97);
    let report = further.validate_beside(&first);
    assert_eq!(
        found(&report, "unlike_data").verdict,
        Verdict::Pass,
        "{report}"
    );

    let mut shifted = further.clone();
    shifted.times("sodium", 0..1000, 1.2);
    let report = shifted.validate_beside(&first);
    let check = found(&report, "unlike_data");
    assert_eq!(check.verdict, Verdict::Found, "{report}");
    assert_eq!(check.findings[0].features, ["sodium"]);
    assert!(
        check.findings[0].what.contains("sodium (level +"),
        "{report}"
    );

    // What is found in a further file counts for all, and says where.
    let mut whole = first.validate(&Headers::default());
    assert!(whole.passes());
    let before = whole.digest();
    whole.further.push(Further {
        file: "later.csv".to_owned(),
        report,
    });
    assert!(!whole.passes() && whole.digest() != before);
    assert!(whole.found().contains(&"unlike_data"));
    assert!(whole.found_in_words().ends_with("unlike_data in later.csv"));

    let mut lost = further.clone();
    let bun = lost.at("bun");
    for row in lost.rows.iter_mut().step_by(3) {
        row[bun].clear();
    }
    let report = lost.validate_beside(&first);
    let check = found(&report, "unlike_data");
    assert!(
        check.findings[0].what.contains("bun (missingness)"),
        "{report}"
    );

    let diastolic = further.at("diastolic_bp");
    let mut values: Vec<String> = further.rows.iter().map(|r| r[diastolic].clone()).collect();
    values.rotate_left(331);
    for (row, value) in further.rows.iter_mut().zip(values) {
        row[diastolic] = value;
    }
    let report = further.validate_beside(&first);
    let check = found(&report, "unlike_data");
    assert!(check.findings[0].what.contains("dependence"), "{report}");
}

#[test]
fn one_outcome_for_all_is_found() {
    for outcome in ["0", "1"] {
        let mut file = File::invented(600);
        let died = file.at("died");
        for row in &mut file.rows {
            row[died] = outcome.to_owned();
        }
        let report = file.validate(&Headers::default());
        let check = found(&report, "label_rate");
        assert_eq!(check.verdict, Verdict::Found, "{report}");
        assert_eq!(check.findings.len(), 1, "{report}");
        let noise = found(&report, "label_noise");
        assert_eq!(noise.verdict, Verdict::NotAsked, "{report}");

        // A model that expects some says so too.
        let ruler = Ruler {
            source: "a model".to_owned(),
            probabilities: vec![0.2; 600],
        };
        let table = file.table(&Headers::default());
        let report = validate(&table, &specimens::icu(), Some(&ruler), 1);
        let noise = found(&report, "label_noise");
        assert_eq!(noise.verdict, Verdict::Found, "{report}");
    }
}

#[test]
fn neither_many_copies_nor_blanks_hide_copies() {
    let clean = File::invented(1000);
    // Most rows are copies of one, with either outcome.
    let mut flooded = clean.clone();
    for row in 300..1000 {
        flooded.rows[row] = clean.rows[7].clone();
    }
    flooded.flip(&(300..1000).step_by(2).collect::<Vec<_>>());
    let report = flooded.validate(&Headers::default());
    for name in ["duplicate_rows", "conflicting_copies"] {
        assert_eq!(found(&report, name).verdict, Verdict::Found, "{report}");
    }
    assert_eq!(found(&report, "duplicate_rows").findings[0].rows, 700);

    // 12 in 100 values are blank.
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut blanks = clean.clone();
    for row in &mut blanks.rows {
        for field in row.iter_mut().take(20) {
            if rng.random::<f64>() < 0.12 {
                field.clear();
            }
        }
    }
    let report = blanks.validate(&Headers::default());
    for name in ["duplicate_rows", "conflicting_copies"] {
        assert_eq!(found(&report, name).verdict, Verdict::Pass, "{report}");
    }
    blanks.rows[20] = clean.rows[5].clone();
    blanks.rows[5] = clean.rows[5].clone();
    blanks.flip(&[20]);
    let report = blanks.validate(&Headers::default());
    for name in ["duplicate_rows", "conflicting_copies"] {
        assert_eq!(found(&report, name).verdict, Verdict::Found, "{report}");
    }
}

#[test]
fn the_cohort_passes_and_is_found_out_when_poisoned() {
    let Some(clean) = File::cohort() else { return };
    let report = clean.validate(&Headers::default());
    assert!(report.passes(), "{report}");
    println!("{report}");
    // So does any part of it, in any order.
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for _ in 0..3 {
        let mut part = clean.clone();
        let rows = sample(&mut rng, clean.rows.len(), clean.rows.len() * 2 / 3);
        part.rows = rows
            .into_iter()
            .map(|row| clean.rows[row].clone())
            .collect();
        let report = part.validate(&Headers::default());
        assert!(report.passes(), "{report}");
    }

    let mut shifted = clean.clone();
    shifted.times("Creatinine", 3000..3400, 1.5);
    let report = shifted.validate(&Headers::default());
    let finding = &found(&report, "shifted_batches").findings[0];
    assert_eq!(finding.features, ["creatinine"], "{report}");
    let (first, last) = finding.between.unwrap();
    assert!(
        first.abs_diff(3002) < 100 && last.abs_diff(3401) < 100,
        "{report}"
    );
}
