//! Key sets, tokens of any bytes, and the memory of tokens.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{keyset::KeySet, token::Token, *};
use crate::authz::Role;

/// A P-256 public key (the generator of the curve) and an RSA one of 2048 bits (no prime
/// factors are known, nor needed).
fn jwk(kid: &str, change: impl FnOnce(&mut Value)) -> Value {
    let mut key = json!({
        "kty": "EC", "crv": "P-256", "kid": kid,
        "x": "axfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5RdiYwpY",
        "y": "T-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU",
    });
    change(&mut key);
    key
}

fn rsa(kid: &str, bits: usize) -> Value {
    let n = URL_SAFE_NO_PAD.encode(vec![0xc1; bits / 8]);
    json!({"kty": "RSA", "kid": kid, "n": n, "e": "AQAB"})
}

fn set(keys: &[Value]) -> Result<KeySet, String> {
    KeySet::parse(json!({"keys": keys}).to_string().as_bytes())
}

#[test]
fn keys_that_cannot_verify_our_tokens_are_passed_over() {
    let symmetric = json!({"kty": "oct", "kid": "oct", "k": "c2VjcmV0"});
    let edwards = json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed",
        "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"});
    let keys = [
        jwk("good", |_| {}),
        jwk("signs", |k| k["use"] = "sig".into()),
        rsa("rsa", 2048),
        symmetric,
        edwards,
        json!({"kty": "AKP", "kid": "future", "pub": "AA"}),
        json!("nonsense"),
        rsa("weak", 1024),
        jwk("encrypts", |k| k["use"] = "enc".into()),
        jwk("wraps", |k| k["key_ops"] = json!(["wrapKey"])),
        jwk("for another algorithm", |k| k["alg"] = "ES384".into()),
        jwk("for an unknown algorithm", |k| k["alg"] = "ES1024".into()),
        jwk("of another curve", |k| k["crv"] = "P-521".into()),
        jwk("without a point", |k| k["x"] = "AA".into()),
    ];
    let set = set(&keys).unwrap();
    for kid in ["good", "signs", "rsa"] {
        assert!(set.get(kid).is_some(), "{kid}");
    }
    assert_eq!(set.len(), 3, "{set:?}");
}

#[test]
fn a_key_set_that_means_two_things_or_nothing_is_refused() {
    let nameless = jwk("", |k| drop(k.as_object_mut().unwrap().remove("kid")));
    let private = jwk("a", |k| k["d"] = "AA".into());
    let many: Vec<Value> = (0..101).map(|i| jwk(&i.to_string(), |_| {})).collect();
    for (keys, why) in [
        (vec![], "holds no key"),
        (vec![nameless], "holds no key"),
        (vec![jwk("a", |_| {}), jwk("a", |_| {})], "same kid"),
        (vec![jwk("b", |_| {}), private], "private key"),
        (many, "more than 100"),
    ] {
        let error = set(&keys).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
    for text in ["", "{", "[]", "{\"keys\": 1}", "\u{1b}[2J"] {
        let error = KeySet::parse(text.as_bytes()).unwrap_err();
        assert!(error.contains("not a JSON Web Key Set"), "{error}");
        assert!(!error.contains('\u{1b}'));
    }
}

fn principal() -> Arc<Principal> {
    Arc::new(Principal::example("a", &[], &[]))
}

#[test]
fn a_verified_token_is_known_until_it_expires_and_only_as_it_was_shown() {
    let keys = std::env::temp_dir().join(format!("vitalgate-keys-{}", std::process::id()));
    std::fs::write(&keys, json!({"keys": [jwk("k", |_| {})]}).to_string()).unwrap();
    let location = crate::config::KeyLocation::File(keys.clone());
    let source = keys::KeySource::open("idp", &location, &Outcomes::default()).unwrap();
    let token = |until| VerifiedToken::example(principal(), &source, "k", until);
    let (known, jwt) = (VerifiedTokens::default(), Authentication::Jwt);
    known.put("a.b.c", jwt, token(100));
    assert!(known.get("a.b.c", jwt, 99).unwrap().is_some());
    // Elsewhere it would have to be judged with a certificate.
    let both = Authentication::MtlsAndJwt;
    assert!(known.get("a.b.c", both, 99).unwrap().is_none());
    assert!(known.get("a.b.d", jwt, 99).unwrap().is_none());
    let expired = known.get("a.b.c", jwt, 100).unwrap_err();
    assert_eq!(expired, Code::TokenExpired);
    assert!(known.get("a.b.c", jwt, 99).unwrap().is_none());
    // What was asked for lately stays, however many others come.
    known.put("often", jwt, token(100));
    for i in 0..40_000 {
        known.put(&i.to_string(), jwt, token(100));
        if i % 5000 == 0 {
            assert!(known.get("often", jwt, 1).unwrap().is_some(), "{i}");
        }
    }
    assert!(known.get("0", jwt, 1).unwrap().is_none());
    assert!(known.len() <= 2 * 8192, "{}", known.len());
    // Its key goes, and it with it.
    std::fs::write(&keys, json!({"keys": [rsa("k", 2048)]}).to_string()).unwrap();
    source.reload_file().unwrap();
    assert!(known.get("often", jwt, 1).unwrap().is_none());
    std::fs::remove_file(keys).unwrap();
}

/// An issuer with these keys; by its tokens' roles when `mapped`.
fn issuer(name: &str, keys: &std::path::Path, mapped: bool) -> IssuerConfig {
    let roles = HashMap::from([("wards".to_owned(), Role::Clinician)]);
    IssuerConfig {
        name: name.to_owned(),
        issuer: format!("https://{name}"),
        audience: vec!["us".to_owned()],
        keys: crate::config::KeyLocation::File(keys.to_owned()),
        scopes: Vec::new(),
        max_lifetime: std::time::Duration::from_mins(5),
        leeway: std::time::Duration::from_secs(30),
        subject_claim: "sub".to_owned(),
        require_certificate_binding: false,
        single_use: true,
        jku: Vec::new(),
        multi_factor_acr: Vec::new(),
        multi_factor_amr: Vec::new(),
        on_behalf_of_claim: None,
        roles: mapped.then(|| crate::config::RoleMapping {
            claim: "roles".to_owned(),
            roles: roles.into_iter().collect(),
            models: vec!["*".to_owned()],
        }),
        line: 1,
    }
}

#[test]
fn only_names_that_a_token_can_give_are_known() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, json!({"keys": [jwk("k", |_| {})]}).to_string()).unwrap();
    let issuers = vec![issuer("open", &keys, true), issuer("listed", &keys, false)];
    let known = Authenticator::new(Vec::new(), issuers, Outcomes::default()).unwrap();
    for name in ["open/dr-who@hospital", "open/a/b"] {
        assert!(known.may_know(name), "{name}");
    }
    let long = format!("open/{}", "a".repeat(129));
    for name in [
        "open",
        "open/",
        "open/Jane Doe",
        "open/a\u{202e}b",
        "open/a\nb",
        "open/\u{1b}[2J",
        &long,
        "listed/a",
        "other/a",
    ] {
        assert!(!known.may_know(name), "{name:?}");
    }
}

#[test]
fn what_was_used_is_remembered_while_its_issuer_is_away() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    std::fs::write(&keys, json!({"keys": [jwk("k", |_| {})]}).to_string()).unwrap();
    let one = |single_use| {
        let config = issuer("idp", &keys, true);
        vec![IssuerConfig {
            single_use,
            ..config
        }]
    };
    let known = Authenticator::new(Vec::new(), one(true), Outcomes::default()).unwrap();
    let use_up = |issued| {
        let issuer = Arc::clone(&known.directory.load().issuers["https://idp"]);
        issuer.used.use_up("a", issued, issued + 300, now())
    };
    let issued = now();
    assert_eq!(use_up(issued), Ok(()));
    for issuers in [Vec::new(), one(true), Vec::new(), Vec::new(), one(true)] {
        known.replace(Vec::new(), issuers).unwrap();
    }
    assert_eq!(use_up(issued), Err(Code::TokenReplayed));
    // While tokens were good for many requests nothing was noted, and their issuer's clock could
    // be ahead by its leeway.
    for issuers in [one(false), one(true)] {
        known.replace(Vec::new(), issuers).unwrap();
    }
    assert_eq!(use_up(issued + 29), Err(Code::TokenOlderThanServer));
    assert_eq!(use_up(now() + 31), Ok(()));
    // What has expired needs no memory.
    known.directory.load().issuers["https://idp"]
        .used
        .is_spent(i64::MAX);
    known.replace(Vec::new(), Vec::new()).unwrap();
    assert!(known.directory.load().used.is_empty());
}

proptest! {
    #[test]
    fn any_text_is_a_token_or_none(text in "[A-Za-z0-9_.-]{0,200}") {
        // Twenty and some letters that decode to a signed header do not come by chance.
        prop_assert!(Token::parse(&text).is_err());
    }

    #[test]
    fn any_header_and_claims_are_read_or_refused(header in ".{0,80}", claims in ".{0,80}") {
        let text = format!(
            "{}.{}.AA",
            URL_SAFE_NO_PAD.encode(header),
            URL_SAFE_NO_PAD.encode(claims)
        );
        // Random text is no object.
        prop_assert!(Token::parse(&text).is_err());
    }

    #[test]
    fn any_time_is_one_of_our_years_or_refused(seconds in any::<f64>()) {
        let claims = json!({"iss": "x", "exp": seconds});
        let text = format!(
            "{}.{}.AA",
            URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","typ":"JWT","kid":"k"}"#),
            URL_SAFE_NO_PAD.encode(claims.to_string())
        );
        let token = Token::parse(&text).unwrap();
        match token.claims.time("exp") {
            Ok(Some(time)) => prop_assert!((0..40_000_000_000).contains(&time)),
            // JSON has no infinities: they are written as null.
            Ok(None) => prop_assert!(false),
            Err(code) => prop_assert_eq!(code, Code::TokenClaimInvalid),
        }
    }
}
