//! The keys that approve demo bundles, and the release policy that names them.

use std::{collections::BTreeMap, fs, path::Path, time::Duration};

use anyhow::Context;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use vitalgate::{
    bundle::{
        policy::{Draft, OnExpiry, Policy, PolicyKeys, RawRole, RawTerms, highest_seen, read_file},
        signing::SigningKey,
    },
    clock,
};

use super::{demo, write_private};

/// Who approves a demo bundle.
pub(super) const ROLES: [&str; 2] = ["builder", "clinical-safety"];
const ROOT: &str = "policy-root";
/// How long the policy is good for.
const LIFETIME: Duration = Duration::from_hours(30 * 24);
/// It is renewed at a start that finds less than this left.
const RENEWAL: Duration = Duration::from_hours(7 * 24);

/// The keys of the roles, by name, made once; and a policy that is good for a while.
pub(super) fn ensure(state: &Path) -> anyhow::Result<BTreeMap<&'static str, SigningKey>> {
    let keys = state.join("keys");
    let mut signers = BTreeMap::new();
    for role in ROLES {
        signers.insert(role, signing_key(&keys, role)?);
    }
    let root = signing_key(&keys, ROOT)?;
    policy(state, &root, &signers).context("release policy")?;
    Ok(signers)
}

/// A key, made once.
fn signing_key(keys: &Path, name: &str) -> anyhow::Result<SigningKey> {
    let path = keys.join(format!("{name}.key"));
    if !path.exists() {
        let (private, _) = SigningKey::generate_p256()?;
        write_private(&path, private.as_bytes())?;
    }
    let key = SigningKey::from_pkcs8_pem(&fs::read(&path)?)?;
    let public = keys.join(format!("{name}.pub"));
    if fs::read(&public).ok().as_deref() != Some(key.public_key_pem().as_bytes()) {
        write_private(&public, key.public_key_pem().as_bytes())?;
    }
    Ok(key)
}

/// Writes and signs the policy, unless the one that is there says the same and has time left.
fn policy(
    state: &Path,
    root: &SigningKey,
    signers: &BTreeMap<&'static str, SigningKey>,
) -> anyhow::Result<()> {
    let path = state.join("policy/release.dsse.json");
    let keys = PolicyKeys::new(&[root.public_key_pem().as_bytes().to_vec()], 1)?;
    let now = OffsetDateTime::from_unix_timestamp(clock::utc().unix_timestamp())?;
    let mut wanted = RawTerms {
        format: 1,
        serial: 1,
        issued: now.format(&Rfc3339)?,
        expires: (now + LIFETIME).format(&Rfc3339)?,
        on_expiry: OnExpiry::Keep,
        roles: signers
            .iter()
            .map(|(role, key)| {
                let keys = vec![key.public_key_pem().to_owned()];
                ((*role).to_owned(), RawRole { threshold: 1, keys })
            })
            .collect(),
        min_version: demo::BUNDLES
            .iter()
            .map(|(name, version, _)| Ok(((*name).to_owned(), version.parse()?)))
            .collect::<anyhow::Result<_>>()?,
        revoked_keys: Vec::new(),
        revoked_digests: Vec::new(),
    };
    let present = read_file(&path).and_then(|bytes| Policy::verify(&bytes, &keys));
    if let Ok(present) = present {
        let terms = present.terms();
        if says_the_same(terms.raw(), &wanted) && terms.expires() > now + RENEWAL {
            return Ok(());
        }
        wanted.serial = terms.serial() + 1;
    }
    // A policy that is gone may have been seen.
    let seen = highest_seen(&state.join("trust-state.json"))?.unwrap_or_default();
    wanted.serial = wanted.serial.max(seen + 1);
    let text = serde_json::to_string_pretty(&wanted)? + "\n";
    let signed = Draft::read(text.as_bytes())?.sign(root)?;
    write_private(&path, signed.as_bytes())?;
    Ok(())
}

/// But for its serial and times, and for what someone who tries things out added.
fn says_the_same(present: &RawTerms, wanted: &RawTerms) -> bool {
    let keys = |terms: &RawTerms| -> Vec<(String, usize, Vec<String>)> {
        let role =
            |(name, role): (&String, &RawRole)| (name.clone(), role.threshold, role.keys.clone());
        terms.roles.iter().map(role).collect()
    };
    keys(present) == keys(wanted)
        && wanted
            .min_version
            .keys()
            .all(|model| present.min_version.contains_key(model))
}
