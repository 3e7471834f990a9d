//! The certificate method: a code-signing certificate that chains to a pinned root, now.
//!
//! webpki builds and checks the path. What it leaves to its callers is checked here: key usage
//! bits, and a pinned root's own validity and path length.

use std::cell::Cell;

use aws_lc_rs::digest::{SHA256, digest};
use rustls_pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};
use webpki::{
    EndEntityCert, ExtendedKeyUsageValidator, KeyPurposeIdIter, KeyUsage, VerifiedPath,
    anchor_from_trusted_cert,
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer, time::ASN1Time};

use super::{error::SigningError, keys::verify_by_curve, path_fault::PathFault};

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
    // Each must be one, even where the path could do without it.
    let leaf_parsed =
        parse(leaf_der).ok_or(SigningError::Leaf(PathFault(webpki::Error::BadDer)))?;
    for (index, issuer) in issuers.iter().enumerate() {
        parse(issuer).ok_or(SigningError::Issuer {
            position: index + 2,
        })?;
    }
    let issuers: Vec<_> = issuers
        .iter()
        .map(|der| CertificateDer::from(der.as_slice()))
        .collect();
    let roots = CertificateDer::pem_slice_iter(ca_pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| untrusted(error.to_string()))?;
    let roots = Roots::valid_at(&roots, now)?;

    let leaf_der_ref = CertificateDer::from(leaf_der.as_slice());
    let leaf = EndEntityCert::try_from(&leaf_der_ref)
        .map_err(|fault| SigningError::Leaf(PathFault(fault)))?;
    if !may(
        &leaf_parsed,
        x509_parser::extensions::KeyUsage::digital_signature,
    ) {
        return Err(SigningError::KeyUsage);
    }
    // How issuers sign certificates is theirs to choose; how bundles are signed is not.
    let algorithms = webpki::ALL_VERIFICATION_ALGS;
    let usage = CodeSigning {
        at_leaf: Cell::new(true),
    };
    let path_holds = |path: &VerifiedPath<'_>| roots.allow(path);
    leaf.verify_for_usage(
        algorithms,
        &roots.anchors,
        &issuers,
        now,
        usage,
        None,
        Some(&path_holds),
    )
    .map_err(|fault| SigningError::Chain(PathFault(fault)))?;
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

/// The pinned roots that may be used now.
struct Roots<'a> {
    anchors: Vec<TrustAnchor<'a>>,
    /// How many issuers may stand below each (RFC 5280, 4.2.1.9). Anchors do not carry it.
    path_lengths: Vec<Option<u32>>,
}

impl<'a> Roots<'a> {
    fn valid_at(
        certificates: &'a [CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<Self, SigningError> {
        let now = i64::try_from(now.as_secs())
            .ok()
            .and_then(|seconds| ASN1Time::from_timestamp(seconds).ok())
            .ok_or_else(|| untrusted("the present time is not one".to_owned()))?;
        let mut roots = Self {
            anchors: Vec::new(),
            path_lengths: Vec::new(),
        };
        for der in certificates {
            let anchor = anchor_from_trusted_cert(der)
                .map_err(|error| untrusted(PathFault(error).to_string()))?;
            let root = parse(der).ok_or_else(|| untrusted("not a certificate".to_owned()))?;
            if !is_authority(&root) {
                return Err(untrusted("not a certificate authority".to_owned()));
            }
            if root.validity().is_valid_at(now) {
                roots.anchors.push(anchor);
                let constraints = root.basic_constraints().ok().flatten();
                let limit = constraints.and_then(|found| found.value.path_len_constraint);
                roots.path_lengths.push(limit);
            }
        }
        match (certificates.is_empty(), roots.anchors.is_empty()) {
            (true, _) => Err(untrusted("no certificate in the PEM".to_owned())),
            (false, true) => Err(untrusted("none is valid now".to_owned())),
            (false, false) => Ok(roots),
        }
    }

    /// Whether every issuer on the path may sign certificates, and the root allows so many.
    fn allow(&self, path: &VerifiedPath<'_>) -> Result<(), webpki::Error> {
        for issuer in path.intermediate_certificates() {
            if !parse(&issuer.der()).is_some_and(|parsed| is_authority(&parsed)) {
                return Err(webpki::Error::EndEntityUsedAsCa);
            }
        }
        let issuers = path.intermediate_certificates().count();
        let anchor = path.anchor();
        let allowed = self
            .anchors
            .iter()
            .zip(&self.path_lengths)
            .filter(|(ours, _)| {
                ours.subject == anchor.subject
                    && ours.subject_public_key_info == anchor.subject_public_key_info
            })
            .all(|(_, limit)| limit.is_none_or(|limit| issuers as u64 <= u64::from(limit)));
        if allowed {
            Ok(())
        } else {
            Err(webpki::Error::PathLenConstraintViolated)
        }
    }
}

fn parse(der: &[u8]) -> Option<X509Certificate<'_>> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Some(certificate),
        Ok(_) | Err(_) => None,
    }
}

/// Whether the certificate may sign others. Version 1 has no words for it; a root that old counts.
fn is_authority(certificate: &X509Certificate<'_>) -> bool {
    let old = certificate.version() == x509_parser::x509::X509Version::V1;
    let constraints = certificate.basic_constraints();
    let ca = matches!(constraints, Ok(Some(found)) if found.value.ca);
    (old || ca)
        && may(
            certificate,
            x509_parser::extensions::KeyUsage::key_cert_sign,
        )
}

/// Whether the key usage, where it is restricted, includes this one (RFC 5280, 4.2.1.3).
fn may(
    certificate: &X509Certificate<'_>,
    usage: fn(&x509_parser::extensions::KeyUsage) -> bool,
) -> bool {
    match certificate.key_usage() {
        Ok(Some(found)) => usage(found.value),
        Ok(None) => true,
        Err(_) => false,
    }
}

fn untrusted(reason: String) -> SigningError {
    SigningError::TrustedRoots { reason }
}
