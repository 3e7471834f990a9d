//! Honest callers are left alone.

use aws_lc_rs::hmac;
use vitalgate::{
    bundle::model::{Feature, QueriesSpec},
    config::{Budget, Budgets, RowsPerDay},
    extraction::{Clinical, Detail, Embedder, Ledger, Query, Step, Terms},
    screening::Scratch,
};

use crate::stays::{Model, PATIENTS, SCORINGS, Seeded, stays};

/// 06:00 on some day, so that midnight comes in between.
const START: u64 = (20_000 * 86_400 + 6 * 3600) * 1000;
const HOUR: u64 = 3_600_000;

struct Caller {
    model: Model,
    embedders: [Embedder; 2],
    scratch: Scratch,
    ledger: Ledger,
    terms: Terms,
}

impl Caller {
    fn new(clinical: Clinical, rows: u32, key: u8) -> Self {
        let model = Model::icu();
        let own = Budget {
            rows_per_day: Some(RowsPerDay::Limited(rows)),
            ..Budget::default()
        };
        let limits = Budgets::default().limits(&[], &own);
        let embedders = [[key; 32], [key + 100; 32]].map(|key| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &key);
            Embedder::new(
                &key,
                &model.screen,
                model.spec.features.iter().map(|f| f.name.as_str()),
            )
        });
        Self {
            terms: Terms::new(&limits, clinical, &QueriesSpec::default()),
            ledger: Ledger::default(),
            scratch: Scratch::default(),
            embedders,
            model,
        }
    }

    /// Whether the ranges, the pressures' order or the distribution ask for a person.
    fn is_flagged(&mut self, row: &[f64]) -> bool {
        let features = self.model.spec.features.iter().zip(row);
        let outside = |(f, v): (&Feature, &f64)| !v.is_nan() && !f.expected.contains(*v);
        let order = row[4] < row[5] && row[5] < row[3] || row[3..6].iter().any(|v| v.is_nan());
        features.into_iter().any(outside)
            || !order
            || self
                .model
                .screen
                .judge(row.iter().copied(), &mut self.scratch)
                .flagged
    }

    fn ask(&mut self, row: &[f64], now: u64) -> (bool, vitalgate::extraction::Verdict) {
        let flagged = self.is_flagged(row);
        let day = usize::try_from(now / (24 * HOUR) % 2).unwrap();
        let embedding = self.embedders[day].embed(&self.model.screen, row.iter().copied());
        // The real fingerprint is keyed; what is tested here is that same rows have the same.
        let fingerprint = row.iter().fold(now / (24 * HOUR), |hash, value| {
            let value = if value.is_nan() { f64::NAN } else { *value };
            (hash ^ value.to_bits())
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29)
        });
        let query = Query {
            fingerprint,
            embedding: Some(embedding),
            flagged,
            answered: !flagged,
            version: 1,
        };
        (flagged, self.ledger.enter(&query, &self.terms, now))
    }
}

#[test]
fn a_hospital_that_scores_200_patients_every_two_hours_is_not_slowed() {
    // With other times and other directions of the embedding.
    for seed in 1..=2 {
        let mut seeded = Seeded(seed);
        // 200 beds × 24 / 2 × 1.5.
        let mut caller = Caller::new(Clinical::RecordSystem, 3600, seed as u8);
        let stays = stays(&caller.model, &mut seeded);
        let same = stays.iter().flat_map(|rows| rows.windows(2)).map(|pair| {
            let pairs = pair[0].iter().zip(&pair[1]);
            pairs.filter(|(a, b)| a.to_bits() == b.to_bits()).count()
        });
        let same = same.sum::<usize>() as f64 / (PATIENTS * (SCORINGS - 1)) as f64;
        let (mut asked, mut flags, mut less, mut worst) = (0, 0, 0, Step::None);
        for scoring in 0..SCORINGS {
            for (patient, rows) in stays.iter().enumerate() {
                // One after the other within ten minutes, each time in about the same order.
                let second = patient as f64 * 3.0 + seeded.next() * 60.0;
                let now = START + scoring as u64 * 2 * HOUR + (second * 1000.0) as u64;
                let (flagged, verdict) = caller.ask(&rows[scoring], now);
                asked += 1;
                flags += usize::from(flagged);
                less += usize::from(verdict.outcome != Ok(Detail::Full));
                worst = worst.max(verdict.step);
            }
        }
        println!(
            "{asked} rows, {same:.1} of 20 values as two hours before, {flags} \
             flagged, {less} answered with less, highest step {worst:?}"
        );
        assert!(less * 1000 <= asked * 5, "{less} of {asked}");
        assert!(worst < Step::BandsOnly, "a step is of all patients");
    }
}

#[test]
fn somebody_who_corrects_one_flagged_patient_is_not_slowed() {
    let mut caller = Caller::new(Clinical::Person, 200, 9);
    let mut seeded = Seeded(9);
    let stays = stays(&caller.model, &mut seeded);
    let mut troubled = 0;
    let mut tried = 0;
    for rows in stays.iter().take(40) {
        caller.ledger = Ledger::default();
        // A slip in the haematocrit, sent again and again with other values put right first.
        let mut row = rows[0].clone();
        row[17] = 3.4;
        for retry in 0..12u64 {
            row[2] = rows[0][2] + retry as f64;
            for again in 0..3 {
                let now = START + retry * 120_000 + again * 1000;
                let (_, verdict) = caller.ask(&row, now);
                tried += 1;
                troubled += usize::from(verdict.outcome != Ok(Detail::Full));
            }
        }
        let (_, corrected) = caller.ask(&rows[0], START + HOUR);
        tried += 1;
        troubled += usize::from(corrected.outcome != Ok(Detail::Full));
        assert!(corrected.step < Step::BandsOnly);
    }
    println!("{troubled} of {tried} retries and corrections answered with less");
    assert!(troubled * 1000 <= tried * 5, "{troubled} of {tried}");
}
