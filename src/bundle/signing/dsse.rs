//! The DSSE envelope (v1): a payload, its type, and signatures over both.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    error::{SigningError, excerpt},
    keys::{Signer, key_id},
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::bundle) struct Envelope {
    payload: String,
    payload_type: String,
    signatures: Vec<ReadSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ReadSignature {
    sig: String,
    keyid: Option<Value>,
}

/// An envelope's parts. Opening checks no signature: the payload is bytes nobody vouches for.
pub(in crate::bundle) struct Opened {
    pub(in crate::bundle) payload: Vec<u8>,
    /// What must have been signed.
    pub(in crate::bundle) message: Vec<u8>,
    pub(in crate::bundle) signatures: Vec<Signature>,
}

#[derive(Clone)]
pub(in crate::bundle) struct Signature {
    pub(in crate::bundle) bytes: Vec<u8>,
    /// A hint nobody signed: for people only.
    pub(in crate::bundle) claimed: Option<String>,
}

impl Envelope {
    /// Takes the parts out, if the payload is of this type.
    pub(in crate::bundle) fn open(
        self,
        payload_type: &'static str,
    ) -> Result<Opened, SigningError> {
        if self.payload_type != payload_type {
            return Err(SigningError::PayloadType {
                expected: payload_type,
                found: excerpt(&self.payload_type),
            });
        }
        let signatures = self
            .signatures
            .into_iter()
            .map(|signature| {
                Ok(Signature {
                    bytes: decode("signatures.sig", &signature.sig)?,
                    claimed: signature
                        .keyid
                        .and_then(|id| id.as_str().map(str::to_owned)),
                })
            })
            .collect::<Result<_, _>>()?;
        let payload = decode("payload", &self.payload)?;
        Ok(Opened {
            message: pre_authentication_encoding(payload_type, &payload),
            payload,
            signatures,
        })
    }
}

impl Signature {
    /// Has `key` sign `payload`.
    pub(in crate::bundle) fn make(
        payload_type: &str,
        payload: &[u8],
        key: &dyn Signer,
    ) -> Result<Self, SigningError> {
        Ok(Self {
            bytes: key.sign(&pre_authentication_encoding(payload_type, payload))?,
            claimed: Some(key_id(key.public_key_pem().as_bytes())?),
        })
    }

    /// Without the hint.
    pub(super) fn anonymous(self) -> Self {
        Self {
            claimed: None,
            ..self
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::bundle) struct WrittenEnvelope {
    payload: String,
    payload_type: &'static str,
    signatures: Vec<WrittenSignature>,
}

#[derive(Serialize)]
struct WrittenSignature {
    sig: String,
    keyid: String,
}

impl WrittenEnvelope {
    pub(in crate::bundle) fn new(
        payload_type: &'static str,
        payload: &[u8],
        signatures: &[Signature],
    ) -> Self {
        Self {
            payload: STANDARD.encode(payload),
            payload_type,
            signatures: signatures
                .iter()
                .map(|signature| WrittenSignature {
                    sig: STANDARD.encode(&signature.bytes),
                    keyid: signature.claimed.clone().unwrap_or_default(),
                })
                .collect(),
        }
    }
}

/// What is signed (DSSE v1, "PAE"): the payload with its type and length, so that it can be taken
/// for nothing else.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    let mut message = head.into_bytes();
    message.extend_from_slice(payload);
    message
}

pub(super) fn decode(field: &'static str, text: &str) -> Result<Vec<u8>, SigningError> {
    STANDARD
        .decode(text)
        .map_err(|source| SigningError::Base64 { field, source })
}
