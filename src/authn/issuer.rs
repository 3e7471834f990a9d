//! An issuer's token → who calls: every check, in an order that tells an attacker nothing.

use std::{collections::HashMap, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::Value;

use super::{
    Authentication, KeySetError, Principal,
    delegation::is_identifier,
    keys::KeySource,
    keyset::VerifyingKey,
    now,
    replay::{self, UsedTokens},
    token::{Claims, Token},
};
use crate::{
    authz::Role,
    config::{IssuerConfig, KeyLocation, PrincipalConfig},
    disposition::Code,
    reload::Outcomes,
    telemetry::CallerLabel,
    tls::Thumbprint,
};

/// Longest `jti`, bytes.
const LONGEST_JTI: usize = 256;

/// An issuer of tokens, and who among its subjects is known.
#[derive(Debug)]
pub(super) struct Issuer {
    pub(super) config: IssuerConfig,
    pub(super) keys: Arc<KeySource>,
    pub(super) used: Arc<UsedTokens>,
    callers: HashMap<String, PrincipalConfig>,
}

/// A token that was found to hold, and what would void it.
#[derive(Clone, Debug)]
pub(super) struct VerifiedToken {
    pub(super) principal: Arc<Principal>,
    /// Whether it is bound to the certificate of the connection.
    pub(super) bound: bool,
    /// The certificate it is bound to.
    pub(super) confirmation: Option<Thumbprint>,
    /// From here on it is expired, Unix seconds.
    pub(super) holds_until: i64,
    kid: Arc<str>,
    key: Arc<VerifyingKey>,
    keys: Arc<KeySource>,
}

impl VerifiedToken {
    /// Whether its key is still one of the issuer's.
    pub(super) fn key_stands(&self) -> bool {
        let known = self.keys.known(&self.kid);
        matches!(known, Ok(Some(key)) if key.is(&self.key))
    }
}

#[cfg(test)]
impl VerifiedToken {
    /// One that was signed with a key of the source.
    pub(super) fn example(
        principal: Arc<Principal>,
        keys: &Arc<KeySource>,
        kid: &str,
        holds_until: i64,
    ) -> Self {
        Self {
            principal,
            bound: false,
            confirmation: None,
            holds_until,
            kid: kid.into(),
            key: keys.known(kid).unwrap().unwrap(),
            keys: Arc::clone(keys),
        }
    }
}

impl Issuer {
    /// `known` is what the issuer was before, and `used` its tokens that were used, also if it was
    /// not configured in between: neither is forgotten because the configuration changed.
    pub(super) fn new(
        config: IssuerConfig,
        callers: HashMap<String, PrincipalConfig>,
        known: Option<&Self>,
        used: Option<&Arc<UsedTokens>>,
        outcomes: &Outcomes,
    ) -> Result<Self, KeySetError> {
        let same = known.filter(|k| *k.keys.location() == config.keys);
        let keys = match same {
            Some(known) => Arc::clone(&known.keys),
            None => KeySource::open(&config.name, &config.keys, outcomes)?,
        };
        let used = used.map_or_else(
            || {
                // While its tokens were good for many requests, it could be ahead by its leeway.
                let ahead = known.map_or(0, Self::leeway);
                Arc::new(UsedTokens::since(now().saturating_add(ahead)))
            },
            Arc::clone,
        );
        Ok(Self {
            config,
            keys,
            used,
            callers,
        })
    }

    /// Judges a token. `thumbprint` is that of the connection's certificate, which holds.
    pub(super) async fn verify(
        &self,
        token: &Token<'_>,
        thumbprint: Option<&Thumbprint>,
        how: Authentication,
        now: i64,
    ) -> Result<VerifiedToken, Code> {
        self.check_jku(token)?;
        let key = self.keys.find(&token.kid).await?;
        key.verify(token)?;
        // From here on it is the issuer who speaks.
        let claims = &token.claims;
        self.check_audience(claims)?;
        let (issued, holds_until) = self.check_times(claims, now)?;
        self.check_scopes(claims)?;
        let confirmation = confirmation(claims)?;
        if confirmation.is_none() && self.config.require_certificate_binding {
            return Err(Code::TokenUnbound);
        }
        check_confirmation(confirmation.as_ref(), thumbprint)?;
        let principal = self.principal(claims, how, now)?;
        if self.config.single_use {
            let jti = claims.text("jti").ok_or(Code::TokenClaimMissing)?;
            if jti.is_empty() || jti.len() > LONGEST_JTI {
                return Err(Code::TokenClaimInvalid);
            }
            // Last: a token that is refused for something else is not used up.
            replay::wait_for(issued).await?;
            let expires = holds_until.saturating_sub(self.leeway());
            self.used.use_up(jti, issued, expires, super::now())?;
        }
        Ok(VerifiedToken {
            principal: Arc::new(principal),
            bound: confirmation.is_some(),
            confirmation,
            holds_until,
            kid: token.kid.as_str().into(),
            key,
            keys: Arc::clone(&self.keys),
        })
    }

    /// A `jku` may name the keys we have; it never makes us fetch others.
    fn check_jku(&self, token: &Token<'_>) -> Result<(), Code> {
        let Some(jku) = &token.jku else { return Ok(()) };
        let own = match &self.config.keys {
            KeyLocation::Https { url, .. } => url == jku,
            KeyLocation::File(_) => false,
        };
        if own || self.config.jku.contains(jku) {
            Ok(())
        } else {
            Err(Code::TokenKeyAddress)
        }
    }

    /// For us and nobody else: whoever else it were for could use it here.
    fn check_audience(&self, claims: &Claims) -> Result<(), Code> {
        if claims.get("aud").is_none() {
            return Err(Code::TokenClaimMissing);
        }
        let audience = claims.texts("aud").ok_or(Code::TokenClaimInvalid)?;
        match audience.as_slice() {
            [one] if self.config.audience.iter().any(|ours| ours == one) => Ok(()),
            _ => Err(Code::TokenAudience),
        }
    }

    /// When it was issued, and when it ends.
    fn check_times(&self, claims: &Claims, now: i64) -> Result<(i64, i64), Code> {
        let leeway = self.leeway();
        let expires = claims.time("exp")?.ok_or(Code::TokenClaimMissing)?;
        let issued = claims.time("iat")?.ok_or(Code::TokenClaimMissing)?;
        let not_before = claims.time("nbf")?;
        let holds_until = expires.saturating_add(leeway);
        if now >= holds_until {
            return Err(Code::TokenExpired);
        }
        if issued > now.saturating_add(leeway) {
            return Err(Code::TokenFromTheFuture);
        }
        if not_before.is_some_and(|at| at > now.saturating_add(leeway)) {
            return Err(Code::TokenNotYetValid);
        }
        if expires.saturating_sub(issued) > whole_seconds(self.config.max_lifetime) {
            return Err(Code::TokenTooLongLived);
        }
        Ok((issued, holds_until))
    }

    fn leeway(&self) -> i64 {
        whole_seconds(self.config.leeway)
    }

    /// `scope` (RFC 8693 section 4.2, RFC 9068) is a text with spaces; some issuers write a list,
    /// or call it `scp`.
    fn check_scopes(&self, claims: &Claims) -> Result<(), Code> {
        let granted = claims.texts("scope").or_else(|| claims.texts("scp"));
        let granted = granted.unwrap_or_default();
        let granted: Vec<&str> = granted.iter().flat_map(|s| s.split(' ')).collect();
        let has = |scope: &String| granted.contains(&scope.as_str());
        if self.config.scopes.iter().all(has) {
            Ok(())
        } else {
            Err(Code::TokenScope)
        }
    }

    /// A listed caller is what the list says, whatever its token claims; another is what its
    /// token's roles stand for, if they stand for anything.
    fn principal(&self, claims: &Claims, how: Authentication, now: i64) -> Result<Principal, Code> {
        let auth_time = claims.time("auth_time")?;
        // A log-in that is yet to come would be fresh for ever.
        if auth_time.is_some_and(|at| at > now.saturating_add(self.leeway())) {
            return Err(Code::TokenFromTheFuture);
        }
        let claim = &self.config.subject_claim;
        if claims.get(claim).is_none() {
            return Err(Code::TokenClaimMissing);
        }
        let subject = claims.text(claim).ok_or(Code::TokenClaimInvalid)?;
        let (name, label, roles, models, names_clinician, listed) =
            if let Some(caller) = self.callers.get(subject) {
                let caller = caller.clone();
                (
                    caller.name.clone(),
                    caller.name,
                    caller.roles,
                    caller.models,
                    caller.names_clinician,
                    Some(caller.budget),
                )
            } else {
                let (roles, models) = self.mapped_roles(claims).ok_or(Code::TokenSubject)?;
                if !is_identifier(subject) {
                    return Err(Code::TokenClaimInvalid);
                }
                let name = format!("{}/{subject}", self.config.name);
                (
                    name,
                    format!("{}/*", self.config.name),
                    roles,
                    models,
                    false,
                    None,
                )
            };
        let one_of = |claim: &str, values: &[String]| {
            let said = claims.texts(claim).unwrap_or_default();
            said.iter().any(|s| values.iter().any(|v| v == s))
        };
        Ok(Principal {
            name,
            label: CallerLabel::new(&label),
            roles,
            models,
            authentication: how,
            multi_factor: one_of("acr", &self.config.multi_factor_acr)
                || one_of("amr", &self.config.multi_factor_amr),
            auth_time,
            clinician: self.clinician(claims)?,
            names_clinician,
            listed,
        })
    }

    /// Whether its tokens could make a principal of this name.
    pub(super) fn may_name(&self, name: &str) -> bool {
        let subject = name.strip_prefix(self.config.name.as_str());
        let subject = subject.and_then(|rest| rest.strip_prefix('/'));
        // A listed caller has the name of the list.
        let unlisted = |s: &str| is_identifier(s) && !self.callers.contains_key(s);
        self.config.roles.is_some() && subject.is_some_and(unlisted)
    }

    fn mapped_roles(&self, claims: &Claims) -> Option<(Vec<Role>, Vec<String>)> {
        let mapping = self.config.roles.as_ref()?;
        let claimed = claims.texts(&mapping.claim)?;
        let mut roles: Vec<Role> = Vec::new();
        for role in claimed.iter().filter_map(|c| mapping.roles.get(*c)) {
            if !roles.contains(role) {
                roles.push(*role);
            }
        }
        (!roles.is_empty()).then(|| (roles, mapping.models.clone()))
    }

    fn clinician(&self, claims: &Claims) -> Result<Option<String>, Code> {
        let Some(claim) = &self.config.on_behalf_of_claim else {
            return Ok(None);
        };
        match claims.get(claim) {
            None => Ok(None),
            Some(Value::String(name)) if is_identifier(name) => Ok(Some(name.clone())),
            Some(_) => Err(Code::TokenClaimInvalid),
        }
    }
}

fn whole_seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

/// The certificate that a token is bound to (RFC 8705 section 3.1).
fn confirmation(claims: &Claims) -> Result<Option<Thumbprint>, Code> {
    let Some(confirmation) = claims.get("cnf") else {
        return Ok(None);
    };
    // Another method of confirmation is one we cannot check.
    let only = confirmation
        .as_object()
        .filter(|members| members.len() == 1);
    let text = only.and_then(|members| members.get("x5t#S256"));
    let text = text
        .and_then(Value::as_str)
        .ok_or(Code::TokenConfirmation)?;
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let thumbprint = bytes.and_then(|b| Thumbprint::try_from(b.as_slice()).ok());
    thumbprint.map(Some).ok_or(Code::TokenConfirmation)
}

/// A bound token is good on connections of its certificate only.
pub(super) fn check_confirmation(
    confirmation: Option<&Thumbprint>,
    presented: Option<&Thumbprint>,
) -> Result<(), Code> {
    match (confirmation, presented) {
        (None, _) => Ok(()),
        (Some(_), None) => Err(Code::TokenCertificateMissing),
        (Some(bound), Some(shown)) if bound == shown => Ok(()),
        (Some(_), Some(_)) => Err(Code::TokenCertificateMismatch),
    }
}
