//! The release policy: a signed document that says whose approvals a model needs to be loaded.
//!
//! The server's configuration pins *policy keys*; the policy names *roles*, each with keys and
//! how many of them must have signed a bundle, the lowest version of each model, what is
//! revoked, and until when all of it holds. It is a DSSE envelope around JSON. Three types are
//! the order of the checks: [`Terms`] is what a document says, whoever wrote it; [`Policy`] is
//! terms that enough policy keys signed, and nothing was parsed before that held; [`InForce`]
//! is a policy that is not older than any seen before. Only the last approves what is served.
//!
//! Roll-back protection is about the policy, not the models: going back to an older model must
//! work in an emergency, and `min_version` says how far.

mod error;
mod expiry;
mod gate;
mod serial;
mod terms;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, path::Path};

use aws_lc_rs::digest::{SHA256, digest};

pub use error::{NotApproved, PolicyError};
pub use expiry::{Notice, Remaining};
pub use gate::{Approval, SignatureFile};
pub use serial::{SerialStore, highest_seen};
pub use terms::{OnExpiry, RawRole, RawTerms, Role, Terms};

use super::signing::{
    PublicKey, Signer,
    dsse::{Envelope, Opened, Signature, WrittenEnvelope},
    strict_json,
};
use crate::named_file;

/// The DSSE payload type of a release policy.
pub const PAYLOAD_TYPE: &str = "application/vnd.vitalgate.release-policy+json";
/// The largest policy file, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Signatures on a policy, at most.
const MAX_SIGNATURES: usize = 32;

/// The keys that may sign the policy, and how many of them must.
#[derive(Debug)]
pub struct PolicyKeys {
    keys: Vec<PublicKey>,
    threshold: usize,
}

impl PolicyKeys {
    /// From public keys in PEM.
    pub fn new(pems: &[Vec<u8>], threshold: usize) -> Result<Self, PolicyError> {
        let mut keys: Vec<PublicKey> = Vec::with_capacity(pems.len());
        for pem in pems {
            let key = terms::public_key("the policy keys", pem)?;
            if keys.iter().any(|other| other.id() == key.id()) {
                return Err(PolicyError::KeyTwice {
                    place: "the policy keys".to_owned(),
                    key: key.id().to_owned(),
                });
            }
            keys.push(key);
        }
        if threshold == 0 || threshold > keys.len() {
            return Err(PolicyError::PolicyThreshold {
                threshold,
                keys: keys.len(),
            });
        }
        Ok(Self { keys, threshold })
    }

    /// Which of the keys signed. A key counts once, however often it signed.
    fn signers(&self, opened: &Opened) -> BTreeSet<String> {
        let signed = |key: &&PublicKey| {
            let holds = |s: &Signature| key.verify(&opened.message, &s.bytes).is_ok();
            opened.signatures.iter().any(holds)
        };
        let signed = self.keys.iter().filter(signed);
        signed.map(|key| key.id().to_owned()).collect()
    }
}

/// Whether a public key may be named in a policy, or sign one; `place` is where it was found.
///
/// # Errors
/// What is wrong with it.
pub fn check_key(place: &str, pem: &[u8]) -> Result<(), PolicyError> {
    terms::public_key(place, pem).map(drop)
}

/// Reads a public key's file, and checks that the key can be used.
///
/// # Errors
/// What is wrong with the file or the key.
pub fn read_key(path: &Path) -> Result<Vec<u8>, PolicyError> {
    let pem = read_file(path)?;
    check_key(&path.display().to_string(), &pem)?;
    Ok(pem)
}

/// A policy that enough of the policy keys signed; made only by [`Policy::verify`].
#[derive(Debug)]
pub struct Policy {
    terms: Terms,
    signers: BTreeSet<String>,
    digest: String,
}

impl Policy {
    /// Checks the signatures on a policy file, and only then reads what it says.
    pub fn verify(file: &[u8], keys: &PolicyKeys) -> Result<Self, PolicyError> {
        let opened = open(file)?;
        let signers = keys.signers(&opened);
        if signers.len() < keys.threshold {
            return Err(PolicyError::Unsigned {
                found: signers.len(),
                threshold: keys.threshold,
            });
        }
        Ok(Self {
            terms: Terms::parse(&opened.payload)?,
            signers,
            digest: hex::encode(digest(&SHA256, &opened.payload)),
        })
    }

    /// What it says.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Ids of the policy keys that signed.
    pub fn signers(&self) -> &BTreeSet<String> {
        &self.signers
    }

    /// SHA-256 of what was signed, lower-case hexadecimal.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Puts the policy in force, unless a newer one was seen before (`store`) or must exist
    /// (`min_serial`).
    pub fn enforce(
        self,
        min_serial: u64,
        store: Option<&SerialStore>,
    ) -> Result<InForce, PolicyError> {
        let serial = self.terms.serial();
        if serial < min_serial {
            return Err(PolicyError::BelowMinSerial { serial, min_serial });
        }
        if let Some(store) = store {
            store.advance(serial, &self.digest)?;
        }
        Ok(InForce(self))
    }
}

/// A policy that is not older than any seen before; made only by [`Policy::enforce`].
#[derive(Debug)]
pub struct InForce(Policy);

impl InForce {
    /// The policy.
    pub fn policy(&self) -> &Policy {
        &self.0
    }

    /// What it says.
    pub fn terms(&self) -> &Terms {
        &self.0.terms
    }
}

/// A policy file as it is, signed or not; for those who write, sign and read policies. Nobody
/// vouches for what it says.
#[derive(Debug)]
pub struct Draft {
    payload: Vec<u8>,
    terms: Terms,
    envelope: Option<Vec<u8>>,
}

impl Draft {
    /// Reads a bare policy, or one in an envelope.
    pub fn read(file: &[u8]) -> Result<Self, PolicyError> {
        // Only an envelope has a payload; a bare policy is told by what it lacks.
        let enveloped = serde_json::from_slice::<serde_json::Value>(file)
            .is_ok_and(|value| value.get("payload").is_some());
        let payload = if enveloped {
            open(file)?.payload
        } else {
            file.to_vec()
        };
        Ok(Self {
            terms: Terms::parse(&payload)?,
            payload,
            envelope: enveloped.then(|| file.to_vec()),
        })
    }

    /// What it says.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What is, or will be, signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Whether it is in an envelope: signed, if only by its own account.
    pub fn is_enveloped(&self) -> bool {
        self.envelope.is_some()
    }

    /// The key ids that its signatures claim. Anybody can write that.
    pub fn claimed_signers(&self) -> Result<Vec<String>, PolicyError> {
        let signatures = self.signatures()?;
        let name = |s: Signature| s.claimed.unwrap_or_else(|| "no key id".to_owned());
        Ok(signatures.into_iter().map(name).collect())
    }

    fn signatures(&self) -> Result<Vec<Signature>, PolicyError> {
        let Some(file) = &self.envelope else {
            return Ok(Vec::new());
        };
        Ok(open(file)?.signatures)
    }

    /// Adds the signature of `key`, in place of an earlier one that claims to be its; gives the
    /// envelope.
    pub fn sign(&self, key: &dyn Signer) -> Result<String, PolicyError> {
        let ours = Signature::make(PAYLOAD_TYPE, &self.payload, key)?;
        let mut signatures = self.signatures()?;
        signatures.retain(|other| other.claimed != ours.claimed);
        signatures.push(ours);
        let written = WrittenEnvelope::new(PAYLOAD_TYPE, &self.payload, &signatures);
        let text = serde_json::to_string_pretty(&written).map_err(PolicyError::Encode)? + "\n";
        // What we hand out must verify under the key's own public half.
        let keys = PolicyKeys::new(&[key.public_key_pem().as_bytes().to_vec()], 1)?;
        Policy::verify(text.as_bytes(), &keys)?;
        Ok(text)
    }
}

fn open(file: &[u8]) -> Result<Opened, PolicyError> {
    let envelope: Envelope =
        strict_json::parse("release policy", file, terms::wrong_json("release policy"))
            .map_err(PolicyError::NotSigned)?;
    let opened = envelope
        .open(PAYLOAD_TYPE)
        .map_err(PolicyError::NotSigned)?;
    if opened.signatures.len() > MAX_SIGNATURES {
        return Err(PolicyError::TooManySignatures(MAX_SIGNATURES));
    }
    Ok(opened)
}

/// Reads a policy or key file: a regular one of a sensible size, which may be a link.
pub fn read_file(path: &Path) -> Result<Vec<u8>, PolicyError> {
    named_file::read(path, MAX_FILE).map_err(|source| PolicyError::Read {
        path: path.to_owned(),
        source,
    })
}
