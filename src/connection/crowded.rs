//! Which connection gives its place up when another waits for one.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
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
    /// Somebody has a place, and has not shaken hands. Counted from here, not from when its task
    /// first runs: who waits before that has to see it.
    pub fn arrived(self: &Arc<Self>) -> Stranger {
        self.strangers.fetch_add(1, Relaxed);
        Stranger(Arc::clone(self))
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

/// A connection whose handshake is not finished.
#[derive(Debug)]
pub struct Stranger(Arc<Crowded>);

impl Stranger {
    /// Runs the handshake, unless its place is needed: then `None`.
    pub async fn shake<T>(self, handshake: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = handshake => Some(done),
            () = self.0.strange.notified() => None,
        }
    }
}

impl Drop for Stranger {
    fn drop(&mut self) {
        self.0.strangers.fetch_sub(1, Relaxed);
    }
}
