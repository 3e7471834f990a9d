//! [`PeerIdentity`] → [`Principal`]: who calls, by the certificate of the connection.

use std::{collections::HashMap, sync::Arc};

use crate::{authz::Role, clock, config::PrincipalConfig, disposition::Code, tls::PeerIdentity};

/// An authenticated caller.
#[derive(Debug)]
pub struct Principal {
    name: String,
    roles: Vec<Role>,
    models: Vec<String>,
}

impl Principal {
    /// Name in audit records.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it is.
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Models it may use, by name; `*` for all.
    pub fn models(&self) -> &[String] {
        &self.models
    }

    /// How it was authenticated, as audit records write it.
    pub fn authentication(&self) -> &'static str {
        "mtls"
    }

    /// Whether more than one factor was used, as its token says. A certificate says nothing of it.
    pub fn multi_factor(&self) -> bool {
        false
    }

    /// When the person last authenticated, Unix seconds, as its token says.
    pub fn auth_time(&self) -> Option<i64> {
        None
    }

    /// Whether it may use models of this name.
    pub fn uses(&self, model: &str) -> bool {
        self.models.iter().any(|m| m == "*" || m == model)
    }
}

#[cfg(test)]
impl Principal {
    /// With these claims and a certificate.
    pub(crate) fn example(name: &str, roles: &[Role], models: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            roles: roles.to_vec(),
            models: models.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

/// Knows the configured principals.
#[derive(Debug)]
pub struct Authenticator {
    by_san: HashMap<String, Arc<Principal>>,
}

impl Authenticator {
    /// From the configuration's principals, by subject alternative name.
    pub fn new(principals: HashMap<String, PrincipalConfig>) -> Self {
        let by_san = principals
            .into_iter()
            .map(|(san, p)| {
                (
                    san,
                    Arc::new(Principal {
                        name: p.name,
                        roles: p.roles,
                        models: p.models,
                    }),
                )
            })
            .collect();
        Self { by_san }
    }

    /// Identifies the caller of one request. The chain was verified at the handshake; its
    /// validity in time is looked at again on every request, since connections and resumed
    /// sessions outlive certificates.
    pub fn authenticate(&self, peer: &PeerIdentity) -> Result<Arc<Principal>, Code> {
        let now = i64::try_from(clock::since_epoch().as_secs()).unwrap_or(i64::MAX);
        if !peer.valid_at(now) {
            return Err(Code::CertificateNotCurrent);
        }
        let mut found: Option<&Arc<Principal>> = None;
        for principal in peer.sans().iter().filter_map(|san| self.by_san.get(san)) {
            // A certificate of two principals is nobody's.
            if found.is_some_and(|other| !Arc::ptr_eq(other, principal)) {
                return Err(Code::UnknownPrincipal);
            }
            found = Some(principal);
        }
        found.cloned().ok_or(Code::UnknownPrincipal)
    }
}
