//! What weighs on the server beside the load that is measured: silent connections, slow ones
//! (slow-loris), and a churn of handshakes.

use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Error};

use crate::{
    arguments::Disturbance,
    connection::{Client, Connection},
};

/// Threads that make handshakes.
const CHURNERS: u32 = 4;

/// Goes on until it is dropped.
pub(crate) struct Running {
    over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    _idle: Vec<Connection>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}

/// Opens the silent connections and starts the rest.
pub(crate) fn start(client: &Arc<Client>, what: &Disturbance) -> Result<Running, Error> {
    let over = Arc::new(AtomicBool::new(false));
    let idle = (0..what.idle)
        .map(|n| {
            client
                .connect()
                .with_context(|| format!("silent connection {n} of {}", what.idle))
        })
        .collect::<Result<_, _>>()?;
    let mut threads = Vec::new();
    if what.slow > 0 {
        let (client, over, count) = (Arc::clone(client), Arc::clone(&over), what.slow);
        threads.push(thread::spawn(move || trickle(&client, count, &over)));
    }
    if what.churn > 0.0 {
        let pause = Duration::from_secs_f64(f64::from(CHURNERS) / what.churn);
        for _ in 0..CHURNERS {
            let (client, over) = (Arc::clone(client), Arc::clone(&over));
            threads.push(thread::spawn(move || churn(&client, pause, &over)));
        }
    }
    Ok(Running {
        over,
        threads,
        _idle: idle,
    })
}

/// One byte of a request a second on each connection; one that the server ends is made anew.
fn trickle(client: &Client, count: usize, over: &AtomicBool) {
    const REQUEST: &[u8] = b"POST /v1/models/icu-mortality/predict HTTP/1.1\r\nHost: localhost\r\n\
        Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{\"observations\": {";
    let mut slow: Vec<Option<(Connection, usize)>> = (0..count).map(|_| None).collect();
    while !over.load(Ordering::Relaxed) {
        for place in &mut slow {
            if place.is_none() {
                *place = client.connect().ok().map(|connection| (connection, 0));
            }
            if let Some((connection, at)) = place {
                let byte = REQUEST.get(*at).copied().unwrap_or(b' ');
                *at += 1;
                let sent = connection.stream.write_all(&[byte]);
                if sent.and_then(|()| connection.stream.flush()).is_err() {
                    *place = None;
                }
            }
        }
        thread::sleep(Duration::from_secs(1));
    }
}

fn churn(client: &Client, pause: Duration, over: &AtomicBool) {
    let mut next = Instant::now();
    while !over.load(Ordering::Relaxed) {
        drop(client.connect_anew());
        next += pause;
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
}
