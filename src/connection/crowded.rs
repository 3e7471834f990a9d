//! Which connection gives its place up when another waits for one.

use std::{
    pin::pin,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::sync::{Notify, futures::Notified};

/// How long a place is waited for before one more connection is asked for its own.
const PATIENCE: Duration = Duration::from_millis(250);

/// Told when somebody waits for a connection's place. One that has not finished its handshake gives
/// way before one that has, and of either kind the one that has waited longest.
#[derive(Debug, Default)]
pub struct Crowded {
    strangers: AtomicUsize,
    strange: Notify,
    silent: Notify,
}

impl Crowded {
    /// Runs a handshake, unless its place is needed: then `None`.
    pub async fn shake<T>(&self, handshake: impl Future<Output = T>) -> Option<T> {
        let _stranger = Stranger::new(&self.strangers);
        tokio::select! {
            biased;
            done = handshake => Some(done),
            () = self.strange.notified() => None,
        }
    }

    /// Ends when the place of a connection without a request is needed.
    pub fn silent_gives_way(&self) -> Notified<'_> {
        self.silent.notified()
    }

    /// Waits for a place, and has connections give way until there is one.
    pub async fn wait_for<T>(&self, place: impl Future<Output = T>) -> T {
        let mut place = pin!(place);
        loop {
            let strangers = self.strangers.load(Relaxed) > 0;
            let asked = if strangers {
                &self.strange
            } else {
                &self.silent
            };
            asked.notify_one();
            let taken = tokio::time::timeout(PATIENCE, &mut place).await;
            // Nobody who comes to wait later is to give way for this place.
            pin!(asked.notified()).enable();
            if let Ok(taken) = taken {
                return taken;
            }
        }
    }
}

/// Counted while its handshake goes on.
struct Stranger<'c>(&'c AtomicUsize);

impl<'c> Stranger<'c> {
    fn new(count: &'c AtomicUsize) -> Self {
        count.fetch_add(1, Relaxed);
        Self(count)
    }
}

impl Drop for Stranger<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
