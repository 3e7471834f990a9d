//! The script against the ledger in this process, step by step, on a real store.

use std::{
    net::{Ipv4Addr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::Duration,
};

use redis::{Client, Script};

use super::Answer;
use crate::{
    bundle::model::QueriesSpec,
    config::{CallerLimits, Patterns, RowsPerDay},
    extraction::{Clinical, Embedding, Ledger, Query, Shared, Terms},
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
        let mut bits = [0u32; 8].map(|_| u32::try_from(of_place.next() >> 32).unwrap());
        for _ in 0..self.below(40) {
            let bit = usize::try_from(self.below(256)).unwrap();
            bits[bit / 32] ^= 1 << (bit % 32);
        }
        Query {
            fingerprint: place << 8 | self.below(90),
            embedding: (self.below(20) > 0).then_some(Embedding(bits)),
            flagged: self.below(4) == 0,
        }
    }
}

#[test]
fn the_script_does_what_the_ledger_does() {
    let Some(store) = Store::start() else { return };
    let mut connection = store.1.get_connection().unwrap();
    let script = Script::new(include_str!("enter.lua"));
    let (mut kinds, mut steps) = (std::collections::BTreeSet::new(), [0usize; 5]);
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
        let mut ledger = Ledger::default();
        let mut now = (20_000 * 86_400 + seeded.below(86_400)) * 1000;
        for turn in 0..300 {
            // Seconds, minutes, now and then hours: over midnight too.
            let pause = if run % 2 == 0 { 4_000 } else { 40_000 };
            now += seeded.below(if turn % 50 == 49 { 20_000_000 } else { pause });
            let query = seeded.query();
            let day = now / 86_400_000;
            let mut call = script.prepare_invoke();
            call.key(format!("rows:{run}:{day}"));
            call.key(format!("state:{run}"));
            call.key(format!("seen:{run}:{day}"));
            Ledger::arguments(&query, &terms, now, &mut |argument| {
                call.arg(argument);
            });
            let answer: Answer = call.invoke(&mut connection).unwrap();
            let (why, value, charged, used, step, events, strikes, cusum) = answer;
            let shared = Shared::read((why, value, charged, used, step, events), &strikes, &cusum);
            let here = ledger.enter(&query, &terms, now);
            assert_eq!(
                shared.unwrap().verdict,
                here,
                "run {run}, turn {turn}: {query:?}"
            );
            kinds.insert((why, value.min(2)));
            steps[usize::from(step)] += 1;
        }
    }
    // Every way it can end was taken.
    let whys: std::collections::BTreeSet<u8> = kinds.iter().map(|(why, _)| *why).collect();
    assert_eq!(whys.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    for detail in 0..=2 {
        assert!(kinds.contains(&(0, detail)), "{kinds:?}");
    }
    assert!(steps.iter().all(|count| *count > 0), "{steps:?}");
}
