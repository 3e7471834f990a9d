//! `vitalgate bundle verify`: one signature over one directory, or all that a release policy asks
//! for.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use clap::Args;
use rustls_pki_types::UnixTime;
use serde_json::json;
use vitalgate::{
    bundle::{
        policy::{Policy, PolicyKeys, read_key},
        read_version,
        signing::{Limits, SigningError, Trust, verify},
    },
    clock,
};

use super::{Failure, print, read_file};
use vitalgate::error_chain::one_line;

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The directory whose every file must be as it was signed; with --policy, a version's
    /// directory: bundle/ and signatures/.
    directory: PathBuf,
    /// The signature: an OpenSSF Model Signing v1.0 file.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "policy",
        conflicts_with = "policy"
    )]
    signature: Option<PathBuf>,
    #[command(flatten)]
    trusted: Trusted,
    #[command(flatten)]
    policy_trust: PolicyTrust,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Trusted {
    /// The public key that must have signed.
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// The root certificates to one of which the signer's must chain, now.
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
    /// The signed release policy, whose approvals the version must have now.
    #[arg(long, value_name = "FILE", requires = "policy_key")]
    policy: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct PolicyTrust {
    /// A public key that may sign the policy.
    #[arg(long, value_name = "PEM", num_args = 1.., requires = "policy")]
    policy_key: Vec<PathBuf>,
    /// How many of them must have [default: all].
    #[arg(long, value_name = "N", requires = "policy")]
    policy_threshold: Option<usize>,
    /// The lowest serial the policy may have.
    #[arg(long, value_name = "N", default_value_t = 1, requires = "policy")]
    min_serial: u64,
}

/// Whatever is wrong with the directory or the signature means "not verified" (exit 1), a missing
/// file included. Only a key or root that cannot be read at all leaves the question open (exit 3).
pub(crate) fn run(arguments: &VerifyArguments) -> Result<(), Failure> {
    let Trusted { key, ca, policy } = &arguments.trusted;
    if let Some(policy) = policy {
        return by_policy(arguments, policy);
    }
    let Some(signature) = &arguments.signature else {
        return Err(Failure::usage(anyhow!("--signature is needed")));
    };
    let (pem, method) = match (key, ca) {
        (Some(key), _) => (read_file(key)?, "key"),
        (None, Some(ca)) => (read_file(ca)?, "certificate"),
        (None, None) => return Err(Failure::usage(anyhow!("--key or --ca is needed"))),
    };
    let trust = if method == "key" {
        Trust::Key { spki_pem: &pem }
    } else {
        Trust::Roots {
            ca_pem: &pem,
            now: UnixTime::since_unix_epoch(clock::since_epoch()),
        }
    };
    let limits = Limits::default();
    match verify(&arguments.directory, signature, &trust, &limits) {
        Ok(verified) => {
            let (digest, signer) = (verified.digest(), verified.signer());
            print(&if arguments.json {
                json!({
                    "verified": true,
                    "digest": format!("sha256:{digest}"),
                    "method": method,
                    "signer": signer,
                    "files": verified.files().len(),
                })
                .to_string()
            } else {
                format!("verified: digest sha256:{digest} signer {method} {signer}")
            })
        }
        Err(error) => {
            let reason = named(&error, key.as_deref().or(ca.as_deref()));
            Err(not_verified(arguments, signature, &reason)?)
        }
    }
}

/// The reason, with the file of what was to be trusted where that is at fault.
fn named(error: &SigningError, trusted: Option<&Path>) -> String {
    let ours = matches!(
        error,
        SigningError::TrustedKey { .. } | SigningError::TrustedRoots { .. }
    );
    match trusted {
        Some(path) if ours => format!("{}: {}", path.display(), one_line(error)),
        _ => one_line(error),
    }
}

/// Says why not, and gives the failure to return.
fn not_verified(
    arguments: &VerifyArguments,
    with: &Path,
    reason: &str,
) -> Result<Failure, Failure> {
    if arguments.json {
        print(&json!({"verified": false, "reason": reason}).to_string())?;
    }
    Ok(Failure::DoesNotHold(anyhow!(
        "{} with {}: not verified: {reason}",
        arguments.directory.display(),
        with.display(),
    )))
}

/// Whether the server would load the version under this policy, but for what it remembers of
/// earlier policies.
fn by_policy(arguments: &VerifyArguments, file: &Path) -> Result<(), Failure> {
    let trust = &arguments.policy_trust;
    let keys = trust
        .policy_key
        .iter()
        .map(|path| {
            read_key(path).map_err(|error| {
                let reason = anyhow!("{}", one_line(&error));
                if error.is_environment() {
                    Failure::Environment(reason)
                } else {
                    Failure::Usage(reason)
                }
            })
        })
        .collect::<Result<Vec<_>, _>>()?;
    let threshold = trust.policy_threshold.unwrap_or(keys.len());
    let keys = PolicyKeys::new(&keys, threshold)
        .map_err(|error| Failure::Usage(anyhow!("{}", one_line(&error))))?;
    let policy = read_file(file).and_then(|bytes| {
        Policy::verify(&bytes, &keys)
            .and_then(|policy| policy.enforce(trust.min_serial, None))
            .map_err(|error| Failure::DoesNotHold(anyhow!("{}", one_line(&error))))
    });
    let policy = match policy {
        Ok(policy) => policy,
        Err(Failure::DoesNotHold(reason)) => {
            return Err(not_verified(arguments, file, &reason.to_string())?);
        }
        Err(other) => return Err(other),
    };
    let judged = read_version(&arguments.directory).and_then(|(path, contents, signatures)| {
        let policy = policy.policy();
        policy.judge(&path, &contents, &signatures, clock::utc())
    });
    let approval = match judged {
        Ok(approval) => approval,
        Err(error) => return Err(not_verified(arguments, file, &one_line(&error))?),
    };
    let terms = policy.terms();
    print(&if arguments.json {
        json!({
            "verified": true,
            "model": approval.model(),
            "version": approval.version(),
            "digest": format!("sha256:{}", approval.digest()),
            "policy": {"serial": terms.serial(), "expires": terms.expires_text()},
            "approvals": approval.by_role(),
        })
        .to_string()
    } else {
        let mut text = format!(
            "approved   {} version {}\ndigest     sha256:{}\npolicy     serial {}, until {}",
            approval.model(),
            approval.version(),
            approval.digest(),
            terms.serial(),
            terms.expires_text(),
        );
        for (role, keys) in approval.by_role() {
            for key in keys {
                text.push_str("\napproval   ");
                text.push_str(&[role, ": key ", key].concat());
            }
        }
        text
    })
}
