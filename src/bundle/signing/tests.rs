mod certificates;
mod interop;
mod statements;
mod trees;

use std::{fs, path::Path};

use aws_lc_rs::{
    encoding::AsDer,
    signature::{
        ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P521_SHA512_ASN1_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm,
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{keys::pem, *};

macro_rules! assert_fails {
    ($result:expr, $variant:pat) => {{
        let result = $result.map(|_| "accepted");
        assert!(matches!(result, Err($variant)), "{result:?}");
    }};
}
use assert_fails;

const CURVES: [&EcdsaSigningAlgorithm; 3] = [
    &ECDSA_P256_SHA256_ASN1_SIGNING,
    &ECDSA_P384_SHA384_ASN1_SIGNING,
    &ECDSA_P521_SHA512_ASN1_SIGNING,
];

/// A tiny bundle on disk.
fn bundle() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("members")).unwrap();
    fs::write(dir.path().join("model.json"), b"{}").unwrap();
    fs::write(dir.path().join("members/a.onnx"), b"network").unwrap();
    fs::write(dir.path().join("empty"), b"").unwrap();
    dir
}

fn key() -> SigningKey {
    SigningKey::from_pkcs8_pem(SigningKey::generate_p256().unwrap().0.as_bytes()).unwrap()
}

fn read(dir: &Path) -> Contents {
    Contents::read(dir, &Limits::default()).unwrap()
}

fn trust(key: &SigningKey) -> Trust<'_> {
    Trust::Key {
        spki_pem: key.public_key_pem().as_bytes(),
    }
}

fn check(dir: &Path, signature: &str, key: &SigningKey) -> Result<Verified, SigningError> {
    let contents = Contents::read(dir, &Limits::default())?;
    verify_contents(&contents, signature.as_bytes(), &trust(key))
}

#[test]
fn every_curve_and_key_form_round_trips() {
    let dir = bundle();
    let outside = tempfile::tempdir().unwrap();
    let path = outside.path().join("builder.sig");
    for curve in CURVES {
        let pair = EcdsaKeyPair::generate(curve).unwrap();
        let pkcs8 = pem("PRIVATE KEY", pair.to_pkcs8v1().unwrap().as_ref());
        let sec1 = pem(
            "EC PRIVATE KEY",
            pair.private_key().as_der().unwrap().as_ref(),
        );
        let key = SigningKey::from_pkcs8_pem(pkcs8.as_bytes()).unwrap();
        let same = SigningKey::from_pkcs8_pem(sec1.as_bytes()).unwrap();
        assert_eq!(key.public_key_pem(), same.public_key_pem());

        fs::write(&path, sign(&read(dir.path()), "bundle", &same).unwrap()).unwrap();
        let verified = verify(dir.path(), &path, &trust(&key), &Limits::default()).unwrap();
        assert_eq!(verified.signer(), key.key_id());
        assert_eq!(verified.digest().len(), 64);
        assert_eq!(verified.files()["members/a.onnx"], b"network");
        assert_eq!(verified.into_files().len(), 3);
    }
}

#[test]
fn verified_bytes_are_the_bytes_read_and_serve_several_signers() {
    let (dir, builder, approver) = (bundle(), key(), key());
    let contents = read(dir.path());
    let signatures = [&builder, &approver].map(|key| sign(&contents, "bundle", key).unwrap());
    fs::write(dir.path().join("model.json"), b"swapped after the read").unwrap();
    for (signature, key) in signatures.iter().zip([&builder, &approver]) {
        let verified = verify_contents(&contents, signature.as_bytes(), &trust(key)).unwrap();
        assert_eq!(verified.files()["model.json"], b"{}");
    }
    assert_fails!(
        check(dir.path(), &signatures[0], &builder),
        SigningError::Digest { name: _ }
    );
    assert_fails!(
        verify_contents(&contents, signatures[0].as_bytes(), &trust(&approver)),
        SigningError::KeyHint
    );
}

#[test]
fn no_flipped_or_cut_signature_file_vouches_for_other_content() {
    let (dir, key) = (bundle(), key());
    let contents = read(dir.path());
    let signature = sign(&contents, "bundle", &key).unwrap().into_bytes();
    let genuine = verify_contents(&contents, &signature, &trust(&key)).unwrap();
    let mut accepted = 0;
    for position in 0..signature.len() {
        for mask in [0x01, 0x20, 0x80] {
            let mut flipped = signature.clone();
            flipped[position] ^= mask;
            if let Ok(verified) = verify_contents(&contents, &flipped, &trust(&key)) {
                assert_eq!(verified.files(), genuine.files());
                assert_eq!(verified.digest(), genuine.digest());
                assert_eq!(verified.signer(), genuine.signer());
                accepted += 1;
            }
        }
        assert!(verify_contents(&contents, &signature[..position], &trust(&key)).is_err());
    }
    assert_eq!(
        accepted, 0,
        "an ASCII envelope without slack has no harmless flips"
    );
}

#[test]
fn no_flipped_file_is_accepted() {
    let (dir, key) = (bundle(), key());
    let signature = sign(&read(dir.path()), "bundle", &key).unwrap();
    for name in ["model.json", "members/a.onnx"] {
        let path = dir.path().join(name);
        let original = fs::read(&path).unwrap();
        for position in 0..original.len() * 8 {
            let mut flipped = original.clone();
            flipped[position / 8] ^= 1 << (position % 8);
            fs::write(&path, flipped).unwrap();
            let error = check(dir.path(), &signature, &key).unwrap_err();
            assert!(error.to_string().starts_with(name), "{error}");
        }
        fs::write(&path, original).unwrap();
    }
    check(dir.path(), &signature, &key).unwrap();
}

#[test]
fn the_signature_file_is_read_strictly() {
    let (dir, key) = (bundle(), key());
    let contents = read(dir.path());
    let good: Value = serde_json::from_str(&sign(&contents, "bundle", &key).unwrap()).unwrap();
    let with = |pointer: &str, field: &str, value: Value| {
        let mut changed = good.clone();
        changed.pointer_mut(pointer).unwrap()[field] = value;
        verify_contents(&contents, changed.to_string().as_bytes(), &trust(&key))
    };
    let material = "/verificationMaterial";
    let leaf = json!({ "rawBytes": "" });
    assert_fails!(
        with("", "extra", json!(1)),
        SigningError::SignatureJson { .. }
    );
    assert_fails!(
        with(material, "extra", json!(1)),
        SigningError::SignatureJson { .. }
    );
    assert_fails!(
        with(material, "publicKey", json!(null)),
        SigningError::MaterialCount { .. }
    );
    assert_fails!(
        with(material, "certificate", leaf),
        SigningError::MaterialCount { found: 2 }
    );
    assert_fails!(
        with("", "mediaType", json!("x\n")),
        SigningError::MediaType { .. }
    );
    assert_fails!(
        with("/dsseEnvelope", "payloadType", json!("x")),
        SigningError::PayloadType { .. }
    );
    assert_fails!(
        with("/dsseEnvelope", "payload", json!("-_==")),
        SigningError::Base64 { .. }
    );
    assert_fails!(
        with("/dsseEnvelope", "signatures", json!([])),
        SigningError::SignatureCount { found: 0 }
    );
    with(material, "tlogEntries", json!([{ "logIndex": "1" }])).unwrap();

    let text = good.to_string();
    let repeated = text.replacen('{', r#"{"mediaType":"x","#, 1);
    let nested = text.replacen("\"tlogEntries\":[]", r#""tlogEntries":[{"a":1,"a":2}]"#, 1);
    for text in [repeated, nested] {
        assert_fails!(
            verify_contents(&contents, text.as_bytes(), &trust(&key)),
            SigningError::DuplicateKey { .. }
        );
    }
    let deep = "[".repeat(100_000);
    assert_fails!(
        verify_contents(&contents, deep.as_bytes(), &trust(&key)),
        SigningError::SignatureJson { .. }
    );
}

#[test]
fn only_one_usable_key_can_be_trusted() {
    let (dir, key) = (bundle(), key());
    let contents = read(dir.path());
    let signature = sign(&contents, "bundle", &key).unwrap();
    let with = |pem: &str| {
        let trust = Trust::Key {
            spki_pem: pem.as_bytes(),
        };
        verify_contents(&contents, signature.as_bytes(), &trust)
    };
    let text = key.public_key_pem();
    with(&format!("a comment\r\n{}", text.replace('\n', "\r\n"))).unwrap();
    assert_fails!(with(""), SigningError::TrustedKey { .. });
    assert_fails!(with(&text.repeat(2)), SigningError::TrustedKey { .. });
    assert_fails!(
        with(&text.replace("MFkw", "MFkx")),
        SigningError::TrustedKey { .. }
    );
    assert_eq!(key_id(text.as_bytes()).unwrap(), key.key_id());

    for bad in [
        "",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        text,
    ] {
        let refused = SigningKey::from_pkcs8_pem(bad.as_bytes());
        assert_fails!(refused, SigningError::PrivateKey { .. });
    }
}

/// A token that answers with another key than its own, or in another encoding.
struct Broken(SigningKey, SigningKey);

impl Signer for Broken {
    fn public_key_pem(&self) -> &str {
        self.0.public_key_pem()
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SigningError> {
        self.1.sign(message)
    }
}

#[test]
fn a_signature_that_does_not_verify_is_never_written() {
    let dir = bundle();
    let broken = Broken(key(), key());
    assert_fails!(
        sign(&read(dir.path()), "bundle", &broken),
        SigningError::BadSignature
    );
}

/// Conformance vectors made with the reference tool, where they are at hand.
#[test]
fn conformance_vectors_hold() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/vectors");
    let Ok(manifest) = fs::read(root.join("manifest.json")) else {
        println!("skipped: no vectors");
        return;
    };
    let manifest: Value = serde_json::from_slice(&manifest).unwrap();
    let mut wrong = Vec::new();
    for vector in manifest["vectors"].as_array().unwrap() {
        let text = |field: &str| vector[field].as_str().unwrap();
        let pem = fs::read(root.join(text("trust"))).unwrap();
        let trust = match text("method") {
            "key" => Trust::Key { spki_pem: &pem },
            _ => Trust::Roots {
                ca_pem: &pem,
                now: UnixTime::now(),
            },
        };
        let (dir, signature) = (root.join(text("model")), root.join(text("signature")));
        let result = verify(&dir, &signature, &trust, &Limits::default());
        println!("{}: {result:?}", text("id"));
        if result.is_ok() != (text("expect") == "accept") {
            wrong.push(format!("{}: {result:?}", text("id")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
