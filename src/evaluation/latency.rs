//! How long a row takes.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
};

use serde::Serialize;

use crate::{clock, inference::ScoreError, screening::Scratch};

use super::{Subject, path};

/// Calls that are timed, at most, and for how long.
const CALLS: usize = 20_000;
const PATHS: usize = 2_000;
const SECONDS: f64 = 1.0;

/// Quantiles in microseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Quantiles {
    /// Calls.
    pub calls: usize,
    /// Half are faster.
    pub p50: f64,
    /// 99 of 100 are faster.
    pub p99: f64,
}

/// How long a row takes on this machine.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Latency {
    /// The distribution screen alone.
    pub screen_us: Option<Quantiles>,
    /// Parsing, every screen, the networks and their agreement, one row at a time.
    pub path_us: Option<Quantiles>,
}

impl Latency {
    /// What was measured, with its name.
    pub(super) fn parts(&self) -> impl Iterator<Item = (&'static str, Quantiles)> {
        let screen = self.screen_us.map(|q| ("distribution screen", q));
        let path = self.path_us.map(|q| ("whole path but HTTP, one by one", q));
        screen.into_iter().chain(path)
    }
}

pub(super) fn measure(subject: &Subject<'_>, rows: &[&[f64]]) -> Result<Latency, ScoreError> {
    let screen = subject.screen.map(|s| s.0);
    let bench = path::Bench::new(subject.spec, screen);
    let measured: Vec<Vec<f64>> = rows.iter().filter_map(|row| bench.measured(row)).collect();
    let mut scratch = Scratch::default();
    let screen_us = screen.and_then(|screen| {
        timed(measured.iter(), CALLS, |row| {
            std::hint::black_box(screen.judge(row.iter().copied(), &mut scratch));
            Ok(())
        })
    });
    let path_us = timed(rows.iter(), PATHS, |row| {
        block_on(path::decide(subject.spec, screen, subject.engine, row)).map(drop)
    });
    Ok(Latency {
        screen_us: screen_us.transpose()?,
        path_us: path_us.transpose()?,
    })
}

/// Times a call for one row after the other; `None` without rows.
fn timed<T>(
    rows: impl Iterator<Item = T> + Clone,
    most: usize,
    mut call: impl FnMut(T) -> Result<(), ScoreError>,
) -> Option<Result<Quantiles, ScoreError>> {
    let began = clock::monotonic();
    let mut times = Vec::new();
    for row in rows.cycle().take(most) {
        let start = clock::monotonic();
        if let Err(error) = call(row) {
            return Some(Err(error));
        }
        let end = clock::monotonic();
        times.push(end.duration_since(start).as_secs_f64() * 1e6);
        if end.duration_since(began).as_secs_f64() > SECONDS {
            break;
        }
    }
    quantiles(times).map(Ok)
}

fn quantiles(mut times: Vec<f64>) -> Option<Quantiles> {
    times.sort_by(f64::total_cmp);
    let at = |of: usize| {
        times
            .get((times.len() * of / 100).min(times.len().checked_sub(1)?))
            .copied()
    };
    Some(Quantiles {
        calls: times.len(),
        p50: at(50)?,
        p99: at(99)?,
    })
}

/// Waits for a future on this thread; the networks have threads of their own.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(Thread);
    impl Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut context = Context::from_waker(&waker);
    let mut future = pin!(future);
    loop {
        match future.as_mut().poll(&mut context) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}
