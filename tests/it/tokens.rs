//! Bearer tokens: what holds is taken, what does not is refused: all alike outside, each for its
//! own reason on the record.

use std::{fs, net::SocketAddr, net::TcpStream, sync::Arc};

use rustls::ClientConfig;
use serde_json::{Value, json};

use crate::harness::{
    Answer, Book, ICU_PATIENT, Identity, Server, Site, TokenIssuer, Wire, client, client_of, now,
    request, take_tokens, thumbprint, wait_until,
};

mod bad;

const PREDICT: &str = "/v1/models/icu-mortality/predict";
const BOUND: &str = "vitalgate";

fn connect(to: SocketAddr, config: &Arc<ClientConfig>) -> Wire {
    Wire::over(TcpStream::connect(to).unwrap(), config).unwrap()
}

fn without_certificate(site: &Site) -> Arc<ClientConfig> {
    client_of(site, None, rustls::ALL_VERSIONS)
}

/// The configuration of a client, and the thumbprint of its certificate.
fn with_certificate(site: &Site, name: &str) -> (Arc<ClientConfig>, String) {
    let Identity { chain, key } = site.identity(name);
    let print = thumbprint(&chain[0]);
    let identity = Some(Identity { chain, key });
    (client_of(site, identity, rustls::ALL_VERSIONS), print)
}

fn bearer(token: &str) -> String {
    format!("Authorization: Bearer {token}\r\n")
}

/// Posts a patient with these further headers.
fn predict(wire: &mut Wire, headers: &str) -> Answer {
    let headers = format!("Content-Type: application/json\r\n{headers}");
    wire.send(&request("POST", PREDICT, &headers, ICU_PATIENT.as_bytes()));
    wire.answer()
}

/// An answer without what differs between any two: its id and its date.
fn without_id(answer: &Answer) -> String {
    let id = answer.header("x-request-id").unwrap();
    let date = answer.header("date").unwrap();
    let text = format!("{}{}", answer.head, String::from_utf8_lossy(&answer.body));
    text.replace(id, "ID").replace(date, "DATE")
}

fn site_with_tokens() -> (Site, TokenIssuer) {
    let (mut site, issuer) = (Site::new(), TokenIssuer::new());
    take_tokens(&mut site, &issuer);
    (site, issuer)
}

/// The last record of a connection.
fn record(server: &Server, wire: &Wire) -> Value {
    let source = wire.source.to_string();
    let of_it = |r: &Value| r["source"] == source.as_str();
    server.records().into_iter().rfind(of_it).unwrap()
}

#[test]
fn a_good_token_says_who_calls_whatever_it_is_signed_with() {
    let (mut site, issuer) = site_with_tokens();
    site.configure(
        "multi_factor_amr = [\"mfa\"]\n",
        "on_behalf_of_claim = \"fhirUser\"\nroles_claim = \"roles\"\n\
         roles = { wards = \"clinician\" }\nmodels = [\"icu-mortality\"]\n",
    );
    let server = Server::start(&site);
    let (config, to) = (without_certificate(&site), server.listener("jwt"));
    for (algorithm, kid) in [
        ("ES256", "p256"),
        ("ES384", "p384"),
        ("RS256", "rsa"),
        ("RS384", "rsa"),
        ("PS256", "rsa"),
    ] {
        let token = issuer.token(|header, _| {
            header["alg"] = algorithm.into();
            header["kid"] = kid.into();
            header["typ"] = "JWT".into();
        });
        let mut wire = connect(to, &config);
        // The second time it is known already.
        for _ in 0..2 {
            let answer = predict(&mut wire, &bearer(&token));
            assert_eq!(answer.status, 200, "{algorithm}: {}", answer.head);
            let record = record(&server, &wire);
            assert_eq!(record["principal"], "ward-app");
            assert_eq!(record["authentication"], "jwt");
        }
        println!("{algorithm}: {}", record(&server, &wire)["stages_us"]);
    }
    // One that nobody listed gets what its roles stand for.
    let roles = |roles: Value| {
        issuer.token(|_, claims| {
            claims["sub"] = "dr-who@hospital".into();
            claims["fhirUser"] = "Practitioner/42".into();
            claims["roles"] = roles;
        })
    };
    let mut wire = connect(to, &config);
    let answer = predict(&mut wire, &bearer(&roles(json!(["wards", "root"]))));
    assert_eq!(answer.status, 200);
    assert_eq!(record(&server, &wire)["principal"], "idp/dr-who@hospital");
    for stranger in [
        json!(["root"]),
        json!([]),
        json!("ward"),
        json!({"wards": 1}),
    ] {
        let answer = predict(&mut connect(to, &config), &bearer(&roles(stranger.clone())));
        assert_eq!(answer.status, 401, "{stranger}");
    }
}

#[test]
fn a_bound_token_is_good_with_its_certificate_only() {
    let (site, issuer) = site_with_tokens();
    let (mut server, mut book) = (Server::start(&site), Book::default());
    let to = server.listener("jwt");
    let (own, print) = with_certificate(&site, "anybody");
    let (other, _) = with_certificate(&site, "anybody");
    let token = issuer.token(|_, c| c["cnf"] = json!({"x5t#S256": print}));
    // A certificate alone is nobody here, and a known token is judged with the certificate too.
    for (case, config, status, record) in [
        ("its certificate", own.clone(), 200, "200"),
        (
            "another certificate",
            other,
            401,
            "401 TOKEN_CERTIFICATE_MISMATCH",
        ),
        (
            "no certificate",
            without_certificate(&site),
            401,
            "401 TOKEN_CERTIFICATE_MISSING",
        ),
        ("its certificate again", own.clone(), 200, "200"),
    ] {
        let mut wire = connect(to, &config);
        assert_eq!(predict(&mut wire, &bearer(&token)).status, status, "{case}");
        book.expect(case, wire.source, &[record]);
    }
    let mut wire = connect(to, &own);
    assert_eq!(predict(&mut wire, "").code(), "TOKEN_REQUIRED");
    book.expect(
        "certificate without token",
        wire.source,
        &["401 TOKEN_REQUIRED"],
    );
    book.close(&mut server);
}

#[test]
fn an_issuer_may_have_to_bind_its_tokens() {
    let (mut site, issuer) = site_with_tokens();
    site.configure(
        "require_certificate_binding = false",
        "require_certificate_binding = true",
    );
    let (mut server, mut book) = (Server::start(&site), Book::default());
    let to = server.listener("jwt");
    let (config, print) = with_certificate(&site, "anybody");
    let mut wire = connect(to, &config);
    let token = issuer.token(|_, _| {});
    assert_eq!(predict(&mut wire, &bearer(&token)).status, 401);
    book.expect("unbound", wire.source, &["401 TOKEN_UNBOUND"]);
    let mut wire = connect(to, &config);
    let token = issuer.token(|_, c| c["cnf"] = json!({"x5t#S256": print}));
    assert_eq!(predict(&mut wire, &bearer(&token)).status, 200);
    book.expect(BOUND, wire.source, &["200"]);
    book.close(&mut server);
}

#[test]
fn certificate_and_token_have_to_belong_together() {
    let (mut site, issuer) = site_with_tokens();
    site.configure(
        "name = \"ward-app\"\n",
        "name = \"ward-app\"\nsan = \"URI:spiffe://it/ward-app\"\n",
    );
    let (mut server, mut book) = (Server::start(&site), Book::default());
    let to = server.listener("mtls+jwt");
    let unbound = issuer.token(|_, _| {});
    let (ehr, print) = with_certificate(&site, "ehr");
    let bound = issuer.token(|_, c| c["cnf"] = json!({"x5t#S256": print}));
    let ward = client(&site, "ward-app");
    let stranger = client(&site, "stranger");
    for (case, config, headers, status, record) in [
        ("one's own token", &ward, bearer(&unbound), 200, "200"),
        (
            "another's token",
            &ehr,
            bearer(&unbound),
            401,
            "401 TOKEN_OF_ANOTHER",
        ),
        ("another's token, bound", &ehr, bearer(&bound), 200, "200"),
        (
            "bound to another certificate",
            &ward,
            bearer(&bound),
            401,
            "401 TOKEN_CERTIFICATE_MISMATCH",
        ),
        ("no token", &ehr, String::new(), 401, "401 TOKEN_REQUIRED"),
        (
            "an unknown certificate",
            &stranger,
            bearer(&unbound),
            403,
            "403 UNKNOWN_PRINCIPAL",
        ),
    ] {
        let mut wire = connect(to, config);
        assert_eq!(predict(&mut wire, &headers).status, status, "{case}");
        if status == 200 {
            let record = self::record(&server, &wire);
            assert_eq!(record["principal"], "ward-app", "{case}");
            assert_eq!(record["authentication"], "mtls+jwt", "{case}");
            // Who holds the certificate pays.
            let payer = (case == "another's token, bound").then_some("ehr");
            assert_eq!(record["payer"].as_str(), payer, "{case}");
        }
        book.expect(case, wire.source, &[record]);
    }
    // Without a certificate there is no connection.
    let mut wire = connect(to, &without_certificate(&site));
    let (rest, end) = wire.rest();
    assert!(
        rest.is_empty() && format!("{end:?}").contains("CertificateRequired"),
        "{end:?}"
    );
    book.expect(
        "no certificate",
        wire.source,
        &["null NO_CLIENT_CERTIFICATE"],
    );
    // And where certificates are taken, a token changes nothing.
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    assert_eq!(predict(&mut wire, &bearer("not.a.token")).status, 200);
    assert_eq!(record(&server, &wire)["authentication"], "mtls");
    book.expect(
        "a token where certificates are taken",
        wire.source,
        &["200"],
    );
    book.close(&mut server);
}

#[test]
fn a_single_use_token_is_good_once() {
    let (mut site, issuer) = site_with_tokens();
    site.configure(
        "require_certificate_binding = false",
        "require_certificate_binding = false\nsingle_use = true\njku = [\"https://ehr.it/jwks\"]",
    );
    let (mut server, mut book) = (Server::start(&site), Book::default());
    let (config, to) = (without_certificate(&site), server.listener("jwt"));
    let old = issuer.token(|_, c| c["iat"] = (now() - 60).into());
    let listed = issuer.token(|h, _| h["jku"] = "https://ehr.it/jwks".into());
    let unlisted = issuer.token(|h, _| h["jku"] = "https://ehr.it/jwks2".into());
    let nameless = issuer.token(|_, c| drop(c.as_object_mut().unwrap().remove("jti")));
    // Refused for something else, it is not used up.
    let scopeless = issuer.token(|_, c| {
        c["jti"] = "twice".into();
        c["scope"] = "openid".into();
    });
    let scoped = issuer.token(|_, c| c["jti"] = "twice".into());
    let again = issuer.token(|_, c| c["jti"] = "twice".into());
    for (case, token, record) in [
        ("first", &listed, "200"),
        ("the same again", &listed, "401 TOKEN_REPLAYED"),
        ("and again", &listed, "401 TOKEN_REPLAYED"),
        ("jku not listed", &unlisted, "401 TOKEN_KEY_ADDRESS"),
        ("without jti", &nameless, "401 TOKEN_CLAIM_MISSING"),
        ("from before the start", &old, "401 TOKEN_OLDER_THAN_SERVER"),
        ("without scope", &scopeless, "401 TOKEN_SCOPE"),
        ("its jti, with scope", &scoped, "200"),
        ("its jti, in another token", &again, "401 TOKEN_REPLAYED"),
    ] {
        let mut wire = connect(to, &config);
        let answer = predict(&mut wire, &bearer(token));
        assert_eq!(answer.status.to_string(), record[..3], "{case}");
        book.expect(case, wire.source, &[record]);
    }
    // A changed configuration does not make the server forget.
    let config_file = site.path().join("vitalgate.toml");
    let text = fs::read_to_string(&config_file).unwrap();
    fs::write(&config_file, format!("{text}\n# changed\n")).unwrap();
    wait_until("the reload", || {
        let log = server.log();
        log.lines()
            .any(|l| l.contains("reloaded") && l.contains("principals and issuers"))
    });
    let mut wire = connect(to, &config);
    assert_eq!(predict(&mut wire, &bearer(&listed)).status, 401);
    book.expect("after a reload", wire.source, &["401 TOKEN_REPLAYED"]);
    book.close(&mut server);
}

/// Writes the configuration, and waits until the server has taken it.
fn reconfigure(server: &Server, site: &Site, text: &str) {
    let reloads = || {
        let log = server.log();
        log.lines()
            .filter(|l| l.contains("\"reloaded\"") && l.contains("principals and issuers"))
            .count()
    };
    let before = reloads();
    fs::write(site.path().join("vitalgate.toml"), text).unwrap();
    wait_until("the reload", || reloads() > before);
}

#[test]
fn a_single_use_token_is_not_good_again_after_a_restart_or_while_its_issuer_was_away() {
    let (mut site, issuer) = site_with_tokens();
    site.configure(
        "require_certificate_binding = false",
        "require_certificate_binding = false\nsingle_use = true",
    );
    let (mut server, mut book) = (Server::start(&site), Book::default());
    let config = without_certificate(&site);
    let at = |ahead: i64| issuer.token(|_, c| c["iat"] = (now() + ahead).into());
    let mut call = |server: &Server, case: &str, token: &str, record: &str| {
        let mut wire = connect(server.listener("jwt"), &config);
        let answer = predict(&mut wire, &bearer(token));
        assert_eq!(answer.status.to_string(), record[..3], "{case}");
        book.expect(case, wire.source, &[record]);
    };
    let (first, ahead) = (at(0), at(1));
    call(&server, "first", &first, "200");
    call(&server, "a clock that is ahead", &ahead, "200");
    // Within the leeway; used now, it would look new to the next start.
    let future = at(25);
    let refused = "401 TOKEN_FROM_THE_FUTURE";
    call(&server, "a clock that is far ahead", &future, refused);
    // Its issuer goes, and comes back.
    let with = site.config.clone();
    let without = with.replace("https://idp.it.example", "https://other.it.example");
    reconfigure(&server, &site, &without);
    call(&server, "while it is away", &first, "401 TOKEN_ISSUER");
    reconfigure(&server, &site, &with);
    call(&server, "back again", &first, "401 TOKEN_REPLAYED");
    call(&server, "and the other", &ahead, "401 TOKEN_REPLAYED");
    let last = at(0);
    call(&server, "a new one", &last, "200");
    server.stop();
    let mut server = Server::start(&site);
    for token in [&first, &ahead, &last] {
        let refused = "401 TOKEN_OLDER_THAN_SERVER";
        call(&server, "after the restart", token, refused);
    }
    call(&server, "and a new one", &at(0), "200");
    book.close(&mut server);
}

#[test]
fn only_some_may_say_for_whom_they_call() {
    let (mut site, issuer) = site_with_tokens();
    site.configure(
        "subject = \"ward-app\"\n",
        "subject = \"ward-app\"\nnames_clinician = true\n",
    );
    site.configure(
        "multi_factor_amr",
        "on_behalf_of_claim = \"fhirUser\"\nmulti_factor_amr",
    );
    let (mut server, mut book) = (Server::start(&site), Book::default());
    let to = server.listener("jwt");
    let token = issuer.token(|_, _| {});
    let named = issuer.token(|_, c| c["fhirUser"] = "Practitioner/42".into());
    let spaced = issuer.token(|_, c| c["fhirUser"] = "Dr Who, ward 7".into());
    let of = |name: &str| format!("X-On-Behalf-Of: {name}\r\n");
    for (case, token, header, record) in [
        ("by header", &token, of("Practitioner/7"), "200"),
        ("by token", &named, String::new(), "200"),
        ("by both alike", &named, of("Practitioner/42"), "200"),
        (
            "by both, differing",
            &named,
            of("Practitioner/7"),
            "400 ON_BEHALF_OF_INVALID",
        ),
        (
            "with a space",
            &token,
            of("Dr Who"),
            "400 ON_BEHALF_OF_INVALID",
        ),
        (
            "too long",
            &token,
            of(&"x".repeat(129)),
            "400 ON_BEHALF_OF_INVALID",
        ),
        ("empty", &token, of(""), "400 ON_BEHALF_OF_INVALID"),
        (
            "twice",
            &token,
            of("a") + &of("b"),
            "400 ON_BEHALF_OF_INVALID",
        ),
        (
            "a name with spaces in the token",
            &spaced,
            String::new(),
            "401 TOKEN_CLAIM_INVALID",
        ),
    ] {
        let mut wire = connect(to, &without_certificate(&site));
        let answer = predict(&mut wire, &(bearer(token) + &header));
        assert_eq!(answer.status.to_string(), record[..3], "{case}");
        if answer.status == 200 {
            let named = if case == "by header" {
                "Practitioner/7"
            } else {
                "Practitioner/42"
            };
            let record = self::record(&server, &wire);
            assert_eq!(record["on_behalf_of"], named, "{case}");
        }
        book.expect(case, wire.source, &[record]);
    }
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    let answer = predict(&mut wire, &of("Practitioner/7"));
    assert_eq!(answer.code(), "ON_BEHALF_OF_NOT_PERMITTED");
    book.expect(
        "not permitted",
        wire.source,
        &["403 ON_BEHALF_OF_NOT_PERMITTED"],
    );
    book.close(&mut server);
}
