use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose::{self, CodeSigning, ServerAuth},
    IsCa, KeyPair, PKCS_ECDSA_P384_SHA384, date_time_ymd,
};

use super::*;

/// A root, an issuing authority and a signer, with the extended key usages given.
struct Pki {
    root_pem: String,
    root_der: Vec<u8>,
    chain: Vec<Vec<u8>>,
    signature: String,
    contents: Contents,
}

const NOW: u64 = 1_800_000_000;

fn params(name: &str, usages: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = usages.to_vec();
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(2028, 1, 1);
    params
}

fn authority(name: &str, usages: &[ExtendedKeyUsagePurpose]) -> CertificateParams {
    let mut params = params(name, usages);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn pki(issuing: &[ExtendedKeyUsagePurpose], leaf: &[ExtendedKeyUsagePurpose]) -> Pki {
    let key = || KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
    let root = CertifiedIssuer::self_signed(authority("root", &[]), key()).unwrap();
    let issuing = CertifiedIssuer::signed_by(authority("issuing", issuing), key(), &root).unwrap();
    let leaf_key = key();
    let leaf = params("leaf", leaf).signed_by(&leaf_key, &issuing).unwrap();
    let dir = bundle();
    let contents = read(dir.path());
    let signer = SigningKey::from_pkcs8_pem(leaf_key.serialize_pem().as_bytes()).unwrap();
    Pki {
        root_pem: root.pem(),
        root_der: root.der().to_vec(),
        chain: vec![leaf.der().to_vec(), issuing.der().to_vec()],
        signature: sign(&contents, "bundle", &signer).unwrap(),
        contents,
    }
}

impl Pki {
    fn check_at(&self, chain: &[Vec<u8>], now: u64) -> Result<Verified, SigningError> {
        let certificates: Vec<_> = chain
            .iter()
            .map(|der| json!({ "rawBytes": STANDARD.encode(der) }))
            .collect();
        self.check_material(
            json!({ "x509CertificateChain": { "certificates": certificates } }),
            now,
        )
    }

    fn check_material(&self, material: Value, now: u64) -> Result<Verified, SigningError> {
        let mut signature: Value = serde_json::from_str(&self.signature).unwrap();
        signature["verificationMaterial"] = material;
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let trust = Trust::Roots {
            ca_pem: self.root_pem.as_bytes(),
            now,
        };
        verify_contents(&self.contents, signature.to_string().as_bytes(), &trust)
    }

    fn check(&self) -> Result<Verified, SigningError> {
        self.check_at(&self.chain, NOW)
    }
}

#[test]
fn code_signing_is_asked_of_the_leaf_and_of_a_restricted_issuer() {
    pki(&[], &[CodeSigning]).check().unwrap();
    pki(&[CodeSigning], &[CodeSigning]).check().unwrap();
    pki(&[ServerAuth, CodeSigning], &[ServerAuth, CodeSigning])
        .check()
        .unwrap();
    let refused: [(&[_], &[_]); 4] = [
        (&[], &[]),
        (&[CodeSigning], &[]),
        (&[CodeSigning], &[ServerAuth]),
        (&[ServerAuth], &[CodeSigning]),
    ];
    for (issuing, leaf) in refused {
        assert_fails!(pki(issuing, leaf).check(), SigningError::Chain(_));
    }
}

#[test]
fn the_chain_must_be_whole_valid_now_and_end_at_the_pinned_root() {
    let pki_a = pki(&[], &[CodeSigning]);
    let verified = pki_a.check().unwrap();
    assert_eq!(verified.signer().len(), 64);
    let whole = [pki_a.chain.clone(), vec![pki_a.root_der.clone()]].concat();
    pki_a.check_at(&whole, NOW).unwrap();
    // 2025 and 2030: the root itself is not valid then.
    for now in [1_735_700_000, 1_893_500_000] {
        assert_fails!(
            pki_a.check_at(&pki_a.chain, now),
            SigningError::TrustedRoots { .. }
        );
    }
    assert_fails!(
        pki_a.check_at(&pki_a.chain[..1], NOW),
        SigningError::Chain(_)
    );
    assert_fails!(
        pki_a.check_at(&[], NOW),
        SigningError::ChainLength { found: 0, .. }
    );
    let long = vec![pki_a.chain[0].clone(); 9];
    assert_fails!(
        pki_a.check_at(&long, NOW),
        SigningError::ChainLength { found: 9, .. }
    );
    assert_fails!(
        pki_a.check_at(&[vec![0x30, 0x80]], NOW),
        SigningError::Leaf(_)
    );
    // The issuing authority itself may not sign bundles.
    assert_fails!(
        pki_a.check_at(&pki_a.chain[1..], NOW),
        SigningError::Chain(_)
    );

    let pki_b = pki(&[], &[CodeSigning]);
    assert_fails!(pki_a.check_at(&pki_b.chain, NOW), SigningError::Chain(_));
    let rogue = [pki_b.chain[0].clone(), pki_a.chain[1].clone()];
    assert_fails!(pki_a.check_at(&rogue, NOW), SigningError::Chain(_));
    // Another leaf of the same authority did not make this signature.
    let swapped = Pki {
        signature: pki_b.signature,
        ..pki_a
    };
    assert_fails!(swapped.check(), SigningError::BadSignature);
}

#[test]
fn a_key_and_a_certificate_do_not_stand_in_for_each_other() {
    let pki = pki(&[], &[CodeSigning]);
    let key = key();
    let bare = json!({ "publicKey": { "hint": key.key_id() } });
    assert_fails!(
        pki.check_material(bare, NOW),
        SigningError::MaterialKind { found: "key", .. }
    );
    // The one-certificate form of bundle v0.3: here without the issuing authority it needs.
    let alone = json!({ "certificate": { "rawBytes": STANDARD.encode(&pki.chain[0]) } });
    assert_fails!(
        pki.check_material(alone.clone(), NOW),
        SigningError::Chain(_)
    );
    let mut signature: Value = serde_json::from_str(&pki.signature).unwrap();
    signature["verificationMaterial"] = alone;
    assert_fails!(
        verify_contents(
            &pki.contents,
            signature.to_string().as_bytes(),
            &trust(&key)
        ),
        SigningError::MaterialKind {
            found: "certificate",
            ..
        }
    );
}

#[test]
fn roots_that_cannot_be_used_are_refused() {
    let mut pki = pki(&[], &[CodeSigning]);
    for root_pem in [
        "",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        pki.root_pem = root_pem.to_owned();
        assert_fails!(pki.check(), SigningError::TrustedRoots { .. });
    }
}
