//! One HTTP parser for a whole connection, as servers commonly have it: what the recycling in
//! the module above is compared with. Only in test builds.

use std::{convert::Infallible, future::Future};

use axum::{http::Request, response::Response};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::{Ended, MAX_HEAD, Serving, Tls, linger};
use crate::receive::Framing;

pub(super) async fn serve<H, F>(tls: Tls, serving: &Serving, handle: H) -> Ended
where
    H: Fn(Request<Incoming>, Framing) -> F,
    F: Future<Output = Response>,
{
    let service = service_fn(|request| {
        let handled = handle(request, Framing::default());
        Box::pin(async move { Ok::<_, Infallible>(handled.await) })
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(serving.idle)
        .max_header_size(MAX_HEAD)
        .serve_connection(TokioIo::new(tls), service);
    let served = tokio::select! {
        () = serving.drain.cancelled() => return Ended::Orderly,
        served = connection.without_shutdown() => served,
    };
    match served {
        // A refused client may still be sending.
        Ok(parts) => linger(parts.io.into_inner(), Ended::Orderly).await,
        // However it ended, there is nobody to tell.
        Err(_) => Ended::Orderly,
    }
}
