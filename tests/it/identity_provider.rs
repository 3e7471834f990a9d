//! With a real `OpenID` provider: its certificate-bound tokens, its keys that come and go, and what
//! becomes of its callers when it cannot be reached.

use std::{net::TcpStream, sync::Arc};

use rustls::ClientConfig;

use crate::harness::{
    AUDIENCE, Answer, Book, ICU_PATIENT, Identity, IdentityProvider, Server, Site, TokenIssuer,
    Wire, client, client_of, request, take_tokens, wait_until,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";

/// A site that believes the provider, whose key set it fetches so often.
fn site_of(provider: &IdentityProvider, site: &mut Site, timing: &str) {
    let issuer = provider.issuer();
    take_tokens(site, &TokenIssuer::new());
    let at = site.config.find("[[issuers]]").unwrap();
    site.config.truncate(at);
    let issuer = format!(
        "[[issuers]]\nname = \"idp\"\nissuer = \"{issuer}\"\naudience = [\"{AUDIENCE}\"]\n\
         jwks = \"{issuer}/jwks\"\njwks_ca = \"ca.pem\"\nscopes = [\"vitalgate\"]\n\
         require_certificate_binding = true\nmax_lifetime_seconds = 300\n{timing}\n\n"
    );
    site.config.push_str(&issuer);
}

fn predict(server: &Server, config: &Arc<ClientConfig>, token: &str) -> (Wire, Answer) {
    let to = server.listener("jwt");
    let mut wire = Wire::over(TcpStream::connect(to).unwrap(), config).unwrap();
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n");
    wire.send(&request("POST", PREDICT, &headers, ICU_PATIENT.as_bytes()));
    let answer = wire.answer();
    (wire, answer)
}

#[test]
fn its_certificate_bound_tokens_are_taken_and_its_keys_followed() {
    let mut site = Site::new();
    let Some(mut provider) = IdentityProvider::start(&site) else {
        return;
    };
    site_of(&provider, &mut site, "refresh_seconds = 3600");
    let (mut server, mut book) = (Server::start(&site), Book::default());
    // Clones of a configuration have one certificate.
    let Identity { chain, key } = site.identity("ward-app");
    let own = client_of(&site, Some(Identity { chain, key }), rustls::ALL_VERSIONS);
    let none = client_of(&site, None, rustls::ALL_VERSIONS);
    let mut expect = |case: &str, config: &Arc<ClientConfig>, token: &str, record: &str| {
        let (wire, answer) = predict(&server, config, token);
        let said = String::from_utf8_lossy(&answer.body);
        assert_eq!(answer.status.to_string(), record[..3], "{case}: {said}");
        println!("{case}: {record}");
        book.expect(case, wire.source, &[record]);
    };
    let token = provider.token(&own, "vitalgate").unwrap();
    expect("with its certificate", &own, &token, "200");
    expect("again, known by now", &own, &token, "200");
    expect(
        "stolen",
        &client(&site, "ward-app"),
        &token,
        "401 TOKEN_CERTIFICATE_MISMATCH",
    );
    expect(
        "stolen, no certificate",
        &none,
        &token,
        "401 TOKEN_CERTIFICATE_MISSING",
    );
    let other = provider.token(&own, "other").unwrap();
    expect("for something else", &own, &other, "401 TOKEN_SCOPE");
    // The provider binds this client's tokens, or gives none.
    let refused = provider.token(&none, "vitalgate").unwrap_err();
    assert_eq!(refused["error"], "invalid_grant", "{refused}");

    // It signs with a new key: fetched at once, by the first request that needs it.
    assert_eq!(provider.tell("count"), 1);
    provider.tell("rotate");
    let new = provider.token(&own, "vitalgate").unwrap();
    expect("a new key", &own, &new, "200");
    assert_eq!(provider.tell("count"), 2);
    expect("the old key, still published", &own, &token, "200");

    // Names of keys that nobody has make no storm.
    let forger = TokenIssuer::new();
    for i in 0..50 {
        let token = forger.token(|header, claims| {
            header["kid"] = format!("made-up-{i}").into();
            claims["iss"] = provider.issuer().into();
        });
        expect(
            &format!("made up {i}"),
            &own,
            &token,
            "401 TOKEN_KEY_UNKNOWN",
        );
    }
    let fetched = provider.tell("count");
    assert!(fetched <= 3, "50 made-up keys made {fetched} fetches");

    // It goes away: the keys that are known are good for a while.
    provider.tell("down");
    expect("while it is away", &own, &new, "200");
    provider.tell("up");
    book.close(&mut server);
}

#[test]
fn a_withdrawn_key_is_refused_and_a_provider_that_stays_away_is_not_believed_for_ever() {
    let mut site = Site::new();
    let Some(mut provider) = IdentityProvider::start(&site) else {
        return;
    };
    site_of(
        &provider,
        &mut site,
        "refresh_seconds = 1\nkeep_keys_seconds = 4",
    );
    let server = Server::start(&site);
    let own = client(&site, "ward-app");
    let status = |token: &str| predict(&server, &own, token).1.status;
    let old = provider.token(&own, "vitalgate").unwrap();
    assert_eq!(status(&old), 200);
    provider.tell("rotate");
    provider.tell("withdraw");
    let new = provider.token(&own, "vitalgate").unwrap();
    wait_until("the withdrawal to be noticed", || status(&old) == 401);
    wait_until("the new key to be known", || status(&new) == 200);
    provider.tell("down");
    wait_until("the keys to be too old", || status(&new) == 503);
    let (_, answer) = predict(&server, &own, &new);
    assert_eq!(answer.code(), "KEYS_UNAVAILABLE");
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert!(server.log().contains("KEY SET NOT FETCHED"));
    provider.tell("up");
    // Back-off may take a moment.
    wait_until("its return", || status(&new) == 200);
}

#[test]
fn a_provider_with_a_certificate_of_somebody_else_is_not_asked() {
    let mut site = Site::new();
    let Some(mut provider) = IdentityProvider::start(&site) else {
        return;
    };
    site_of(&provider, &mut site, "refresh_seconds = 3600");
    site.configure("jwks_ca = \"ca.pem\"", "jwks_ca = \"other.pem\"");
    let other = Site::without_models();
    std::fs::copy(other.path().join("ca.pem"), site.path().join("other.pem")).unwrap();
    let server = Server::start(&site);
    let own = client(&site, "ward-app");
    let token = provider.token(&own, "vitalgate").unwrap();
    let (_, answer) = predict(&server, &own, &token);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (503, "KEYS_UNAVAILABLE")
    );
    assert_eq!(provider.tell("count"), 0);
    let log = server.log();
    let error = log.lines().find(|l| l.contains("KEY SET NOT FETCHED"));
    assert!(
        error.unwrap().contains("invalid peer certificate"),
        "{error:?}"
    );
}
