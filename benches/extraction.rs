//! What a caller's budget costs a request: its rate and places, its row's embedding, and the ledger
//! with all that it looks at.
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a benchmark that cannot start must stop, and says what it found"
)]

use std::{
    hint::black_box,
    net::{Ipv4Addr, TcpListener},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use aws_lc_rs::hmac;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use redis::{Client, Connection, Script};
use vitalgate::{
    admission::{Accounts, Shown},
    authz::Role,
    bundle::model::{ModelSpec, QueriesSpec},
    config::{Budget, Budgets, CallerLimits, RowsPerDay},
    extraction::{Answer, Clinical, EMBEDDINGS, Embedder, Embedding, Ledger, Query, Said, Terms},
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
                let mut ledger = Ledger::default();
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

/// A store without TLS, killed when dropped: what is measured is the script.
struct Store(Child, Connection);

impl Store {
    fn start() -> Option<Self> {
        let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = port.local_addr().unwrap().port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .ok()?;
        let client = Client::open(format!("redis://127.0.0.1:{port}")).unwrap();
        let connection = (0..1000).find_map(|_| {
            std::thread::sleep(Duration::from_millis(10));
            client.get_connection().ok()
        });
        Some(Self(child, connection.unwrap()))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// The script in the shared store, with every embedding kept that may be. Two servers take turns,
/// so that each time one embedding is left to the script.
fn store(c: &mut Criterion) {
    let Some(mut store) = Store::start() else {
        return;
    };
    let script = Script::new(include_str!("../src/fleet/enter.lua"));
    let limits = CallerLimits {
        rows_per_day: RowsPerDay::Limited(1_000_000),
        ..CallerLimits::DEFAULT
    };
    let terms = Terms::new(&limits, Clinical::RecordSystem, &QueriesSpec::default());
    let mut ledgers = [Ledger::default(), Ledger::default()];
    let mut number = 0u64;
    let mut ask = |connection: &mut Connection| {
        number += 1;
        let (now, query) = (NOON + number, query(number));
        let ledger = ledgers
            .get_mut(usize::from(number.is_multiple_of(2)))
            .unwrap();
        let told = ledger.tell(&query, &terms, 1, now);
        let mut call = script.prepare_invoke();
        call.key("rows").key("state").key("seen").key("full");
        Ledger::arguments(&query, &terms, &told, now, &mut |argument| {
            call.arg(argument);
        });
        let answer: Answer = call.invoke(connection).unwrap();
        match Said::read(&answer).unwrap() {
            Said::Verdict(shared) => ledger.mirror(&query, &shared, &terms, now),
            Said::Behind(places) => ledger.catch_up(&places),
        }
    };
    for _ in 0..2 * EMBEDDINGS {
        ask(&mut store.1);
    }
    redis::cmd("CONFIG")
        .arg("RESETSTAT")
        .exec(&mut store.1)
        .unwrap();
    c.bench_function("the store's script and the way there, 1024 rows", |b| {
        b.iter(|| ask(&mut store.1));
    });
    let statistics: String = redis::cmd("INFO")
        .arg("commandstats")
        .query(&mut store.1)
        .unwrap();
    let script = statistics.lines().find(|line| line.contains("evalsha"));
    println!("in the store alone, microseconds: {}", script.unwrap());
}

criterion_group!(benches, extraction, store);
criterion_main!(benches);
