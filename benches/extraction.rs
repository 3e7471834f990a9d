//! What a caller's budget costs a request: its rate and places, its row's embedding, and the ledger
//! with all that it looks at.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start must stop"
)]

use std::{hint::black_box, path::Path};

use aws_lc_rs::hmac;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use vitalgate::{
    admission::{Accounts, Shown},
    authz::Role,
    bundle::model::{ModelSpec, QueriesSpec},
    config::{Budget, Budgets, RowsPerDay},
    extraction::{Embedder, Embedding, Query, Terms},
    screening::Screen,
};

/// Noon of some day, Unix milliseconds.
const NOON: u64 = (20_000 * 86_400 + 43_200) * 1000;

fn query(number: u64) -> Query {
    let mixed = |word: u64| (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (word << 21));
    let bits = [0, 1, 2, 3, 4, 5, 6, 7].map(|word| u32::try_from(mixed(word) >> 32).unwrap());
    Query {
        fingerprint: mixed(99),
        embedding: Some(Embedding(bits)),
        flagged: false,
        answered: true,
        version: 1,
    }
}

fn extraction(c: &mut Criterion) {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/icu-mortality/bundle");
    let read = |name: &str| std::fs::read(bundle.join(name)).unwrap();
    let spec = ModelSpec::parse(&read("model.json")).unwrap();
    let screen = Screen::parse(&read("reference.json"), &spec)
        .unwrap()
        .unwrap();
    let row: Vec<f64> = spec
        .known_answers
        .first()
        .unwrap()
        .inputs
        .iter()
        .map(|v| f64::from(*v))
        .collect();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    let embedder = Embedder::new(&key, spec.features.iter().map(|f| f.name.as_str()));
    let accounts = Accounts::new(Budgets::default());
    let rows = |rows| Budget {
        rows_per_day: Some(RowsPerDay::Limited(rows)),
        requests_per_second: Some(1_000_000),
        burst: Some(1_000_000),
        ..Budget::default()
    };
    // A thousand others, so that the table is not empty.
    for other in 0..1000 {
        accounts.named_now(
            &format!("caller-{other}"),
            "".into(),
            &[Role::Clinician],
            None,
        );
    }

    c.bench_function("account, rate, place", |b| {
        let own = rows(1_000_000);
        b.iter(|| {
            let account = accounts.named_now("ehr", "".into(), &[Role::EhrSystem], Some(&own));
            let mut shown = Shown::default();
            // More than a million a second are refused, which costs no less.
            black_box(account.pace(&mut shown).is_ok());
            drop(black_box(account.place().unwrap()));
        });
    });
    c.bench_function("embedding of 20 features", |b| {
        b.iter(|| embedder.embed(&screen, black_box(&row).iter().copied()));
    });
    // A clinician near the end of the day's budget; a record system of 200 beds, six hours of
    // whose rows are looked at; the largest memory there is.
    for (name, budget, kept) in [
        ("200 rows", 200, 199),
        ("800 rows", 3600, 800),
        ("1024 rows", 5000, 1024),
    ] {
        c.bench_function(&format!("charge and patterns, {name}"), |b| {
            let own = rows(budget);
            let account = accounts.named_now(name, "".into(), &[Role::EhrSystem], Some(&own));
            let terms = Terms::new(
                account.limits(),
                account.clinical(),
                &QueriesSpec::default(),
            );
            // Another model's ledger each time, filled alike: a row is charged once.
            let mut turn = 0u64;
            let fill = || {
                turn += 1;
                let mut ledger = vitalgate::extraction::Ledger::default();
                for number in 0..kept {
                    ledger.enter(&query(number), &terms, NOON);
                }
                (ledger, query(1_000_000 + turn))
            };
            b.iter_batched(
                fill,
                |(mut ledger, query)| {
                    let verdict = ledger.enter(black_box(&query), &terms, NOON + 1000);
                    (ledger, verdict)
                },
                BatchSize::LargeInput,
            );
        });
    }
    c.bench_function("the same row again", |b| {
        let own = rows(200);
        let account = accounts.named_now("again", "".into(), &[Role::Clinician], Some(&own));
        let terms = Terms::new(
            account.limits(),
            account.clinical(),
            &QueriesSpec::default(),
        );
        b.iter(|| account.with_ledger("m", |l| l.enter(black_box(&query(1)), &terms, NOON)));
    });
}

criterion_group!(benches, extraction);
criterion_main!(benches);
