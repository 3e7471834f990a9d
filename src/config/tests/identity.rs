//! Listeners, principals and issuers.

use super::*;
use crate::tls::ClientCertificates;

/// The sample with another text for its first `[[data]]`.
fn with_listener(section: &str) -> String {
    let start = SAMPLE.find("[[data]]").unwrap();
    let end = SAMPLE.find("# Plaintext /livez").unwrap();
    format!("{}{section}\n{}", &SAMPLE[..start], &SAMPLE[end..])
}

const FILES: &str = "listen = \"127.0.0.1:1\"\ncertificate = \"a\"\nkey = \"b\"\n";

#[test]
fn one_listener_may_be_a_table_and_takes_certificates() {
    let text = with_listener(&format!("[data]\n{FILES}client_ca = \"ca\"\n"));
    let data = parse(&text).unwrap().data;
    assert_eq!(data.len(), 1);
    assert_eq!(data[0].authentication, Methods::Mtls);
    assert_eq!(data[0].line, line_of(&text, "[data]"));
    let ca = data[0].files.client_ca.as_deref();
    assert_eq!(ca, Some(Path::new("/etc/vitalgate/ca")));
}

#[test]
fn a_listener_names_what_it_takes() {
    for (methods, client_ca, expected, certificates) in [
        (
            "[\"mtls\"]",
            true,
            Methods::Mtls,
            ClientCertificates::Required,
        ),
        (
            "[\"jwt\"]",
            true,
            Methods::Jwt,
            ClientCertificates::Optional,
        ),
        (
            "[\"jwt\"]",
            false,
            Methods::Jwt,
            ClientCertificates::Optional,
        ),
        (
            "[\"jwt\", \"mtls\"]",
            true,
            Methods::MtlsAndJwt,
            ClientCertificates::Required,
        ),
    ] {
        let ca = if client_ca {
            "client_ca = \"ca\"\n"
        } else {
            ""
        };
        let text = with_listener(&format!(
            "[[data]]\n{FILES}{ca}authentication = {methods}\n"
        ));
        let data = parse(&text).unwrap().data;
        assert_eq!(data[0].authentication, expected);
        assert_eq!(expected.client_certificates(), certificates);
    }
    for (section, message) in [
        (
            format!("[data]\n{FILES}client_ca = \"ca\"\nauthentication = []\n"),
            "data: authentication: name mtls, jwt or both",
        ),
        (
            format!("[data]\n{FILES}authentication = [\"none\"]\n"),
            "data: unknown variant `none`",
        ),
        (
            format!("[data]\n{FILES}"),
            "data: client_ca is missing (authentication by mtls needs it)",
        ),
        (
            format!("[data]\n{FILES}authentication = [\"mtls\", \"jwt\"]\n"),
            "data: client_ca is missing",
        ),
        (
            format!("[data]\n{FILES}authentication = [\"jwt\"]\ncrl = \"c\"\n"),
            "data: crl goes with client_ca",
        ),
        (
            format!("[[data]]\n{FILES}client_ca = \"ca\"\n[[data]]\n{FILES}client_ca = \"ca\"\n"),
            "data: another listener has 127.0.0.1:1",
        ),
        ("data = []".to_owned(), "data: there is no listener"),
    ] {
        // A key of the file itself must stand before its first section.
        let text = match section.strip_prefix("data = []") {
            Some(_) => format!("{section}\n{}", with_listener("")),
            None => with_listener(&section),
        };
        let found = parse(&text).expect_err(message);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].message.starts_with(message), "{found:?}");
        assert!(found[0].line > 0, "{found:?}");
    }
}

#[test]
fn tokens_need_somebody_who_issues_them() {
    let end = SAMPLE.find("# Whose bearer tokens").unwrap();
    let ward = SAMPLE.find("[[principals]]\nname = \"ward-app\"").unwrap();
    let text = format!("{}\n", &SAMPLE[..ward.min(end)]);
    let found = parse(&text).unwrap_err();
    assert_eq!(found.len(), 1);
    assert!(found[0].message.contains("needs an issuer"), "{found:?}");
    // And with an issuer nobody need be listed: its roles say who may call.
    let principals = SAMPLE.find("# Who may call, once").unwrap();
    let text = format!("{}{}", &SAMPLE[..principals], &SAMPLE[end..]);
    assert!(parse(&text).unwrap().principals.is_empty());
}

#[test]
fn a_caller_is_known_by_certificate_or_token_and_means_one_principal() {
    let config = parse(SAMPLE).unwrap();
    let app = &config.principals[2];
    let token = (
        "hospital".to_owned(),
        "ward-app@hospital.example".to_owned(),
    );
    assert_eq!((app.san.clone(), app.token.clone()), (None, Some(token)));
    assert!(config.principals[0].names_clinician && !app.names_clinician);
    let subject = "subject = \"ward-app@hospital.example\"";
    for (from, to, message) in [
        (
            "issuer = \"hospital\"",
            "issuer = \"elsewhere\"",
            "principal ward-app: there is no issuer named elsewhere",
        ),
        (
            subject,
            "subject = \"\"",
            "principal ward-app: subject is empty",
        ),
    ] {
        assert_eq!(problem(from, to), message);
    }
    let second = "[[principals]]\nname = \"second\"\nissuer = \"hospital\"\n\
                  subject = \"ward-app@hospital.example\"\nroles = []\nmodels = []\n";
    let text = SAMPLE.replace("# Whose bearer tokens", &format!("{second}# Whose"));
    let found = parse(&text).unwrap_err();
    assert_eq!(found[0].message, "subject is principal ward-app's already");
    // Callers whose roles come from a token are named like this.
    let found = problems("name = \"ward-app\"", "name = \"hospital/somebody\"");
    assert!(found[0].1.contains("names that begin with hospital/"));
}

#[test]
fn an_issuer_is_read_with_its_defaults() {
    let issuer = &parse(SAMPLE).unwrap().issuers[0];
    let KeyLocation::Https { url, ca, .. } = &issuer.keys else {
        panic!("{issuer:?}");
    };
    assert_eq!(url, "https://idp.hospital.example/jwks");
    assert_eq!(ca, Path::new("/etc/vitalgate/idp-ca.pem"));
    assert_eq!(issuer.roles.as_ref().unwrap().roles.len(), 2);
    // The sample shows the defaults of what has one.
    let mut bare = SAMPLE.to_owned();
    for field in [
        "refresh_seconds",
        "keep_keys_seconds",
        "max_lifetime_seconds",
        "leeway_seconds",
        "single_use",
        "jku",
        "subject_claim",
    ] {
        let line = bare
            .lines()
            .find(|l| l.starts_with(field))
            .unwrap()
            .to_owned();
        bare = bare.replace(&format!("{line}\n"), "");
    }
    let bare = &parse(&bare).unwrap().issuers[0];
    let (line, ours) = (issuer.line, bare.clone());
    assert_eq!(*issuer, IssuerConfig { line, ..ours });
}

#[test]
fn an_issuer_is_refused_where_it_is_wrong() {
    for (from, to, message) in [
        (
            "name = \"hospital\"",
            "name = \"Hospital A\"",
            "issuers: name",
        ),
        (
            "issuer = \"https://idp.hospital.example\"",
            "issuer = \"\"",
            "issuers: issuer is empty",
        ),
        (
            "audience = [\"https://vitalgate.hospital.example\"]",
            "audience = []",
            "issuers: audience: name at least one",
        ),
        (
            "jwks = \"https://idp.hospital.example/jwks\"",
            "jwks = \"http://idp.hospital.example/jwks\"",
            "issuers: jwks should be a file or an https:// address",
        ),
        (
            "max_lifetime_seconds = 5400",
            "max_lifetime_seconds = 0",
            "issuers: max_lifetime_seconds must be 1 to 86400",
        ),
        (
            "leeway_seconds = 30",
            "leeway_seconds = 121",
            "issuers: leeway_seconds must be 0 to 120",
        ),
        (
            "roles = { vitalgate-clinicians = \"clinician\", vitalgate-evaluators = \"evaluator\" }",
            "roles = { vitalgate-clinicians = \"root\" }",
            "issuers: unknown variant `root`",
        ),
        (
            "single_use = false",
            "single_used = false",
            "issuers: unknown field",
        ),
    ] {
        let found = problems(from, to);
        let line = line_of(&sample_with(from, to), to);
        let told = found
            .iter()
            .any(|(l, m)| *l == line && m.starts_with(message));
        assert!(told, "{to}: {found:?}");
    }
    // A file needs no roots and is not fetched.
    let found = problems(
        "jwks = \"https://idp.hospital.example/jwks\"",
        "jwks = \"keys.json\"",
    );
    let said: Vec<_> = found.iter().map(|(_, m)| m.as_str()).collect();
    assert_eq!(said.len(), 3, "{said:?}");
    assert!(
        said.iter()
            .all(|m| m.contains("goes with an https:// jwks"))
    );
    // Twice the same issuer would make its tokens ambiguous.
    let again = &SAMPLE[SAMPLE.find("\n[[issuers]]\n").unwrap()..];
    let found = parse(&format!("{SAMPLE}{again}")).unwrap_err();
    let said: Vec<_> = found.iter().map(|p| p.message.as_str()).collect();
    assert!(
        said.contains(&"issuers: the name hospital is used twice"),
        "{said:?}"
    );
    assert!(
        said.contains(&"issuers: hospital has this issuer already"),
        "{said:?}"
    );
}
