//! `vitalgate policy sign`: one more signature on a policy.

use std::path::PathBuf;

use anyhow::anyhow;
use clap::Args;
use serde_json::json;

use super::{Failure, failure, print, read_draft};
use crate::cli::signing_key::KeyArguments;
use crate::cli::whole_file::write_whole;

#[derive(Debug, Args)]
pub(crate) struct SignArguments {
    /// The policy, as `policy new` wrote it or signed already.
    file: PathBuf,
    #[command(flatten)]
    key: KeyArguments,
    /// Where to write the signed policy. The same policy there, signed by others, keeps their
    /// signatures; anything else there is not overwritten.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &SignArguments) -> Result<(), Failure> {
    let (_, mut draft) = read_draft(&arguments.file)?;
    let out = arguments.out.display();
    if arguments.out.exists() {
        let keep = || {
            Failure::Environment(anyhow!(
                "{out}: exists and is not this policy, signed; not overwritten"
            ))
        };
        let (_, there) = read_draft(&arguments.out).map_err(|_| keep())?;
        if there.payload() != draft.payload() || !there.is_enveloped() {
            return Err(keep());
        }
        if !draft.is_enveloped() {
            draft = there;
        }
    }
    let key = arguments.key.open()?;
    let text = draft.sign(key.signer()).map_err(|error| failure(&error))?;
    write_whole(&arguments.out, &text)?;
    let serial = draft.terms().serial();
    print(&if arguments.json {
        json!({"policy": out.to_string(), "serial": serial, "signer": key.id()}).to_string()
    } else {
        format!("signed  {out}\nserial  {serial}\nsigner  key {}", key.id())
    })
}
