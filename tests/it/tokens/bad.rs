//! Every token that does not hold, with the reason that the record has to give.

use serde_json::{Value, json};

use super::{PREDICT, bearer, connect, predict, site_with_tokens, without_certificate, without_id};
use crate::harness::{Book, ICU_PATIENT, Server, TokenIssuer, now, request, thumbprint};

type Change = fn(&mut Value, &mut Value);

/// What is changed of a header and claims that hold, and what that is refused for.
const CHANGED: [(&str, Change, &str); 41] = [
    (
        "alg none",
        |h, _| h["alg"] = "none".into(),
        "TOKEN_ALGORITHM",
    ),
    (
        "alg NoNe",
        |h, _| h["alg"] = "NoNe".into(),
        "TOKEN_ALGORITHM",
    ),
    (
        "HS256 with the public key",
        |h, _| {
            h["alg"] = "HS256".into();
            h["kid"] = "rsa".into();
        },
        "TOKEN_ALGORITHM",
    ),
    ("RS512", |h, _| h["alg"] = "RS512".into(), "TOKEN_ALGORITHM"),
    (
        "no alg",
        |h, _| drop(h.as_object_mut().unwrap().remove("alg")),
        "TOKEN_ALGORITHM",
    ),
    (
        "alg a number",
        |h, _| h["alg"] = 256.into(),
        "TOKEN_MALFORMED",
    ),
    (
        "an ES256 key as RS256",
        |h, _| h["alg"] = "RS256".into(),
        "TOKEN_KEY_MISMATCH",
    ),
    (
        "an RSA key as ES256",
        |h, _| h["kid"] = "rsa".into(),
        "TOKEN_KEY_MISMATCH",
    ),
    (
        "a P-384 key as ES256",
        |h, _| h["kid"] = "p384".into(),
        "TOKEN_KEY_MISMATCH",
    ),
    (
        "typ of an ID token's logout",
        |h, _| h["typ"] = "logout+jwt".into(),
        "TOKEN_TYPE",
    ),
    (
        "no typ",
        |h, _| drop(h.as_object_mut().unwrap().remove("typ")),
        "TOKEN_TYPE",
    ),
    ("crit", |h, _| h["crit"] = json!(["exp"]), "TOKEN_CRITICAL"),
    (
        "crit null",
        |h, _| h["crit"] = Value::Null,
        "TOKEN_CRITICAL",
    ),
    (
        "b64 by crit",
        |h, _| {
            h["b64"] = false.into();
            h["crit"] = json!(["b64"]);
        },
        "TOKEN_CRITICAL",
    ),
    (
        "unknown kid",
        |h, _| h["kid"] = "other".into(),
        "TOKEN_KEY_UNKNOWN",
    ),
    (
        "no kid",
        |h, _| drop(h.as_object_mut().unwrap().remove("kid")),
        "TOKEN_KEY_UNKNOWN",
    ),
    (
        "jku of a stranger",
        |h, _| h["jku"] = "https://127.0.0.1:1/jwks".into(),
        "TOKEN_KEY_ADDRESS",
    ),
    (
        "another issuer",
        |_, c| c["iss"] = "https://idp.it.example/".into(),
        "TOKEN_ISSUER",
    ),
    (
        "no iss",
        |_, c| drop(c.as_object_mut().unwrap().remove("iss")),
        "TOKEN_CLAIM_MISSING",
    ),
    (
        "another audience",
        |_, c| c["aud"] = "https://other.it.example".into(),
        "TOKEN_AUDIENCE",
    ),
    (
        "audience in another case",
        |_, c| c["aud"] = "https://VITALGATE.it.example".into(),
        "TOKEN_AUDIENCE",
    ),
    (
        "two audiences",
        |_, c| c["aud"] = json!([c["aud"], "https://other"]),
        "TOKEN_AUDIENCE",
    ),
    (
        "no audience",
        |_, c| drop(c.as_object_mut().unwrap().remove("aud")),
        "TOKEN_CLAIM_MISSING",
    ),
    (
        "expired",
        |_, c| {
            c["iat"] = (now() - 700).into();
            c["exp"] = (now() - 60).into();
        },
        "TOKEN_EXPIRED",
    ),
    (
        "not valid yet",
        |_, c| c["nbf"] = (now() + 120).into(),
        "TOKEN_NOT_YET_VALID",
    ),
    (
        "issued in the future",
        |_, c| c["iat"] = (now() + 120).into(),
        "TOKEN_FROM_THE_FUTURE",
    ),
    (
        "log-in in the future",
        |_, c| c["auth_time"] = (now() + 9999).into(),
        "TOKEN_FROM_THE_FUTURE",
    ),
    (
        "too long-lived",
        |_, c| c["exp"] = (now() + 5402).into(),
        "TOKEN_TOO_LONG_LIVED",
    ),
    (
        "no exp",
        |_, c| drop(c.as_object_mut().unwrap().remove("exp")),
        "TOKEN_CLAIM_MISSING",
    ),
    (
        "no iat",
        |_, c| drop(c.as_object_mut().unwrap().remove("iat")),
        "TOKEN_CLAIM_MISSING",
    ),
    (
        "exp a text",
        |_, c| c["exp"] = "2999-01-01".into(),
        "TOKEN_CLAIM_INVALID",
    ),
    (
        "exp beyond all years",
        |_, c| c["exp"] = 1e300.into(),
        "TOKEN_CLAIM_INVALID",
    ),
    (
        "no scope",
        |_, c| drop(c.as_object_mut().unwrap().remove("scope")),
        "TOKEN_SCOPE",
    ),
    (
        "another scope",
        |_, c| c["scope"] = "openid vitalgate2".into(),
        "TOKEN_SCOPE",
    ),
    (
        "bound, and no certificate",
        |_, c| c["cnf"] = json!({"x5t#S256": thumbprint(b"x")}),
        "TOKEN_CERTIFICATE_MISSING",
    ),
    (
        "bound by something else",
        |_, c| c["cnf"] = json!({"jkt": "x"}),
        "TOKEN_CONFIRMATION",
    ),
    (
        "bound to nothing",
        |_, c| c["cnf"] = json!({}),
        "TOKEN_CONFIRMATION",
    ),
    (
        "bound to a short thumbprint",
        |_, c| c["cnf"] = json!({"x5t#S256": "AAAA"}),
        "TOKEN_CONFIRMATION",
    ),
    (
        "unknown subject",
        |_, c| c["sub"] = "stranger".into(),
        "TOKEN_SUBJECT",
    ),
    (
        "no subject",
        |_, c| drop(c.as_object_mut().unwrap().remove("sub")),
        "TOKEN_CLAIM_MISSING",
    ),
    (
        "subject a list",
        |_, c| c["sub"] = json!(["ward-app"]),
        "TOKEN_CLAIM_INVALID",
    ),
];

/// What cannot be said by changing a header or claims.
#[expect(clippy::too_many_lines, reason = "a table")]
fn broken(issuer: &TokenIssuer, good: &str) -> Vec<(&'static str, String, &'static str)> {
    let (message, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = message.split_once('.').unwrap();
    let flip = |text: &str| {
        let first = if text.starts_with('A') { "B" } else { "A" };
        format!("{first}{}", &text[1..])
    };
    let twice = |header: &str| issuer.sign_text(header, "{\"iss\":\"x\"}");
    vec![
        (
            "tampered signature",
            bearer(&format!("{message}.{}", flip(signature))),
            "TOKEN_SIGNATURE",
        ),
        (
            "no signature",
            bearer(&format!("{message}.")),
            "TOKEN_SIGNATURE",
        ),
        (
            "somebody else's signature",
            bearer(&TokenIssuer::new().token(|_, _| {})),
            "TOKEN_SIGNATURE",
        ),
        (
            "claims of another token",
            {
                let other = issuer.token(|_, c| c["scope"] = "vitalgate admin".into());
                let other = other.split('.').nth(1).unwrap().to_owned();
                bearer(&format!("{header}.{other}.{signature}"))
            },
            "TOKEN_SIGNATURE",
        ),
        (
            "four parts",
            bearer(&format!("{good}.x")),
            "TOKEN_MALFORMED",
        ),
        ("two parts", bearer(message), "TOKEN_MALFORMED"),
        (
            "not base64",
            bearer(&format!("{header}.{claims}a.{signature}")),
            "TOKEN_MALFORMED",
        ),
        (
            "not JSON",
            bearer(&format!("AAAA.{claims}.{signature}")),
            "TOKEN_MALFORMED",
        ),
        (
            "alg twice",
            bearer(&twice(
                "{\"alg\":\"none\",\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"p256\"}",
            )),
            "TOKEN_MALFORMED",
        ),
        (
            "a claim twice",
            {
                let claims = issuer.token(|_, _| {});
                let bytes = base64_decoded(claims.split('.').nth(1).unwrap());
                let claims = bytes.replacen('{', "{\"sub\":\"stranger\",", 1);
                bearer(&issuer.sign_text(
                    "{\"alg\":\"ES256\",\"typ\":\"JWT\",\"kid\":\"p256\"}",
                    &claims,
                ))
            },
            "TOKEN_MALFORMED",
        ),
        ("too large", bearer(&"a".repeat(8193)), "TOKEN_TOO_LARGE"),
        (
            "two headers",
            format!("{}{}", bearer(good), bearer(good)),
            "AUTHORIZATION_AMBIGUOUS",
        ),
        (
            "two headers, one of them bad",
            format!("{}{}", bearer(good), bearer("x")),
            "AUTHORIZATION_AMBIGUOUS",
        ),
        (
            "two tokens in one header",
            bearer(&format!("{good}, Bearer {good}")),
            "AUTHORIZATION_MALFORMED",
        ),
        (
            "two spaces",
            bearer(&format!(" {good}")),
            "AUTHORIZATION_MALFORMED",
        ),
        (
            "a tab",
            format!("Authorization: Bearer\t{good}\r\n"),
            "AUTHORIZATION_MALFORMED",
        ),
        (
            "no scheme",
            format!("Authorization: {good}\r\n"),
            "AUTHORIZATION_MALFORMED",
        ),
        (
            "Basic",
            "Authorization: Basic d2FyZDphcHA=\r\n".to_owned(),
            "AUTHORIZATION_MALFORMED",
        ),
        (
            "DPoP",
            format!("Authorization: DPoP {good}\r\n"),
            "AUTHORIZATION_MALFORMED",
        ),
    ]
}

#[test]
fn every_bad_token_is_refused_for_its_own_reason_and_answered_alike() {
    let (site, issuer) = site_with_tokens();
    let (mut server, mut book) = (Server::start(&site), Book::default());
    let (config, to) = (without_certificate(&site), server.listener("jwt"));
    let mut cases: Vec<(&str, String, &str)> = CHANGED
        .into_iter()
        .map(|(case, change, code)| (case, bearer(&issuer.token(change)), code))
        .collect();
    let good = issuer.token(|_, _| {});
    let signature = good.rsplit('.').next().unwrap();
    cases.extend(broken(&issuer, &good));
    let mut first: Option<String> = None;
    for (case, headers, code) in &cases {
        let mut wire = connect(to, &config);
        let answer = predict(&mut wire, headers);
        let text = without_id(&answer);
        assert_eq!(answer.status, 401, "{case}: {text}");
        assert_eq!(answer.code(), "INVALID_TOKEN", "{case}");
        let challenge = answer.header("www-authenticate");
        let expected = "Bearer realm=\"vitalgate\", error=\"invalid_token\"";
        assert_eq!(challenge, Some(expected), "{case}");
        let first = first.get_or_insert_with(|| text.clone());
        assert_eq!(*first, text, "{case} is answered in another way");
        println!("{case}: {code}");
        book.expect(case, wire.source, &[&format!("401 {code}")]);
    }
    println!("{} bad tokens", cases.len());
    // No token at all is no error of a token; one in the path is none.
    for (case, path) in [
        ("none", PREDICT.to_owned()),
        ("in the query", format!("{PREDICT}?access_token={good}")),
    ] {
        let mut wire = connect(to, &config);
        let headers = "Content-Type: application/json\r\n";
        wire.send(&request("POST", &path, headers, ICU_PATIENT.as_bytes()));
        let answer = wire.answer();
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (401, "TOKEN_REQUIRED")
        );
        let challenge = answer.header("www-authenticate");
        assert_eq!(challenge, Some("Bearer realm=\"vitalgate\""));
        book.expect(case, wire.source, &["401 TOKEN_REQUIRED"]);
    }
    // And the good one, in any spelling of its scheme.
    for scheme in ["Bearer", "bearer", "BEARER"] {
        let mut wire = connect(to, &config);
        let answer = predict(&mut wire, &format!("aUTHORIZATION: {scheme} {good}\r\n"));
        assert_eq!(answer.status, 200, "{scheme}");
        book.expect(scheme, wire.source, &["200"]);
    }
    book.close(&mut server);
    assert!(
        !server.audit_text().contains(signature),
        "a token is on the record"
    );
    assert!(!server.log().contains(signature), "a token is in the log");
}

fn base64_decoded(text: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    String::from_utf8(URL_SAFE_NO_PAD.decode(text).unwrap()).unwrap()
}
