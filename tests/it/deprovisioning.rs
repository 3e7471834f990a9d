//! Whoever is taken out is refused from the next request on, open and resumed connections
//! included; what is put in works without a restart; what is broken changes nothing.

use std::{fs, net::TcpStream, sync::Arc};

use rustls::{ClientConfig, version};
use serde_json::json;
use vitalgate::authz::SHIPPED_DEFAULT;

use crate::harness::{
    Answer, Book, ICU_PATIENT, Identity, Server, Site, TokenIssuer, Validity, Wire, client,
    client_of, now, post, request, run_to_end, take_tokens, wait_until,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";

fn predict(wire: &mut Wire) -> Answer {
    post(wire, PREDICT, ICU_PATIENT.as_bytes())
}

fn predict_with(wire: &mut Wire, token: &str) -> Answer {
    let headers = format!("Content-Type: application/json\r\nAuthorization: Bearer {token}\r\n");
    wire.send(&request("POST", PREDICT, &headers, ICU_PATIENT.as_bytes()));
    wire.answer()
}

/// How often the server has said that it did, or could not, reload this.
fn said(server: &Server, message: &str, what: &str) -> usize {
    let log = server.log();
    let of_it = |l: &&str| l.contains(message) && l.contains(what);
    log.lines().filter(of_it).count()
}

/// Changes files, and waits until the server has taken them.
fn taken(server: &Server, what: &str, change: impl FnOnce()) {
    let before = said(server, "\"reloaded\"", what);
    change();
    wait_until("the reload", || said(server, "\"reloaded\"", what) > before);
}

/// Changes files, and waits until the server has complained.
fn complained(server: &Server, what: &str, change: impl FnOnce()) -> String {
    let before = said(server, "NOT RELOADED", what);
    change();
    wait_until("a complaint", || {
        said(server, "NOT RELOADED", what) > before
    });
    let log = server.log();
    let of_it = |l: &&str| l.contains("NOT RELOADED") && l.contains(what);
    log.lines().rfind(of_it).unwrap().to_owned()
}

fn edit(site: &Site, file: &str, from: &str, to: &str) {
    let path = site.path().join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{from}");
    fs::write(path, text.replace(from, to)).unwrap();
}

fn with_crl() -> Site {
    let mut site = Site::new();
    site.configure(
        "client_ca = \"ca.pem\"\n",
        "client_ca = \"ca.pem\"\ncrl = \"ca.crl\"\n",
    );
    site.revoke(&[], 3600);
    site
}

#[test]
fn a_revoked_certificate_is_refused_on_open_and_new_connections() {
    let (site, mut book) = (with_crl(), Book::default());
    let mut server = Server::start(&site);
    let mut revoked = Vec::new();
    let versions = [(&version::TLS13, "TLS 1.3"), (&version::TLS12, "TLS 1.2")];
    let mut open = versions.map(|(version, name)| {
        let Identity { chain, key } = site.issue(&["clinician"], Validity::CURRENT);
        revoked.push(chain[0].clone());
        let identity = Some(Identity { chain, key });
        let config = client_of(&site, identity, &[version]);
        let mut wire = Wire::open(&server, &config);
        assert_eq!(predict(&mut wire).status, 200);
        // One whose session was resumed before the revocation, and stays open.
        let mut resumed = Wire::open(&server, &config);
        assert!(resumed.is_resumed());
        assert_eq!(predict(&mut resumed).status, 200);
        (name, config, wire, resumed)
    });
    let mut bystander = Wire::open(&server, &client(&site, "clinician"));
    assert_eq!(predict(&mut bystander).status, 200);

    taken(&server, "certificates of", || {
        site.revoke(&revoked.iter().collect::<Vec<_>>(), 3600);
    });
    let refused = ["200", "403 CERTIFICATE_REVOKED"];
    for (name, config, wire, resumed) in &mut open {
        for (case, wire) in [("open", wire), ("open and resumed", resumed)] {
            let answer = predict(wire);
            assert_eq!(answer.status, 403, "{name}, {case}");
            assert_eq!(answer.code(), "CERTIFICATE_REVOKED");
            book.expect(&format!("{name}, {case}"), wire.source, &refused);
        }
        // What it remembers of an earlier session does not help it in.
        let tcp = TcpStream::connect(server.data).unwrap();
        let source = tcp.local_addr().unwrap();
        let error = match Wire::over(tcp, config) {
            Err(error) => error.to_string(),
            Ok(mut wire) => format!("{:?}", wire.rest()),
        };
        assert!(error.contains("CertificateRevoked"), "{name}: {error}");
        book.expect(
            &format!("{name}, new"),
            source,
            &["null CERTIFICATE_REVOKED"],
        );
    }
    assert_eq!(predict(&mut bystander).status, 200);

    // A list that has run out vouches for nobody, until there is a new one.
    taken(&server, "certificates of", || site.revoke(&[], -60));
    let answer = predict(&mut bystander);
    assert_eq!(answer.code(), "REVOCATION_UNKNOWN");
    let records = ["200", "200", "403 REVOCATION_UNKNOWN"];
    book.expect("bystander", bystander.source, &records);
    taken(&server, "certificates of", || site.revoke(&[], 3600));
    let mut back = Wire::open(&server, &client(&site, "clinician"));
    assert_eq!(predict(&mut back).status, 200);
    book.expect("back", back.source, &["200"]);
    book.close(&mut server);
}

#[test]
fn an_authority_that_is_no_longer_trusted_vouches_for_nobody() {
    let (site, other) = (Site::new(), Site::new());
    let mut server = Server::start(&site);
    let mut wire = Wire::open(&server, &client(&site, "clinician"));
    assert_eq!(predict(&mut wire).status, 200);
    let both = |a: &Site, b: &Site| {
        let pem = |s: &Site| fs::read_to_string(s.path().join("root.pem")).unwrap();
        pem(a) + &pem(b)
    };
    for site in [&site, &other] {
        fs::copy(site.path().join("ca.pem"), site.path().join("root.pem")).unwrap();
    }
    // Both are trusted for a while, as one is replaced by the other.
    taken(&server, "certificates of", || {
        fs::write(site.path().join("ca.pem"), both(&site, &other)).unwrap();
    });
    assert_eq!(predict(&mut wire).status, 200);
    let stranger = Some(other.identity("clinician"));
    let config = client_of(&site, stranger, rustls::ALL_VERSIONS);
    assert_eq!(predict(&mut Wire::open(&server, &config)).status, 200);
    taken(&server, "certificates of", || {
        fs::copy(other.path().join("root.pem"), site.path().join("ca.pem")).unwrap();
    });
    let answer = predict(&mut wire);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "UNTRUSTED_CERTIFICATE")
    );
    server.stop();
}

#[test]
fn a_principal_taken_out_is_refused_on_open_and_resumed_connections() {
    let (site, mut book) = (Site::new(), Book::default());
    let mut server = Server::start(&site);
    let config = client(&site, "clinician");
    let mut wire = Wire::open(&server, &config);
    assert_eq!(predict(&mut wire).status, 200);
    taken(&server, "principals and issuers", || {
        edit(
            &site,
            "vitalgate.toml",
            "spiffe://it/clinician",
            "spiffe://it/locum",
        );
    });
    let answer = predict(&mut wire);
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "UNKNOWN_PRINCIPAL")
    );
    book.expect("open", wire.source, &["200", "403 UNKNOWN_PRINCIPAL"]);
    let mut resumed = Wire::open(&server, &config);
    assert!(resumed.is_resumed(), "not resumed, so nothing is tried");
    assert_eq!(predict(&mut resumed).code(), "UNKNOWN_PRINCIPAL");
    book.expect("resumed", resumed.source, &["403 UNKNOWN_PRINCIPAL"]);
    let mut locum = Wire::open(&server, &client(&site, "locum"));
    assert_eq!(predict(&mut locum).status, 200);
    // Less than everything can be taken away too.
    taken(&server, "principals and issuers", || {
        edit(
            &site,
            "vitalgate.toml",
            "roles = [\"clinician\"]",
            "roles = [\"ops\"]",
        );
    });
    assert_eq!(predict(&mut locum).code(), "FORBIDDEN");
    book.expect("locum", locum.source, &["200", "403 FORBIDDEN"]);
    book.close(&mut server);
}

#[test]
fn a_token_goes_with_its_key_and_its_subject() {
    let (mut site, issuer) = (Site::new(), TokenIssuer::new());
    take_tokens(&mut site, &issuer);
    let (mut server, mut book) = (Server::start(&site), Book::default());
    let nobody: Arc<ClientConfig> = client_of(&site, None, rustls::ALL_VERSIONS);
    let to = server.listener("jwt");
    let open = || Wire::over(TcpStream::connect(to).unwrap(), &nobody).unwrap();
    let keys = |text: String| fs::write(site.path().join("idp.jwks"), text).unwrap();
    let token = issuer.token(|_, _| {});
    let mut wire = open();
    assert_eq!(predict_with(&mut wire, &token).status, 200);
    taken(&server, "key set files", || keys(issuer.jwks(&["rsa"])));
    assert_eq!(predict_with(&mut wire, &token).status, 401);
    book.expect("key gone", wire.source, &["200", "401 TOKEN_KEY_UNKNOWN"]);
    // Another key of the same name is another key.
    let other = TokenIssuer::new();
    taken(&server, "key set files", || {
        keys(other.jwks(&["p256", "rsa"]));
    });
    let mut wire = open();
    assert_eq!(predict_with(&mut wire, &token).status, 401);
    book.expect("key replaced", wire.source, &["401 TOKEN_SIGNATURE"]);
    taken(&server, "key set files", || keys(issuer.jwks(&["p256"])));
    let mut wire = open();
    assert_eq!(predict_with(&mut wire, &token).status, 200);
    // What is no good key set changes nothing.
    let private = json!({"keys": [{"kty": "RSA", "kid": "x", "n": "AQ", "e": "AQAB", "d": "AQ"}]});
    for (bad, why) in [
        ("{", "not a JSON Web Key Set"),
        ("{\"keys\": []}", "holds no key"),
        (&private.to_string(), "private key"),
    ] {
        let error = complained(&server, "key set files", || keys(bad.to_owned()));
        assert!(error.contains(why) && error.contains("ERROR"), "{error}");
        assert_eq!(predict_with(&mut wire, &token).status, 200);
    }
    taken(&server, "key set files", || keys(issuer.jwks(&["p256"])));
    taken(&server, "principals and issuers", || {
        edit(
            &site,
            "vitalgate.toml",
            "subject = \"ward-app\"",
            "subject = \"retired\"",
        );
    });
    assert_eq!(predict_with(&mut wire, &token).status, 401);
    let records = ["200", "200", "200", "200", "401 TOKEN_SUBJECT"];
    book.expect("subject gone", wire.source, &records);
    book.close(&mut server);
}

#[test]
fn a_new_server_certificate_is_shown_and_a_broken_one_is_not() {
    let site = Site::new();
    let mut server = Server::start(&site);
    let config = client(&site, "clinician");
    let shown = || Wire::open(&server, &config).server_certificate();
    let first = shown();
    taken(&server, "certificates of", || site.renew_server());
    let second = shown();
    assert_ne!(first, second);
    // A certificate whose key is missing, a key that others can read, and no certificate at all.
    let file = |name: &str| site.path().join(name);
    let good = fs::read_to_string(file("server.pem")).unwrap();
    let foreign = fs::read_to_string(Site::new().path().join("server.pem")).unwrap();
    for (bad, why) in [
        (foreign.as_str(), "server certificate and key"),
        ("x", "server.pem"),
    ] {
        let error = complained(&server, "certificates of", || {
            fs::write(file("server.pem"), bad).unwrap();
        });
        assert!(error.contains(why) && error.contains("ERROR"), "{error}");
        assert_eq!(shown(), second, "{why}");
    }
    taken(&server, "certificates of", || {
        fs::write(file("server.pem"), &good).unwrap();
    });
    // And nothing that is not good is taken from the configuration.
    let error = complained(&server, "principals and issuers", || {
        edit(
            &site,
            "vitalgate.toml",
            "roles = [\"clinician\"]",
            "roles = [\"root\"]",
        );
    });
    assert!(error.contains("line ") && error.contains("root"), "{error}");
    let mut wire = Wire::open(&server, &config);
    assert_eq!(predict(&mut wire).status, 200);
    // SIGHUP: all of it, at once.
    let before = said(&server, "NOT RELOADED", "principals and issuers");
    server.signal(rustix::process::Signal::HUP);
    wait_until("the signal to be heard", || {
        said(&server, "NOT RELOADED", "principals and issuers") > before
    });
    assert_eq!(predict(&mut wire).status, 200);
    server.stop();
}

#[test]
fn a_step_up_wants_more_than_one_factor_not_long_ago() {
    let (mut site, issuer) = (Site::new(), TokenIssuer::new());
    take_tokens(&mut site, &issuer);
    let at = site.config.find("[audit]").unwrap();
    let section = "[authorization]\npolicy = \"access.cedar\"\n\n";
    site.config.insert_str(at, section);
    let policy = site.path().join("access.cedar");
    fs::write(&policy, SHIPPED_DEFAULT).unwrap();
    let (mut server, mut book) = (Server::start(&site), Book::default());
    let nobody = client_of(&site, None, rustls::ALL_VERSIONS);
    let to = server.listener("jwt");
    let open = || Wire::over(TcpStream::connect(to).unwrap(), &nobody).unwrap();
    let token = |amr: &[&str], age: Option<i64>| {
        issuer.token(|_, claims| {
            claims["amr"] = json!(amr);
            if let Some(age) = age {
                claims["auth_time"] = (now() - age).into();
            }
        })
    };
    let stale = token(&["pwd", "mfa"], Some(901));
    let mut wire = open();
    assert_eq!(predict_with(&mut wire, &stale).status, 200);
    // The policy changes while the server runs, and what was decided before is forgotten.
    taken(&server, "access policy", || {
        let text =
            SHIPPED_DEFAULT.replace("[Action::\"override-review\",", "[Action::\"predict\",");
        assert_ne!(text, SHIPPED_DEFAULT);
        fs::write(&policy, text).unwrap();
    });
    assert_eq!(predict_with(&mut wire, &stale).code(), "STEP_UP_REQUIRED");
    book.expect("stale", wire.source, &["200", "401 STEP_UP_REQUIRED"]);
    for (case, token, record) in [
        ("fresh", token(&["pwd", "mfa"], Some(60)), "200"),
        (
            "one factor",
            token(&["pwd"], Some(60)),
            "401 STEP_UP_REQUIRED",
        ),
        (
            "nobody knows when",
            token(&["mfa"], None),
            "401 STEP_UP_REQUIRED",
        ),
        (
            "another word for it",
            token(&["MFA"], Some(60)),
            "401 STEP_UP_REQUIRED",
        ),
    ] {
        let mut wire = open();
        let answer = predict_with(&mut wire, &token);
        assert_eq!(answer.status.to_string(), record[..3], "{case}");
        book.expect(case, wire.source, &[record]);
    }
    let error = complained(&server, "access policy", || {
        fs::write(&policy, "permit (").unwrap();
    });
    assert!(error.contains("access.cedar"), "{error}");
    book.close(&mut server);
}

#[test]
fn check_names_the_listener_or_issuer_whose_files_are_no_good() {
    let (mut site, issuer) = (Site::new(), TokenIssuer::new());
    take_tokens(&mut site, &issuer);
    site.configure(
        "authentication = [\"mtls\", \"jwt\"]",
        "authentication = [\"mtls\", \"jwt\"]\ncrl = \"none.crl\"",
    );
    let config = site.config_file();
    fs::write(site.path().join("idp.jwks"), "{}").unwrap();
    let output = run_to_end(&["check", "--config", config.to_str().unwrap(), "--json"]);
    assert_eq!(output.status.code(), Some(1));
    let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let line_of = |needle: &str, nth: usize| {
        let lines = site.config.lines().enumerate();
        let mut found = lines.filter(|(_, l)| *l == needle).map(|(i, _)| i + 1);
        found.nth(nth).unwrap()
    };
    for (line, words) in [
        (line_of("[[data]]", 2), "none.crl"),
        (
            line_of("[[issuers]]", 0),
            "idp.jwks: not a JSON Web Key Set",
        ),
    ] {
        let problems = said["problems"].as_array().unwrap();
        let told = problems
            .iter()
            .any(|p| p["line"] == line && p["message"].as_str().unwrap().contains(words));
        assert!(told, "line {line}: {words} not in {said}");
    }
}
