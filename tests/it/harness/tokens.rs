//! An issuer of tokens, good and bad ones, made byte by byte.

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
        EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384, RSA_PSS_SHA256,
        RsaEncoding, RsaKeyPair,
    },
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64URL};
use serde_json::{Value, json};
use vitalgate::clock;

use super::Site;

pub(crate) const ISSUER: &str = "https://idp.it.example";
pub(crate) const AUDIENCE: &str = "https://vitalgate.it.example";

/// Its keys; their `kid` is `p256`, `p384` and `rsa`.
pub(crate) struct TokenIssuer {
    p256: EcdsaKeyPair,
    p384: EcdsaKeyPair,
    rsa: RsaKeyPair,
}

impl TokenIssuer {
    pub(crate) fn new() -> Self {
        Self {
            p256: ec(&ECDSA_P256_SHA256_FIXED_SIGNING),
            p384: ec(&ECDSA_P384_SHA384_FIXED_SIGNING),
            rsa: RsaKeyPair::generate(KeySize::Rsa2048).unwrap(),
        }
    }

    /// Its key set, with these keys only.
    pub(crate) fn jwks(&self, kids: &[&str]) -> String {
        let keys: Vec<Value> = kids.iter().map(|kid| self.jwk(kid)).collect();
        json!({"keys": keys}).to_string()
    }

    fn jwk(&self, kid: &str) -> Value {
        let coordinates = |key: &EcdsaKeyPair| {
            let point = &key.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            (BASE64URL.encode(x), BASE64URL.encode(y))
        };
        match kid {
            "rsa" => {
                let key = self.rsa.public_key();
                let n = BASE64URL.encode(key.modulus().big_endian_without_leading_zero());
                let e = BASE64URL.encode(key.exponent().big_endian_without_leading_zero());
                json!({"kty": "RSA", "kid": kid, "use": "sig", "n": n, "e": e})
            }
            "p384" => {
                let (x, y) = coordinates(&self.p384);
                json!({"kty": "EC", "crv": "P-384", "kid": kid, "x": x, "y": y})
            }
            _ => {
                let (x, y) = coordinates(&self.p256);
                json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "kid": kid, "x": x, "y": y})
            }
        }
    }

    /// A token with this header and these claims, signed as its `alg` says by the key of that
    /// kind.
    pub(crate) fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// As [`TokenIssuer::sign`], of exactly these bytes.
    pub(crate) fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", BASE64URL.encode(header), BASE64URL.encode(claims));
        let bytes = message.as_bytes();
        let rsa = |padding: &'static dyn RsaEncoding| {
            let mut signature = vec![0; self.rsa.public_modulus_len()];
            let random = SystemRandom::new();
            self.rsa
                .sign(padding, &random, bytes, &mut signature)
                .unwrap();
            signature
        };
        let ec = |key: &EcdsaKeyPair| {
            let signature = key.sign(&SystemRandom::new(), bytes).unwrap();
            signature.as_ref().to_vec()
        };
        // A forger's header may say anything, twice even.
        let signature = if header.contains("\"RS256\"") {
            rsa(&RSA_PKCS1_SHA256)
        } else if header.contains("\"RS384\"") {
            rsa(&RSA_PKCS1_SHA384)
        } else if header.contains("\"PS256\"") {
            rsa(&RSA_PSS_SHA256)
        } else if header.contains("\"ES384\"") {
            ec(&self.p384)
        } else if header.contains("\"HS256\"") {
            // The public key, which everybody has, as the secret.
            let secret = self.rsa.public_key().as_ref();
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
            hmac::sign(&key, bytes).as_ref().to_vec()
        } else if header.to_lowercase().contains("none") {
            Vec::new()
        } else {
            ec(&self.p256)
        };
        format!("{message}.{}", BASE64URL.encode(signature))
    }

    /// A token that holds, but for what `change` does to its header and claims.
    pub(crate) fn token(&self, change: impl FnOnce(&mut Value, &mut Value)) -> String {
        let mut header = json!({"alg": "ES256", "typ": "at+jwt", "kid": "p256"});
        let now = now();
        let mut claims = json!({
            "iss": ISSUER, "aud": AUDIENCE, "sub": "ward-app", "scope": "openid vitalgate",
            "iat": now, "exp": now + 600, "jti": format!("{now}-{}", rand_hex()),
        });
        change(&mut header, &mut claims);
        self.sign(&header, &claims)
    }
}

fn ec(algorithm: &'static EcdsaSigningAlgorithm) -> EcdsaKeyPair {
    EcdsaKeyPair::generate(algorithm).unwrap()
}

fn rand_hex() -> String {
    let mut bytes = [0; 8];
    aws_lc_rs::rand::fill(&mut bytes).unwrap();
    BASE64URL.encode(bytes)
}

/// Unix seconds.
pub(crate) fn now() -> i64 {
    clock::since_epoch().as_secs().try_into().unwrap()
}

/// The RFC 8705 thumbprint of a certificate.
pub(crate) fn thumbprint(certificate: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    BASE64URL.encode(digest)
}

/// Gives the site a listener for tokens, and one for certificate and token, beside its own; the
/// issuer `idp`, with its key set in `idp.jwks`; and the principal `ward-app` by its token.
pub(crate) fn take_tokens(site: &mut Site, issuer: &TokenIssuer) {
    let files = "listen = \"127.0.0.1:0\"\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
                 client_ca = \"ca.pem\"\n";
    let listeners = format!(
        "[[data]]\n{files}\n[[data]]\n{files}authentication = [\"jwt\"]\n\n\
         [[data]]\n{files}authentication = [\"mtls\", \"jwt\"]\n"
    );
    site.configure(&format!("[data]\n{files}"), &listeners);
    site.config.push_str(
        "[[principals]]\nname = \"ward-app\"\nissuer = \"idp\"\nsubject = \"ward-app\"\n\
         roles = [\"clinician\"]\nmodels = [\"*\"]\n\n",
    );
    let issuers = format!(
        "[[issuers]]\nname = \"idp\"\nissuer = \"{ISSUER}\"\naudience = [\"{AUDIENCE}\"]\n\
         jwks = \"idp.jwks\"\nscopes = [\"vitalgate\"]\nrequire_certificate_binding = false\n\
         multi_factor_amr = [\"mfa\"]\n\n"
    );
    site.config.push_str(&issuers);
    std::fs::write(
        site.path().join("idp.jwks"),
        issuer.jwks(&["p256", "p384", "rsa"]),
    )
    .unwrap();
}
