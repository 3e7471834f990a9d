//! The listeners: accept, shake hands, serve, drain.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower_service::Service;

use crate::{
    audit::AuditLog,
    connection::{self, Ended, Peer, Serving, Tls},
    disposition::Code,
    phi::{
        process::Hardening,
        scrub::{WipingReader, scrubbed_spawn},
    },
    pipeline::Pipeline,
    tls::{self, PeerIdentity},
    trail::Trail,
};

mod expiry;
mod health;
mod routes;
pub use expiry::watch_expiry;
pub use health::serve as serve_health;

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
}

/// The HTTPS data plane.
#[derive(Debug)]
pub struct DataPlane {
    /// Bound already.
    pub listener: TcpListener,
    /// Mutual TLS.
    pub tls: Arc<ServerConfig>,
    /// Times and the drain signal.
    pub serving: Serving,
    /// Connections held at once.
    pub connections: usize,
    /// Longest wait for requests in flight when draining.
    pub drain_time: Duration,
}

/// Serves the data plane until `application.drain` is cancelled and what was in flight is done
/// or out of time.
pub async fn serve(data: DataPlane, application: Arc<Application>) {
    let DataPlane {
        listener,
        tls,
        serving,
        connections,
        drain_time,
    } = data;
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(connections));
    let tasks = TaskTracker::new();
    let router = routes::router(Arc::clone(&application), tasks.clone());
    loop {
        // Taken before accept: beyond the bound, connections wait in the kernel's backlog.
        let accepted = tokio::select! {
            biased;
            () = application.drain.cancelled() => break,
            accepted = accept(&listener, &places) => accepted,
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
        let (acceptor, serving) = (acceptor.clone(), serving.clone());
        let (application, router) = (Arc::clone(&application), router.clone());
        scrubbed_spawn(&tasks, async move {
            let _place = place;
            let handshake =
                tokio::time::timeout(serving.head, acceptor.accept(WipingReader::new(tcp))).await;
            match handshake {
                Ok(Ok(stream)) => converse(stream, source, &serving, &application, router).await,
                Ok(Err(error)) => {
                    let code = tls::handshake_failure(&error);
                    refuse(&application, source, code).await;
                }
                Err(_) => refuse(&application, source, Code::HandshakeFailed).await,
            }
        });
    }
    drop(listener);
    tasks.close();
    if tokio::time::timeout(drain_time, tasks.wait())
        .await
        .is_err()
    {
        tracing::warn!("drain deadline passed; requests in flight are cut off");
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> io::Result<(tokio::sync::OwnedSemaphorePermit, TcpStream, SocketAddr)> {
    let place = Arc::clone(places)
        .acquire_owned()
        .await
        .map_err(io::Error::other)?;
    let (tcp, source) = listener.accept().await?;
    tcp.set_nodelay(true)?;
    Ok((place, tcp, source))
}

async fn converse(
    stream: Tls,
    source: SocketAddr,
    serving: &Serving,
    application: &Application,
    router: axum::Router,
) {
    let leaf = stream
        .get_ref()
        .1
        .peer_certificates()
        .and_then(<[_]>::first);
    let Some(identity) = leaf.and_then(PeerIdentity::from_leaf) else {
        return refuse(application, source, Code::UntrustedCertificate).await;
    };
    let peer = Peer {
        identity: Arc::new(identity),
        source,
    };
    let ended = connection::serve(stream, serving, |mut request, framing| {
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(framing);
        let mut router = router.clone();
        async move {
            let Ok(response) = router.call(request).await;
            response
        }
    })
    .await;
    if let Ended::MalformedHttp(status) = ended {
        let mut trail = Trail::start(source);
        // Whoever sent it has shown a certificate; the record names it if it is known.
        drop(application.pipeline.identify(&mut trail, &peer.identity));
        let audit = &application.audit;
        audit
            .record_refusal(&trail, Code::MalformedHttp, status)
            .await;
    }
}

async fn refuse(application: &Application, source: SocketAddr, code: Code) {
    let trail = Trail::start(source);
    application.audit.record_refusal(&trail, code, None).await;
}
