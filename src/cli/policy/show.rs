//! `vitalgate policy show`: what a policy says, for those who decide about it.

use std::{
    fmt::{self, Write},
    path::PathBuf,
};

use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use vitalgate::{
    bundle::policy::{OnExpiry, Policy, PolicyKeys, Terms, read_key},
    clock,
    error_chain::{one_line, printable},
};

use super::{Failure, failure, print, read_draft};

#[derive(Debug, Args)]
pub(crate) struct ShowArguments {
    /// The policy, signed or not.
    file: PathBuf,
    /// A public key that must have signed; without any, signatures are only listed.
    #[arg(long = "key", value_name = "PEM", num_args = 1..)]
    keys: Vec<PathBuf>,
    /// How many of the keys must have signed [default: all].
    #[arg(long, value_name = "N", requires = "keys")]
    threshold: Option<usize>,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &ShowArguments) -> Result<(), Failure> {
    let (bytes, draft) = read_draft(&arguments.file)?;
    let terms = draft.terms();
    let claimed = draft.claimed_signers().map_err(|error| failure(&error))?;
    let verified = if arguments.keys.is_empty() {
        None
    } else {
        Some(verify(arguments, &bytes)?)
    };
    let expired = clock::utc() >= terms.expires();
    let (holds, signers) = match &verified {
        None => (None, None),
        Some(Ok(policy)) => (Some(true), Some(policy.signers())),
        Some(Err(_)) => (Some(false), None),
    };
    if arguments.json {
        let signatures = json!({"claimed": claimed, "verified": holds, "signers": signers});
        let found = json!({"policy": terms.raw(), "expired": expired, "signatures": signatures});
        print(&found.to_string())?;
    } else {
        let mut text = String::new();
        describe(&mut text, terms, expired)
            .and_then(|()| describe_signatures(&mut text, &claimed, verified.as_ref()))
            .map_err(Failure::environment)?;
        print(text.trim_end())?;
    }
    match verified {
        Some(Err(reason)) => Err(Failure::DoesNotHold(anyhow!(
            "{}: {reason}",
            arguments.file.display()
        ))),
        Some(Ok(_)) | None => Ok(()),
    }
}

fn verify(arguments: &ShowArguments, file: &[u8]) -> Result<Result<Policy, String>, Failure> {
    let pems = arguments
        .keys
        .iter()
        .map(|path| read_key(path).map_err(|error| failure(&error)))
        .collect::<Result<Vec<_>, _>>()?;
    let threshold = arguments.threshold.unwrap_or(pems.len());
    let keys = PolicyKeys::new(&pems, threshold)
        .map_err(|error| Failure::Usage(anyhow!("{}", one_line(&error))))?;
    Ok(Policy::verify(file, &keys).map_err(|error| one_line(&error)))
}

fn describe(text: &mut String, terms: &Terms, expired: bool) -> fmt::Result {
    let raw = terms.raw();
    writeln!(text, "serial   {}", terms.serial())?;
    writeln!(text, "issued   {}", raw.issued)?;
    let note = if expired { "  (EXPIRED)" } else { "" };
    writeln!(text, "expires  {}{note}", terms.expires_text())?;
    let then = match terms.on_expiry() {
        OnExpiry::Keep => "models that serve go on",
        OnExpiry::Stop => "predictions stop",
    };
    writeln!(text, "then     nothing new is loaded; {then}")?;
    for (name, role) in terms.roles() {
        let keys: Vec<&str> = role.key_ids().collect();
        let (threshold, of) = (role.threshold(), keys.len());
        writeln!(text, "role     {name}: {threshold} of {of}")?;
        for key in keys {
            let revoked = if terms.is_key_revoked(key) {
                "  (REVOKED)"
            } else {
                ""
            };
            writeln!(text, "           key {key}{revoked}")?;
        }
    }
    for (model, version) in &raw.min_version {
        writeln!(text, "model    {model}, version {version} or later")?;
    }
    for key in &raw.revoked_keys {
        writeln!(text, "revoked  key {key}")?;
    }
    for digest in &raw.revoked_digests {
        writeln!(text, "revoked  digest sha256:{digest}")?;
    }
    Ok(())
}

fn describe_signatures(
    text: &mut String,
    claimed: &[String],
    verified: Option<&Result<Policy, String>>,
) -> fmt::Result {
    match verified {
        Some(Ok(policy)) => {
            for signer in policy.signers() {
                writeln!(text, "signed   key {signer}: verified")?;
            }
            Ok(())
        }
        Some(Err(_)) => writeln!(text, "signed   NOT by the keys given"),
        None if claimed.is_empty() => writeln!(text, "signed   by nobody"),
        None => {
            for claim in claimed {
                let claim: String = printable(claim).chars().take(80).collect();
                writeln!(text, "signed   claims key {claim}: not verified")?;
            }
            Ok(())
        }
    }
}
