//! TLS of a listener: its configuration, whom it trusts, and the peer's certificate.
//!
//! [`ListenerTls`] holds what the files said when they were last good. A connection keeps its
//! peer's chain, and every request asks whether it holds under what is trusted *now*: a
//! handshake, or a session resumed from one, is no promise for later.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use arc_swap::ArcSwap;
use rustls::{
    CertificateError, Error as TlsError, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, aws_lc_rs},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime};

use crate::{clock, disposition::Code};

pub(crate) mod client;
mod files;
mod peer;
pub use files::TlsSetupError;
pub(crate) use files::{certificates, private_key};
pub use peer::{PeerCertificate, PeerIdentity, Thumbprint};

/// The files of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    /// Server certificate chain, PEM.
    pub certificate: PathBuf,
    /// Its private key, PEM, not readable by group or others.
    pub key: PathBuf,
    /// Roots that client certificates must chain to, PEM; without it none is asked for.
    pub client_ca: Option<PathBuf>,
    /// Certificate revocation lists, PEM: one of every authority that issues client certificates.
    pub crl: Option<PathBuf>,
}

impl TlsFiles {
    /// All of them, to be watched.
    pub fn paths(&self) -> Vec<PathBuf> {
        [&self.certificate, &self.key]
            .into_iter()
            .chain(&self.client_ca)
            .chain(&self.crl)
            .cloned()
            .collect()
    }
}

/// Whether a listener insists on a client certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientCertificates {
    /// The handshake fails without one.
    Required,
    /// One is looked at if the client has it.
    Optional,
}

/// What a listener's files say, replaced as a whole when they change.
#[derive(Debug)]
pub struct ListenerTls {
    files: TlsFiles,
    clients: ClientCertificates,
    generations: AtomicU64,
    current: ArcSwap<Current>,
}

/// One state of the files.
#[derive(Debug)]
struct Current {
    config: Arc<ServerConfig>,
    trust: Option<ClientTrust>,
}

/// The roots and revocation lists of one state of the files.
#[derive(Debug)]
struct ClientTrust {
    generation: u64,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ListenerTls {
    /// Reads the files: TLS 1.3 and 1.2, HTTP/1.1.
    pub fn load(files: TlsFiles, clients: ClientCertificates) -> Result<Arc<Self>, TlsSetupError> {
        let current = read(&files, clients, 1)?;
        Ok(Arc::new(Self {
            files,
            clients,
            generations: AtomicU64::new(1),
            current: ArcSwap::from_pointee(current),
        }))
    }

    /// Reads the files again; when they are not good, what was good stays.
    pub fn reload(&self) -> Result<(), TlsSetupError> {
        let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
        let current = read(&self.files, self.clients, generation)?;
        self.current.store(Arc::new(current));
        Ok(())
    }

    /// The files.
    pub fn files(&self) -> &TlsFiles {
        &self.files
    }

    /// For the next handshake.
    pub fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().config)
    }

    /// Whether a chain holds under what is trusted now. `verified` is the generation under which
    /// it was last found to; the answer is the one to remember.
    fn holds(&self, chain: &[CertificateDer<'static>], verified: Option<u64>) -> Result<u64, Code> {
        let current = self.current.load();
        let trust = current.trust.as_ref().ok_or(Code::UntrustedCertificate)?;
        if verified == Some(trust.generation) {
            return Ok(trust.generation);
        }
        let (leaf, intermediates) = chain.split_first().ok_or(Code::UntrustedCertificate)?;
        let now = UnixTime::since_unix_epoch(clock::since_epoch());
        trust
            .verifier
            .verify_client_cert(leaf, intermediates, now)
            .map_err(|e| certificate_code(&e).unwrap_or(Code::UntrustedCertificate))?;
        Ok(trust.generation)
    }
}

fn read(
    files: &TlsFiles,
    clients: ClientCertificates,
    generation: u64,
) -> Result<Current, TlsSetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = client_verifier(files, clients, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| TlsSetupError::Config(e.to_string()))?;
    let builder = match &verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::clone(verifier)),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(certificates(&files.certificate)?, private_key(&files.key)?)
        .map_err(|e| TlsSetupError::Config(format!("server certificate and key: {e}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Current {
        config: Arc::new(config),
        trust: verifier.map(|verifier| ClientTrust {
            generation,
            verifier,
        }),
    })
}

fn client_verifier(
    files: &TlsFiles,
    clients: ClientCertificates,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, TlsSetupError> {
    let Some(client_ca) = &files.client_ca else {
        return match clients {
            ClientCertificates::Optional => Ok(None),
            ClientCertificates::Required => Err(TlsSetupError::Config(
                "client certificates are required, but no client CA is named".to_owned(),
            )),
        };
    };
    let mut roots = RootCertStore::empty();
    for root in certificates(client_ca)? {
        roots
            .add(root)
            .map_err(|e| TlsSetupError::Config(format!("{}: {e}", client_ca.display())))?;
    }
    let mut builder =
        WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(provider));
    if let Some(crl) = &files.crl {
        // Fail closed: an authority without a list, or with one past its nextUpdate, vouches
        // for nobody.
        builder = builder
            .with_crls(files::revocation_lists(crl)?)
            .enforce_revocation_expiration();
    }
    if clients == ClientCertificates::Optional {
        builder = builder.allow_unauthenticated();
    }
    let verifier = builder
        .build()
        .map_err(|e| TlsSetupError::Config(format!("client CA and CRL: {e}")))?;
    Ok(Some(verifier))
}

/// What the audit record says of a handshake that failed.
pub fn handshake_failure(error: &io::Error) -> Code {
    error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<TlsError>())
        .and_then(certificate_code)
        .unwrap_or(Code::HandshakeFailed)
}

/// What a TLS error says of the client's certificate, if that is what it is about.
fn certificate_code(error: &TlsError) -> Option<Code> {
    use CertificateError as C;
    if *error == TlsError::NoCertificatesPresented {
        return Some(Code::NoClientCertificate);
    }
    let TlsError::InvalidCertificate(error) = error else {
        return None;
    };
    let current = !matches!(
        error,
        C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. }
    );
    let known = !matches!(
        error,
        C::UnknownRevocationStatus
            | C::ExpiredRevocationList
            | C::ExpiredRevocationListContext { .. }
    );
    Some(match (current, known) {
        (false, _) => Code::CertificateNotCurrent,
        (true, false) => Code::RevocationUnknown,
        (true, true) if *error == C::Revoked => Code::CertificateRevoked,
        (true, true) => Code::UntrustedCertificate,
    })
}
