//! The script against the ledger in this process, step by step, on a real store.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{Client, Connection, Script};

use crate::{
    bundle::model::QueriesSpec,
    config::{CallerLimits, Patterns, RowsPerDay},
    extraction::{Answer, Clinical, Embedding, Ledger, Query, Said, Step, Terms, Verdict},
};

/// A store without TLS, killed when dropped: what is tested is the script.
struct Store(Child, Client);

impl Store {
    fn start() -> Option<Self> {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let Ok(child) = child else {
            println!("SKIPPED: redis-server is not installed; apt-get install redis-server");
            return None;
        };
        let store = Self(
            child,
            Client::open(format!("redis://127.0.0.1:{port}")).unwrap(),
        );
        for _ in 0..1000 {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return Some(store);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the store does not listen");
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// `SplitMix64`.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// One of few places, a few bits moved; flagged or not; sometimes the same row again.
    fn query(&mut self) -> Query {
        let place = self.below(6);
        let mut of_place = Self(place);
        let mut bits = [0u64; 4].map(|_| of_place.next());
        for _ in 0..self.below(40) {
            let bit = usize::try_from(self.below(256)).unwrap();
            bits[bit / 64] ^= 1 << (bit % 64);
        }
        let flagged = self.below(4) == 0;
        Query {
            fingerprint: place << 8 | self.below(90),
            version: u32::try_from(self.below(8) / 7).unwrap(),
            embedding: (self.below(20) > 0).then_some(Embedding(bits)),
            flagged,
            // Some bundles attach predictions to reviews.
            answered: !flagged || self.below(3) == 0,
        }
    }
}

/// One of the servers that share the store.
struct Replica<'s> {
    ledger: Ledger,
    script: &'s Script,
    run: u64,
    behind: u32,
}

impl Replica<'_> {
    /// Asks as [`crate::extraction::Extraction`] does.
    fn ask(&mut self, store: &mut Connection, query: &Query, terms: &Terms, now: u64) -> Verdict {
        let (run, day) = (self.run, now / 86_400_000);
        for attempt in 1..=3 {
            let mut call = self.script.prepare_invoke();
            call.key(format!("rows:{run}:{day}"));
            call.key(format!("state:{run}"));
            call.key(format!("seen:{run}:{day}"));
            call.key(format!("marked:{run}:{day}"));
            call.key(format!("tried:{run}:{day}"));
            let told = self.ledger.tell(query, terms, attempt, now);
            Ledger::arguments(query, terms, &told, now, &mut |argument| {
                call.arg(argument);
            });
            let answer: Answer = call.invoke(store).unwrap();
            match Said::read(&answer, terms).unwrap() {
                Said::Behind(places) => {
                    self.behind += 1;
                    self.ledger.catch_up(&places);
                }
                Said::Verdict(shared) => {
                    self.ledger.mirror(query, &shared, terms, now);
                    return shared.verdict;
                }
            }
        }
        panic!("the script asks for more again and again");
    }
}

#[test]
fn the_script_does_what_the_ledger_does() {
    let Some(store) = Store::start() else { return };
    let mut connection = store.1.get_connection().unwrap();
    let script = Script::new(include_str!("enter.lua"));
    let (mut kinds, mut steps) = (BTreeSet::new(), [0usize; 5]);
    let mut behind = 0;
    for run in 0..24u64 {
        let mut seeded = Seeded(run);
        let limits = CallerLimits {
            rows_per_day: match run % 4 {
                0 => RowsPerDay::Unlimited,
                n => RowsPerDay::Limited(u32::try_from(n * 40).unwrap()),
            },
            patterns: if run % 5 == 4 {
                Patterns::Shadow
            } else {
                Patterns::Enforce
            },
            ..CallerLimits::DEFAULT
        };
        let clinical = [Clinical::No, Clinical::Person, Clinical::RecordSystem];
        let clinical = clinical[usize::try_from(run % 3).unwrap()];
        let terms = Terms::new(&limits, clinical, &QueriesSpec::default());
        // Two servers that share the store, and one that has all to itself.
        let mut alone = Ledger::default();
        let mut replicas = [(); 2].map(|()| Replica {
            ledger: Ledger::default(),
            script: &script,
            run,
            behind: 0,
        });
        let mut now = (20_000 * 86_400 + seeded.below(86_400)) * 1000;
        for turn in 0..300 {
            // Seconds, minutes, now and then hours: over midnight too.
            let pause = if run % 2 == 0 { 4_000 } else { 40_000 };
            now += seeded.below(if turn % 50 == 49 { 20_000_000 } else { pause });
            let query = seeded.query();
            // The second is asked seldom, and falls behind.
            let replica = &mut replicas[usize::from(seeded.below(60) == 0)];
            let shared = replica.ask(&mut connection, &query, &terms, now);
            let here = alone.enter(&query, &terms, now);
            assert_eq!(shared, here, "run {run}, turn {turn}: {query:?}");
            let kind = match shared.outcome {
                Ok(detail) => format!("{detail:?}"),
                Err((why, _)) => format!("{why:?}"),
            };
            kinds.insert(kind);
            steps[Step::ALL.iter().position(|s| *s == shared.step).unwrap()] += 1;
        }
        behind += replicas[1].behind;
    }
    // Every way it can end was taken.
    let all = [
        "Band",
        "Exhausted",
        "Full",
        "NearDuplicate",
        "Quarantined",
        "SlowedDown",
        "Withheld",
    ];
    assert_eq!(kinds.iter().map(String::as_str).collect::<Vec<_>>(), all);
    assert!(steps.iter().all(|count| *count > 0), "{steps:?}");
    assert!(behind > 0, "the second server never had to catch up");
}

/// After a pardon the list begins anew, and no server counts what was in the old one.
#[test]
fn a_new_list_of_embeddings_is_noticed() {
    let Some(store) = Store::start() else { return };
    let mut connection = store.1.get_connection().unwrap();
    let script = Script::new(include_str!("enter.lua"));
    let terms = Terms::new(
        &CallerLimits::DEFAULT,
        Clinical::Person,
        &QueriesSpec::default(),
    );
    let mut replicas = [(); 2].map(|()| Replica {
        ledger: Ledger::default(),
        script: &script,
        run: 0,
        behind: 0,
    });
    let mut now = 20_000 * 86_400_000;
    let mut row = 0;
    let mut ask = |replica: &mut Replica<'_>, connection: &mut Connection| {
        (row, now) = (row + 1, now + 1000);
        let query = Query {
            fingerprint: row,
            version: 1,
            embedding: Some(Embedding([7; 4])),
            flagged: false,
            answered: true,
        };
        replica.ask(connection, &query, &terms, now).outcome.is_ok()
    };
    let [one, other] = &mut replicas;
    let first = [
        ask(one, &mut connection),
        ask(other, &mut connection),
        ask(one, &mut connection),
        ask(other, &mut connection),
        ask(one, &mut connection),
        ask(other, &mut connection),
    ];
    assert_eq!(first, [true, true, true, true, false, false]);
    one.ledger.pardon();
    let _: () = redis::cmd("DEL")
        .arg("state:0")
        .arg("seen:0:20000")
        .query(&mut connection)
        .unwrap();
    for _ in 0..2 {
        assert!(ask(other, &mut connection));
        assert!(ask(one, &mut connection));
    }
    assert!(!ask(other, &mut connection));
}
