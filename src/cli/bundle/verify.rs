//! `vitalgate bundle verify`: one signature over one directory.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use rustls_pki_types::UnixTime;
use serde_json::json;
use vitalgate::{
    bundle::signing::{Limits, Trust, verify},
    clock,
};

use super::{Failure, print, read_file};
use vitalgate::error_chain::one_line;

#[derive(Debug, Args)]
pub(crate) struct VerifyArguments {
    /// The directory whose every file must be as it was signed.
    directory: PathBuf,
    /// The signature: an OpenSSF Model Signing v1.0 file.
    #[arg(long, value_name = "FILE")]
    signature: PathBuf,
    #[command(flatten)]
    trusted: Trusted,
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
}

/// Whatever is wrong with the directory or the signature means "not verified" (exit 1), a missing
/// file included. Only a key or root that cannot be read at all leaves the question open (exit 3).
pub(crate) fn run(arguments: &VerifyArguments) -> Result<(), Failure> {
    let Trusted { key, ca } = &arguments.trusted;
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
    match verify(&arguments.directory, &arguments.signature, &trust, &limits) {
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
            let reason = one_line(&error);
            if arguments.json {
                print(&json!({"verified": false, "reason": reason}).to_string())?;
            }
            Err(Failure::DoesNotHold(anyhow!(
                "{} with {}: not verified: {reason}",
                arguments.directory.display(),
                arguments.signature.display(),
            )))
        }
    }
}
