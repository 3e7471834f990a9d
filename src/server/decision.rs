//! A decision under way: in its connection's task, and without it when its caller has gone.

use std::{
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;

use crate::phi::scrub::scrubbed_spawn;

/// Decides in the task that polls it, which spares a request the way to another thread and back.
/// That task gives it up when the caller hangs up or takes too long; then it goes on in one of its
/// own, so that no decision stops half-way, unrecorded.
pub(super) struct Decision<F: Future<Output: Send> + Send + 'static> {
    tasks: TaskTracker,
    /// `None` once it has ended.
    running: Option<Pin<Box<F>>>,
}

/// The decision panicked.
#[derive(Debug)]
pub(super) struct Panicked;

impl<F: Future<Output: Send> + Send + 'static> Decision<F> {
    /// Nobody has polled it yet; what is left of it when it is given up runs in `tasks`.
    pub(super) fn new(tasks: &TaskTracker, future: F) -> Self {
        Self {
            tasks: tasks.clone(),
            running: Some(Box::pin(future)),
        }
    }
}

impl<F: Future<Output: Send> + Send + 'static> Future for Decision<F> {
    type Output = Result<F::Output, Panicked>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(running) = &mut self.running else {
            return Poll::Pending;
        };
        // Whatever it leaves half done is dropped with it.
        let polled = catch_unwind(AssertUnwindSafe(|| running.as_mut().poll(cx)));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(output)) => Ok(output),
            Err(_) => Err(Panicked),
        };
        self.running = None;
        Poll::Ready(ended)
    }
}

impl<F: Future<Output: Send> + Send + 'static> Drop for Decision<F> {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and its drain is over.
        if let Some(running) = self
            .running
            .take()
            .filter(|_| Handle::try_current().is_ok())
        {
            drop(scrubbed_spawn(&self.tasks, running));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{future::pending, sync::Arc, time::Duration};

    use tokio::{sync::Notify, time::timeout};

    use super::*;

    #[tokio::test]
    async fn given_up_it_goes_on() {
        let (tasks, go_on, ended) = (
            TaskTracker::new(),
            Arc::new(Notify::new()),
            Arc::new(Notify::new()),
        );
        let (told, tells) = (Arc::clone(&go_on), Arc::clone(&ended));
        let decision = Decision::new(&tasks, async move {
            told.notified().await;
            tells.notify_one();
        });
        assert!(timeout(Duration::from_millis(20), decision).await.is_err());
        go_on.notify_one();
        timeout(Duration::from_secs(10), ended.notified())
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn a_panic_ends_it_alone() {
        let tasks = TaskTracker::new();
        assert!(
            Decision::new(&tasks, async { panic!("as a test") })
                .await
                .is_err()
        );
    }

    #[test]
    fn without_a_runtime_it_is_dropped() {
        drop(Decision::new(&TaskTracker::new(), pending::<()>()));
    }
}
