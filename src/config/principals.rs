//! `[[principals]]`: who may call, by certificate, by token, or by either.

use serde::Deserialize;
use toml::Spanned;

use super::{
    budgets::Budget,
    issuers::IssuerConfig,
    reader::{At, Reader},
};
use crate::authz::Role;

/// Who may call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrincipalConfig {
    /// Name in audit records; unique.
    pub name: String,
    /// Subject alternative name of its certificate, `URI:…` or `DNS:…`; unique.
    pub san: Option<String>,
    /// The issuer, by its name in the configuration, and subject of its tokens; unique.
    pub token: Option<(String, String)>,
    /// What it may do.
    pub roles: Vec<Role>,
    /// Models it may use, by name; `*` for all.
    pub models: Vec<String>,
    /// Whether it may say for whom it calls, in the `On-Behalf-Of` header.
    pub names_clinician: bool,
    /// What it may ask for, where that is not its role's.
    pub budget: Budget,
    /// Its line in the file.
    pub line: usize,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPrincipal {
    name: String,
    san: Option<Spanned<String>>,
    issuer: Option<Spanned<String>>,
    subject: Option<Spanned<String>>,
    roles: Vec<Role>,
    models: Vec<String>,
    #[serde(default)]
    names_clinician: bool,
    #[serde(default)]
    budget: Budget,
}

impl Reader<'_> {
    /// A certificate's name, and a token's subject, mean one principal, or authentication would
    /// be a guess.
    pub(super) fn principals(
        &mut self,
        raw: Vec<At<RawPrincipal>>,
        issuers: Option<&[IssuerConfig]>,
    ) -> Vec<PrincipalConfig> {
        let mut principals: Vec<PrincipalConfig> = Vec::new();
        for At { start, it: p } in raw {
            let at = p.san.as_ref().map_or(start, |san| san.span().start);
            let at = Some(at);
            self.check_san(&p);
            let token = self.token(start, &p, issuers);
            if p.san.is_none() && p.issuer.is_none() && p.subject.is_none() {
                let message = "principals: san is missing (or issuer and subject)";
                self.problem(Some(start), message);
            }
            let san = p.san.map(Spanned::into_inner);
            if principals.iter().any(|other| other.name == p.name) {
                self.problem(at, &format!("principal {}: the name is used twice", p.name));
            }
            if let Some(issuer) = issuers.unwrap_or_default().iter().find(|i| {
                // Names of callers whose roles come from their token look like that.
                p.name
                    .strip_prefix(&i.name)
                    .is_some_and(|rest| rest.starts_with('/'))
            }) {
                let (name, issuer) = (&p.name, &issuer.name);
                let message =
                    format!("principal {name}: names that begin with {issuer}/ are for its tokens");
                self.problem(at, &message);
            }
            if let Some(other) = principals.iter().find(|o| san.is_some() && o.san == san) {
                self.problem(at, &format!("san is principal {}'s already", other.name));
            }
            if let Some(other) = principals
                .iter()
                .find(|o| token.is_some() && o.token == token)
            {
                let at = p.subject.as_ref().map(|s| s.span().start);
                self.problem(
                    at,
                    &format!("subject is principal {}'s already", other.name),
                );
            }
            principals.push(PrincipalConfig {
                name: p.name,
                san,
                token,
                roles: p.roles,
                models: p.models,
                names_clinician: p.names_clinician,
                budget: p.budget,
                line: self.line(start),
            });
        }
        principals
    }

    fn check_san(&mut self, p: &RawPrincipal) {
        let Some(san) = &p.san else { return };
        let value = san
            .get_ref()
            .strip_prefix("URI:")
            .or_else(|| san.get_ref().strip_prefix("DNS:"));
        if value.is_none_or(str::is_empty) {
            let message = format!("principal {}: san should be URI:… or DNS:…", p.name);
            self.problem(Some(san.span().start), &message);
        }
    }

    fn token(
        &mut self,
        start: usize,
        p: &RawPrincipal,
        issuers: Option<&[IssuerConfig]>,
    ) -> Option<(String, String)> {
        let name = &p.name;
        match (&p.issuer, &p.subject) {
            (None, None) => None,
            (Some(issuer), Some(subject)) => {
                if issuers.is_some_and(|all| !all.iter().any(|i| i.name == *issuer.get_ref())) {
                    let message = format!(
                        "principal {name}: there is no issuer named {}",
                        issuer.get_ref()
                    );
                    self.problem(Some(issuer.span().start), &message);
                }
                if subject.get_ref().is_empty() {
                    let message = format!("principal {name}: subject is empty");
                    self.problem(Some(subject.span().start), &message);
                }
                Some((issuer.get_ref().clone(), subject.get_ref().clone()))
            }
            (Some(_), None) => {
                let message = format!("principal {name}: subject is missing beside issuer");
                self.problem(Some(start), &message);
                None
            }
            (None, Some(_)) => {
                let message = format!("principal {name}: issuer is missing beside subject");
                self.problem(Some(start), &message);
                None
            }
        }
    }
}
