//! `[[issuers]]`: whose tokens are believed, and what is made of them.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::Deserialize;
use toml::Spanned;

use super::reader::{At, Reader};
use crate::authz::Role;

/// Longest lifetime of a token that may be configured, seconds.
const LONGEST_LIFETIME: u64 = 24 * 3600;
/// Longest leeway, seconds.
pub const LONGEST_LEEWAY: u64 = 120;

/// An issuer of bearer tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerConfig {
    /// Its name in logs, records and `[[principals]]`; unique.
    pub name: String,
    /// `iss`, exactly; unique.
    pub issuer: String,
    /// A token is for exactly one of these.
    pub audience: Vec<String>,
    /// Where its keys are.
    pub keys: KeyLocation,
    /// Scopes that every token must have.
    pub scopes: Vec<String>,
    /// Longest `exp - iat`.
    pub max_lifetime: Duration,
    /// How far its clock and ours may be apart.
    pub leeway: Duration,
    /// The claim that says who calls.
    pub subject_claim: String,
    /// Whether every token must be bound to the caller's certificate (RFC 8705).
    pub require_certificate_binding: bool,
    /// Whether a token is good for one request only.
    pub single_use: bool,
    /// Values of the `jku` header that name the keys above. Nothing is ever fetched from there.
    pub jku: Vec<String>,
    /// `acr` values that stand for more than one factor.
    pub multi_factor_acr: Vec<String>,
    /// `amr` values that stand for more than one factor.
    pub multi_factor_amr: Vec<String>,
    /// The claim that names the clinician for whom the caller acts.
    pub on_behalf_of_claim: Option<String>,
    /// Roles of callers that `[[principals]]` does not list.
    pub roles: Option<RoleMapping>,
    /// Its line in the file.
    pub line: usize,
}

/// Where an issuer's key set (RFC 7517) is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyLocation {
    /// A file, watched.
    File(PathBuf),
    /// An HTTPS address, fetched again and again.
    Https {
        /// The address.
        url: String,
        /// Roots that its certificate must chain to, PEM.
        ca: PathBuf,
        /// How often.
        refresh: Duration,
        /// How long known keys are good when it cannot be reached.
        keep: Duration,
    },
}

/// Roles by a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleMapping {
    /// The claim: a string or a list of strings.
    pub claim: String,
    /// What its values stand for; any other stands for nothing.
    pub roles: BTreeMap<String, Role>,
    /// Models that such callers may use.
    pub models: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawIssuer {
    name: Spanned<String>,
    issuer: Spanned<String>,
    audience: Spanned<Vec<String>>,
    jwks: Spanned<String>,
    jwks_ca: Option<Spanned<PathBuf>>,
    scopes: Vec<String>,
    require_certificate_binding: bool,
    max_lifetime_seconds: Option<Spanned<u64>>,
    leeway_seconds: Option<Spanned<u64>>,
    refresh_seconds: Option<Spanned<u64>>,
    keep_keys_seconds: Option<Spanned<u64>>,
    #[serde(default)]
    single_use: bool,
    #[serde(default)]
    jku: Vec<String>,
    subject_claim: Option<Spanned<String>>,
    #[serde(default)]
    multi_factor_acr: Vec<String>,
    #[serde(default)]
    multi_factor_amr: Vec<String>,
    on_behalf_of_claim: Option<String>,
    roles_claim: Option<Spanned<String>>,
    roles: Option<Spanned<BTreeMap<String, Role>>>,
    models: Option<Spanned<Vec<String>>>,
}

pub(super) const REQUIRED: [&str; 6] = [
    "name",
    "issuer",
    "audience",
    "jwks",
    "scopes",
    "require_certificate_binding",
];

impl IssuerConfig {
    pub(super) fn anchor_paths(&mut self, directory: &Path) {
        match &mut self.keys {
            KeyLocation::File(path) => *path = directory.join(&*path),
            KeyLocation::Https { ca, .. } => *ca = directory.join(&*ca),
        }
    }
}

impl Reader<'_> {
    pub(super) fn issuers(&mut self, raw: Vec<At<RawIssuer>>) -> Vec<IssuerConfig> {
        let mut issuers: Vec<IssuerConfig> = Vec::new();
        for At { start, it } in raw {
            let (name, issuer) = (it.name.get_ref().clone(), it.issuer.get_ref().clone());
            let (name_at, issuer_at) = (it.name.span().start, it.issuer.span().start);
            let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            if name.is_empty() || !name.chars().all(plain) {
                let message = format!("issuers: name {name:?} should be of a-z, 0-9, -");
                self.problem(Some(name_at), &message);
            }
            if issuers.iter().any(|other| other.name == name) {
                let message = format!("issuers: the name {name} is used twice");
                self.problem(Some(name_at), &message);
            }
            if issuer.is_empty() {
                self.problem(Some(issuer_at), "issuers: issuer is empty");
            }
            if let Some(other) = issuers.iter().find(|other| other.issuer == issuer) {
                let message = format!("issuers: {} has this issuer already", other.name);
                self.problem(Some(issuer_at), &message);
            }
            issuers.extend(self.issuer(start, it));
        }
        issuers
    }

    fn issuer(&mut self, start: usize, raw: RawIssuer) -> Option<IssuerConfig> {
        let audience = raw.audience.get_ref();
        if audience.is_empty() || audience.iter().any(String::is_empty) {
            let at = Some(raw.audience.span().start);
            self.problem(
                at,
                "issuers: audience: name at least one, none of them empty",
            );
        }
        let seconds = |value: &Option<Spanned<u64>>, default| {
            value.as_ref().map_or(default, |v| *v.get_ref())
        };
        for (name, value, least, most) in [
            (
                "max_lifetime_seconds",
                &raw.max_lifetime_seconds,
                1,
                LONGEST_LIFETIME,
            ),
            ("leeway_seconds", &raw.leeway_seconds, 0, LONGEST_LEEWAY),
            ("refresh_seconds", &raw.refresh_seconds, 1, 24 * 3600),
            (
                "keep_keys_seconds",
                &raw.keep_keys_seconds,
                1,
                7 * 24 * 3600,
            ),
        ] {
            if let Some(value) = value
                && !(least..=most).contains(value.get_ref())
            {
                let message = format!("issuers: {name} must be {least} to {most}");
                self.problem(Some(value.span().start), &message);
            }
        }
        if let Some(claim) = raw
            .subject_claim
            .as_ref()
            .filter(|c| c.get_ref().is_empty())
        {
            self.problem(Some(claim.span().start), "issuers: subject_claim is empty");
        }
        let max_lifetime = Duration::from_secs(seconds(&raw.max_lifetime_seconds, 90 * 60));
        let leeway = Duration::from_secs(seconds(&raw.leeway_seconds, 30));
        let keys = self.key_location(start, &raw);
        let roles = self.role_mapping(start, raw.roles_claim, raw.roles, raw.models);
        Some(IssuerConfig {
            name: raw.name.into_inner(),
            issuer: raw.issuer.into_inner(),
            audience: raw.audience.into_inner(),
            keys: keys?,
            scopes: raw.scopes,
            max_lifetime,
            leeway,
            subject_claim: raw
                .subject_claim
                .map_or_else(|| "sub".to_owned(), Spanned::into_inner),
            require_certificate_binding: raw.require_certificate_binding,
            single_use: raw.single_use,
            jku: raw.jku,
            multi_factor_acr: raw.multi_factor_acr,
            multi_factor_amr: raw.multi_factor_amr,
            on_behalf_of_claim: raw.on_behalf_of_claim,
            roles,
            line: self.line(start),
        })
    }

    fn key_location(&mut self, start: usize, raw: &RawIssuer) -> Option<KeyLocation> {
        let jwks = raw.jwks.get_ref();
        let at = Some(raw.jwks.span().start);
        if jwks.starts_with("https://") {
            let Some(ca) = &raw.jwks_ca else {
                let message = "issuers: jwks_ca is missing (the roots that https is trusted by)";
                self.problem(Some(start), message);
                return None;
            };
            let seconds = |value: &Option<Spanned<u64>>, default| {
                Duration::from_secs(value.as_ref().map_or(default, |v| *v.get_ref()))
            };
            return Some(KeyLocation::Https {
                url: jwks.clone(),
                ca: ca.get_ref().clone(),
                refresh: seconds(&raw.refresh_seconds, 300),
                keep: seconds(&raw.keep_keys_seconds, 3600),
            });
        }
        if jwks.is_empty() || jwks.contains("://") {
            self.problem(at, "issuers: jwks should be a file or an https:// address");
            return None;
        }
        for (name, given) in [
            ("jwks_ca", raw.jwks_ca.as_ref().map(Spanned::span)),
            (
                "refresh_seconds",
                raw.refresh_seconds.as_ref().map(Spanned::span),
            ),
            (
                "keep_keys_seconds",
                raw.keep_keys_seconds.as_ref().map(Spanned::span),
            ),
        ] {
            if let Some(span) = given {
                let message = format!("issuers: {name} goes with an https:// jwks, not a file");
                self.problem(Some(span.start), &message);
            }
        }
        Some(KeyLocation::File(PathBuf::from(jwks)))
    }

    /// All three, or none: then only listed principals may call.
    fn role_mapping(
        &mut self,
        start: usize,
        claim: Option<Spanned<String>>,
        roles: Option<Spanned<BTreeMap<String, Role>>>,
        models: Option<Spanned<Vec<String>>>,
    ) -> Option<RoleMapping> {
        match (claim, roles, models) {
            (None, None, None) => None,
            (Some(claim), Some(roles), Some(models)) => Some(RoleMapping {
                claim: claim.into_inner(),
                roles: roles.into_inner(),
                models: models.into_inner(),
            }),
            _ => {
                let message = "issuers: roles_claim, roles and models go together; one is missing";
                self.problem(Some(start), message);
                None
            }
        }
    }
}
