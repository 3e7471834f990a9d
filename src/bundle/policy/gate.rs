//! Holds a bundle's signatures against the policy: every one over the same bytes in memory.

use std::collections::{BTreeMap, BTreeSet};

use time::{Duration, OffsetDateTime};

use super::{
    super::{
        LoadError, parse_model,
        signing::{Contents, SigningError, Trust, Verified, verify_contents},
    },
    NotApproved, Policy, Role,
    error::shown,
};
use crate::error_chain::one_line;

/// Clocks of the machine that wrote the policy and of this one may differ by this much.
const CLOCK_SKEW: Duration = Duration::minutes(5);

/// A file that may be a signature over the bundle.
#[derive(Debug)]
pub struct SignatureFile {
    /// Its name, for messages.
    pub name: String,
    /// What is in it, or why it could not be read.
    pub bytes: Result<Vec<u8>, SigningError>,
}

/// A bundle that has every approval a policy asks for; made only by [`Policy::judge`]. Whether
/// the policy itself is in force is another question.
#[derive(Debug)]
pub struct Approval {
    pub(in crate::bundle) verified: Verified,
    model: String,
    version: u32,
    digest: String,
    by_role: BTreeMap<String, BTreeSet<String>>,
}

impl Approval {
    /// The model's name.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// The model's version.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The root digest, files in order of their names; signers may have listed them otherwise.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The ids of the keys that approved, by role.
    pub fn by_role(&self) -> &BTreeMap<String, BTreeSet<String>> {
        &self.by_role
    }
}

/// What the signatures amount to.
#[derive(Default)]
struct Count {
    by_role: BTreeMap<String, BTreeSet<String>>,
    revoked: BTreeMap<String, String>,
    verified: Vec<Verified>,
    reasons: Vec<String>,
}

impl Policy {
    /// Judges a bundle, read already, at the moment `now`. `path` is for messages.
    pub fn judge(
        &self,
        path: &std::path::Path,
        contents: &Contents,
        signatures: &[SignatureFile],
        now: OffsetDateTime,
    ) -> Result<Approval, LoadError> {
        let refuse = |reason| LoadError::NotApproved {
            path: path.to_owned(),
            source: Box::new(reason),
        };
        self.check_time(now).map_err(refuse)?;
        let digest = contents.root_digest();
        if self.terms.is_digest_revoked(&digest) {
            return Err(refuse(NotApproved::RevokedDigest(digest)));
        }
        let Count {
            mut by_role,
            revoked,
            verified,
            reasons,
        } = self.count(contents, signatures);
        // A digest may have been copied from a signature that lists the files in another order.
        if let Some(v) = verified
            .iter()
            .find(|v| self.terms.is_digest_revoked(v.digest()))
        {
            return Err(refuse(NotApproved::RevokedDigest(v.digest().to_owned())));
        }
        for (role, needed) in self.terms.roles() {
            let found = by_role.entry(role.clone()).or_default().len();
            if found >= needed.threshold() {
                continue;
            }
            return Err(refuse(missing(role, needed, found, &revoked, &reasons)));
        }
        // There is one: a policy has a role, and a threshold is above 0.
        let Some(verified) = verified.into_iter().next() else {
            return Err(LoadError::Unsigned(path.to_owned()));
        };
        let spec = parse_model(path, verified.files())?;
        let Some(least) = self.terms.min_version(&spec.name) else {
            return Err(refuse(NotApproved::ModelNotNamed(spec.name.clone())));
        };
        if spec.version < least {
            return Err(refuse(NotApproved::BelowMinVersion {
                model: spec.name.clone(),
                version: spec.version,
                least,
            }));
        }
        Ok(Approval {
            verified,
            model: spec.name.clone(),
            version: spec.version,
            digest,
            by_role,
        })
    }

    fn check_time(&self, now: OffsetDateTime) -> Result<(), NotApproved> {
        let serial = self.terms.serial();
        if now >= self.terms.expires() {
            return Err(NotApproved::Expired {
                serial,
                expires: self.terms.expires_text(),
            });
        }
        if now < self.terms.issued() - CLOCK_SKEW {
            return Err(NotApproved::NotYetIssued {
                serial,
                issued: shown(self.terms.issued()),
            });
        }
        Ok(())
    }

    fn count(&self, contents: &Contents, signatures: &[SignatureFile]) -> Count {
        let mut count = Count::default();
        for SignatureFile { name, bytes } in signatures {
            // A signature that cannot be read must not stand in the way of one that can.
            let verdict = match bytes {
                Ok(bytes) => self.whose(contents, bytes),
                Err(unreadable) => Err(one_line(unreadable)),
            };
            match verdict {
                Ok((role, verified)) => {
                    let key = verified.signer().to_owned();
                    if self.terms.is_key_revoked(&key) {
                        count.revoked.insert(role, key);
                    } else {
                        // A set: a key counts once, however many files it signed.
                        count.by_role.entry(role).or_default().insert(key);
                        count.verified.push(verified);
                    }
                }
                Err(reason) => count.reasons.push(format!("{name}: {reason}")),
            }
        }
        count
    }

    /// The role for which a signature counts; a key is in one role only.
    fn whose(&self, contents: &Contents, signature: &[u8]) -> Result<(String, Verified), String> {
        let mut reason = "not made with a key of the release policy".to_owned();
        for (name, role) in self.terms.roles() {
            for key in role.keys() {
                let pem = key.to_pem();
                let trust = Trust::Key {
                    spki_pem: pem.as_bytes(),
                };
                match verify_contents(contents, signature, &trust) {
                    Ok(verified) => return Ok((name.clone(), verified)),
                    // Another key's signature, as is to be expected with several roles.
                    Err(SigningError::KeyHint) => {}
                    Err(other) => reason = one_line(&other),
                }
            }
        }
        Err(reason)
    }
}

fn missing(
    role: &str,
    needed: &Role,
    found: usize,
    revoked: &BTreeMap<String, String>,
    reasons: &[String],
) -> NotApproved {
    let (role, threshold) = (role.to_owned(), needed.threshold());
    if let Some(key) = revoked.get(&role) {
        return NotApproved::RevokedKey {
            key: key.clone(),
            role,
            found,
            threshold,
        };
    }
    let reasons = match reasons {
        [] => String::new(),
        reasons => format!(" ({})", reasons.join("; ")),
    };
    NotApproved::MissingApproval {
        role,
        found,
        threshold,
        reasons,
    }
}
