//! Posts each checkpoint to an HTTPS address: `text/plain`, the signed note as it is. Any 2xx is
//! an acknowledgement.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use ureq::{
    Agent,
    tls::{Certificate, ClientCert, PrivateKey, RootCerts, TlsConfig, TlsProvider},
};

use super::{super::keys::read_secret, PATIENCE};
use crate::{
    config::Shipping,
    error_chain::one_line,
    tls::{self, TlsSetupError},
};

pub(super) struct Poster {
    agent: Agent,
    url: String,
}

impl Poster {
    pub(super) fn new(url: &str, shipping: &Shipping) -> Result<Self, TlsSetupError> {
        let owned = |chain: Vec<rustls_pki_types::CertificateDer<'static>>| -> Vec<_> {
            chain
                .iter()
                .map(|c| Certificate::from_der(c).to_owned())
                .collect()
        };
        let identity = match (&shipping.certificate, &shipping.key) {
            (Some(certificate), Some(key)) => {
                let unusable = |e: String| TlsSetupError::Config(format!("collector key: {e}"));
                let text = read_secret(key).map_err(|e| unusable(e.to_string()))?;
                let key = PrivateKey::from_pem(&text).map_err(|e| unusable(e.to_string()))?;
                let chain = owned(tls::certificates(certificate)?);
                Some(ClientCert::new_with_certs(&chain, key))
            }
            _ => None,
        };
        let tls = TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .root_certs(RootCerts::new_with_certs(&owned(tls::certificates(
                &shipping.ca,
            )?)))
            .client_cert(identity)
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .build();
        let agent = Agent::config_builder()
            .https_only(true)
            // The address is the operator's word; nobody else's is followed, and no proxy asked.
            .max_redirects(0)
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .tls_config(tls)
            .build()
            .into();
        Ok(Self {
            agent,
            url: url.to_owned(),
        })
    }

    pub(super) fn post(&self, note: &str) -> Result<(), String> {
        let answer = self
            .agent
            .post(&self.url)
            .header("content-type", "text/plain; charset=utf-8")
            .send(note)
            .map_err(|e| one_line(&e))?;
        if answer.status().is_success() {
            return Ok(());
        }
        Err(format!("the answer has status {}", answer.status()))
    }
}
