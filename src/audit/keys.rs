//! The key that signs checkpoints (Ed25519), both halves.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use aws_lc_rs::{
    encoding::AsDer,
    signature::{ED25519, Ed25519KeyPair, KeyPair, ParsedPublicKey},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{PrivatePkcs8KeyDer, SubjectPublicKeyInfoDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::named_file;

/// Largest key file, bytes.
const MAX_FILE: u64 = 16 * 1024;
/// An Ed25519 `SubjectPublicKeyInfo` is these bytes and then the key's 32 (RFC 8410 section 4).
const SPKI_PREFIX: [u8; 12] = [
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00,
];

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// Its file cannot be read.
    #[error("{path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A secret that others may read.
    #[error("{0}: a secret key must not be accessible by group or others (chmod 600)")]
    Permissions(PathBuf),
    /// It is not what it should be.
    #[error("{path}: {expected}")]
    Form {
        /// Which.
        path: PathBuf,
        /// What was expected.
        expected: &'static str,
    },
    /// The system gave no randomness, or signing failed.
    #[error("the audit key cannot be made")]
    Generate,
}

/// The private key that signs checkpoints. aws-lc wipes it when it is freed.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").finish_non_exhaustive()
    }
}

impl SigningKey {
    /// Reads `PRIVATE KEY` PEM text (PKCS#8), as `openssl genpkey -algorithm ed25519` writes it.
    /// The file must be closed to group and others.
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = read_secret(path)?;
        PrivatePkcs8KeyDer::from_pem_slice(&text)
            .ok()
            .and_then(|der| Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der()).ok())
            .and_then(Self::from_pair)
            .ok_or(KeyError::Form {
                path: path.to_owned(),
                expected: "expected one Ed25519 private key, PKCS#8 PEM",
            })
    }

    /// Makes a key: the private half as PKCS#8 PEM text, and the public half as SPKI PEM text.
    pub fn generate() -> Result<(Zeroizing<String>, String), KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Generate)?;
        let private = pair.to_pkcs8v1().map_err(|_| KeyError::Generate)?;
        let private = pem("PRIVATE KEY", private.as_ref());
        let key = Self::from_pair(pair).ok_or(KeyError::Generate)?;
        Ok((private, key.public.to_pem()))
    }

    fn from_pair(pair: Ed25519KeyPair) -> Option<Self> {
        let spki = pair.public_key().as_der().ok()?;
        let public = PublicKey::from_spki(spki.as_ref())?;
        Some(Self { pair, public })
    }

    /// The other half.
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs; fails only when the library does.
    pub(super) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.pair.try_sign(message).ok()?;
        Some(signature.as_ref().to_vec())
    }
}

/// The key that checkpoints are verified with.
#[derive(Clone, Debug)]
pub struct PublicKey {
    bytes: [u8; 32],
    parsed: ParsedPublicKey,
}

impl PublicKey {
    /// Reads `PUBLIC KEY` PEM text (SPKI).
    pub fn load(path: &Path) -> Result<Self, KeyError> {
        let text = read(path, false)?;
        SubjectPublicKeyInfoDer::from_pem_slice(&text)
            .ok()
            .and_then(|der| Self::from_spki(&der))
            .ok_or(KeyError::Form {
                path: path.to_owned(),
                expected: "expected one Ed25519 public key, SPKI PEM",
            })
    }

    fn from_spki(der: &[u8]) -> Option<Self> {
        let bytes: [u8; 32] = der.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?;
        let parsed = ParsedPublicKey::new(&ED25519, bytes).ok()?;
        Some(Self { bytes, parsed })
    }

    /// `PUBLIC KEY` PEM text.
    pub fn to_pem(&self) -> String {
        let der = [&SPKI_PREFIX[..], &self.bytes].concat();
        pem("PUBLIC KEY", &der).to_string()
    }

    /// The key itself.
    pub(super) fn bytes(&self) -> &[u8; 32] {
        &self.bytes
    }

    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        self.parsed.verify_sig(message, signature).is_ok()
    }
}

/// Reads a file that only its owner may have access to.
pub(crate) fn read_secret(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    read(path, true)
}

fn read(path: &Path, secret: bool) -> Result<Zeroizing<Vec<u8>>, KeyError> {
    let failed = |source| KeyError::Io {
        path: path.to_owned(),
        source,
    };
    let file = named_file::open(path).map_err(failed)?;
    // Asked of the open file: the one that is read is the one that was judged.
    if secret && file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
        return Err(KeyError::Permissions(path.to_owned()));
    }
    named_file::read_opened(&file, MAX_FILE)
        .map(Zeroizing::new)
        .map_err(failed)
}

/// PEM text; both halves of an Ed25519 key fit on one line of 64 columns.
fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    Zeroizing::new(format!(
        "-----BEGIN {label}-----\n{}\n-----END {label}-----\n",
        base64.as_str()
    ))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn both_halves_are_read_back_and_secrets_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let (private_path, public_path) = (
            directory.path().join("audit.key"),
            directory.path().join("audit.pub"),
        );
        let (private, public) = SigningKey::generate().unwrap();
        fs::write(&private_path, private.as_bytes()).unwrap();
        fs::write(&public_path, &public).unwrap();
        fs::set_permissions(&private_path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(
            SigningKey::load(&private_path),
            Err(KeyError::Permissions(_))
        ));
        fs::set_permissions(&private_path, fs::Permissions::from_mode(0o600)).unwrap();
        let key = SigningKey::load(&private_path).unwrap();
        let verifier = PublicKey::load(&public_path).unwrap();
        assert_eq!(key.public().to_pem(), public);
        let signature = key.sign(b"note").unwrap();
        assert!(verifier.verifies(b"note", &signature));
        assert!(!verifier.verifies(b"nota", &signature));
        for wrong in [&public_path, &directory.path().join("none")] {
            assert!(SigningKey::load(wrong).is_err());
        }
        assert!(PublicKey::load(&private_path).is_err());
    }
}
