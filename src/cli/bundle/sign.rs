//! `vitalgate bundle sign`: one signer's signature over a bundle the server would not refuse.

use std::{
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use serde_json::json;
use vitalgate::bundle::{SIGNATURES_DIRECTORY, signing};

use super::{Failure, bundle_directory, networks, print, read_bundle, version_directory};
use crate::cli::{signing_key::KeyArguments, whole_file::write_whole};
use vitalgate::error_chain::one_line;

/// How far into an existing file we look for the mark of a signature.
const HEAD: u64 = 64 << 10;

#[derive(Debug, Args)]
pub(crate) struct SignArguments {
    /// The bundle, or the version's directory that holds it as `bundle/`.
    directory: PathBuf,
    #[command(flatten)]
    key: KeyArguments,
    /// Where to write the signature [default: signatures/<16 digits of the key id>.sig beside the
    /// bundle].
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &SignArguments) -> Result<(), Failure> {
    let bundle = bundle_directory(&arguments.directory);
    let contents = read_bundle(&bundle)?;
    let refused = |reason: String| {
        Failure::DoesNotHold(anyhow!("{}: not signed: {reason}", bundle.display()))
    };
    let (spec, _) = networks::examine(contents.unverified()).map_err(refused)?;
    let key = arguments.key.open()?;
    let text = signing::sign(&contents, &spec.name, key.signer())
        .map_err(|error| refused(one_line(&error)))?;

    let file = match &arguments.signature {
        Some(file) => file.clone(),
        None => version_directory(&bundle)
            .map_err(Failure::environment)?
            .join(SIGNATURES_DIRECTORY)
            .join(format!("{}.sig", key.id().get(..16).unwrap_or_default())),
    };
    write(&file, &bundle, &text)?;

    let digest = contents.root_digest();
    print(&if arguments.json {
        json!({
            "model": spec.name,
            "version": spec.version,
            "digest": format!("sha256:{digest}"),
            "signer": key.id(),
            "signature": file.display().to_string(),
        })
        .to_string()
    } else {
        format!(
            "signed     {} version {}\ndigest     sha256:{digest}\nsigner     key {}\nsignature  {}",
            spec.name,
            spec.version,
            key.id(),
            file.display(),
        )
    })
}

/// Writes the signature outside the bundle, over an earlier one at most.
fn write(path: &Path, bundle: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Environment(anyhow!("{}: {error}", path.display()));
    let (Some(_), Some(folder)) = (path.file_name(), path.parent()) else {
        return Err(Failure::usage(anyhow!("--signature must name a file")));
    };
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let inside = folder.canonicalize().map_err(failed)?;
    if inside.starts_with(bundle.canonicalize().map_err(failed)?) {
        return Err(Failure::usage(anyhow!(
            "{}: within the bundle, which a signature would then change",
            path.display()
        )));
    }
    if !replaceable(path).map_err(failed)? {
        return Err(Failure::Environment(anyhow!(
            "{}: exists and is not a signature; not overwritten",
            path.display()
        )));
    }
    write_whole(path, text)
}

/// Whether there is nothing at `path`, or an earlier signature: a mistyped path must not cost
/// anybody a key.
fn replaceable(path: &Path) -> io::Result<bool> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    if !about.is_file() {
        return Ok(false);
    }
    let mut head = Vec::new();
    File::open(path)?.take(HEAD).read_to_end(&mut head)?;
    let mark = b"application/vnd.dev.sigstore.bundle";
    Ok(head.windows(mark.len()).any(|window| window == mark))
}
