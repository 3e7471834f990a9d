//! An issuer's public keys, from a JWK set (RFC 7517).

use std::{collections::HashMap, sync::Arc};

use jsonwebtoken::{
    Algorithm, AlgorithmFamily, DecodingKey, DecodingKeyKind,
    crypto::verify,
    jwk::{
        AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse,
        ThumbprintHash,
    },
};
use serde::Deserialize;
use serde_json::Value;

use super::token::Token;
use crate::{disposition::Code, error_chain::printable};

/// Largest key set, bytes.
pub(super) const LARGEST: u64 = 256 * 1024;
/// Most keys in one.
const MOST: usize = 100;
/// Members that only private keys have (RFC 7518 sections 6.2.2 and 6.3.2).
const PRIVATE: [&str; 6] = ["d", "p", "q", "dp", "dq", "qi"];

/// Why a key set is not good.
#[derive(Debug, thiserror::Error)]
#[error("key set of issuer {issuer}, {location}: {problem}")]
pub struct KeySetError {
    pub(super) issuer: String,
    pub(super) location: String,
    pub(super) problem: String,
}

/// The usable keys of a set, by `kid`.
#[derive(Debug)]
pub(super) struct KeySet(HashMap<String, Arc<VerifyingKey>>);

/// A public key, and what it may verify.
#[derive(Debug)]
pub(super) struct VerifyingKey {
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
    thumbprint: String,
}

#[derive(Deserialize)]
struct RawSet {
    keys: Vec<Value>,
}

impl KeySet {
    /// Reads a set. Keys of kinds that we do not use are passed over.
    ///
    /// # Errors
    /// What is wrong with it: no JSON, no usable key, a name used twice, a private key.
    pub(super) fn parse(json: &[u8]) -> Result<Self, String> {
        if json.len() as u64 > LARGEST {
            return Err(format!("larger than {LARGEST} bytes"));
        }
        let RawSet { keys } = serde_json::from_slice(json)
            .map_err(|e| format!("not a JSON Web Key Set: {}", printable(&e.to_string())))?;
        if keys.len() > MOST {
            return Err(format!("more than {MOST} keys"));
        }
        let mut usable = HashMap::new();
        for key in keys {
            if PRIVATE.iter().any(|member| key.get(member).is_some()) {
                return Err("holds a private key, which must never be here".to_owned());
            }
            let Ok(jwk) = serde_json::from_value::<Jwk>(key) else {
                continue;
            };
            let (Some(kid), Some(key)) = (jwk.common.key_id.clone(), VerifyingKey::of(&jwk)) else {
                continue;
            };
            if usable.insert(kid, Arc::new(key)).is_some() {
                return Err("two keys have the same kid".to_owned());
            }
        }
        if usable.is_empty() {
            return Err(
                "holds no key that can be used: RSA of 2048 bits or more, P-256 or P-384, with a \
                 kid, for signatures"
                    .to_owned(),
            );
        }
        Ok(Self(usable))
    }

    pub(super) fn get(&self, kid: &str) -> Option<&Arc<VerifyingKey>> {
        self.0.get(kid)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl VerifyingKey {
    fn of(jwk: &Jwk) -> Option<Self> {
        let common = &jwk.common;
        let signs = match &common.public_key_use {
            None | Some(PublicKeyUse::Signature) => true,
            Some(PublicKeyUse::Encryption | PublicKeyUse::Other(_)) => false,
        };
        let verifies = common
            .key_operations
            .as_ref()
            .is_none_or(|operations| operations.contains(&KeyOperations::Verify));
        if !signs || !verifies {
            return None;
        }
        let mut algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => {
                vec![Algorithm::RS256, Algorithm::RS384, Algorithm::PS256]
            }
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P256 => {
                vec![Algorithm::ES256]
            }
            AlgorithmParameters::EllipticCurve(curve) if curve.curve == EllipticCurve::P384 => {
                vec![Algorithm::ES384]
            }
            // Symmetric keys above all: a public one would verify what anybody can sign.
            AlgorithmParameters::EllipticCurve(_)
            | AlgorithmParameters::OctetKey(_)
            | AlgorithmParameters::OctetKeyPair(_)
            | AlgorithmParameters::Other(_)
            | _ => return None,
        };
        // A key that says what it is for is for nothing else.
        if let Some(declared) = common.key_algorithm {
            algorithms.retain(|a| KeyAlgorithm::from(*a) == declared);
        }
        let key = DecodingKey::from_jwk(jwk).ok()?;
        if algorithms.is_empty() || !is_strong(&key) {
            return None;
        }
        let thumbprint = jwk.thumbprint(ThumbprintHash::SHA256).ok()?;
        Some(Self {
            algorithms,
            key,
            thumbprint,
        })
    }

    /// Checks a token's signature, by the algorithm that both it and the key name.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), Code> {
        if !self.algorithms.contains(&token.algorithm) {
            return Err(Code::TokenKeyMismatch);
        }
        match verify(token.signature, token.message, &self.key, token.algorithm) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Code::TokenSignature),
        }
    }

    /// Whether this is the same key, whatever else was said about it.
    pub(super) fn is(&self, other: &Self) -> bool {
        self.thumbprint == other.thumbprint && self.algorithms == other.algorithms
    }
}

fn is_strong(key: &DecodingKey) -> bool {
    match (key.family(), key.kind()) {
        (AlgorithmFamily::Rsa, DecodingKeyKind::RsaModulusExponent { n, .. }) => {
            let leading = n.iter().take_while(|b| **b == 0).count();
            (256..=1024).contains(&(n.len() - leading))
        }
        // An uncompressed point of P-256 or P-384.
        (AlgorithmFamily::Ec, DecodingKeyKind::SecretOrDer(point)) => {
            matches!(point.len(), 65 | 97)
        }
        (AlgorithmFamily::Rsa, DecodingKeyKind::SecretOrDer(_))
        | (AlgorithmFamily::Ec, DecodingKeyKind::RsaModulusExponent { .. })
        | (AlgorithmFamily::Hmac | AlgorithmFamily::Ed, _) => false,
    }
}
