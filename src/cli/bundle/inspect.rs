//! `vitalgate bundle inspect`: what a bundle is, for those who decide about it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use serde::Serialize;
use serde_json::Value;
use vitalgate::bundle::{
    MODEL_FILE, SIGNATURES_DIRECTORY,
    model::RawModel,
    signing::{Contents, Trust, key_id, read_signature, verify_contents},
};

use super::{
    Failure,
    bom::{self, Metric, Origin},
    bundle_directory, intake,
    networks::{self, Network},
    print, read_bundle, read_file, report, version_directory,
};
use vitalgate::error_chain::{one_line, printable};

/// Signature files looked at, at most.
const MAX_SIGNATURES: usize = 32;

#[derive(Debug, Args)]
pub(crate) struct InspectArguments {
    /// The bundle, or the version's directory that holds it as `bundle/`.
    directory: PathBuf,
    /// Check the signatures beside the bundle against this public key; without it they are only
    /// listed.
    #[arg(long, value_name = "PEM")]
    key: Option<PathBuf>,
    /// Also start the networks in ONNX Runtime and check the known answers. Runs what is in the
    /// files: only for a bundle whose maker you trust.
    #[arg(long)]
    run: bool,
    /// Let anything unusual about the networks count against the bundle: exit 1.
    #[arg(long)]
    strict: bool,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

/// All that can be said of a bundle.
pub(super) struct Findings {
    pub(super) bundle: String,
    pub(super) digest: String,
    pub(super) files: Vec<(String, usize)>,
    pub(super) signatures: Vec<SignatureFound>,
    pub(super) networks: Vec<Network>,
    pub(super) model: Option<RawModel>,
    /// `model.json`'s own words, once it has been accepted.
    pub(super) model_json: Option<Value>,
    pub(super) metrics: Vec<Metric>,
    pub(super) origin: Origin,
    /// What a reviewer should ask about, although the server would take it.
    pub(super) warnings: Vec<String>,
    /// Whether the known answers were reproduced; they are not tried unless asked for.
    pub(super) ran: bool,
    /// Why the server would refuse it, as far as was looked.
    pub(super) problem: Option<String>,
}

/// A file beside the bundle that may be a signature over it.
#[derive(Debug, Serialize)]
pub(super) struct SignatureFound {
    pub(super) file: String,
    /// What the file says of its signer. Anybody can write that.
    pub(super) claims: String,
    /// Whether it holds under the key that was given, if one was.
    pub(super) verified: Option<bool>,
    /// Why it does not.
    pub(super) reason: Option<String>,
}

/// Reads the key that signatures are checked with, and names its file when it is none.
fn read_key(path: &Path) -> Result<Vec<u8>, Failure> {
    let pem = read_file(path)?;
    match key_id(&pem) {
        Ok(_) => Ok(pem),
        Err(error) => Err(Failure::DoesNotHold(anyhow!(
            "{}: {}",
            path.display(),
            one_line(&error)
        ))),
    }
}

pub(crate) fn run(arguments: &InspectArguments) -> Result<(), Failure> {
    let key = arguments.key.as_deref().map(read_key).transpose()?;
    let bundle = bundle_directory(&arguments.directory);
    let contents = read_bundle(&bundle)?;
    let files = contents.unverified();
    let mut findings = Findings {
        bundle: bundle.display().to_string(),
        digest: contents.root_digest(),
        files: files.iter().map(|(n, b)| (n.clone(), b.len())).collect(),
        signatures: signatures(&bundle, &contents, key.as_deref()),
        networks: Vec::new(),
        model: None,
        model_json: None,
        metrics: files
            .get("bom.cdx.json")
            .map_or_else(Vec::new, |b| bom::metrics(b)),
        origin: files
            .get("bom.cdx.json")
            .map_or_else(Origin::default, |b| bom::origin(b)),
        warnings: Vec::new(),
        ran: false,
        problem: None,
    };
    match networks::examine(files) {
        Ok((spec, networks)) => {
            findings.warnings = intake::warnings(&networks);
            findings.networks = networks;
            let model = files.get(MODEL_FILE).map_or(&[][..], Vec::as_slice);
            findings.model = serde_json::from_slice(model).ok();
            findings.model_json = serde_json::from_slice(model).ok();
            if arguments.run {
                match networks::run(&bundle, &spec, files.clone()) {
                    Ok(()) => findings.ran = true,
                    Err(Failure::DoesNotHold(reason)) => {
                        findings.problem = Some(format!("{reason:#}"));
                    }
                    Err(other) => return Err(other),
                }
            }
        }
        Err(reason) => findings.problem = Some(printable(&reason)),
    }
    print(&if arguments.json {
        report::json(&findings).to_string()
    } else {
        report::text(&findings, key.is_some())
    })?;
    match findings.problem {
        Some(reason) => Err(Failure::DoesNotHold(anyhow!(
            "{}: the server would refuse it: {reason}",
            bundle.display()
        ))),
        None if arguments.strict && !findings.warnings.is_empty() => {
            Err(Failure::DoesNotHold(anyhow!(
                "{}: unusual: {}",
                bundle.display(),
                findings.warnings.join("; ")
            )))
        }
        None => Ok(()),
    }
}

fn signatures(bundle: &Path, contents: &Contents, key: Option<&[u8]>) -> Vec<SignatureFound> {
    signature_files(bundle)
        .unwrap_or_default()
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let bytes = read_signature(path);
            let claims = match &bytes {
                Ok(bytes) => claims(bytes),
                Err(error) => one_line(error),
            };
            let outcome = key.map(|spki_pem| {
                bytes
                    .and_then(|bytes| verify_contents(contents, &bytes, &Trust::Key { spki_pem }))
                    .map_err(|error| one_line(&error))
            });
            SignatureFound {
                file: printable(&name),
                claims,
                verified: outcome.as_ref().map(Result::is_ok),
                reason: outcome.and_then(Result::err),
            }
        })
        .collect()
}

fn signature_files(bundle: &Path) -> io::Result<Vec<PathBuf>> {
    let directory = version_directory(bundle)?.join(SIGNATURES_DIRECTORY);
    let mut found: Vec<PathBuf> = fs::read_dir(directory)?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "sig"))
        .collect();
    found.sort();
    found.truncate(MAX_SIGNATURES);
    Ok(found)
}

/// Who signed, by the signature file's own account.
fn claims(bytes: &[u8]) -> String {
    const LONGEST: usize = 80;
    let Ok(value) = serde_json::from_slice::<Value>(bytes) else {
        return "unreadable".to_owned();
    };
    let material = value.get("verificationMaterial").unwrap_or(&Value::Null);
    if let Some(hint) = material.pointer("/publicKey/hint").and_then(Value::as_str) {
        let hint: String = hint.chars().take(LONGEST).collect();
        format!("key {}", printable(&hint))
    } else if material.get("x509CertificateChain").is_some()
        || material.get("certificate").is_some()
    {
        "a certificate".to_owned()
    } else {
        "nobody".to_owned()
    }
}
