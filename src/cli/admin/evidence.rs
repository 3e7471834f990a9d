//! `vitalgate admin evidence`: what an investigation needs, in one file with its digests.
//!
//! Everything in it comes from the admin plane, which shows no secret and no patient. Audit
//! records and checkpoints are kept byte for byte: their chain is worth nothing otherwise.

use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt, path::Path};

use anyhow::{Context, anyhow};
use aws_lc_rs::digest::{SHA256, digest};
use serde_json::{Map, Value, json};
use vitalgate::clock;

use super::client::Client;
use crate::cli::Failure;

/// What is asked for, and the file it becomes.
const READS: [(&str, &str); 5] = [
    ("/admin/v1/state", "state.json"),
    ("/admin/v1/models", "models.json"),
    ("/admin/v1/callers", "callers.json"),
    ("/admin/v1/config", "config.json"),
    ("/admin/v1/audit/head", "audit-head.json"),
];

type File = (String, Vec<u8>);

/// Collects everything and writes it to a new file; what was written, by name, size and digest.
pub(super) fn collect(client: &Client, out: &Path, last: usize) -> Result<Value, Failure> {
    let pack: fn(&[File]) -> anyhow::Result<Vec<u8>> =
        match out.extension().and_then(|e| e.to_str()) {
            Some("tar") => tar,
            Some("json") => |files| Ok(document(files)),
            _ => {
                return Err(Failure::usage(anyhow!(
                    "--out: name a .tar or a .json file"
                )));
            }
        };
    let records = client.read(&format!("/admin/v1/audit/records?last={last}"))?;
    let cut = records.get("cut").cloned().unwrap_or_default();
    let mut files: Vec<File> = vec![about(client, &cut)];
    for (path, name) in READS {
        let text =
            serde_json::to_string_pretty(&client.read(path)?).map_err(Failure::environment)?;
        files.push((name.to_owned(), (text + "\n").into_bytes()));
    }
    files.push((
        "metrics.txt".to_owned(),
        client.get("/metrics")?.into_bytes(),
    ));
    files.push(("audit.jsonl".to_owned(), lines(&records)));
    let checkpoints = records.get("checkpoints").and_then(Value::as_str);
    files.push((
        "audit.checkpoints".to_owned(),
        checkpoints.unwrap_or_default().into(),
    ));
    files.push(sums(&files));
    let bytes = pack(&files).map_err(Failure::Environment)?;
    write(out, &bytes)
        .with_context(|| out.display().to_string())
        .map_err(Failure::Environment)?;
    let listed = files
        .iter()
        .map(|(name, bytes)| json!({"name": name, "bytes": bytes.len(), "sha256": sha256(bytes)}));
    Ok(json!({
        "out": out.display().to_string(),
        "sha256": sha256(&bytes),
        "records_cut": cut,
        "files": listed.collect::<Vec<_>>(),
    }))
}

/// `cut`: whether there are fewer audit records than were asked for, though the log has more.
fn about(client: &Client, cut: &Value) -> File {
    let about = json!({
        "format": 1,
        "collected": clock::rfc3339(),
        "server": client.url(),
        "collector": env!("CARGO_PKG_VERSION"),
        "records_cut": cut,
        "check": "sha256sum --check SHA256SUMS",
    });
    ("about.json".to_owned(), format!("{about:#}\n").into_bytes())
}

fn lines(records: &Value) -> Vec<u8> {
    let lines = records.get("lines").and_then(Value::as_array);
    let mut bytes = Vec::new();
    for line in lines.into_iter().flatten().filter_map(Value::as_str) {
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    bytes
}

/// As `sha256sum --check` reads it.
fn sums(files: &[File]) -> File {
    let lines = files
        .iter()
        .map(|(name, bytes)| format!("{}  {name}\n", sha256(bytes)));
    (
        "SHA256SUMS".to_owned(),
        lines.collect::<String>().into_bytes(),
    )
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest(&SHA256, bytes))
}

fn tar(files: &[File]) -> anyhow::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len().try_into()?);
        header.set_mode(0o600);
        header.set_mtime(clock::since_epoch().as_secs());
        archive.append_data(&mut header, format!("evidence/{name}"), bytes.as_slice())?;
    }
    Ok(archive.into_inner()?)
}

fn document(files: &[File]) -> Vec<u8> {
    let texts = files.iter().map(|(name, bytes)| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        (name.clone(), Value::String(text))
    });
    let texts: Map<String, Value> = texts.collect();
    format!("{:#}\n", json!({"files": texts})).into_bytes()
}

/// Never over an earlier file: evidence is not replaced.
fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new()
        .create_new(true)
        .write(true)
        .mode(0o600)
        .open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}
