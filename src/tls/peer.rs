//! The peer's certificate: who it says it is, and whether it still holds.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use aws_lc_rs::digest::{SHA256, digest};
use rustls::ServerConnection;
use rustls_pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, parse_x509_certificate};

use super::ListenerTls;
use crate::{clock, disposition::Code};

/// SHA-256 of a certificate, as RFC 8705 section 3.1 binds tokens to it.
pub type Thumbprint = [u8; 32];

/// A chain is verified again after so many seconds, changed files or not: its intermediates and
/// revocation lists run out too.
const VERIFIED_FOR: u64 = 60;

/// What the verified client certificate says.
#[derive(Debug, Clone)]
pub struct PeerIdentity {
    sans: Vec<String>,
    not_before: i64,
    not_after: i64,
    thumbprint: Thumbprint,
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
            thumbprint: digest(&SHA256, leaf).as_ref().try_into().ok()?,
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

    /// What a certificate-bound token names.
    pub fn thumbprint(&self) -> &Thumbprint {
        &self.thumbprint
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

/// The certificate of a connection, to be judged anew by every request on it.
#[derive(Debug)]
pub struct PeerCertificate {
    identity: PeerIdentity,
    chain: Vec<CertificateDer<'static>>,
    tls: Arc<ListenerTls>,
    /// The generation of what is trusted under which the chain was last found to hold; 0 when
    /// it was not yet.
    verified: AtomicU64,
    /// When that was, Unix seconds.
    verified_at: AtomicU64,
}

impl PeerCertificate {
    /// The certificate that the peer showed, if it showed one.
    ///
    /// # Errors
    /// [`Code::UntrustedCertificate`] for one that cannot be read.
    pub fn of(
        connection: &ServerConnection,
        tls: &Arc<ListenerTls>,
    ) -> Result<Option<Arc<Self>>, Code> {
        let Some(chain) = connection.peer_certificates() else {
            return Ok(None);
        };
        let identity = chain.first().and_then(PeerIdentity::from_leaf);
        let certificate = Self {
            identity: identity.ok_or(Code::UntrustedCertificate)?,
            chain: chain.iter().map(|c| c.clone().into_owned()).collect(),
            tls: Arc::clone(tls),
            verified: AtomicU64::new(0),
            verified_at: AtomicU64::new(0),
        };
        Ok(Some(Arc::new(certificate)))
    }

    /// Who it is, if it holds now: in its validity, of a trusted root, not revoked.
    ///
    /// # Errors
    /// Why it does not hold.
    pub fn current(&self) -> Result<&PeerIdentity, Code> {
        let now = clock::since_epoch().as_secs();
        if !self
            .identity
            .valid_at(i64::try_from(now).unwrap_or(i64::MAX))
        {
            return Err(Code::CertificateNotCurrent);
        }
        let fresh = now.abs_diff(self.verified_at.load(Ordering::Relaxed)) < VERIFIED_FOR;
        let verified = Some(self.verified.load(Ordering::Relaxed)).filter(|_| fresh);
        let generation = self.tls.holds(&self.chain, verified)?;
        if verified != Some(generation) {
            self.verified.store(generation, Ordering::Relaxed);
            self.verified_at.store(now, Ordering::Relaxed);
        }
        Ok(&self.identity)
    }
}
