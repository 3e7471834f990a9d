//! Cost of deciding who may do what: remembered, asked of the policy anew, and refused with what
//! would have to change.
//!
//! The principal comes out of a real handshake, since nothing else makes one.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start must stop"
)]

use std::{hint::black_box, path::Path, sync::Arc};

use axum::http::HeaderMap;
use criterion::{Criterion, criterion_group, criterion_main};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use rustls::{
    ClientConfig, ClientConnection, ConnectionCommon, RootCertStore, ServerConnection, SideData,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use vitalgate::{
    authn::{Authenticator, Presented, Principal},
    authz::{AccessPolicy, Action, Authorizer, Plane, Role, SHIPPED_DEFAULT},
    config::PrincipalConfig,
    reload::Outcomes,
    tls::{ClientCertificates, ListenerTls, PeerCertificate, TlsFiles},
};

const SAN: &str = "spiffe://bench/clinician";

/// An authority, a server of it, and a client of it that has shaken hands.
fn shake_hands(directory: &Path) -> Arc<PeerCertificate> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let server_key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let server = server.signed_by(&server_key, &authority).unwrap();
    let write = |name: &str, pem: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.join(name);
        std::fs::write(&path, pem).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).unwrap();
        path
    };
    let files = TlsFiles {
        certificate: write("server.pem", &server.pem()),
        key: write("server.key", &server_key.serialize_pem()),
        client_ca: Some(write("ca.pem", &authority.pem())),
        crl: None,
    };
    let tls = ListenerTls::load(files, ClientCertificates::Required).unwrap();

    let client_key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::URI(SAN.try_into().unwrap())];
    let certificate = params.signed_by(&client_key, &authority).unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let chain: Vec<CertificateDer<'static>> = vec![certificate.der().clone()];
    let key = PrivatePkcs8KeyDer::from(client_key.serialize_der()).into();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    let name = "localhost".try_into().unwrap();
    let mut client = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut server = ServerConnection::new(tls.config()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        pass(&mut client, &mut server);
        pass(&mut server, &mut client);
    }
    PeerCertificate::of(&server, &tls).unwrap().unwrap()
}

/// Hands what one side has to say to the other.
fn pass<A: SideData, B: SideData>(from: &mut ConnectionCommon<A>, to: &mut ConnectionCommon<B>) {
    let mut bytes = Vec::new();
    while from.wants_write() {
        from.write_tls(&mut bytes).unwrap();
    }
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        to.read_tls(&mut rest).unwrap();
        to.process_new_packets().unwrap();
    }
}

fn authorization(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let presented = Presented::Certificate(shake_hands(directory.path()));
    let clinician = PrincipalConfig {
        name: "clinician".to_owned(),
        san: Some(format!("URI:{SAN}")),
        token: None,
        roles: vec![Role::Clinician],
        models: vec!["icu-mortality".to_owned(), "breast-cancer".to_owned()],
        names_clinician: false,
        budget: vitalgate::config::Budget::default(),
        line: 0,
    };
    let authenticator =
        Authenticator::new(vec![clinician], Vec::new(), Outcomes::default()).unwrap();
    let tokio = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let headers = HeaderMap::new();
    let authenticate = || tokio.block_on(authenticator.authenticate(&presented, &headers));
    let principal: Arc<Principal> = authenticate().unwrap();
    c.bench_function("authenticate, by certificate", |b| b.iter(authenticate));

    let ask = |authorizer: &Authorizer, action| {
        let model = black_box("icu-mortality");
        authorizer.authorize(Plane::Data, &principal, action, model)
    };
    let shipped = Authorizer::new(AccessPolicy::shipped().unwrap());
    ask(&shipped, Action::Predict).unwrap();
    c.bench_function("authorize, remembered", |b| {
        b.iter(|| ask(&shipped, Action::Predict).unwrap());
    });
    // A decision that depends on the time is made anew each time.
    let timed = format!(
        "forbid (principal, action == Action::\"predict\", resource)\n\
         when {{ context has auth_age && context.auth_age > 900 }};\n{SHIPPED_DEFAULT}"
    );
    let timed = Authorizer::new(AccessPolicy::parse(&timed).unwrap());
    c.bench_function("authorize, asked anew", |b| {
        b.iter(|| ask(&timed, Action::Predict).unwrap());
    });
    c.bench_function("authorize, refused for want of a step-up", |b| {
        b.iter(|| ask(&shipped, Action::OverrideReview).unwrap_err());
    });
}

criterion_group!(benches, authorization);
criterion_main!(benches);
