//! `vitalgate policy new`: a policy to be signed, from what it should say.

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::anyhow;
use clap::{Args, ValueEnum};
use serde_json::json;
use time::{
    Date, OffsetDateTime, format_description::well_known::Rfc3339, macros::format_description,
};
use vitalgate::{
    bundle::policy::{OnExpiry, RawRole, RawTerms, Terms, read_key},
    clock,
};

use super::{Failure, failure, print};
use crate::cli::whole_file::write_whole;

#[derive(Debug, Args)]
pub(crate) struct NewArguments {
    /// Higher than any policy before had.
    #[arg(long, value_name = "N")]
    serial: u64,
    /// RFC 3339 time, or a date (its first moment, UTC).
    #[arg(long, value_name = "DATE", value_parser = parse_time)]
    expires: OffsetDateTime,
    /// A role, how many of its keys must sign a model, and its public keys.
    #[arg(long = "role", value_name = "NAME=THRESHOLD:PEM[,PEM…]", required = true, value_parser = parse_role)]
    roles: Vec<RoleArgument>,
    /// A model that may be loaded, and its lowest version.
    #[arg(long, value_name = "MODEL=N", required = true, value_parser = parse_version)]
    min_version: Vec<(String, u32)>,
    /// The id of a key whose signatures no longer count.
    #[arg(long, value_name = "ID")]
    revoke_key: Vec<String>,
    /// The digest of a bundle that may no longer be loaded, with or without `sha256:`.
    #[arg(long, value_name = "HEX")]
    revoke_digest: Vec<String>,
    /// Whether models that serve go on when the policy expires, or stop.
    #[arg(long, value_enum, default_value_t = OnExpiryArgument::Keep)]
    on_expiry: OnExpiryArgument,
    /// Where to write it; must not exist.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone)]
struct RoleArgument {
    name: String,
    threshold: usize,
    keys: Vec<PathBuf>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnExpiryArgument {
    Keep,
    Stop,
}

fn parse_time(text: &str) -> Result<OffsetDateTime, String> {
    let day = format_description!("[year]-[month]-[day]");
    OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| Date::parse(text, &day).map(|date| date.midnight().assume_utc()))
        .map_err(|_| "neither RFC 3339 time nor YYYY-MM-DD".to_owned())
}

fn parse_role(text: &str) -> Result<RoleArgument, String> {
    let parts = || {
        let (name, rest) = text.split_once('=')?;
        let (threshold, keys) = rest.split_once(':')?;
        Some(RoleArgument {
            name: name.to_owned(),
            threshold: threshold.parse().ok()?,
            keys: keys.split(',').map(PathBuf::from).collect(),
        })
    };
    parts().ok_or_else(|| "not NAME=THRESHOLD:PEM[,PEM…]".to_owned())
}

fn parse_version(text: &str) -> Result<(String, u32), String> {
    text.split_once('=')
        .and_then(|(name, version)| Some((name.to_owned(), version.parse().ok()?)))
        .ok_or_else(|| "not MODEL=N".to_owned())
}

pub(crate) fn run(arguments: &NewArguments) -> Result<(), Failure> {
    let now = clock::utc()
        .replace_nanosecond(0)
        .map_err(Failure::environment)?;
    if arguments.expires <= now {
        return Err(Failure::usage(anyhow!("--expires is in the past")));
    }
    let shown = |time: OffsetDateTime| time.format(&Rfc3339).map_err(Failure::environment);
    let raw = RawTerms {
        format: 1,
        serial: arguments.serial,
        issued: shown(now)?,
        expires: shown(arguments.expires)?,
        on_expiry: match arguments.on_expiry {
            OnExpiryArgument::Keep => OnExpiry::Keep,
            OnExpiryArgument::Stop => OnExpiry::Stop,
        },
        roles: roles(&arguments.roles)?,
        min_version: min_version(&arguments.min_version)?,
        revoked_keys: arguments.revoke_key.clone(),
        revoked_digests: arguments
            .revoke_digest
            .iter()
            .map(|digest| digest.strip_prefix("sha256:").unwrap_or(digest).to_owned())
            .collect(),
    };
    let text = serde_json::to_string_pretty(&raw).map_err(Failure::environment)? + "\n";
    // What is written is what a server will read.
    let terms = Terms::parse(text.as_bytes()).map_err(|error| failure(&error))?;
    let out = arguments.out.display();
    if arguments.out.exists() {
        return Err(Failure::environment(anyhow!(
            "{out}: exists already; not overwritten"
        )));
    }
    write_whole(&arguments.out, &text)?;
    print(&if arguments.json {
        json!({"policy": out.to_string(), "serial": terms.serial(), "expires": terms.expires_text()})
            .to_string()
    } else {
        format!(
            "policy   {out}  (not signed yet)\nserial   {}\nexpires  {}",
            terms.serial(),
            terms.expires_text()
        )
    })
}

fn roles(arguments: &[RoleArgument]) -> Result<BTreeMap<String, RawRole>, Failure> {
    let mut roles = BTreeMap::new();
    for RoleArgument {
        name,
        threshold,
        keys,
    } in arguments
    {
        let keys = keys
            .iter()
            .map(|path| {
                let pem = read_key(path).map_err(|error| failure(&error))?;
                String::from_utf8(pem)
                    .map_err(|_| Failure::DoesNotHold(anyhow!("{}: not text", path.display())))
            })
            .collect::<Result<_, _>>()?;
        let role = RawRole {
            threshold: *threshold,
            keys,
        };
        if roles.insert(name.clone(), role).is_some() {
            return Err(Failure::usage(anyhow!("--role {name} is given twice")));
        }
    }
    Ok(roles)
}

fn min_version(arguments: &[(String, u32)]) -> Result<BTreeMap<String, u32>, Failure> {
    let mut versions = BTreeMap::new();
    for (model, version) in arguments {
        if versions.insert(model.clone(), *version).is_some() {
            return Err(Failure::usage(anyhow!(
                "--min-version {model} is given twice"
            )));
        }
    }
    Ok(versions)
}
