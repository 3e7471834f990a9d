//! Who calls, once it is known.

use crate::{
    authz::Role,
    config::{Budget, PrincipalConfig},
    telemetry::CallerLabel,
};

/// How a caller showed who it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Authentication {
    /// By its certificate.
    Mtls,
    /// By a bearer token.
    Jwt,
    /// By a bearer token, on a connection of a known certificate.
    MtlsAndJwt,
}

impl Authentication {
    /// As audit records write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Jwt => "jwt",
            Self::MtlsAndJwt => "mtls+jwt",
        }
    }
}

/// An authenticated caller; made only by [`super::Authenticator`].
#[derive(Debug)]
pub struct Principal {
    pub(super) name: String,
    pub(super) label: CallerLabel,
    pub(super) roles: Vec<Role>,
    pub(super) models: Vec<String>,
    pub(super) authentication: Authentication,
    pub(super) multi_factor: bool,
    pub(super) auth_time: Option<i64>,
    pub(super) clinician: Option<String>,
    pub(super) names_clinician: bool,
    /// None for a caller whom only its token names.
    pub(super) listed: Option<Budget>,
}

impl Principal {
    /// Name in audit records: the configured one, or `issuer/subject` for a caller whose roles
    /// come from its token.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// As metrics name it: by its configured name, or `issuer/*`, so that there are no more of them
    /// than the configuration has.
    pub fn label(&self) -> &CallerLabel {
        &self.label
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
        self.authentication.as_str()
    }

    /// Whether more than one factor was used, as its token says. A certificate says nothing of it.
    pub fn multi_factor(&self) -> bool {
        self.multi_factor
    }

    /// When the person last authenticated, Unix seconds, as its token says.
    pub fn auth_time(&self) -> Option<i64> {
        self.auth_time
    }

    /// The budget that the configuration gives this caller; none for one that it does not list,
    /// of whom there may be any number.
    pub fn listed(&self) -> Option<&Budget> {
        self.listed.as_ref()
    }

    /// Whether it may use models of this name.
    pub fn uses(&self, model: &str) -> bool {
        self.models.iter().any(|m| m == "*" || m == model)
    }

    pub(super) fn of_certificate(config: PrincipalConfig) -> Self {
        Self {
            label: CallerLabel::new(&config.name),
            name: config.name,
            roles: config.roles,
            models: config.models,
            authentication: Authentication::Mtls,
            multi_factor: false,
            auth_time: None,
            clinician: None,
            names_clinician: config.names_clinician,
            listed: Some(config.budget),
        }
    }
}

#[cfg(test)]
impl Principal {
    /// Named by its token alone.
    pub(crate) fn unlisted(name: &str, roles: &[Role]) -> Self {
        Self {
            listed: None,
            ..Self::example(name, roles, &["*"])
        }
    }

    /// With these claims and a certificate.
    pub(crate) fn example(name: &str, roles: &[Role], models: &[&str]) -> Self {
        Self {
            label: CallerLabel::new(name),
            name: name.to_owned(),
            roles: roles.to_vec(),
            models: models.iter().map(|&name| name.to_owned()).collect(),
            authentication: Authentication::Mtls,
            multi_factor: false,
            auth_time: None,
            clinician: None,
            names_clinician: false,
            listed: Some(Budget::default()),
        }
    }
}
