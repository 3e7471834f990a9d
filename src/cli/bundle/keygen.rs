//! `vitalgate bundle keygen`: a key pair for signing, in files or in a token.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use vitalgate::bundle::signing::{Signer, SigningKey, key_id};

use super::{Failure, print};
use crate::cli::signing_key::{
    TokenArguments,
    token::{CurveArgument, KeyPlace, TokenKey},
};
use vitalgate::error_chain::{one_line, printable};

#[derive(Debug, Args)]
pub(crate) struct KeygenArguments {
    /// Where to put the keys: PREFIX.key (private, mode 0600) and PREFIX.pub. With a token,
    /// PREFIX.pub only: the private key is made in the token and never leaves it.
    #[arg(long, value_name = "PREFIX")]
    out: PathBuf,
    #[command(flatten)]
    token: TokenArguments,
    /// The key's curve, in a token.
    #[arg(long, value_enum, default_value_t = CurveArgument::P256, requires = "pkcs11_module")]
    curve: CurveArgument,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &KeygenArguments) -> Result<(), Failure> {
    if let Some(place) = arguments.token.place() {
        return in_token(arguments, &place);
    }
    let private_path = with_suffix(&arguments.out, ".key");
    let public_path = with_suffix(&arguments.out, ".pub");
    let (private, public) = SigningKey::generate_p256()
        .map_err(|error| Failure::Environment(anyhow!("{}", one_line(&error))))?;
    let id = key_id(public.as_bytes()).map_err(Failure::environment)?;

    // Both must be new before either is written: half a pair is worse than none.
    let private_file = create(&private_path, 0o600)?;
    let public_file = create(&public_path, 0o644).inspect_err(|_| discard(&private_path))?;
    fill(private_file, &private_path, private.as_bytes())
        .and_then(|()| fill(public_file, &public_path, public.as_bytes()))
        .inspect_err(|_| {
            discard(&private_path);
            discard(&public_path);
        })?;

    print(&if arguments.json {
        json!({
            "private_key": private_path.display().to_string(),
            "public_key": public_path.display().to_string(),
            "key_id": id,
        })
        .to_string()
    } else {
        format!(
            "private key  {}  (mode 0600; whoever reads it can sign)\npublic key   {}\nkey id       {id}",
            private_path.display(),
            public_path.display(),
        )
    })
}

fn in_token(arguments: &KeygenArguments, place: &KeyPlace<'_>) -> Result<(), Failure> {
    let public_path = with_suffix(&arguments.out, ".pub");
    // Before the key: one whose public half has no place would stay in the token all the same.
    let public_file = create(&public_path, 0o644)?;
    let discarded = |_: &Failure| discard(&public_path);
    let key = TokenKey::generate(place, arguments.curve.into()).inspect_err(discarded)?;
    let public = key.public_key_pem();
    let id = key_id(public.as_bytes()).map_err(Failure::environment)?;
    fill(public_file, &public_path, public.as_bytes()).inspect_err(discarded)?;
    print(&if arguments.json {
        json!({
            "token": place.token,
            "key_label": place.key,
            "public_key": public_path.display().to_string(),
            "key_id": id,
        })
        .to_string()
    } else {
        format!(
            "private key  {} in token {}  (never leaves it)\npublic key   {}\nkey id       {id}",
            printable(place.key),
            printable(place.token),
            public_path.display(),
        )
    })
}

fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(prefix);
    name.push(suffix);
    name.into()
}

/// Creates a file that is not there yet, with its mode from the first moment.
fn create(path: &Path, mode: u32) -> Result<File, Failure> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(|error| {
            let reason = if error.kind() == io::ErrorKind::AlreadyExists {
                "exists already; a key is never overwritten".to_owned()
            } else {
                error.to_string()
            };
            Failure::Environment(anyhow!("{}: {reason}", path.display()))
        })
}

/// Removes a file that [`create`] has just made.
fn discard(path: &Path) {
    drop(fs::remove_file(path));
}

fn fill(mut file: File, path: &Path, bytes: &[u8]) -> Result<(), Failure> {
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|error| Failure::Environment(anyhow!("{}: {error}", path.display())))
}
