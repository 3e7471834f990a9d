//! Where a signature's private key lies: in a file, or in a token that never gives it away.

use std::{
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use vitalgate::bundle::signing::{Signer, SigningKey, key_id};
use zeroize::Zeroizing;

use super::Failure;
use vitalgate::{error_chain::one_line, named_file};

pub(crate) mod token;

/// More than any PEM file of one EC key.
const MAX_KEY: u64 = 64 << 10;

/// The key to sign with: `--key`, or one in a PKCS#11 token.
#[derive(Debug, Args)]
pub(crate) struct KeyArguments {
    /// The private key, PEM, readable by its owner only.
    #[arg(
        long,
        value_name = "PEM",
        required_unless_present = "pkcs11_module",
        conflicts_with = "pkcs11_module"
    )]
    key: Option<PathBuf>,
    #[command(flatten)]
    token: TokenArguments,
}

/// A key in a PKCS#11 token.
#[derive(Debug, Args)]
pub(crate) struct TokenArguments {
    /// The PKCS#11 library of a token that holds the key, in place of a key file.
    #[arg(long, value_name = "LIB", requires_all = ["token", "key_label"])]
    pkcs11_module: Option<PathBuf>,
    /// The token's label.
    #[arg(long, value_name = "LABEL", requires = "pkcs11_module")]
    token: Option<String>,
    /// The key's label in the token.
    #[arg(long, value_name = "LABEL", requires = "pkcs11_module")]
    key_label: Option<String>,
    /// A file with the token's user PIN, readable by its owner only; not needed when the token has
    /// a keypad of its own.
    #[arg(long, value_name = "FILE", requires = "pkcs11_module")]
    pin_file: Option<PathBuf>,
}

impl KeyArguments {
    /// Reads the key, or logs in to the token.
    pub(crate) fn open(&self) -> Result<OpenedKey, Failure> {
        let signer: Box<dyn Signer> = match (&self.key, self.token.place()) {
            (Some(path), _) => Box::new(private_key(path)?),
            (None, Some(place)) => Box::new(token::TokenKey::open(&place)?),
            (None, None) => {
                return Err(Failure::usage(anyhow!(
                    "--key or --pkcs11-module is needed"
                )));
            }
        };
        let id = key_id(signer.public_key_pem().as_bytes()).map_err(Failure::environment)?;
        Ok(OpenedKey { signer, id })
    }
}

impl TokenArguments {
    /// The key's place, if a token was named.
    pub(crate) fn place(&self) -> Option<token::KeyPlace<'_>> {
        Some(token::KeyPlace {
            module: self.pkcs11_module.as_deref()?,
            token: self.token.as_deref()?,
            key: self.key_label.as_deref()?,
            pin_file: self.pin_file.as_deref(),
        })
    }
}

/// A key that is ready to sign.
pub(crate) struct OpenedKey {
    signer: Box<dyn Signer>,
    id: String,
}

impl OpenedKey {
    pub(crate) fn signer(&self) -> &dyn Signer {
        self.signer.as_ref()
    }

    /// Lower-case hexadecimal SHA-256 of its public half.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }
}

fn private_key(path: &Path) -> Result<SigningKey, Failure> {
    let pem = read_secret(path, "private key", MAX_KEY)?;
    SigningKey::from_pkcs8_pem(&pem)
        .map_err(|error| Failure::Environment(anyhow!("{}: {}", path.display(), one_line(&error))))
}

/// Reads a secret, unless others can too: whoever can read it can sign.
fn read_secret(path: &Path, what: &str, limit: u64) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: io::Error| Failure::Environment(anyhow!("{}: {error}", path.display()));
    let file = named_file::open(path).map_err(failed)?;
    // Asked of the opened file, so that it is about the bytes we read.
    let about = file.metadata().map_err(failed)?;
    let unusable = |reason: &str| Failure::Environment(anyhow!("{}: {reason}", path.display()));
    if about.len() > limit {
        return Err(unusable(&format!("not a {what} file")));
    }
    if about.mode() & 0o077 != 0 {
        return Err(unusable(&format!(
            "the {what} can be read by others (mode {:03o}); chmod 600 it, and replace it if \
             anyone may have",
            about.mode() & 0o777
        )));
    }
    named_file::read_opened(&file, limit)
        .map(Zeroizing::new)
        .map_err(failed)
}
