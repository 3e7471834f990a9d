//! What a key holder outside this process speaks: points, curve names and bare signatures, as
//! tokens give them (PKCS#11 v3.1, 6.3), and what we speak: SPKI PEM text and ASN.1 DER.

use aws_lc_rs::{
    digest::{Algorithm, SHA256, SHA384, SHA512, digest},
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P521_SHA512_ASN1,
        EcdsaVerificationAlgorithm, ParsedPublicKey,
    },
};

use super::{error::SigningError, keys::pem};

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
/// 1.2.840.10045.2.1, id-ecPublicKey (RFC 5480, 2.1.1), in DER.
const EC_PUBLIC_KEY: &[u8] = &[0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01];

/// A curve of the key method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Curve {
    /// secp256r1, with SHA-256.
    P256,
    /// secp384r1, with SHA-384.
    P384,
    /// secp521r1, with SHA-512.
    P521,
}

impl Curve {
    /// By its `ECParameters` in DER: the named form only, since explicit parameters can describe a
    /// curve that merely looks like one of these.
    pub fn from_parameters(der: &[u8]) -> Option<Self> {
        [Self::P256, Self::P384, Self::P521]
            .into_iter()
            .find(|curve| curve.parameters() == der)
    }

    /// Its `ECParameters` in DER: an object identifier.
    pub fn parameters(self) -> &'static [u8] {
        match self {
            Self::P256 => &[0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07],
            Self::P384 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22],
            Self::P521 => &[0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x23],
        }
    }

    /// What is signed in place of `message`.
    pub fn digest(self, message: &[u8]) -> Vec<u8> {
        let algorithm: &Algorithm = match self {
            Self::P256 => &SHA256,
            Self::P384 => &SHA384,
            Self::P521 => &SHA512,
        };
        digest(algorithm, message).as_ref().to_vec()
    }

    /// Bytes of a coordinate, and of each half of a bare signature.
    fn field_bytes(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
            Self::P521 => 66,
        }
    }

    /// `PUBLIC KEY` PEM text, as `OpenSSL` prints it, of an uncompressed point (SEC 1, 2.3.3):
    /// bare, or in a DER octet string as PKCS#11 asks.
    ///
    /// # Errors
    /// [`SigningError::TrustedKey`] when it is no such point, or not on the curve.
    pub fn public_key_pem(self, point: &[u8]) -> Result<String, SigningError> {
        let bare = 2 * self.field_bytes() + 1;
        let point = match point.len().checked_sub(bare) {
            Some(0) => Some(point),
            Some(head) => point
                .split_at_checked(head)
                .filter(|(_, bare)| point == element(OCTET_STRING, bare).as_slice())
                .map(|(_, bare)| bare),
            None => None,
        };
        let verification: &'static EcdsaVerificationAlgorithm = match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1,
            Self::P384 => &ECDSA_P384_SHA384_ASN1,
            Self::P521 => &ECDSA_P521_SHA512_ASN1,
        };
        let on_curve = |point: &&[u8]| ParsedPublicKey::new(verification, point).is_ok();
        let Some(point) = point.filter(on_curve) else {
            return Err(SigningError::TrustedKey {
                reason: "not an uncompressed point of its curve".to_owned(),
            });
        };
        let algorithm = element(SEQUENCE, &[EC_PUBLIC_KEY, self.parameters()].concat());
        let key = element(BIT_STRING, &[&[0], point].concat());
        let spki = element(SEQUENCE, &[algorithm, key].concat());
        Ok(pem("PUBLIC KEY", &spki).to_string())
    }

    /// The ASN.1 DER form (RFC 3279, 2.2.3) of a bare signature, r and s side by side.
    ///
    /// # Errors
    /// [`SigningError::Signer`] when it has not the length of two halves.
    pub fn der_signature(self, bare: &[u8]) -> Result<Vec<u8>, SigningError> {
        let half = self.field_bytes();
        let (r, s) = bare
            .split_at_checked(half)
            .filter(|(_, s)| s.len() == half)
            .ok_or_else(|| SigningError::Signer {
                reason: format!("a signature of {} bytes, expected {}", bare.len(), 2 * half),
            })?;
        Ok(element(SEQUENCE, &[integer(r), integer(s)].concat()))
    }
}

/// A non-negative integer: no leading zero, but for one where the number would else be negative.
fn integer(big_endian: &[u8]) -> Vec<u8> {
    let zeros = big_endian.iter().take_while(|byte| **byte == 0).count();
    let digits = big_endian.get(zeros..).unwrap_or_default();
    let mut content = Vec::with_capacity(digits.len() + 1);
    if digits.first().is_none_or(|byte| byte & 0x80 != 0) {
        content.push(0);
    }
    content.extend_from_slice(digits);
    element(INTEGER, &content)
}

/// A DER element. Nothing here comes near the 256 bytes where a third form of length begins.
fn element(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = u8::try_from(content.len()).unwrap_or(u8::MAX);
    let mut der = vec![tag];
    if length >= 0x80 {
        der.push(0x81);
    }
    der.push(length);
    der.extend_from_slice(content);
    der
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_become_the_shortest_integers() {
        let mut bare = [0; 64];
        bare[31] = 0x7f;
        bare[32] = 0x80;
        let der = Curve::P256.der_signature(&bare).unwrap();
        assert_eq!(der[..7], [0x30, 38, 2, 1, 0x7f, 2, 33]);
        assert_eq!(der[7..9], [0, 0x80]);
        let der = Curve::P256.der_signature(&[0; 64]).unwrap();
        assert_eq!(der, [0x30, 6, 2, 1, 0, 2, 1, 0]);
        let der = Curve::P521.der_signature(&[1; 132]).unwrap();
        assert_eq!(der[..5], [0x30, 0x81, 136, 2, 66]);
        for length in [0, 63, 65, 96] {
            Curve::P256.der_signature(&vec![1; length]).unwrap_err();
        }
    }

    #[test]
    fn a_point_must_be_whole_and_on_its_curve() {
        for length in [0, 1, 64, 65, 66, 67, 68, 200] {
            for first in [0, 2, 4] {
                let mut point = vec![7; length];
                if let Some(byte) = point.first_mut() {
                    *byte = first;
                }
                for curve in [Curve::P256, Curve::P384, Curve::P521] {
                    curve.public_key_pem(&point).unwrap_err();
                }
            }
        }
    }

    #[test]
    fn only_named_curves_are_known() {
        for curve in [Curve::P256, Curve::P384, Curve::P521] {
            assert_eq!(Curve::from_parameters(curve.parameters()), Some(curve));
        }
        // secp256k1, and nothing.
        assert_eq!(Curve::from_parameters(&[6, 5, 0x2b, 0x81, 4, 0, 10]), None);
        assert_eq!(Curve::from_parameters(&[]), None);
    }
}
