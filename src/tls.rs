//! Mutual TLS: the server's configuration, and the peer's certificate → [`PeerIdentity`].

use std::{io, os::unix::fs::PermissionsExt, path::Path, sync::Arc};

use rustls::{
    CertificateError, Error as TlsError, RootCertStore, ServerConfig, crypto::aws_lc_rs,
    server::WebPkiClientVerifier,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use x509_parser::{extensions::GeneralName, parse_x509_certificate};
use zeroize::Zeroizing;

use crate::{config::DataPlane, disposition::Code};

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// A file could not be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A file holds no usable PEM.
    #[error("{path}: {problem}")]
    Pem {
        /// Which.
        path: String,
        /// What was expected.
        problem: String,
    },
    /// A private key that others may read.
    #[error("{0}: a private key must not be accessible by group or others (chmod 600)")]
    Permissions(String),
    /// Certificate and key do not fit, or the roots are unusable.
    #[error("TLS: {0}")]
    Config(String),
}

/// Builds the data plane's TLS configuration: TLS 1.3 and 1.2, HTTP/1.1, a client certificate
/// required.
pub fn server_config(data: &DataPlane) -> Result<Arc<ServerConfig>, TlsSetupError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in certificates(&data.client_ca)? {
        roots
            .add(root)
            .map_err(|e| TlsSetupError::Config(format!("client CA: {e}")))?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), Arc::clone(&provider))
        .build()
        .map_err(|e| TlsSetupError::Config(format!("client CA: {e}")))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| TlsSetupError::Config(e.to_string()))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&data.certificate)?, private_key(&data.key)?)
        .map_err(|e| TlsSetupError::Config(format!("server certificate and key: {e}")))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn read(path: &Path) -> Result<Vec<u8>, TlsSetupError> {
    std::fs::read(path).map_err(|source| TlsSetupError::Read {
        path: path.display().to_string(),
        source,
    })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let pem = |problem: String| TlsSetupError::Pem {
        path: path.display().to_string(),
        problem,
    };
    let found = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| pem(e.to_string()))?;
    if found.is_empty() {
        return Err(pem("holds no certificate".to_owned()));
    }
    Ok(found)
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    let name = path.display().to_string();
    let metadata = std::fs::metadata(path).map_err(|source| TlsSetupError::Read {
        path: name.clone(),
        source,
    })?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(TlsSetupError::Permissions(name));
    }
    let pem = Zeroizing::new(read(path)?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|e| TlsSetupError::Pem {
        path: name,
        problem: e.to_string(),
    })
}

/// What the verified client certificate says.
#[derive(Debug, Clone)]
pub struct PeerIdentity {
    sans: Vec<String>,
    not_before: i64,
    not_after: i64,
}

impl PeerIdentity {
    /// Reads the leaf of a chain that the handshake verified.
    pub fn from_leaf(leaf: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(leaf).ok()?;
        let sans = certificate
            .subject_alternative_name()
            .ok()?
            .map(|extension| {
                extension
                    .value
                    .general_names
                    .iter()
                    .filter_map(san_text)
                    .collect()
            })
            .unwrap_or_default();
        let validity = certificate.validity();
        Some(Self {
            sans,
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }

    /// `URI:…` and `DNS:…` names.
    pub fn sans(&self) -> &[String] {
        &self.sans
    }

    /// Whether the certificate is valid at this Unix time.
    pub fn valid_at(&self, unix_seconds: i64) -> bool {
        self.not_before <= unix_seconds && unix_seconds <= self.not_after
    }
}

fn san_text(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::URI(uri) => Some(format!("URI:{uri}")),
        GeneralName::DNSName(dns) => Some(format!("DNS:{dns}")),
        // No other kind of name identifies a principal.
        GeneralName::OtherName(..)
        | GeneralName::RFC822Name(_)
        | GeneralName::X400Address(_)
        | GeneralName::DirectoryName(_)
        | GeneralName::EDIPartyName(_)
        | GeneralName::IPAddress(_)
        | GeneralName::RegisteredID(_)
        | GeneralName::Invalid(..) => None,
    }
}

/// What the audit record says of a handshake that failed.
pub fn handshake_failure(error: &io::Error) -> Code {
    match error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<TlsError>())
    {
        Some(TlsError::NoCertificatesPresented) => Code::NoClientCertificate,
        Some(TlsError::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        )) => Code::CertificateNotCurrent,
        Some(TlsError::InvalidCertificate(_)) => Code::UntrustedCertificate,
        Some(_) | None => Code::HandshakeFailed,
    }
}
