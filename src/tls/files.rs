//! Reads PEM files.

use std::{fmt::Display, io, os::unix::fs::PermissionsExt, path::Path};

use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject,
};
use zeroize::Zeroizing;

use crate::named_file::{self, LARGEST_CREDENTIAL};

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

fn read(path: &Path) -> Result<Vec<u8>, TlsSetupError> {
    named_file::read(path, LARGEST_CREDENTIAL).map_err(|source| TlsSetupError::Read {
        path: path.display().to_string(),
        source,
    })
}

fn pem_error(path: &Path, problem: &dyn Display) -> TlsSetupError {
    TlsSetupError::Pem {
        path: path.display().to_string(),
        problem: problem.to_string(),
    }
}

/// Every certificate of a file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsSetupError> {
    let found = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| pem_error(path, &e))?;
    if found.is_empty() {
        return Err(pem_error(path, &"holds no certificate"));
    }
    Ok(found)
}

/// Every revocation list of a file; at least one.
pub(super) fn revocation_lists(
    path: &Path,
) -> Result<Vec<CertificateRevocationListDer<'static>>, TlsSetupError> {
    let found = CertificateRevocationListDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| pem_error(path, &e))?;
    if found.is_empty() {
        return Err(pem_error(path, &"holds no certificate revocation list"));
    }
    Ok(found)
}

/// The private key of a file that only its owner can read.
pub(crate) fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsSetupError> {
    let failed = |source| TlsSetupError::Read {
        path: path.display().to_string(),
        source,
    };
    let file = named_file::open(path).map_err(failed)?;
    // Asked of the open file: the one that is read is the one that was judged.
    let metadata = file.metadata().map_err(failed)?;
    if metadata.permissions().mode() & 0o077 != 0 {
        return Err(TlsSetupError::Permissions(path.display().to_string()));
    }
    let pem = Zeroizing::new(named_file::read_opened(&file, LARGEST_CREDENTIAL).map_err(failed)?);
    PrivateKeyDer::from_pem_slice(&pem).map_err(|e| pem_error(path, &e))
}
