//! What a caller shows → [`Principal`]: who calls.
//!
//! A certificate, a bearer token, or both, as the listener says; there is no anonymous caller,
//! and [`Presented`] has no value for one. Everything is judged anew by every request: the
//! certificate's validity, chain and revocation, the token's lifetime, key and subject, and
//! whether the configuration still knows the caller. What is expensive to judge is remembered
//! only together with what would void it.

use std::{collections::HashMap, sync::Arc};

use arc_swap::ArcSwap;
use axum::http::{HeaderMap, header};

use crate::{
    clock,
    config::{IssuerConfig, Methods, PrincipalConfig},
    disposition::Code,
    reload::Outcomes,
    tls::{PeerCertificate, PeerIdentity},
};

mod bearer;
mod cache;
mod delegation;
mod issuer;
mod keys;
mod keyset;
mod principal;
mod replay;
mod token;
pub use delegation::{ON_BEHALF_OF, on_behalf_of};
pub use keys::check as check_keys;
pub use keyset::KeySetError;
pub use principal::{Authentication, Principal};

use cache::VerifiedTokens;
use issuer::{Issuer, VerifiedToken};
use replay::Memories;

/// What a connection shows of its peer, and what its listener wants of every request.
#[derive(Clone, Debug)]
pub enum Presented {
    /// The certificate says who calls; tokens are not looked at.
    Certificate(Arc<PeerCertificate>),
    /// A token must say who calls. It may be bound to the certificate, if there is one.
    Token(Option<Arc<PeerCertificate>>),
    /// Both must, and belong together.
    CertificateAndToken(Arc<PeerCertificate>),
    /// The certificate must; and a token too, if there is one.
    CertificateAndPerhapsToken(Arc<PeerCertificate>),
}

impl Presented {
    /// By what the listener takes.
    ///
    /// # Errors
    /// [`Code::NoClientCertificate`] when it takes certificates and there is none.
    pub fn new(methods: Methods, certificate: Option<Arc<PeerCertificate>>) -> Result<Self, Code> {
        match methods {
            Methods::Jwt => Ok(Self::Token(certificate)),
            Methods::Mtls => certificate
                .map(Self::Certificate)
                .ok_or(Code::NoClientCertificate),
            Methods::MtlsAndJwt => certificate
                .map(Self::CertificateAndToken)
                .ok_or(Code::NoClientCertificate),
            Methods::MtlsAndPerhapsJwt => certificate
                .map(Self::CertificateAndPerhapsToken)
                .ok_or(Code::NoClientCertificate),
        }
    }

    fn certificate(&self) -> Option<&PeerCertificate> {
        match self {
            Self::Certificate(certificate)
            | Self::CertificateAndToken(certificate)
            | Self::CertificateAndPerhapsToken(certificate) => Some(certificate),
            Self::Token(certificate) => certificate.as_deref(),
        }
    }
}

/// Who is known, as the configuration said when it was last read.
#[derive(Debug)]
struct Directory {
    configured: Vec<PrincipalConfig>,
    by_san: HashMap<String, Arc<Principal>>,
    /// By `iss`.
    issuers: HashMap<String, Arc<Issuer>>,
    /// Tokens that were used, of issuers that were removed too.
    used: Memories,
    /// Goes with the principals it names.
    verified: VerifiedTokens,
}

/// Knows the principals and the issuers of tokens.
#[derive(Debug)]
pub struct Authenticator {
    directory: ArcSwap<Directory>,
    outcomes: Outcomes,
}

impl Authenticator {
    /// From the configuration. Key sets that are files are read; those behind an address are
    /// fetched by a thread of their own, whose attempts are noted in `outcomes`. Waits for the
    /// next second, at most, when tokens are single-use: those of this one are not taken.
    ///
    /// # Errors
    /// When a key set's file is not good.
    pub fn new(
        principals: Vec<PrincipalConfig>,
        issuers: Vec<IssuerConfig>,
        outcomes: Outcomes,
    ) -> Result<Self, KeySetError> {
        let directory = Directory::new(principals, issuers, &outcomes, None)?;
        if !directory.used.is_empty() {
            let began = now();
            while now() <= began {
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        }
        Ok(Self {
            directory: ArcSwap::from_pointee(directory),
            outcomes,
        })
    }

    /// Takes new principals and issuers. What is known of an issuer that stays (its keys, the
    /// tokens it saw used) stays too.
    ///
    /// # Errors
    /// When a key set's file is not good; nothing changes then.
    pub fn replace(
        &self,
        principals: Vec<PrincipalConfig>,
        issuers: Vec<IssuerConfig>,
    ) -> Result<(), KeySetError> {
        let old = self.directory.load_full();
        let new = Directory::new(principals, issuers, &self.outcomes, Some(&old))?;
        self.directory.store(Arc::new(new));
        Ok(())
    }

    /// The principals that the configuration names.
    pub fn configured(&self) -> Vec<PrincipalConfig> {
        self.directory.load().configured.clone()
    }

    /// Whether a principal could have this name: one that is configured, or one of an issuer
    /// whose tokens say what their subject may do.
    pub fn may_know(&self, name: &str) -> bool {
        let directory = self.directory.load();
        directory.configured.iter().any(|p| p.name == name)
            || directory.issuers.values().any(|i| i.may_name(name))
    }

    /// The key sets that are files.
    pub fn key_files(&self) -> Vec<std::path::PathBuf> {
        let directory = self.directory.load();
        let files = directory.issuers.values().filter_map(|i| i.keys.file());
        files.map(std::path::Path::to_path_buf).collect()
    }

    /// Reads the key sets that are files again.
    ///
    /// # Errors
    /// The first that is not good; its old keys stay, the others are renewed.
    pub fn reload_key_files(&self) -> Result<(), KeySetError> {
        let directory = self.directory.load_full();
        let results: Vec<_> = directory
            .issuers
            .values()
            .map(|issuer| issuer.keys.reload_file())
            .collect();
        results.into_iter().collect()
    }

    /// Identifies the caller of one request.
    ///
    /// # Errors
    /// Why it is not known; the answer outside is the same for every token that does not hold.
    pub async fn authenticate(
        &self,
        presented: &Presented,
        headers: &HeaderMap,
    ) -> Result<Arc<Principal>, Code> {
        // A certificate that does not hold spoils whatever else is shown.
        let identity = presented
            .certificate()
            .map(PeerCertificate::current)
            .transpose()?;
        let directory = self.directory.load_full();
        match (presented, identity) {
            (Presented::Certificate(_), Some(identity)) => directory.by_certificate(identity),
            (Presented::CertificateAndPerhapsToken(_), Some(identity))
                if !headers.contains_key(header::AUTHORIZATION) =>
            {
                directory.by_certificate(identity)
            }
            (Presented::Token(_), identity) => {
                let how = Authentication::Jwt;
                let token = directory.by_token(headers, identity, how).await?;
                Ok(token.principal)
            }
            (
                Presented::CertificateAndToken(_) | Presented::CertificateAndPerhapsToken(_),
                Some(identity),
            ) => {
                let holder = directory.by_certificate(identity)?;
                let how = Authentication::MtlsAndJwt;
                let token = directory.by_token(headers, Some(identity), how).await?;
                // Somebody else's token, unless its issuer bound it to this certificate, may
                // have been stolen by whoever holds the certificate.
                if !token.bound && token.principal.name != holder.name {
                    return Err(Code::TokenOfAnother);
                }
                Ok(token.principal)
            }
            (
                Presented::Certificate(_)
                | Presented::CertificateAndToken(_)
                | Presented::CertificateAndPerhapsToken(_),
                None,
            ) => Err(Code::NoClientCertificate),
        }
    }

    /// Whose budget a principal's requests are counted against: that of who holds the
    /// connection's certificate, whose many tokens must not be many budgets, or else its own.
    pub fn payer(&self, presented: &Presented, principal: &Arc<Principal>) -> Arc<Principal> {
        let own = match presented {
            Presented::Certificate(_) | Presented::Token(_) => None,
            Presented::CertificateAndToken(_) | Presented::CertificateAndPerhapsToken(_) => {
                self.holder(presented)
            }
        };
        own.unwrap_or_else(|| Arc::clone(principal))
    }

    /// Who holds the connection's certificate, for records of what is not a request. Where only
    /// tokens say who calls, nobody does.
    pub fn holder(&self, presented: &Presented) -> Option<Arc<Principal>> {
        let shown = match presented {
            Presented::Certificate(shown)
            | Presented::CertificateAndToken(shown)
            | Presented::CertificateAndPerhapsToken(shown) => shown,
            Presented::Token(_) => return None,
        };
        self.directory
            .load()
            .by_certificate(shown.current().ok()?)
            .ok()
    }
}

impl Directory {
    fn new(
        principals: Vec<PrincipalConfig>,
        issuers: Vec<IssuerConfig>,
        outcomes: &Outcomes,
        old: Option<&Self>,
    ) -> Result<Self, KeySetError> {
        let mut used = old.map_or_else(Memories::default, |old| old.used.clone());
        let issuers = issuers
            .into_iter()
            .map(|config| {
                let known = old.and_then(|old| old.issuers.get(&config.issuer));
                let known = known.map(Arc::as_ref);
                let callers = principals.iter().filter_map(|p| {
                    let (issuer, subject) = p.token.as_ref()?;
                    (*issuer == config.name).then(|| (subject.clone(), p.clone()))
                });
                let callers = callers.collect();
                let name = config.issuer.clone();
                let issuer = Issuer::new(config, callers, known, used.get(&name), outcomes)?;
                if issuer.config.single_use {
                    used.insert(name, Arc::clone(&issuer.used));
                } else {
                    // What is used from now on is not noted.
                    used.remove(&name);
                }
                Ok((issuer.config.issuer.clone(), Arc::new(issuer)))
            })
            .collect::<Result<HashMap<_, _>, KeySetError>>()?;
        used.retain(|name, memory| issuers.contains_key(name) || !memory.is_spent(now()));
        let configured = principals.clone();
        let by_san = principals
            .into_iter()
            .filter_map(|p| Some((p.san.clone()?, Arc::new(Principal::of_certificate(p)))))
            .collect();
        Ok(Self {
            configured,
            by_san,
            issuers,
            used,
            verified: VerifiedTokens::default(),
        })
    }

    fn by_certificate(&self, identity: &PeerIdentity) -> Result<Arc<Principal>, Code> {
        let mut found: Option<&Arc<Principal>> = None;
        for principal in identity
            .sans()
            .iter()
            .filter_map(|san| self.by_san.get(san))
        {
            // A certificate of two principals is nobody's.
            if found.is_some_and(|other| !Arc::ptr_eq(other, principal)) {
                return Err(Code::UnknownPrincipal);
            }
            found = Some(principal);
        }
        found.cloned().ok_or(Code::UnknownPrincipal)
    }

    async fn by_token(
        &self,
        headers: &HeaderMap,
        certificate: Option<&PeerIdentity>,
        how: Authentication,
    ) -> Result<VerifiedToken, Code> {
        let text = bearer::token(headers)?;
        let thumbprint = certificate.map(PeerIdentity::thumbprint);
        let now = now();
        if let Some(verified) = self.verified.get(text, how, now)? {
            issuer::check_confirmation(verified.confirmation.as_ref(), thumbprint)?;
            return Ok(verified);
        }
        let token = token::Token::parse(text)?;
        let issuer = token.claims.text("iss").ok_or(Code::TokenClaimMissing)?;
        let issuer = self.issuers.get(issuer).ok_or(Code::TokenIssuer)?;
        let verified = issuer.verify(&token, thumbprint, how, now).await?;
        if !issuer.config.single_use {
            self.verified.put(text, how, verified.clone());
        }
        Ok(verified)
    }
}

fn now() -> i64 {
    i64::try_from(clock::since_epoch().as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
