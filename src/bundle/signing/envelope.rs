//! The signature file: a Sigstore bundle v0.3 around a DSSE envelope.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{
    Trust, chain,
    error::{SigningError, excerpt},
    keys::{PublicKey, Signer, key_id},
    strict_json,
};

pub(super) const MEDIA_TYPE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
pub(super) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A payload whose signature holds. Only [`authenticate`] makes one.
pub(super) struct Authentic {
    payload: Vec<u8>,
    signer: String,
}

impl Authentic {
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    pub(super) fn signer(&self) -> &str {
        &self.signer
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bundle {
    media_type: String,
    verification_material: Material,
    dsse_envelope: Envelope,
}

/// The transparency log and timestamps prove what we do not ask: they may be there, unread.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Material {
    public_key: Option<KeyHint>,
    x509_certificate_chain: Option<Chain>,
    certificate: Option<Certificate>,
    #[serde(rename = "tlogEntries")]
    _tlog_entries: Option<IgnoredAny>,
    #[serde(rename = "timestampVerificationData")]
    _timestamps: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyHint {
    hint: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Chain {
    certificates: Vec<Certificate>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Certificate {
    raw_bytes: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<Signature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Signature {
    sig: String,
    /// DSSE calls it a hint nobody signed: unread.
    #[serde(rename = "keyid")]
    _keyid: Option<IgnoredAny>,
}

/// What the signature file says who signed.
enum Claim {
    Key { hint: String },
    Certificates(Vec<Vec<u8>>),
}

impl Material {
    fn into_claim(self) -> Result<Claim, SigningError> {
        match (
            self.public_key,
            self.x509_certificate_chain,
            self.certificate,
        ) {
            (Some(key), None, None) => Ok(Claim::Key { hint: key.hint }),
            (None, Some(chain), None) => chain
                .certificates
                .iter()
                .map(|c| decode("rawBytes", &c.raw_bytes))
                .collect::<Result<_, _>>()
                .map(Claim::Certificates),
            (None, None, Some(leaf)) => Ok(Claim::Certificates(vec![decode(
                "rawBytes",
                &leaf.raw_bytes,
            )?])),
            (key, chain, leaf) => Err(SigningError::MaterialCount {
                found: usize::from(key.is_some())
                    + usize::from(chain.is_some())
                    + usize::from(leaf.is_some()),
            }),
        }
    }
}

/// Checks that the trusted signer signed the payload, without reading the payload.
pub(super) fn authenticate(file: &[u8], trust: &Trust<'_>) -> Result<Authentic, SigningError> {
    let bundle: Bundle = strict_json::parse("signature file", file, |reason| {
        SigningError::SignatureJson { reason }
    })?;
    if bundle.media_type != MEDIA_TYPE {
        return Err(SigningError::MediaType {
            found: excerpt(&bundle.media_type),
        });
    }
    let envelope = bundle.dsse_envelope;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(SigningError::PayloadType {
            found: excerpt(&envelope.payload_type),
        });
    }
    let [signature] = envelope.signatures.as_slice() else {
        return Err(SigningError::SignatureCount {
            found: envelope.signatures.len(),
        });
    };
    let signature = decode("signatures[0].sig", &signature.sig)?;
    let payload = decode("payload", &envelope.payload)?;
    let message = pre_authentication_encoding(&payload);

    let signer = match (trust, bundle.verification_material.into_claim()?) {
        (Trust::Key { spki_pem }, Claim::Key { hint }) => {
            let key = PublicKey::from_pem(spki_pem)?;
            if hint != key.id() {
                return Err(SigningError::KeyHint);
            }
            key.verify(&message, &signature)?;
            hint
        }
        (Trust::Roots { ca_pem, now }, Claim::Certificates(chain)) => {
            chain::verify(&chain, ca_pem, *now, &message, &signature)?
        }
        (Trust::Key { .. }, Claim::Certificates(_)) => {
            return Err(SigningError::MaterialKind {
                found: "certificate",
                trusted: "key",
            });
        }
        (Trust::Roots { .. }, Claim::Key { .. }) => {
            return Err(SigningError::MaterialKind {
                found: "key",
                trusted: "certificate",
            });
        }
    };
    Ok(Authentic { payload, signer })
}

/// Has `key` sign `payload`, and writes the signature file.
pub(super) fn seal(payload: &[u8], key: &dyn Signer) -> Result<String, SigningError> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Written<'a> {
        media_type: &'a str,
        verification_material: WrittenMaterial,
        dsse_envelope: WrittenEnvelope<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct WrittenMaterial {
        public_key: WrittenHint,
        // The reference tool adds it when it is missing, other readers ask for it.
        tlog_entries: [(); 0],
    }
    #[derive(Serialize)]
    struct WrittenHint {
        hint: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct WrittenEnvelope<'a> {
        payload: String,
        payload_type: &'a str,
        signatures: [WrittenSignature<'a>; 1],
    }
    #[derive(Serialize)]
    struct WrittenSignature<'a> {
        sig: String,
        keyid: &'a str,
    }

    let signature = key.sign(&pre_authentication_encoding(payload))?;
    serde_json::to_string(&Written {
        media_type: MEDIA_TYPE,
        verification_material: WrittenMaterial {
            public_key: WrittenHint {
                hint: key_id(key.public_key_pem().as_bytes())?,
            },
            tlog_entries: [],
        },
        dsse_envelope: WrittenEnvelope {
            payload: STANDARD.encode(payload),
            payload_type: PAYLOAD_TYPE,
            signatures: [WrittenSignature {
                sig: STANDARD.encode(signature),
                keyid: "",
            }],
        },
    })
    .map_err(SigningError::Encode)
}

/// What is signed (DSSE v1, "PAE"): the payload with its type and length, so that it can be taken
/// for nothing else.
fn pre_authentication_encoding(payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    let mut message = head.into_bytes();
    message.extend_from_slice(payload);
    message
}

fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, SigningError> {
    STANDARD
        .decode(text)
        .map_err(|source| SigningError::Base64 { field, source })
}
