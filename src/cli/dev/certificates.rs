//! A throw-away certificate authority, a server certificate for loopback, and client
//! certificates whose SPIFFE-style URI names the principal.

use std::{fs, path::Path, time::Duration};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;
use vitalgate::{clock, tls::PeerIdentity};

use super::write_private;

/// How long the certificates are good for.
const LIFETIME: Duration = Duration::from_hours(30 * 24);
/// They are renewed at a start that finds less than this left.
const RENEWAL: Duration = Duration::from_hours(7 * 24);

/// What a client's certificate says it is.
pub(super) fn subject_alternative_name(client: &str) -> String {
    format!("URI:{}", uri(client))
}

fn uri(client: &str) -> String {
    format!("spiffe://vitalgate.internal/{client}")
}

/// Makes all certificates, unless those that are there will do for a while.
pub(super) fn ensure(state: &Path, clients: &[&str]) -> anyhow::Result<()> {
    if is_current(state, clients) {
        return Ok(());
    }
    let authority = CertifiedIssuer::self_signed(authority()?, KeyPair::generate()?)?;
    let server = parameters(
        "vitalgate dev server",
        vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
            "::1".to_owned(),
        ],
        ExtendedKeyUsagePurpose::ServerAuth,
    )?;
    issue(state, "server", &server, &authority)?;
    for name in clients {
        let mut client = parameters(name, Vec::new(), ExtendedKeyUsagePurpose::ClientAuth)?;
        client
            .subject_alt_names
            .push(SanType::URI(uri(name).try_into()?));
        issue(&state.join("clients"), name, &client, &authority)?;
    }
    // Last: it says that the others are there.
    write_private(&state.join("ca.pem"), authority.pem().as_bytes())?;
    Ok(())
}

fn is_current(state: &Path, clients: &[&str]) -> bool {
    let expiry = i64::try_from((clock::since_epoch() + RENEWAL).as_secs()).unwrap_or(i64::MAX);
    let last_issued = clients
        .iter()
        .map(|name| state.join("clients").join(format!("{name}.pem")));
    [state.join("server.pem"), state.join("ca.pem")]
        .into_iter()
        .chain(last_issued)
        .all(|path| {
            use rustls_pki_types::{CertificateDer, pem::PemObject};
            path.with_extension("key").exists() | path.ends_with("ca.pem")
                && fs::read(&path)
                    .ok()
                    .and_then(|pem| CertificateDer::from_pem_slice(&pem).ok())
                    .and_then(|der| PeerIdentity::from_leaf(&der))
                    .is_some_and(|certificate| certificate.valid_at(expiry))
        })
}

fn authority() -> anyhow::Result<CertificateParams> {
    let mut params = parameters("vitalgate dev CA", Vec::new(), ExtendedKeyUsagePurpose::Any)?;
    params.extended_key_usages.clear();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    Ok(params)
}

fn parameters(
    name: &str,
    names: Vec<String>,
    usage: ExtendedKeyUsagePurpose,
) -> anyhow::Result<CertificateParams> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    let now = OffsetDateTime::UNIX_EPOCH + clock::since_epoch();
    // Back-dated a little, for clients whose clock is behind.
    params.not_before = now - Duration::from_hours(1);
    params.not_after = now + LIFETIME;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn issue(
    directory: &Path,
    name: &str,
    params: &CertificateParams,
    authority: &CertifiedIssuer<'_, KeyPair>,
) -> anyhow::Result<()> {
    let key = KeyPair::generate()?;
    let certificate = params
        .signed_by(&key, authority)
        .with_context(|| format!("certificate of {name}"))?;
    write_private(
        &directory.join(format!("{name}.key")),
        key.serialize_pem().as_bytes(),
    )?;
    write_private(
        &directory.join(format!("{name}.pem")),
        certificate.pem().as_bytes(),
    )?;
    Ok(())
}
