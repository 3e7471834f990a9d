//! Posts each checkpoint to an HTTPS address: `text/plain`, the signed note as it is. Any 2xx is
//! an acknowledgement.

use ureq::Agent;

use super::PATIENCE;
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
        let identity = shipping.certificate.as_deref().zip(shipping.key.as_deref());
        Ok(Self {
            agent: tls::client::https(&shipping.ca, identity, PATIENCE)?,
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
