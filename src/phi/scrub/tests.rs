use std::{
    fs::File,
    future::poll_fn,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicU64, Ordering},
};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Half of a canary; the whole one is never spelt in the program.
static HALF: AtomicU64 = AtomicU64::new(0x5af3_91c2_0000_0000);

/// Leaves a canary in a frame `deep` bytes below, which nothing then cleans up.
#[inline(never)]
#[expect(
    clippy::large_stack_arrays,
    reason = "being on the stack is its purpose"
)]
fn leave_a_canary(words: usize) -> u64 {
    let canary = HALF.load(Ordering::Relaxed) | 0x7d1b_66e9;
    let mut frame = [0u64; 3 * 1024];
    frame[3 * 1024 - words..].fill(canary);
    black_box(&mut frame);
    drop(black_box(canary.to_string()));
    // Known to the caller only in another form.
    !canary
}

/// How often the canary lies within 64 KiB below this frame. Reads by way of the kernel, since
/// nothing there belongs to anybody.
#[inline(never)]
fn canaries_below(inverted: u64) -> usize {
    let here = 0u8;
    let address = std::ptr::from_ref(black_box(&here)).addr() as u64 & !7;
    let mut stack = vec![0u8; 64 * 1024];
    let memory = File::open("/proc/self/mem").unwrap();
    memory
        .read_exact_at(&mut stack, address - 64 * 1024)
        .unwrap();
    let words = stack.as_chunks::<8>().0.iter();
    words
        .filter(|word| !u64::from_ne_bytes(**word) == inverted)
        .count()
}

#[test]
fn the_stack_below_is_wiped() {
    let canary = leave_a_canary(3 * 1024);
    let before = canaries_below(canary);
    let canary = leave_a_canary(3 * 1024);
    scrub_stack();
    let after = canaries_below(canary);
    assert!(before > 100, "the scan sees what is left: {before}");
    assert_eq!(after, 0);
}

#[test]
fn the_stack_is_wiped_after_each_poll_and_after_the_end() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let canary = || !(HALF.load(Ordering::Relaxed) | 0x7d1b_66e9);
    let (mut seen, mut left) = (Vec::new(), Vec::new());
    runtime.block_on(async {
        let mut polls = 0;
        let mut scrubbed = Scrubbed(Some(Box::pin(poll_fn(|cx| {
            polls += 1;
            black_box(leave_a_canary(3 * 1024));
            seen.push(canaries_below(canary()) > 100);
            cx.waker().wake_by_ref();
            if polls < 3 {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        }))));
        poll_fn(|cx| {
            let polled = Pin::new(&mut scrubbed).poll(cx);
            left.push(canaries_below(
                !(HALF.load(Ordering::Relaxed) | 0x7d1b_66e9),
            ));
            polled
        })
        .await;
        assert!(scrubbed.0.is_none(), "the future is dropped when it ends");
    });
    assert_eq!(seen, [true; 3], "the scan sees what is left");
    assert_eq!(left, [0, 0, 0]);
}

/// How many canaries are left below after each of some polls on a thread that wipes when idle.
fn left_after_polls(polls: u32) -> Vec<usize> {
    UNWIPED.set(Some(0));
    let polled = (0..polls).map(|_| {
        let mut scrubbed = Scrubbed(Some(Box::pin(poll_fn(|_| {
            black_box(leave_a_canary(3 * 1024));
            Poll::Ready(())
        }))));
        let mut cx = Context::from_waker(std::task::Waker::noop());
        assert!(Pin::new(&mut scrubbed).poll(&mut cx).is_ready());
        canaries_below(!(HALF.load(Ordering::Relaxed) | 0x7d1b_66e9))
    });
    polled.collect()
}

#[test]
fn a_busy_thread_is_wiped_after_some_polls_and_an_idle_one_at_once() {
    let left = left_after_polls(MOST_POLLS);
    let (last, before) = left.split_last().unwrap();
    assert!(before.iter().all(|left| *left > 100), "{before:?}");
    assert_eq!(*last, 0);

    left_after_polls(1);
    before_sleep();
    assert_eq!(
        canaries_below(!(HALF.load(Ordering::Relaxed) | 0x7d1b_66e9)),
        0
    );
    UNWIPED.set(None);
}

#[test]
fn a_worker_that_has_nothing_to_do_has_wiped_its_stack() {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = wiped_when_idle(builder.worker_threads(1)).build().unwrap();
    let poll = |look: fn() -> Option<u32>| {
        let scrubbed = Scrubbed(Some(Box::pin(async move { look() })));
        runtime.block_on(runtime.spawn(scrubbed)).unwrap()
    };
    poll(|| {
        black_box(leave_a_canary(3 * 1024));
        None
    });
    // It goes to sleep when it has nothing to do, which may take it a while.
    while poll(|| UNWIPED.get()) != Some(0) {}
}

#[tokio::test]
async fn the_free_part_of_a_read_buffer_is_wiped_once_there_was_something() {
    let (mut there, here) = tokio::io::duplex(64);
    let mut reader = WipingReader::new(here);
    let mut buffer = [0xa5u8; 16];
    there.write_all(b"ab").await.unwrap();
    assert_eq!(reader.read(&mut buffer).await.unwrap(), 2);
    assert_eq!(buffer[..3], *b"ab\xa5", "nothing can be left before a read");
    // The session decrypts in place and asks for more.
    there.write_all(b"c").await.unwrap();
    assert_eq!(reader.read(&mut buffer).await.unwrap(), 1);
    let mut expected = [0u8; 16];
    expected[0] = b'c';
    assert_eq!(buffer, expected);
}

#[tokio::test]
async fn the_buffer_is_wiped_although_nothing_can_be_read() {
    let (mut there, here) = tokio::io::duplex(64);
    let mut reader = WipingReader::new(here);
    let mut buffer = [0xa5u8; 16];
    there.write_all(b"ab").await.unwrap();
    assert_eq!(reader.read(&mut buffer).await.unwrap(), 2);
    let pending = poll_fn(|cx| {
        let mut unfilled = ReadBuf::new(&mut buffer);
        Poll::Ready(Pin::new(&mut reader).poll_read(cx, &mut unfilled))
    });
    assert!(pending.await.is_pending());
    assert_eq!(buffer, [0u8; 16]);
}
