//! The signature file: a Sigstore bundle v0.3 around a DSSE envelope.

use serde::{Deserialize, Serialize, de::IgnoredAny};

use super::{
    Trust, chain,
    dsse::{Envelope, Opened, Signature, WrittenEnvelope, decode},
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
    let Opened {
        payload,
        message,
        signatures,
    } = bundle.dsse_envelope.open(PAYLOAD_TYPE)?;
    let [signature] = signatures.as_slice() else {
        return Err(SigningError::SignatureCount {
            found: signatures.len(),
        });
    };
    let signature = &signature.bytes;

    let signer = match (trust, bundle.verification_material.into_claim()?) {
        (Trust::Key { spki_pem }, Claim::Key { hint }) => {
            let key = PublicKey::from_pem(spki_pem)?;
            if hint != key.id() {
                return Err(SigningError::KeyHint);
            }
            key.verify(&message, signature)?;
            hint
        }
        (Trust::Roots { ca_pem, now }, Claim::Certificates(chain)) => {
            chain::verify(&chain, ca_pem, *now, &message, signature)?
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
        dsse_envelope: WrittenEnvelope,
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

    let signature = Signature::make(PAYLOAD_TYPE, payload, key)?;
    serde_json::to_string(&Written {
        media_type: MEDIA_TYPE,
        verification_material: WrittenMaterial {
            public_key: WrittenHint {
                hint: key_id(key.public_key_pem().as_bytes())?,
            },
            tlog_entries: [],
        },
        // The reference tool writes no key id here; the hint has it.
        dsse_envelope: WrittenEnvelope::new(PAYLOAD_TYPE, payload, &[signature.anonymous()]),
    })
    .map_err(SigningError::Encode)
}
