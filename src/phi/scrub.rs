//! Wipes what patient data leaves on stacks and in the TLS library's read buffer.
//!
//! Whatever touches patient data runs under [`scrubbed_spawn`] or calls [`scrub_stack`] when it
//! is done. All of this is safe code; the heap is wiped by `src/phi/heap.rs`.
//!
//! A request is polled some eight times, and a stack wiped after each poll costs it more than its
//! screens do. The next poll overwrites much of the same frames anyway, so the threads of a runtime
//! that was [`wiped_when_idle`] wipe theirs before they go to sleep, and after [`MOST_POLLS`] at
//! the latest: what rests in memory is wiped, and what a busy thread leaves behind is as short-lived
//! as the requests it is working on.

use std::{
    cell::Cell,
    future::Future,
    hint::black_box,
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    task::JoinHandle,
};
use tokio_util::task::TaskTracker;

use super::measures::{Measure, in_force};

/// How far below its caller [`scrub_stack`] wipes, bytes. The deepest paths of the server and of
/// ONNX Runtime that touch patient data stay within it, as the scan shows. In a build without
/// optimisation they are several times deeper: a decision runs 230 KiB below its task's frame.
pub const STACK_DEPTH: usize = if cfg!(debug_assertions) { 512 } else { 96 } * 1024;

/// Wipes [`STACK_DEPTH`] bytes of the stack below the caller's frame: what the functions it
/// called before have left there.
// Not inlined: its frame must lie where theirs were.
#[inline(never)]
#[expect(
    clippy::large_stack_arrays,
    reason = "being on the stack is its purpose"
)]
pub fn scrub_stack() {
    if in_force(Measure::Stack) {
        let mut frame = [0u8; STACK_DEPTH];
        // Claims to read the zeros, so that writing them is not optimised away.
        black_box(&mut frame);
    }
}

/// Polls that a thread's stack may be used for before it is wiped.
pub const MOST_POLLS: u32 = 8;

thread_local! {
    /// Polls since this thread's stack was wiped; none where every poll is followed by a wipe.
    static UNWIPED: Cell<Option<u32>> = const { Cell::new(None) };
}

/// Has the threads of a runtime wipe their stacks before they sleep, not after every poll.
pub fn wiped_when_idle(runtime: &mut tokio::runtime::Builder) -> &mut tokio::runtime::Builder {
    runtime.on_thread_park(before_sleep)
}

/// Only a thread that runs tasks sleeps here: one that has will do so again.
fn before_sleep() {
    if UNWIPED.replace(Some(0)) != Some(0) {
        scrub_stack();
    }
}

/// As [`tokio::task::block_in_place`]. The thread may run no task after it and not sleep as those
/// do that run some, so its stack is wiped at once, and after every poll until it does.
pub fn block_in_place<T>(work: impl FnOnce() -> T) -> T {
    UNWIPED.set(None);
    scrub_stack();
    tokio::task::block_in_place(work)
}

// Inlined, so that the frame wiped lies where the poll's was.
#[inline]
fn after_poll() {
    match UNWIPED.get() {
        Some(polls) if polls + 1 < MOST_POLLS => UNWIPED.set(Some(polls + 1)),
        several => {
            UNWIPED.set(several.map(|_| 0));
            scrub_stack();
        }
    }
}

/// Spawns a task that touches patient data: the stack that it used is wiped after each poll, or
/// where [`wiped_when_idle`] says, and after the future is dropped unfinished.
pub fn scrubbed_spawn<F>(tasks: &TaskTracker, future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tasks.spawn(Scrubbed(Some(Box::pin(future))))
}

/// Has the stack wiped after each poll. `None` once the future has ended.
struct Scrubbed<F>(Option<Pin<Box<F>>>);

impl<F: Future> Future for Scrubbed<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let polled = poll_and_drop(&mut self.0, cx);
        after_poll();
        polled
    }
}

impl<F> Drop for Scrubbed<F> {
    fn drop(&mut self) {
        if self.0.is_some() {
            drop_below(&mut self.0);
            scrub_stack();
        }
    }
}

// Not inlined: its frame must lie where `scrub_stack` wipes.
#[inline(never)]
fn poll_and_drop<F: Future>(
    future: &mut Option<Pin<Box<F>>>,
    cx: &mut Context<'_>,
) -> Poll<F::Output> {
    let Some(running) = future else {
        // Polled after it has ended, which tokio never does.
        return Poll::Pending;
    };
    let polled = running.as_mut().poll(cx);
    if polled.is_ready() {
        *future = None;
    }
    polled
}

#[inline(never)]
fn drop_below<F>(future: &mut Option<Pin<Box<F>>>) {
    *future = None;
}

/// A socket below a TLS session that decrypts in place: wipes the free part of the buffer it is
/// asked to fill, because that still holds the plaintext of earlier records.
#[derive(Debug)]
pub struct WipingReader<T> {
    io: T,
    /// Something was read since the buffer was last wiped. Plaintext only ever comes into being
    /// behind a read.
    dirty: bool,
}

impl<T> WipingReader<T> {
    /// Reads from `io`.
    pub fn new(io: T) -> Self {
        Self { io, dirty: false }
    }

    /// The socket.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.io
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for WipingReader<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.dirty && in_force(Measure::ReadBuffer) {
            buffer.initialize_unfilled().fill(0);
        }
        self.dirty = false;
        let filled = buffer.filled().len();
        let polled = Pin::new(&mut self.io).poll_read(cx, buffer);
        self.dirty = buffer.filled().len() > filled;
        polled
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for WipingReader<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
