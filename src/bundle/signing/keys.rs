//! Keys of the key method, both halves.

use aws_lc_rs::{
    digest::{SHA256, digest},
    encoding::AsDer,
    rand::SystemRandom,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use rustls_pki_types::{SignatureVerificationAlgorithm, SubjectPublicKeyInfoDer, pem::PemObject};
use webpki::{
    RawPublicKeyEntity,
    aws_lc_rs::{ECDSA_P256_SHA256, ECDSA_P384_SHA384, ECDSA_P521_SHA512},
};
use x509_parser::{
    oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_NIST_EC_P521},
    prelude::FromDer,
    x509::SubjectPublicKeyInfo,
};
use zeroize::Zeroizing;

use super::error::SigningError;

/// Holds a private key, here or in a token.
pub trait Signer {
    /// The public half: `PUBLIC KEY` PEM text as `OpenSSL` prints it.
    fn public_key_pem(&self) -> &str;

    /// An ASN.1 DER ECDSA signature over the SHA-2 of `message` that goes with the curve: SHA-256
    /// for P-256, SHA-384 for P-384, SHA-512 for P-521.
    ///
    /// # Errors
    /// [`SigningError::Signer`], with what the key's holder said.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError>;
}

/// The name of a public key: lower-case hexadecimal SHA-256 of its PEM text as `OpenSSL` prints
/// it, whatever line ends or comments `spki_pem` has.
///
/// # Errors
/// [`SigningError::TrustedKey`] unless the PEM text holds exactly one public key.
pub fn key_id(spki_pem: &[u8]) -> Result<String, SigningError> {
    PublicKey::from_pem(spki_pem).map(|key| key.id)
}

/// A key the operator trusts.
#[derive(Debug, Clone)]
pub(in crate::bundle) struct PublicKey {
    spki: SubjectPublicKeyInfoDer<'static>,
    id: String,
}

impl PublicKey {
    pub(in crate::bundle) fn from_pem(pem_text: &[u8]) -> Result<Self, SigningError> {
        let refused = |reason: String| SigningError::TrustedKey { reason };
        let mut keys = SubjectPublicKeyInfoDer::pem_slice_iter(pem_text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| refused(e.to_string()))?;
        let Some(spki) = keys.pop() else {
            let private = b"PRIVATE KEY-----";
            return Err(refused(
                if pem_text.windows(private.len()).any(|part| part == private) {
                    "a private key; its public half is needed".to_owned()
                } else {
                    "no PUBLIC KEY in PEM text".to_owned()
                },
            ));
        };
        if !keys.is_empty() {
            return Err(refused("more than one PUBLIC KEY".to_owned()));
        }
        if !is_on_a_known_curve(&spki) {
            return Err(refused("not an EC key on P-256, P-384 or P-521".to_owned()));
        }
        RawPublicKeyEntity::try_from(&spki).map_err(|e| refused(e.to_string()))?;
        let id = sha256_hex(pem("PUBLIC KEY", &spki).as_bytes());
        Ok(Self { spki, id })
    }

    /// Whether the key is written in the one way that counts: its point uncompressed, as
    /// `OpenSSL` does. In another form it would be another id for the same key, and could count
    /// twice or escape a revocation.
    pub(in crate::bundle) fn is_canonical(&self) -> bool {
        let der: &[u8] = &self.spki;
        // A P-256, P-384 or P-521 key by its length, and the length of its point.
        let point = match der.len() {
            91 => 65,
            120 => 97,
            158 => 133,
            _ => return false,
        };
        der.get(der.len() - point) == Some(&4)
    }

    /// PEM text as `OpenSSL` prints it.
    pub(in crate::bundle) fn to_pem(&self) -> String {
        pem("PUBLIC KEY", &self.spki).to_string()
    }

    pub(in crate::bundle) fn id(&self) -> &str {
        &self.id
    }

    pub(in crate::bundle) fn verify(
        &self,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), SigningError> {
        let key =
            RawPublicKeyEntity::try_from(&self.spki).map_err(|e| SigningError::TrustedKey {
                reason: e.to_string(),
            })?;
        verify_by_curve(|algorithm| key.verify_signature(algorithm, message, signature))
    }
}

/// Whether the key is for ECDSA on P-256, P-384 or P-521, by its algorithm (RFC 5480, 2.1.1).
fn is_on_a_known_curve(spki: &[u8]) -> bool {
    let curves = [OID_EC_P256, OID_NIST_EC_P384, OID_NIST_EC_P521];
    SubjectPublicKeyInfo::from_der(spki).is_ok_and(|(rest, key)| {
        let curve = key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|any| any.as_oid().ok());
        rest.is_empty()
            && key.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
            && curve.is_some_and(|curve| curves.contains(&curve))
    })
}

/// Checks a signature under the one algorithm of the key's curve. The bundle has no say in it.
pub(super) fn verify_by_curve(
    verify: impl Fn(&dyn SignatureVerificationAlgorithm) -> Result<(), webpki::Error>,
) -> Result<(), SigningError> {
    for algorithm in [ECDSA_P256_SHA256, ECDSA_P384_SHA384, ECDSA_P521_SHA512] {
        match verify(algorithm) {
            Ok(()) => return Ok(()),
            Err(webpki::Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_)) => {}
            Err(_) => return Err(SigningError::BadSignature),
        }
    }
    Err(SigningError::UnsupportedKey)
}

/// A private key in memory: P-256, P-384 or P-521. aws-lc wipes it when it is freed.
pub struct SigningKey {
    pair: EcdsaKeyPair,
    public_key_pem: String,
    key_id: String,
}

impl SigningKey {
    /// Reads an unencrypted private key, `PRIVATE KEY` (PKCS#8) or `EC PRIVATE KEY` (SEC 1).
    ///
    /// # Errors
    /// [`SigningError::PrivateKey`].
    pub fn from_pkcs8_pem(pem_text: &[u8]) -> Result<Self, SigningError> {
        let der = private_der(pem_text)?;
        let algorithms: [&'static EcdsaSigningAlgorithm; 3] = [
            &ECDSA_P256_SHA256_ASN1_SIGNING,
            &ECDSA_P384_SHA384_ASN1_SIGNING,
            &ECDSA_P521_SHA512_ASN1_SIGNING,
        ];
        algorithms
            .into_iter()
            .find_map(|algorithm| EcdsaKeyPair::from_private_key_der(algorithm, &der).ok())
            .ok_or(SigningError::PrivateKey {
                reason: "not an ECDSA key on P-256, P-384 or P-521",
            })
            .and_then(Self::from_pair)
    }

    /// Makes a P-256 key: the private half as PKCS#8 PEM text, the public half as `OpenSSL`
    /// prints it.
    ///
    /// # Errors
    /// [`SigningError::PrivateKey`] when the system gives no randomness.
    pub fn generate_p256() -> Result<(Zeroizing<String>, String), SigningError> {
        let failed = |_| SigningError::PrivateKey {
            reason: "cannot be generated",
        };
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).map_err(failed)?;
        let private = pem("PRIVATE KEY", pair.to_pkcs8v1().map_err(failed)?.as_ref());
        Ok((private, Self::from_pair(pair)?.public_key_pem))
    }

    /// The public half: `PUBLIC KEY` PEM text exactly as `OpenSSL` prints it.
    pub fn public_key_pem(&self) -> &str {
        &self.public_key_pem
    }

    /// Lower-case hexadecimal SHA-256 of [`Self::public_key_pem`].
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    fn from_pair(pair: EcdsaKeyPair) -> Result<Self, SigningError> {
        let spki = pair
            .public_key()
            .as_der()
            .map_err(|_| SigningError::PrivateKey {
                reason: "its public half cannot be made",
            })?;
        let public_key_pem = pem("PUBLIC KEY", spki.as_ref()).to_string();
        let key_id = sha256_hex(public_key_pem.as_bytes());
        Ok(Self {
            pair,
            public_key_pem,
            key_id,
        })
    }
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey")
            .field("key_id", &self.key_id)
            .finish_non_exhaustive()
    }
}

impl Signer for SigningKey {
    fn public_key_pem(&self) -> &str {
        &self.public_key_pem
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.pair
            .sign(&SystemRandom::new(), message)
            .map(|signature| signature.as_ref().to_vec())
            .map_err(|_| SigningError::Signer {
                reason: "the key refused".to_owned(),
            })
    }
}

/// The DER inside the PEM text. The PEM reader of the TLS stack leaves the base64 text behind in
/// freed memory; this one wipes it.
fn private_der(pem_text: &[u8]) -> Result<Zeroizing<Vec<u8>>, SigningError> {
    let refused = |reason| SigningError::PrivateKey { reason };
    let text = std::str::from_utf8(pem_text).map_err(|_| refused("not PEM text"))?;
    let body = [
        ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"),
        (
            "-----BEGIN EC PRIVATE KEY-----",
            "-----END EC PRIVATE KEY-----",
        ),
    ]
    .into_iter()
    .find_map(|(begin, end)| Some(text.split_once(begin)?.1.split_once(end)?.0));
    let Some(body) = body else {
        return Err(refused(
            if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
                "encrypted with a passphrase, which is not supported"
            } else {
                "neither PRIVATE KEY nor EC PRIVATE KEY in the PEM text"
            },
        ));
    };
    let mut base64 = Zeroizing::new(Vec::with_capacity(body.len()));
    base64.extend(body.bytes().filter(|b| !b.is_ascii_whitespace()));
    // Room for all of it at once: a vector that grows leaves copies behind.
    let mut der = Zeroizing::new(Vec::with_capacity(base64.len()));
    STANDARD
        .decode_vec(base64.as_slice(), &mut der)
        .map_err(|_| refused("not base64, or encrypted"))?;
    Ok(der)
}

/// PEM text as `OpenSSL` prints it: 64 columns and a final newline.
pub(super) fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(STANDARD.encode(der));
    let room = base64.len() + base64.len() / 64 + 2 * label.len() + 40;
    let mut text = Zeroizing::new(String::with_capacity(room));
    for part in ["-----BEGIN ", label, "-----"] {
        text.push_str(part);
    }
    for (column, symbol) in base64.chars().enumerate() {
        if column % 64 == 0 {
            text.push('\n');
        }
        text.push(symbol);
    }
    for part in ["\n-----END ", label, "-----\n"] {
        text.push_str(part);
    }
    text
}

fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}
