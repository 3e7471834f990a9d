//! One TLS connection: requests one after another, each on an HTTP parser of its own.
//!
//! The parser and its buffers are dropped after every answer while the TLS connection lives on,
//! so that nothing of a patient waits in them for the next request. A connection is used again
//! only when the request's body was read to its end, the final response was flushed, nobody
//! asked to close or upgrade, and not one byte has arrived that belongs to something else: an
//! unread body must never be parsed as the next request. Otherwise: `close_notify`, and close.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU16, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    http::{HeaderValue, Request, Version, header},
    response::Response,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::futures::Notified;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

#[cfg(feature = "phi-teeth")]
use crate::phi::measures::{Measure, in_force};
use crate::{authn::Presented, phi::scrub::WipingReader, receive::Framing};

mod crowded;
#[cfg(feature = "phi-teeth")]
mod unrecycled;
pub use crowded::{Crowded, Stranger};

/// A session with a client. rustls decrypts in the buffer it reads into, so that is wiped.
pub type Tls = TlsStream<WipingReader<TcpStream>>;

/// Largest request head, bytes.
const MAX_HEAD: usize = 16 * 1024;
/// After a refusal the peer may still be sending; what it sends is discarded this long, so that
/// a TCP reset does not overtake the answer.
const LINGER: Duration = Duration::from_secs(2);
/// And up to this many bytes.
const LINGER_BYTES: usize = 64 << 20;

/// How a connection is served.
#[derive(Clone, Debug)]
pub struct Serving {
    /// Time for a request head.
    pub head: Duration,
    /// Time without a request.
    pub idle: Duration,
    /// Time from a request's first byte to its answer's last: a peer that does not read what it
    /// asked for must not keep its connection.
    pub request: Duration,
    /// Cancelled when the server drains.
    pub drain: CancellationToken,
    /// Told when somebody waits for a connection's place. Who has not sent a whole request head then
    /// gives up its own.
    pub crowded: Arc<Crowded>,
}

/// Who is on the other side; goes with every request.
#[derive(Clone, Debug)]
pub struct Peer {
    /// What the connection shows, and what its listener wants of every request.
    pub presented: Presented,
    /// The address.
    pub source: SocketAddr,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As the protocol foresees.
    Orderly,
    /// The peer sent something that is not a request; the status it was told, if any.
    MalformedHttp(Option<u16>),
}

/// What is to become of a connection after a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing of this request is left; the next may come.
    Reuse,
    /// Say goodbye. What the peer may still be sending is discarded unread.
    Close,
    /// Say goodbye at once: somebody else waits for the place.
    GiveWay,
    /// As `Close`; what was read is not HTTP. hyper answered with this status, or not at all.
    Malformed(Option<u16>),
}

/// Serves one connection to its end. `handle` answers a request; it must call
/// [`Framing::complete`] only when it has seen the end of the body.
pub async fn serve<H, F>(tls: Tls, serving: &Serving, handle: H) -> Ended
where
    H: Fn(Request<Incoming>, Framing) -> F,
    F: Future<Output = Response>,
{
    #[cfg(feature = "phi-teeth")]
    if !in_force(Measure::Recycling) {
        return unrecycled::serve(tls, serving, handle).await;
    }
    let mut io = Plaintext {
        tls,
        first: None,
        answer: Arc::default(),
        framing: Framing::default(),
    };
    loop {
        let mut crowded = pin!(Some(serving.crowded.silent_gives_way()));
        let awaited = tokio::select! {
            biased;
            () = serving.drain.cancelled() => return close(io.tls, Ended::Orderly).await,
            () = wanted(crowded.as_mut()) => return close(io.tls, Ended::Orderly).await,
            awaited = tokio::time::timeout(serving.idle, io.first_byte()) => awaited,
        };
        if !matches!(awaited, Ok(Ok(true))) {
            return close(io.tls, Ended::Orderly).await;
        }
        let request = one_request(io, serving, crowded.as_mut(), &handle);
        let Ok((returned, next)) = tokio::time::timeout(serving.request, request).await else {
            return Ended::Orderly;
        };
        io = returned;
        match next {
            Next::Reuse => {}
            Next::GiveWay => return close(io.tls, Ended::Orderly).await,
            Next::Close => return linger(io.tls, Ended::Orderly).await,
            Next::Malformed(status) => {
                return linger(io.tls, Ended::MalformedHttp(status)).await;
            }
        }
    }
}

/// Reads one request, answers it, and says what is to become of the connection.
async fn one_request<H, F>(
    mut io: Plaintext,
    serving: &Serving,
    mut crowded: Pin<&mut Option<Notified<'_>>>,
    handle: &H,
) -> (Plaintext, Next)
where
    H: Fn(Request<Incoming>, Framing) -> F,
    F: Future<Output = Response>,
{
    let answer = Arc::new(AnswerState::default());
    io.answer = Arc::clone(&answer);
    let framing = Framing::default();
    io.framing = framing.clone();
    let service = service_fn(|request: Request<Incoming>| {
        answer.asked.store(true, Ordering::Release);
        let reusable = may_reuse(&request);
        let handled = handle(request, framing.clone());
        let (answer, framing) = (&answer, &framing);
        Box::pin(async move {
            let mut response = handled.await;
            if reusable && framing.is_complete() && !answer.early.load(Ordering::Acquire) {
                answer.reusable.store(true, Ordering::Release);
            } else {
                response
                    .headers_mut()
                    .insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            answer.made.store(true, Ordering::Release);
            Ok::<_, Infallible>(response)
        })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.head)
        .max_header_size(MAX_HEAD)
        // A peer that ends its stream behind a whole request still gets its one answer;
        // otherwise it would depend on timing whether the request was ever looked at.
        .half_close(true)
        .serve_connection(TokioIo::new(io), service);
    let (mut ending, mut gives_way) = (false, false);
    let result = poll_fn(|cx| {
        loop {
            let polled = Pin::new(&mut connection).poll(cx);
            if polled.is_pending() && !answer.asked.load(Ordering::Acquire) {
                gives_way = pin!(wanted(crowded.as_mut())).poll(cx).is_ready();
                if gives_way {
                    return Poll::Ready(Ok(()));
                }
            } else {
                // Another may be told in its stead.
                crowded.set(None);
            }
            // The answer's head is fixed, so this no longer adds `Connection: close`; it makes
            // hyper stop after this request instead of looking for the next.
            if polled.is_pending() && !ending && answer.held.load(Ordering::Acquire) {
                ending = true;
                Pin::new(&mut connection).graceful_shutdown();
                answer.released.store(true, Ordering::Release);
                continue;
            }
            return polled;
        }
    })
    .await;
    let parts = connection.into_parts();
    let next = match result {
        // Bytes behind the request are a pipelined request, or what a confused or hostile
        // sender meant as part of this one. Neither is answered.
        Ok(())
            if ending && parts.read_buf.is_empty() && answer.reusable.load(Ordering::Acquire) =>
        {
            Next::Reuse
        }
        Ok(()) if gives_way => Next::GiveWay,
        Err(e) if e.is_parse() || e.is_timeout() => Next::Malformed(answer.own_status()),
        Ok(()) | Err(_) => Next::Close,
    };
    (parts.io.into_inner(), next)
}

/// Whether the connection may outlive this request, by its head. A chunked body is not worth
/// the risk that somebody before us framed it differently (RFC 9112 section 11.2).
fn may_reuse(request: &Request<Incoming>) -> bool {
    let headers = request.headers();
    let closing = [header::UPGRADE, header::EXPECT, header::TRANSFER_ENCODING];
    let asked_to_close = headers.get_all(header::CONNECTION).iter().any(|value| {
        value.to_str().map_or(true, |v| {
            v.split(',')
                .any(|option| !option.trim().eq_ignore_ascii_case("keep-alive"))
        })
    });
    request.version() == Version::HTTP_11
        && !closing.iter().any(|name| headers.contains_key(name))
        && !asked_to_close
}

/// Says goodbye to a peer that owes us nothing.
async fn close(mut tls: Tls, ended: Ended) -> Ended {
    // A peer that is gone already needs no goodbye.
    drop(tokio::time::timeout(LINGER, tls.shutdown()).await);
    ended
}

/// Says goodbye to a peer that may still be sending, and discards that below TLS: closing with
/// unread bytes would reset the connection, and the reset may overtake the answer.
async fn linger(mut tls: Tls, ended: Ended) -> Ended {
    let discard = async {
        tls.shutdown().await?;
        let (mut tcp, _) = tls.into_inner();
        let (mut ciphertext, mut left) = (vec![0u8; 16 * 1024], LINGER_BYTES);
        while left > 0 {
            match tcp.read(&mut ciphertext).await? {
                0 => break,
                n => left = left.saturating_sub(n),
            }
        }
        io::Result::Ok(())
    };
    drop(tokio::time::timeout(LINGER, discard).await);
    ended
}

/// Ends when somebody waits for this connection's place.
async fn wanted(crowded: Pin<&mut Option<Notified<'_>>>) {
    match crowded.as_pin_mut() {
        Some(crowded) => crowded.await,
        None => std::future::pending().await,
    }
}

/// What is known of the answer to the request being served.
#[derive(Debug, Default)]
struct AnswerState {
    /// The request's head was read whole.
    asked: AtomicBool,
    /// The final response was handed to hyper.
    made: AtomicBool,
    /// And hyper tries to write it: its head is fixed.
    held: AtomicBool,
    /// And hyper was told to stop behind it: it may be written.
    released: AtomicBool,
    /// The body was read to its end, nobody asked to close or upgrade, and nothing came early.
    reusable: AtomicBool,
    /// Something came, or the peer's end, before the answer was made.
    early: AtomicBool,
    /// The status of an answer that hyper made without us; 0 for none.
    own_status: AtomicU16,
}

impl AnswerState {
    /// hyper answers a broken head by itself; the status is read off what it writes.
    fn note_own_answer(&self, bytes: &[u8]) {
        if self.made.load(Ordering::Acquire) {
            return;
        }
        let digits = bytes
            .strip_prefix(b"HTTP/1.1 ")
            .and_then(|rest| rest.get(..3));
        let status = digits.and_then(|d| std::str::from_utf8(d).ok()?.parse().ok());
        if let Some(status) = status.filter(|s: &u16| *s >= 400) {
            self.own_status.store(status, Ordering::Release);
        }
    }

    fn own_status(&self) -> Option<u16> {
        Some(self.own_status.load(Ordering::Acquire)).filter(|s| *s != 0)
    }
}

/// The decrypted stream, as hyper sees it.
struct Plaintext {
    tls: Tls,
    /// The first byte of a request, read while waiting for one.
    first: Option<u8>,
    answer: Arc<AnswerState>,
    framing: Framing,
}

impl Plaintext {
    /// Waits for a request to begin; `false` at end of stream.
    async fn first_byte(&mut self) -> io::Result<bool> {
        let mut byte = [0u8; 1];
        let read = self.tls.read(&mut byte).await?;
        self.first = byte.first().copied().filter(|_| read == 1);
        Ok(read == 1)
    }

    /// Looks whether the peer has hung up while its request waits: hyper reads nothing then. An end
    /// of stream that TLS vouches for (`close_notify`) is a peer that has said all it has to say,
    /// and still waits for its answer; one without is a peer that is gone.
    fn watch_peer(&mut self, cx: &mut Context<'_>) {
        let answer = &self.answer;
        let seen = answer.made.load(Ordering::Acquire) || answer.early.load(Ordering::Acquire);
        if seen || !self.framing.is_watched() {
            return;
        }
        let mut byte = [0u8; 1];
        let read = Pin::new(&mut self.tls).poll_read(cx, &mut ReadBuf::new(&mut byte));
        if read.is_ready() {
            answer.early.store(true, Ordering::Release);
        }
        if matches!(read, Poll::Ready(Err(_))) {
            self.framing.hang_up();
        }
    }

    /// Whether this write is to be tried again, which [`one_request`] sees to at once: while
    /// nothing of an answer is out, hyper can still be told to stop behind it, and whatever has
    /// arrived (end of stream included) was sent before the answer could be known. Afterwards it
    /// may be the next request of a quick and honest peer.
    fn holds_back(&mut self, cx: &mut Context<'_>) -> bool {
        let answer = &self.answer;
        if !answer.made.load(Ordering::Acquire) || answer.released.load(Ordering::Acquire) {
            return false;
        }
        let mut byte = [0u8; 1];
        let early = Pin::new(&mut self.tls).poll_read(cx, &mut ReadBuf::new(&mut byte));
        if early.is_ready() {
            answer.reusable.store(false, Ordering::Release);
        }
        answer.held.store(true, Ordering::Release);
        true
    }
}

impl AsyncRead for Plaintext {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // What follows an answer is not for the parser of the request.
        if self.answer.made.load(Ordering::Acquire) {
            return Poll::Pending;
        }
        let Some(byte) = self.first.filter(|_| buffer.remaining() > 0) else {
            return Pin::new(&mut self.tls).poll_read(cx, buffer);
        };
        self.first = None;
        buffer.put_slice(&[byte]);
        // With what came along with it: parsing one byte, and room for more of them, are for nothing.
        match Pin::new(&mut self.tls).poll_read(cx, buffer) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Ready(Ok(())) | Poll::Pending => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Plaintext {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.holds_back(cx) {
            return Poll::Pending;
        }
        self.answer.note_own_answer(bytes);
        Pin::new(&mut self.tls).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.holds_back(cx) {
            return Poll::Pending;
        }
        if let Some(head) = slices.first() {
            self.answer.note_own_answer(head);
        }
        Pin::new(&mut self.tls).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper comes here whenever it is polled, after it has polled what answers.
        self.watch_peer(cx);
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    /// Ends a request, not the connection: only writes out what hyper holds of the answer.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }
}
