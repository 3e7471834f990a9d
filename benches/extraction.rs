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
use criterion::{Criterion, criterion_group, criterion_main};
use redis::{Client, Connection, Script};
use vitalgate::{
    admission::{Accounts, Shown},
    authz::Role,
    bundle::model::{ModelSpec, QueriesSpec},
    clock,
    config::{Budget, Budgets, CallerLimits, RowsPerDay},
    extraction::{Answer, Clinical, EMBEDDINGS, Embedder, Embedding, Ledger, Query, Said, Terms},
    screening::Screen,
};

/// Midnight of some day, Unix milliseconds.
const MIDNIGHT: u64 = 20_000 * 86_400 * 1000;

fn query(number: u64) -> Query {
    // SplitMix64's last steps: no two rows are near each other.
    let mixed = |word: u64| {
        let mixed = (number * 8 + word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let bits = [0, 1, 2, 3].map(mixed);
    Query {
        fingerprint: mixed(4) >> 8,
        embedding: Some(Embedding(bits)),
        flagged: false,
        answered: true,
        version: 1,
    }
}

/// A row of the demo model, and who maps it.
struct Rows {
    screen: Screen,
    embedder: Embedder,
    values: Vec<f64>,
}

impl Rows {
    fn read() -> Self {
        let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/icu-mortality/bundle");
        let read = |name: &str| std::fs::read(bundle.join(name)).unwrap();
        let spec = ModelSpec::parse(&read("model.json")).unwrap();
        let screen = Screen::parse(&read("reference.json"), &spec)
            .unwrap()
            .unwrap();
        let values = &spec.known_answers.first().unwrap().inputs;
        let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
        Self {
            embedder: Embedder::new(&key, &screen, spec.features.iter().map(|f| f.name.as_str())),
            values: values.iter().map(|v| f64::from(*v)).collect(),
            screen,
        }
    }

    fn embed(&self) -> Embedding {
        let values = black_box(&self.values).iter().copied();
        self.embedder.embed(&self.screen, values)
    }
}

/// A caller's days, one after another. The window has its rows before anything is measured, and
/// keeps them.
struct Days<'a> {
    accounts: &'a Accounts,
    caller: String,
    own: Budget,
    /// Rows of a day before those that are measured.
    first: u64,
    /// All of them.
    rows: u64,
    number: u64,
}

impl<'a> Days<'a> {
    fn new(accounts: &'a Accounts, caller: String, first: u64, rows: u64) -> Self {
        let own = Budget {
            rows_per_day: Some(RowsPerDay::Limited(rows.try_into().unwrap())),
            // More than can be asked: a row may take less than a microsecond.
            requests_per_second: Some(1_000_000_000),
            burst: Some(1_000_000_000),
            ..Budget::default()
        };
        Self {
            accounts,
            caller,
            own,
            first,
            rows,
            number: 0,
        }
    }

    /// The next row is let in, embedded if there is somebody to do it, charged and judged.
    fn ask(&mut self, embed: Option<&Rows>) {
        let (day, row) = (self.number / self.rows, self.number % self.rows);
        let now = MIDNIGHT + (day * 86_400 + row * 86_400 / self.rows) * 1000;
        let query = query(self.number);
        self.number += 1;
        let roles = [Role::EhrSystem];
        let account = self
            .accounts
            .named_now(&self.caller, "".into(), &roles, Some(&self.own));
        let mut shown = Shown::default();
        account.pace(&mut shown).unwrap();
        let place = account.place().unwrap();
        if let Some(rows) = embed {
            black_box(rows.embed());
        }
        let terms = Terms::new(
            account.limits(),
            account.clinical(),
            &QueriesSpec::default(),
        );
        let verdict = account.with_ledger("m", |ledger| ledger.enter(&query, &terms, now));
        assert!(verdict.charged, "{verdict:?}");
        drop(place);
    }

    /// Goes on until the next row is one that is measured.
    fn skip(&mut self) {
        while self.number % self.rows < self.first {
            self.ask(None);
        }
    }

    /// How long so many rows take.
    fn time(&mut self, mut rows: u64, embedding: &Rows) -> Duration {
        let mut all = Duration::ZERO;
        while rows > 0 {
            self.skip();
            let now = rows.min(self.rows - self.number % self.rows);
            let start = clock::monotonic();
            for _ in 0..now {
                self.ask(Some(embedding));
            }
            all += start.elapsed();
            rows -= now;
        }
        all
    }
}

fn extraction(c: &mut Criterion) {
    let rows = Rows::read();
    c.bench_function("embedding of 20 features", |b| b.iter(|| rows.embed()));
    let accounts = Accounts::new(Budgets::default());
    // A thousand others, so that the table is not empty.
    let mut others: Vec<Days<'_>> = (0..1000)
        .map(|other| Days::new(&accounts, format!("caller-{other}"), 150, 200))
        .collect();
    // A caller near the end of the default budget; a record system of 200 beds; the largest window
    // there is.
    for (name, first, all) in [
        ("200 rows", 150, 200),
        ("800 rows", 800, 3200),
        ("1024 rows", 1024, 4100),
    ] {
        let mut days = Days::new(&accounts, name.to_owned(), first, all);
        c.bench_function(
            &format!("admission, embedding, charge and patterns, {name}"),
            |b| b.iter_custom(|iterations| days.time(iterations, &rows)),
        );
        let mut each: Vec<Duration> = (0..20_000).map(|_| days.time(1, &rows)).collect();
        each.sort_unstable();
        say(name, &each);
    }
    // Whoever is next has not been in the processor's caches for a while.
    others.iter_mut().for_each(Days::skip);
    let mut each = Vec::new();
    for _ in 0..40 {
        each.extend(others.iter_mut().map(|other| other.time(1, &rows)));
    }
    each.sort_unstable();
    say("a thousand callers in turn", &each);

    let mut ledger = Ledger::default();
    let limits = CallerLimits::DEFAULT;
    let terms = Terms::new(&limits, Clinical::Person, &QueriesSpec::default());
    c.bench_function("the same row again", |b| {
        b.iter(|| ledger.enter(black_box(&query(1)), &terms, MIDNIGHT));
    });
}

fn say(what: &str, each: &[Duration]) {
    let at = |share: f64| {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a place in the list"
        )]
        let place = (each.len() as f64 * share) as usize;
        each.get(place).unwrap().as_secs_f64() * 1e6
    };
    println!(
        "{what}, each row by itself: p50 {:.2} us, p99 {:.2} us\n",
        at(0.5),
        at(0.99)
    );
}

/// A store without TLS, killed when dropped: what is measured is the script.
struct Store(Child, Connection);

impl Store {
    fn start() -> Option<Self> {
        // Closed at the end of this statement: the store is to listen there.
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .unwrap()
            .local_addr();
        let port = free.unwrap().port();
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
        println!("SKIPPED: redis-server is not installed; apt-get install redis-server");
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
        let (now, query) = (MIDNIGHT + number, query(number));
        let ledger = ledgers
            .get_mut(usize::from(number.is_multiple_of(2)))
            .unwrap();
        let told = ledger.tell(&query, &terms, 1, now);
        let mut call = script.prepare_invoke();
        for key in ["rows", "state", "seen", "marked", "tried"] {
            call.key(key);
        }
        Ledger::arguments(&query, &terms, &told, now, &mut |argument| {
            call.arg(argument);
        });
        let answer: Answer = call.invoke(connection).unwrap();
        match Said::read(&answer, &terms).unwrap() {
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

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3))
        .sample_size(50);
    targets = extraction, store
}
criterion_main!(benches);
