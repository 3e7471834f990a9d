//! `OpenSSF` Model Signing v1.0: who vouches for a model bundle, and for which bytes.
//!
//! A signature is a Sigstore bundle (v0.3) holding a DSSE envelope around an in-toto statement
//! that lists every file's SHA-256. We read and write what `PyPI`'s `model-signing` reads and
//! writes, within a strict profile: whole files, SHA-256, ECDSA, no symbolic links, one signature,
//! one subject, nothing unsigned beside what is signed.
//!
//! The order of the checks is the defence. A directory is read once, into memory
//! ([`Contents`]); the signature is checked over bytes nobody has parsed yet; only then is the
//! statement read and compared with those same bytes. [`Verified`] owns the bytes that were
//! hashed and knows no path, so nothing swapped on disk afterwards can reach a loader.
//!
//! Limit: there is no revocation list; the release policy ([`super::policy`]) names signers and
//! revokes them.

mod chain;
mod curve;
pub(super) mod dsse;
mod envelope;
mod error;
mod keys;
mod path_fault;
mod statement;
pub(super) mod strict_json;
#[cfg(test)]
mod tests;
mod tree;

use std::{collections::BTreeMap, fmt, path::Path, sync::Arc};

pub use curve::Curve;
pub use error::SigningError;
pub(super) use error::excerpt;
pub(super) use keys::PublicKey;
pub use keys::{Signer, SigningKey, key_id};
pub use path_fault::PathFault;
use rustls_pki_types::UnixTime;
pub use tree::{Contents, Limits, MAX_DEPTH, MAX_FILES, read_signature};

use self::{envelope::Authentic, statement::Statement};

/// Whose signature counts, and of which kind. A bundle cannot choose: a certificate where a key
/// is trusted is refused, and the other way round.
pub enum Trust<'a> {
    /// One public key: P-256, P-384 or P-521.
    Key {
        /// PEM text with exactly one `PUBLIC KEY`.
        spki_pem: &'a [u8],
    },
    /// Any code-signing certificate that chains to one of these roots.
    Roots {
        /// PEM text with one or more root certificates.
        ca_pem: &'a [u8],
        /// The moment at which the chain must be valid: the present one.
        now: UnixTime,
    },
}

/// A bundle one signer vouches for: exactly the bytes that were hashed.
pub struct Verified {
    files: Arc<BTreeMap<String, Vec<u8>>>,
    digest: String,
    signer: String,
}

impl Verified {
    /// Every file, by its `/`-separated name.
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        &self.files
    }

    /// Gives the bytes away; they are copied only if the [`Contents`] are still in use.
    #[must_use]
    pub fn into_files(self) -> BTreeMap<String, Vec<u8>> {
        Arc::unwrap_or_clone(self.files)
    }

    /// The signed root digest: lower-case hexadecimal SHA-256 over the files' raw digests in
    /// listed order. Signatures over the same files may list them in another order.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The lower-case hexadecimal SHA-256 of the signer's public key PEM text, or of the leaf
    /// certificate's DER.
    pub fn signer(&self) -> &str {
        &self.signer
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified")
            .field("digest", &self.digest)
            .field("signer", &self.signer)
            .finish_non_exhaustive()
    }
}

/// Reads `dir` once and checks one signature file over it.
///
/// # Errors
/// The first thing that does not hold; nothing of the bundle is handed out then.
pub fn verify(
    dir: &Path,
    signature: &Path,
    trust: &Trust<'_>,
    limits: &Limits,
) -> Result<Verified, SigningError> {
    let authentic = envelope::authenticate(&read_signature(signature)?, trust)?;
    check_contents(&Contents::read(dir, limits)?, &authentic)
}

/// Checks one signature over contents already in memory, so that several signers can be checked
/// over the same bytes.
///
/// # Errors
/// As [`verify`], but for reading.
pub fn verify_contents(
    contents: &Contents,
    signature: &[u8],
    trust: &Trust<'_>,
) -> Result<Verified, SigningError> {
    check_contents(contents, &envelope::authenticate(signature, trust)?)
}

fn check_contents(contents: &Contents, authentic: &Authentic) -> Result<Verified, SigningError> {
    let digest = Statement::parse(authentic)?.check(contents)?;
    Ok(Verified {
        files: contents.files(),
        digest,
        signer: authentic.signer().to_owned(),
    })
}

/// Signs contents as `model_name` and returns the signature file's text, which
/// `model_signing verify key` accepts.
///
/// # Errors
/// When the signer fails, or when what it made does not verify under its own public key (a token
/// that answers in another encoding, a wrong slot).
pub fn sign(
    contents: &Contents,
    model_name: &str,
    key: &dyn Signer,
) -> Result<String, SigningError> {
    let payload = Statement::describe(contents, model_name)?.to_json()?;
    let signature = envelope::seal(&payload, key)?;
    let trust = Trust::Key {
        spki_pem: key.public_key_pem().as_bytes(),
    };
    verify_contents(contents, signature.as_bytes(), &trust)?;
    Ok(signature)
}
