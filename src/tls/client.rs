//! HTTPS towards a server that the operator names: an issuer's key set, a collector.

use std::{path::Path, sync::Arc, time::Duration};

use rustls::crypto::aws_lc_rs;
use ureq::{
    Agent,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider},
};

use super::{TlsSetupError, certificates};
use crate::audit::read_secret;

/// A client that trusts the roots in `ca` and nobody else, and shows the certificate and key of
/// `identity` where the server asks for one. A request takes `patience` at most.
///
/// # Errors
/// What is wrong with the files.
pub(crate) fn https(
    ca: &Path,
    identity: Option<(&Path, &Path)>,
    patience: Duration,
) -> Result<Agent, TlsSetupError> {
    let identity = match identity {
        Some((chain, key)) => {
            let unusable = |e: String| TlsSetupError::Config(format!("client key: {e}"));
            let text = read_secret(key).map_err(|e| unusable(e.to_string()))?;
            let key = PrivateKey::from_pem(&text).map_err(|e| unusable(e.to_string()))?;
            Some(ClientCert::new_with_certs(&owned(chain)?, key))
        }
        None => None,
    };
    let tls = TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .root_certs(RootCerts::new_with_certs(&owned(ca)?))
        .client_cert(identity)
        .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
        .build();
    let config = Agent::config_builder()
        .https_only(true)
        // The address is the operator's word; nobody else's is followed, and no proxy asked.
        .max_redirects(0)
        .proxy(None)
        .timeout_global(Some(patience))
        .tls_config(tls);
    Ok(config.build().into())
}

fn owned(path: &Path) -> Result<Vec<Certificate<'static>>, TlsSetupError> {
    let found = certificates(path)?;
    Ok(found
        .iter()
        .map(|certificate| Certificate::from_der(certificate).to_owned())
        .collect())
}
