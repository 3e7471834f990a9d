//! The certificate method: a code-signing certificate that chains to a pinned root, now.

use std::cell::Cell;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, anchor_from_trusted_cert,
};

use super::{error::SigningError, keys::verify_by_curve};

const MAX_CHAIN: usize = 8;
/// 1.3.6.1.5.5.7.3.3, id-kp-codeSigning (RFC 5280, 4.2.1.12), as its DER content.
const CODE_SIGNING: &[u8] = &[0x2b, 0x06, 0x01, 0x05, 0x05, 0x07, 0x03, 0x03];

/// Checks the chain (leaf first), then the signature under the leaf's key. Returns the leaf's
/// SHA-256.
pub(super) fn verify(
    chain: &[Vec<u8>],
    ca_pem: &[u8],
    now: UnixTime,
    message: &[u8],
    signature: &[u8],
) -> Result<String, SigningError> {
    let (leaf_der, issuers) = match chain {
        [leaf, issuers @ ..] if chain.len() <= MAX_CHAIN => (leaf, issuers),
        _ => {
            return Err(SigningError::ChainLength {
                found: chain.len(),
                limit: MAX_CHAIN,
            });
        }
    };
    let issuers: Vec<_> = issuers
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let roots = CertificateDer::pem_slice_iter(ca_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| SigningError::TrustedRoots {
            reason: e.to_string(),
        })?;
    let anchors = roots
        .iter()
        .map(anchor_from_trusted_cert)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|e| SigningError::TrustedRoots {
            reason: e.to_string(),
        })?;
    if anchors.is_empty() {
        return Err(SigningError::TrustedRoots {
            reason: "no certificate in the PEM".to_owned(),
        });
    }

    let leaf_der_ref = CertificateDer::from(leaf_der.as_slice());
    let leaf = EndEntityCert::try_from(&leaf_der_ref).map_err(SigningError::Leaf)?;
    // How issuers sign certificates is theirs to choose; how bundles are signed is not.
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let usage = CodeSigning {
        at_leaf: Cell::new(true),
    };
    leaf.verify_for_usage(algorithms, &anchors, &issuers, now, usage, None, None)
        .map_err(SigningError::Chain)?;
    verify_by_curve(|algorithm| leaf.verify_signature(algorithm, message, signature))?;
    Ok(hex::encode(digest(&SHA256, leaf_der)))
}

/// The leaf must be for code signing. An issuer must be too if it is restricted at all; webpki's
/// plain `required` would refuse issuers without the extension, which RFC 5280 leaves
/// unrestricted. webpki asks about the leaf first, and once.
struct CodeSigning {
    at_leaf: Cell<bool>,
}

impl ExtendedKeyUsageValidator for CodeSigning {
    fn validate(&self, usages: KeyPurposeIdIter<'_, '_>) -> Result<(), webpki::Error> {
        if self.at_leaf.replace(false) {
            KeyUsage::required(CODE_SIGNING).validate(usages)
        } else {
            KeyUsage::required_if_present(CODE_SIGNING).validate(usages)
        }
    }
}
