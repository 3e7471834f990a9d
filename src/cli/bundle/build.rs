//! `vitalgate bundle build`: model.json and ONNX files → a bundle the server will load.
//!
//! The same input gives the same bytes, and so the same digest: two people who build it can
//! compare.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::anyhow;
use clap::Args;
use serde_json::{Value, json};
use vitalgate::{
    bundle::{
        MODEL_FILE, REFERENCE_FILE,
        model::{ModelSpec, RawModel},
        signing::{Contents, Limits},
    },
    screening::Screen,
};

use super::{
    Failure,
    bom::{
        making,
        provenance::{Provenance, TrainingData},
    },
    card,
    networks::{self, Network},
    print, read_file,
};
use vitalgate::error_chain::one_line;

const BOM_FILE: &str = "bom.cdx.json";
const CARD_FILE: &str = "README.md";

#[derive(Debug, Args)]
pub(crate) struct BuildArguments {
    /// Everything that changes clinical meaning; its schema is schemas/model.schema.json.
    #[arg(long, value_name = "FILE")]
    model: PathBuf,
    /// The network of the member NAME of model.json; one for each member.
    #[arg(long = "member", value_name = "NAME=FILE.onnx", required = true, value_parser = member)]
    members: Vec<(String, PathBuf)>,
    /// CycloneDX ML-BOM [default: one is made, of the networks and of the next two].
    #[arg(long, value_name = "FILE", conflicts_with_all = ["provenance", "training_data"])]
    bom: Option<PathBuf>,
    /// Who trained, modified and approved the model, with what, how well it does and its limits:
    /// JSON, described in docs/models.md.
    #[arg(long, value_name = "FILE")]
    provenance: Option<PathBuf>,
    /// A CSV file the model was trained on: its digest and counts go into the bill of materials,
    /// never a row of it. May be given more than once.
    #[arg(long, value_name = "CSV")]
    training_data: Vec<PathBuf>,
    /// Fitted aggregates of the training data.
    #[arg(long, value_name = "FILE")]
    reference: Option<PathBuf>,
    /// The model card for people, Markdown [default: a short one is made of model.json].
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
    /// The bundle's directory; it must not exist, or be empty.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Print a JSON object instead of text.
    #[arg(long)]
    json: bool,
}

fn member(argument: &str) -> Result<(String, PathBuf), String> {
    match argument.split_once('=') {
        Some((name, file)) if !name.is_empty() && !file.is_empty() => {
            Ok((name.to_owned(), file.into()))
        }
        _ => Err("expected NAME=FILE.onnx".to_owned()),
    }
}

pub(crate) fn run(arguments: &BuildArguments) -> Result<(), Failure> {
    must_be_free(&arguments.out)?;
    let model = read_file(&arguments.model)?;
    let refused = |reason: String| Failure::DoesNotHold(anyhow!("no bundle made: {reason}"));
    let spec = ModelSpec::parse(&model).map_err(|error| refused(one_line(&error)))?;
    let raw: RawModel = serde_json::from_slice(&model).map_err(|e| refused(one_line(&e)))?;

    let mut files = read_members(&spec, &arguments.members)?;
    files.insert(MODEL_FILE.to_owned(), model);
    let (_, networks) = networks::examine(&files).map_err(refused)?;
    files.insert(
        BOM_FILE.to_owned(),
        bill_of_materials(arguments, &spec, &networks)?,
    );
    if let Some(path) = &arguments.reference {
        let bytes = read_file(path)?;
        check_reference(&bytes, &spec)
            .map_err(|reason| refused(format!("{}: {reason}", path.display())))?;
        files.insert(REFERENCE_FILE.to_owned(), bytes);
    }
    let card = match &arguments.card {
        Some(path) => read_file(path)?,
        None => card::markdown(&raw).into_bytes(),
    };
    files.insert(CARD_FILE.to_owned(), card);

    networks::run(&arguments.model, &spec, files.clone())?;
    let digest = write(&arguments.out, &files)?;
    print(&if arguments.json {
        json!({
            "model": spec.name,
            "version": spec.version,
            "digest": format!("sha256:{digest}"),
            "bundle": arguments.out.display().to_string(),
            "files": files.keys().collect::<Vec<_>>(),
        })
        .to_string()
    } else {
        let mut lines = vec![format!(
            "built   {} version {}: every member reproduced its {} known answers",
            spec.name,
            spec.version,
            spec.known_answers.len(),
        )];
        let listed = files
            .iter()
            .map(|(name, bytes)| format!("file    {name} ({} bytes)", bytes.len()));
        lines.extend(listed);
        lines.push(format!("digest  sha256:{digest}"));
        lines.push(format!("bundle  {}", arguments.out.display()));
        lines.join("\n")
    })
}

fn bill_of_materials(
    arguments: &BuildArguments,
    spec: &ModelSpec,
    networks: &[Network],
) -> Result<Vec<u8>, Failure> {
    let refused = |path: &Path, reason: String| {
        Failure::DoesNotHold(anyhow!("no bundle made: {}: {reason}", path.display()))
    };
    if let Some(path) = &arguments.bom {
        let bytes = read_file(path)?;
        making::check(&bytes, networks).map_err(|reason| refused(path, reason))?;
        return Ok(bytes);
    }
    let provenance = match &arguments.provenance {
        Some(path) => {
            Provenance::parse(&read_file(path)?).map_err(|reason| refused(path, reason))?
        }
        None => Provenance::default(),
    };
    let data = arguments
        .training_data
        .iter()
        .map(|path| TrainingData::read(path))
        .collect::<Result<Vec<_>, _>>()?;
    if let Some(twice) = TrainingData::repeated(&data) {
        return Err(Failure::usage(anyhow!(
            "--training-data {twice}: the same data is given twice"
        )));
    }
    Ok(making::make(spec, networks, &provenance, &data).into_bytes())
}

fn must_be_free(out: &Path) -> Result<(), Failure> {
    let taken = |reason: &str| Err(Failure::Environment(anyhow!("{}: {reason}", out.display())));
    match fs::read_dir(out) {
        Ok(mut entries) => match entries.next() {
            None => Ok(()),
            Some(_) => taken("exists and is not empty; not overwritten"),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => taken(&error.to_string()),
    }
}

/// Reads each member's network under the name that model.json gives it.
fn read_members(
    spec: &ModelSpec,
    given: &[(String, PathBuf)],
) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    for (index, (name, _)) in given.iter().enumerate() {
        if !spec.members.iter().any(|member| member.name == *name) {
            return Err(Failure::usage(anyhow!(
                "--member {name}=…: model.json has no member of this name"
            )));
        }
        if given.iter().take(index).any(|(earlier, _)| earlier == name) {
            return Err(Failure::usage(anyhow!("--member {name}=…: given twice")));
        }
    }
    let mut files = BTreeMap::new();
    for member in &spec.members {
        let Some((_, path)) = given.iter().find(|(name, _)| *name == member.name) else {
            return Err(Failure::usage(anyhow!(
                "--member {}=… is missing; model.json declares it",
                member.name
            )));
        };
        files.insert(member.file.clone(), read_file(path)?);
    }
    Ok(files)
}

fn check_reference(bytes: &[u8], spec: &ModelSpec) -> Result<(), String> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    let other = |field: &str, ours: Value| value.get(field).is_some_and(|theirs| *theirs != ours);
    if !value.is_object() {
        Err("not a JSON object".to_owned())
    } else if other("name", json!(spec.name)) || other("version", json!(spec.version)) {
        Err(format!(
            "fitted for another model than {} version {}",
            spec.name, spec.version
        ))
    } else {
        let screen = Screen::parse(bytes, spec);
        screen.map(drop).map_err(|error| one_line(&error))
    }
}

/// Writes the files beside `out`, reads them back, and moves them there: `out` is either the
/// whole bundle or as it was. Returns the digest of what was read back.
fn write(out: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<String, Failure> {
    let Some(name) = out.file_name() else {
        return Err(Failure::usage(anyhow!("--out must name a directory")));
    };
    let failed = |error: io::Error| Failure::Environment(anyhow!("{}: {error}", out.display()));
    let folder = match out.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    };
    fs::create_dir_all(folder).map_err(failed)?;
    let staged = folder.join(format!(
        ".{}.{}",
        name.to_string_lossy(),
        std::process::id()
    ));
    fs::create_dir(&staged).map_err(failed)?;
    let written = fill(&staged, files)
        .map_err(failed)
        .and_then(|()| {
            Contents::read(&staged, &Limits::default())
                .map_err(|error| Failure::DoesNotHold(anyhow!("{}", one_line(&error))))
        })
        .and_then(|contents| {
            fs::rename(&staged, out).map_err(failed)?;
            Ok(contents.root_digest())
        });
    if written.is_err() {
        drop(fs::remove_dir_all(&staged));
    }
    written
}

fn fill(directory: &Path, files: &BTreeMap<String, Vec<u8>>) -> io::Result<()> {
    for (name, bytes) in files {
        let path = directory.join(name);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create_new(&path)?;
        file.write_all(bytes)?;
        file.sync_all()?;
    }
    Ok(())
}
