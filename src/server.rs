//! The listeners: accept, shake hands, serve, drain.

use std::{future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{body::Body, extract::Request, response::Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

use crate::{
    audit::AuditLog,
    authn::Presented,
    config::Methods,
    connection::{self, Crowded, Ended, Peer, Serving, Tls},
    disposition::Code,
    phi::{
        process::Hardening,
        scrub::{WipingReader, scrubbed_spawn},
    },
    pipeline::Pipeline,
    receive::Framing,
    reload::Outcomes,
    telemetry,
    tls::{self, ListenerTls, PeerCertificate},
    trail::Trail,
};

mod decision;
mod expiry;
mod health;
mod routes;
pub use expiry::watch_expiry;
pub use health::serve as serve_health;
use routes::Routes;
pub(crate) use routes::is_well_framed;

/// What requests are answered with.
#[derive(Debug)]
pub struct Application {
    /// The request path.
    pub pipeline: Pipeline,
    /// The log.
    pub audit: AuditLog,
    /// What keeps the process's memory from being read, dumped or swapped.
    pub hardening: Hardening,
    /// Cancelled when the server drains.
    pub drain: CancellationToken,
    /// What became of files that were to be reloaded.
    pub reloads: Outcomes,
}

/// A listener of the data plane.
#[derive(Debug)]
pub struct Listener {
    /// Bound already.
    pub listener: TcpListener,
    /// Its certificates and whom it trusts.
    pub tls: Arc<ListenerTls>,
    /// What callers have to show.
    pub authentication: Methods,
}

/// A plane over HTTPS: the data plane, or the admin plane.
#[derive(Debug)]
pub struct DataPlane {
    /// All of them serve the same.
    pub listeners: Vec<Listener>,
    /// Times and the drain signal.
    pub serving: Serving,
    /// Connections held at once, over all listeners.
    pub connections: usize,
    /// Longest wait for requests in flight when draining.
    pub drain_time: Duration,
}

/// What answers the requests of a plane.
pub trait Answers: Clone + Send + Sync + 'static {
    /// The answer to `request`, which came from `peer`. It tells `framing` once it has seen the end
    /// of the body.
    fn answer(
        &self,
        request: Request,
        peer: Peer,
        framing: Framing,
    ) -> impl Future<Output = Response> + Send;
}

impl Answers for axum::Router {
    async fn answer(&self, mut request: Request, peer: Peer, framing: Framing) -> Response {
        request.extensions_mut().insert(peer);
        request.extensions_mut().insert(framing);
        let Ok(response) = self.clone().call(request).await;
        response
    }
}

/// Serves the data plane until `application.drain` is cancelled and what was in flight is done
/// or out of time.
pub async fn serve(data: DataPlane, application: Arc<Application>) {
    let routes = |tasks| Routes {
        application: Arc::clone(&application),
        tasks,
    };
    serve_routes(data, Arc::clone(&application), routes).await;
}

/// As [`serve`], for what `answers` makes; it is given where requests may run.
pub async fn serve_routes<A: Answers>(
    listening: DataPlane,
    application: Arc<Application>,
    answers: impl FnOnce(TaskTracker) -> A,
) {
    let DataPlane {
        listeners,
        serving,
        connections,
        drain_time,
    } = listening;
    let places = Arc::new(Semaphore::new(connections));
    // Each plane has places of its own.
    let serving = Serving {
        crowded: Arc::default(),
        ..serving
    };
    let tasks = TaskTracker::new();
    let answers = answers(tasks.clone());
    let accepting = TaskTracker::new();
    for listener in listeners {
        let served = accept_all(
            listener,
            Arc::clone(&places),
            tasks.clone(),
            serving.clone(),
            Arc::clone(&application),
            answers.clone(),
        );
        accepting.spawn(served);
    }
    accepting.close();
    accepting.wait().await;
    tasks.close();
    if tokio::time::timeout(drain_time, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("drain deadline passed; requests in flight are cut off");
    }
}

/// Accepts connections until the server drains.
async fn accept_all(
    listener: Listener,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    serving: Serving,
    application: Arc<Application>,
    answers: impl Answers,
) {
    let Listener {
        listener,
        tls,
        authentication,
    } = listener;
    loop {
        // One is accepted beyond the bound, so that nobody gives way before somebody waits; the
        // others wait in the kernel's backlog.
        let accepted = tokio::select! {
            biased;
            () = application.drain.cancelled() => return,
            accepted = accept(&listener, &places, &serving.crowded) => accepted,
        };
        let (place, tcp, source) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: a pause lets some close.
                tracing::warn!(%error, "accept failed");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let (tls, serving) = (Arc::clone(&tls), serving.clone());
        let (application, answers) = (Arc::clone(&application), answers.clone());
        let stranger = serving.crowded.arrived();
        scrubbed_spawn(&tasks, async move {
            let _place = place;
            let acceptor = TlsAcceptor::from(tls.config());
            let handshake = acceptor.accept(WipingReader::new(tcp));
            let handshake = tokio::time::timeout(serving.head, handshake);
            let code = match stranger.shake(handshake).await {
                Some(Ok(Ok(stream))) => match presented(&stream, &tls, authentication) {
                    Ok(presented) => {
                        let peer = Peer { presented, source };
                        return converse(stream, peer, &serving, &application, &answers).await;
                    }
                    Err(code) => code,
                },
                Some(Ok(Err(error))) => tls::handshake_failure(&error),
                Some(Err(_)) | None => Code::HandshakeFailed,
            };
            refuse(&application, source, code).await;
        });
    }
}

fn presented(
    stream: &Tls,
    tls: &Arc<ListenerTls>,
    authentication: Methods,
) -> Result<Presented, Code> {
    let certificate = PeerCertificate::of(stream.get_ref().1, tls)?;
    Presented::new(authentication, certificate)
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
    crowded: &Crowded,
) -> io::Result<(tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let (tcp, source) = listener.accept().await?;
    let place = if let Ok(place) = Arc::clone(places).try_acquire_owned() {
        place
    } else {
        let place = Arc::clone(places).acquire_owned();
        crowded.wait_for(place).await.map_err(io::Error::other)?
    };
    tcp.set_nodelay(true)?;
    Ok((place, tcp, source))
}

async fn converse(
    stream: Tls,
    peer: Peer,
    serving: &Serving,
    application: &Application,
    answers: &impl Answers,
) {
    let ended = connection::serve(stream, serving, |request, framing| {
        answers.answer(request.map(Body::new), peer.clone(), framing)
    })
    .await;
    if let Ended::MalformedHttp(status) = ended {
        let mut trail = Trail::start(peer.source);
        // The record names who holds the certificate, if there is one and it is known.
        trail.principal = application.pipeline.authenticator.holder(&peer.presented);
        telemetry::unanswered(Code::MalformedHttp.into());
        let audit = &application.audit;
        audit
            .record_refusal(&trail, Code::MalformedHttp, status)
            .await;
    }
}

async fn refuse(application: &Application, source: SocketAddr, code: Code) {
    let trail = Trail::start(source);
    telemetry::unanswered(code.into());
    application.audit.record_refusal(&trail, code, None).await;
}
