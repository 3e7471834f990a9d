//! Sends the mix over all connections, in a closed loop or an open one.

use std::{
    num::NonZeroU64,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Error, anyhow};
use indicatif::{ProgressBar, ProgressStyle};

use crate::{
    arguments::Load,
    case::{Mix, Verdict},
    connection::{Client, Connection},
    outcome::{Run, per_second},
};

/// A run's clock: requests that are answered before `from` warm the server up.
#[derive(Clone, Copy)]
struct Window {
    start: Instant,
    from: Instant,
    end: Instant,
}

/// When requests are sent.
enum Timing {
    /// The next when the last is answered.
    Closed,
    /// Number `n` is due `n / rate` seconds after the start.
    Open { rate: f64, next: AtomicU64 },
}

/// As fast as answers come.
pub(crate) fn closed(client: &Client, mix: &Mix, load: &Load) -> Result<Run, Error> {
    let label = format!("closed loop, {} connections", load.connections);
    run(
        client,
        mix,
        load,
        &Timing::Closed,
        Run::new(mix, label, None)?,
    )
}

/// At a constant rate, in requests a second.
pub(crate) fn open(client: &Client, mix: &Mix, load: &Load, rate: f64) -> Result<Run, Error> {
    if !(rate.is_finite() && rate > 0.0) {
        return Err(anyhow!("a rate is a number above 0, not {rate}"));
    }
    let next = AtomicU64::new(0);
    let label = format!("open loop, {rate:.0}/s, {} connections", load.connections);
    let timing = Timing::Open { rate, next };
    run(
        client,
        mix,
        load,
        &timing,
        Run::new(mix, label, Some(rate))?,
    )
}

fn run(
    client: &Client,
    mix: &Mix,
    load: &Load,
    timing: &Timing,
    mut whole: Run,
) -> Result<Run, Error> {
    let answered = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    // Connections are made first, so that handshakes do not weigh on what is measured.
    let connections = (0..load.connections)
        .map(|_| client.connect())
        .collect::<Result<Vec<_>, _>>()?;
    let start = Instant::now();
    let from = start + load.warmup;
    let window = Window {
        start,
        from,
        end: from + load.duration,
    };
    thread::scope(|scope| {
        let threads: Vec<_> = connections
            .into_iter()
            .map(|connection| {
                let part = Run::new(mix, String::new(), None);
                let answered = &answered;
                scope.spawn(move || {
                    let mut caller = Caller {
                        client,
                        mix,
                        load,
                        part: part?,
                        connection: Some(connection),
                        sent: 0,
                    };
                    caller.call(timing, window, answered);
                    Ok::<_, Error>(caller.part)
                })
            })
            .collect();
        scope.spawn(|| show_progress(load, window, &answered, &done));
        for thread in threads {
            let part = thread.join().map_err(|_| anyhow!("a caller panicked"))?;
            whole.add(part?)?;
        }
        done.store(true, Ordering::Relaxed);
        Ok::<_, Error>(())
    })?;
    whole.measured = load.duration;
    if let Timing::Open { rate, next } = timing {
        whole.unsent = due(*rate, window).saturating_sub(next.load(Ordering::Relaxed));
    }
    Ok(whole)
}

/// How many requests of an open loop are due in all.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate is above 0, and a run has far fewer than 2^64 requests"
)]
fn due(rate: f64, window: Window) -> u64 {
    (rate * (window.end - window.start).as_secs_f64()) as u64
}

/// One thread and its connection.
struct Caller<'a> {
    client: &'a Client,
    mix: &'a Mix,
    load: &'a Load,
    part: Run,
    connection: Option<Connection>,
    /// Requests on this connection.
    sent: u64,
}

impl Caller<'_> {
    fn call(&mut self, timing: &Timing, window: Window, answered: &AtomicU64) {
        // Sleep to the microsecond, not to the kernel's 50.
        let precise = rustix::thread::set_current_timer_slack(NonZeroU64::new(1_000));
        debug_assert!(precise.is_ok(), "every thread may do so for itself");
        let mut number = 0;
        loop {
            let began = match timing {
                Timing::Closed => Instant::now(),
                Timing::Open { rate, next } => {
                    number = next.fetch_add(1, Ordering::Relaxed);
                    let due = window.start + Duration::from_secs_f64(number_f64(number) / rate);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    due
                }
            };
            if began >= window.end || Instant::now() >= window.end {
                if let Timing::Open { next, .. } = timing {
                    // Taken, not sent.
                    next.fetch_sub(1, Ordering::Relaxed);
                }
                return;
            }
            self.ask(number, began, window);
            answered.fetch_add(1, Ordering::Relaxed);
            number += 1;
        }
    }

    /// One request; what became of it is noted if the answer came while answers are counted. Where
    /// more is due than is answered, that is long after it was due.
    fn ask(&mut self, number: u64, began: Instant, window: Window) {
        let index = self.mix.index(number);
        let Some(case) = self.mix.cases.get(index) else {
            return;
        };
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => match self.client.connect() {
                Ok(new) => {
                    self.sent = 0;
                    none.insert(new)
                }
                Err(error) => return self.part.note_broken(&error),
            },
        };
        self.sent += 1;
        let limit = self.load.requests_per_connection;
        match connection.exchange(&case.request) {
            Ok(answer) => {
                let now = Instant::now();
                let verdict = self.mix.judge(case, &answer);
                if verdict == Verdict::Wrong && self.part.first_wrong.is_none() {
                    let start: Vec<u8> = answer.body.iter().copied().take(300).collect();
                    self.part.first_wrong = Some(format!(
                        "{}: {} {}",
                        case.name,
                        answer.status,
                        String::from_utf8_lossy(&start)
                    ));
                }
                // A wrong answer counts whenever it comes.
                if verdict == Verdict::Wrong || (window.from..=window.end).contains(&now) {
                    self.part.note(index, verdict, now - began);
                }
                if answer.closes || (limit > 0 && self.sent >= limit) {
                    self.connection = None;
                }
            }
            Err(error) => {
                self.part.note_broken(&error);
                self.connection = None;
            }
        }
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a run has far fewer than 2^52 requests"
)]
fn number_f64(number: u64) -> f64 {
    number as f64
}

fn show_progress(load: &Load, window: Window, answered: &AtomicU64, done: &AtomicBool) {
    let total = u64::try_from((window.end - window.start).as_millis()).unwrap_or(u64::MAX);
    let bar = if load.quiet {
        ProgressBar::hidden()
    } else {
        ProgressBar::new(total)
    };
    if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
        bar.set_style(style);
    }
    while !done.load(Ordering::Relaxed) {
        let elapsed = window.start.elapsed();
        bar.set_position(u64::try_from(elapsed.as_millis()).unwrap_or(total));
        let rate = per_second(answered.load(Ordering::Relaxed), elapsed);
        bar.set_message(format!("{rate:.0} answers/s"));
        thread::sleep(Duration::from_millis(100));
    }
    bar.finish_and_clear();
}
