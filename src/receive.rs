//! [`Admission`] → [`Received`]: the whole request body, within size and time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    body::Body,
    http::{HeaderMap, header},
};
use http_body_util::BodyExt;
use hyper::body::Body as _;
use tokio::sync::Notify;

use crate::{admission::Admission, disposition::Code, phi::Phi};

/// Bytes set aside for a body before it arrives, at most.
const BELIEVED: usize = 64 * 1024;

/// Bounds on a body.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimits {
    /// Largest size.
    pub bytes: usize,
    /// Longest wait for its last byte.
    pub time: Duration,
}

/// What a request's connection and the request itself tell each other.
#[derive(Clone, Debug, Default)]
pub struct Framing(Arc<Exchange>);

#[derive(Debug, Default)]
struct Exchange {
    complete: AtomicBool,
    /// Somebody wants to know when the caller hangs up.
    watched: AtomicBool,
    /// Holds a permit once the caller has hung up.
    gone: Notify,
}

impl Framing {
    /// Notes that the body's end was seen: the connection may be used again only then.
    pub fn complete(&self) {
        self.0.complete.store(true, Ordering::Release);
    }

    /// Whether the body's end was seen.
    pub fn is_complete(&self) -> bool {
        self.0.complete.load(Ordering::Acquire)
    }

    /// Waits until the caller has hung up, which only a request that has to wait asks. It does so in
    /// a poll of its connection, which looks for its peer's end when it comes back from there.
    pub async fn gone(&self) {
        self.0.watched.store(true, Ordering::Release);
        self.0.gone.notified().await;
        self.hang_up(); // it stays so
    }

    /// Whether the connection is to look for its peer's end: somebody waits for that, and nothing
    /// of the body is left that might be taken for it.
    pub fn is_watched(&self) -> bool {
        self.0.watched.load(Ordering::Acquire) && self.is_complete()
    }

    /// Notes that the caller has hung up.
    pub fn hang_up(&self) {
        self.0.gone.notify_one();
    }
}

/// A whole body, wiped when dropped; made only by [`read`].
#[derive(Debug)]
pub struct Received(Phi<Vec<u8>>);

impl Received {
    /// The bytes.
    pub fn expose(&self) -> &[u8] {
        self.0.expose()
    }
}

/// Reads the body of an admitted request.
pub async fn read(
    _admission: &Admission,
    headers: HeaderMap,
    body: Body,
    limits: &BodyLimits,
    framing: &Framing,
) -> Result<Received, Code> {
    let body = whole(&headers, body, Media::Json, limits, framing).await?;
    Ok(Received(body))
}

/// What a body is written in.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Media {
    /// RFC 8259.
    Json,
    /// What a browser sends of a form: `application/x-www-form-urlencoded`.
    Form,
}

/// Reads a whole body. What may hold a patient is read only through [`read`].
pub(crate) async fn whole(
    headers: &HeaderMap,
    body: Body,
    media: Media,
    limits: &BodyLimits,
    framing: &Framing,
) -> Result<Phi<Vec<u8>>, Code> {
    let declared = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .is_some_and(|declared| media.is(declared));
    if !declared || headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Code::UnsupportedMediaType);
    }
    // What is announced too large is refused unread.
    let announced = body.size_hint().lower();
    if usize::try_from(announced).is_ok_and(|n| n > limits.bytes) {
        return Err(Code::BodyTooLarge);
    }
    tokio::time::timeout(limits.time, collect(body, limits.bytes, framing))
        .await
        .unwrap_or(Err(Code::BodyTimeout))
}

impl Media {
    /// With no parameter but a UTF-8 charset (RFC 8259 knows none at all).
    fn is(self, content_type: &str) -> bool {
        let name = match self {
            Self::Json => "application/json",
            Self::Form => "application/x-www-form-urlencoded",
        };
        let mut parts = content_type.split(';').map(str::trim);
        parts
            .next()
            .is_some_and(|media| media.eq_ignore_ascii_case(name))
            && parts.all(|p| {
                p.eq_ignore_ascii_case("charset=utf-8")
                    || p.eq_ignore_ascii_case("charset=\"utf-8\"")
            })
    }
}

async fn collect(mut body: Body, limit: usize, framing: &Framing) -> Result<Phi<Vec<u8>>, Code> {
    // What a body announces is a claim; only so much is believed before it arrives.
    let expected = usize::try_from(body.size_hint().lower())
        .unwrap_or(0)
        .min(limit)
        .min(BELIEVED);
    let mut bytes = Phi::new(Vec::with_capacity(expected));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Code::BodyIncomplete)?;
        if let Ok(data) = frame.into_data() {
            if bytes.expose().len().saturating_add(data.len()) > limit {
                return Err(Code::BodyTooLarge);
            }
            bytes.expose_mut().extend_from_slice(&data);
        }
    }
    framing.complete();
    Ok(bytes)
}
