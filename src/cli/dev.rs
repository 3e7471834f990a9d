//! `vitalgate dev`: a whole server from nothing, for trying out. Not for patients.
//!
//! Makes throw-away keys, certificates, a release policy and signed demo bundles in a state
//! directory, writes the configuration it runs there too, and serves it on loopback only. A
//! second start uses what is there, adds what is missing, and renews what is about to expire.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use clap::Args;
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};
use vitalgate::{
    authz::SHIPPED_DEV,
    bundle::{
        BUNDLE_DIRECTORY, SIGNATURES_DIRECTORY,
        signing::{Contents, Limits, SigningKey, Trust, sign, verify_contents},
    },
    config::Config,
};

use super::{Failure, serve};

mod certificates;
mod demo;
mod log_keys;
mod release;

#[derive(Debug, Args)]
pub(crate) struct DevArguments {
    /// Directory of keys, certificates, bundles, configuration and audit log; made if absent.
    #[arg(long, default_value = ".vitalgate")]
    pub(super) state: PathBuf,
    /// Address of the HTTPS data plane; loopback only.
    #[arg(long, default_value = "127.0.0.1:8443")]
    pub(super) listen: SocketAddr,
    /// Address of /livez and /readyz; loopback only.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub(super) health: SocketAddr,
    /// Address of the HTTPS admin plane; loopback only.
    #[arg(long, default_value = "127.0.0.1:9443")]
    pub(super) admin: SocketAddr,
}

/// The clients of the dev server: name, role.
const CLIENTS: [(&str, &str); 7] = [
    ("ehr", "ehr-system"),
    ("clinician", "clinician"),
    ("evaluator", "evaluator"),
    ("ml-engineer", "ml-engineer"),
    ("ops", "ops"),
    ("compliance", "compliance"),
    ("batch", "batch-submitter"),
];

pub(crate) fn run(arguments: &DevArguments) -> Result<(), Failure> {
    for address in [arguments.listen, arguments.admin, arguments.health] {
        if !address.ip().is_loopback() {
            return Err(Failure::usage(anyhow!(
                "{address} is not a loopback address; dev serves this machine only"
            )));
        }
    }
    log_for_people();
    serve::silence_panics();
    let state = &arguments.state;
    let _lock = lock(state)
        .with_context(|| format!("state directory {}", state.display()))
        .map_err(Failure::Environment)?;
    prepare(arguments)
        .with_context(|| format!("state directory {}", state.display()))
        .map_err(Failure::Environment)?;
    let path = state.join("vitalgate.toml");
    let config = serve::load(&path)?;
    serve::serve(&path, config, |config| announce(config, state))
}

fn log_for_people() {
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false);
    tracing_subscriber::registry()
        .with(lines.with_filter(serve::log_filter()))
        .init();
}

/// Takes the state directory for this process: two servers would overwrite each other's files.
fn lock(state: &Path) -> io::Result<fs::File> {
    make_directory(state)?;
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(state.join("lock"))?;
    file.try_lock().map_err(|error| match error {
        fs::TryLockError::WouldBlock => io::Error::other("another dev server runs in it"),
        fs::TryLockError::Error(error) => error,
    })?;
    Ok(file)
}

pub(super) fn prepare(arguments: &DevArguments) -> anyhow::Result<()> {
    let state = &arguments.state;
    for directory in ["clients", "keys", "policy", "repository", "audit"] {
        make_directory(&state.join(directory))?;
    }
    certificates::ensure(state, &CLIENTS.map(|(name, _)| name))?;
    log_keys::ensure(&state.join("keys"))?;
    let signers = release::ensure(state)?;
    for (name, version, files) in demo::BUNDLES {
        let directory = state.join("repository").join(name).join(version);
        deploy(&directory, name, files, &signers)
            .with_context(|| format!("demo bundle {name} version {version}"))?;
    }
    let access = format!(
        "// Written by `vitalgate dev` at each start: copy it elsewhere to change it.\n{SHIPPED_DEV}"
    );
    write_private(&state.join("policy/access.cedar"), access.as_bytes())?;
    let config = configuration(arguments);
    write_private(&state.join("vitalgate.toml"), config.as_bytes())?;
    Ok(())
}

/// Puts a demo bundle into the repository, signed by every role: when there is none, and in
/// place of one that is sound but of another release of this program. A bundle that somebody
/// altered is left as it is, for the server to refuse: nothing here mends or signs over it.
fn deploy(
    directory: &Path,
    name: &str,
    files: &[(&str, &[u8])],
    signers: &BTreeMap<&'static str, SigningKey>,
) -> anyhow::Result<()> {
    let bundle = directory.join(BUNDLE_DIRECTORY);
    if directory.exists() {
        let same = |(file, bytes): &(&str, &[u8])| {
            fs::read(bundle.join(file)).is_ok_and(|present| present == *bytes)
        };
        if files.iter().all(same) || !is_sound(directory, signers) {
            return Ok(());
        }
        fs::remove_dir_all(directory)?;
    }
    // Made beside its place and moved there whole, so that a start cut short leaves no half.
    let mut staged = directory.as_os_str().to_owned();
    staged.push(".new");
    let staged = PathBuf::from(staged);
    if staged.exists() {
        fs::remove_dir_all(&staged)?;
    }
    let bundle = staged.join(BUNDLE_DIRECTORY);
    for (file, bytes) in files {
        let path = bundle.join(file);
        make_directory(path.parent().unwrap_or(&bundle))?;
        write_private(&path, bytes)?;
    }
    let contents = Contents::read(&bundle, &Limits::default())?;
    let signatures = staged.join(SIGNATURES_DIRECTORY);
    make_directory(&signatures)?;
    for (role, key) in signers {
        let text = sign(&contents, name, key)?;
        write_private(&signatures.join(format!("{role}.sig")), text.as_bytes())?;
    }
    Ok(fs::rename(&staged, directory)?)
}

/// Whether every role's signature holds over what is there.
fn is_sound(directory: &Path, signers: &BTreeMap<&'static str, SigningKey>) -> bool {
    let Ok(contents) = Contents::read(&directory.join(BUNDLE_DIRECTORY), &Limits::default()) else {
        return false;
    };
    signers.iter().all(|(role, key)| {
        let signature = directory
            .join(SIGNATURES_DIRECTORY)
            .join(format!("{role}.sig"));
        let spki_pem = key.public_key_pem().as_bytes();
        fs::read(signature)
            .is_ok_and(|text| verify_contents(&contents, &text, &Trust::Key { spki_pem }).is_ok())
    })
}

fn make_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
}

/// Replaces a file as a whole: an interrupted start leaves the old one or the new one.
fn write_private(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = PathBuf::from(temporary);
    let mut file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    file.write_all(bytes)?;
    drop(file);
    fs::rename(&temporary, path)
}

fn configuration(arguments: &DevArguments) -> String {
    let DevArguments {
        listen,
        admin,
        health,
        ..
    } = arguments;
    let server = format!(
        "# Written by `vitalgate dev` at each start: copy it elsewhere to change it.\n\
         # Throw-away keys. NOT FOR PATIENTS. Paths are relative to this file.\n\
         repository = \"repository\"\n\n\
         [data]\nlisten = \"{listen}\"\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
         client_ca = \"ca.pem\"\n\n\
         [admin]\nlisten = \"{admin}\"\ncertificate = \"server.pem\"\nkey = \"server.key\"\n\
         client_ca = \"ca.pem\"\nstate = \"admin\"\n\n\
         [health]\nlisten = \"{health}\"\n\n\
         [limits]\nbody_bytes = 65536\nconcurrent_requests = 1024\nconnections = 4096\n\
         head_seconds = 10\nbody_seconds = 10\nidle_seconds = 75\ndrain_seconds = 20\n\n\
         # 200 beds, scored every 2 hours.\n\
         [budgets.ehr-system]\nrows_per_day = 3600\n\n\
         [budgets.clinician]\nrows_per_day = 200\n\n\
         # For measuring. Whoever has this certificate can copy the models: not for production.\n\
         [budgets.evaluator]\nrows_per_day = \"unlimited\"\nrequests_per_second = 1000000\n\
         burst = 1000000\nconcurrent_requests = 1000000\npatterns = \"shadow\"\n\n\
         [onnxruntime]\nexecution = \"cpu\"\n\n\
         [trust]\npolicy = \"policy/release.dsse.json\"\n\
         policy_keys = [\"keys/policy-root.pub\"]\npolicy_threshold = 1\nmin_serial = 1\n\
         state = \"trust-state.json\"\n\n\
         [audit]\ndirectory = \"audit\"\nmode = \"written\"\n\
         origin = \"vitalgate.internal/dev\"\nkey = \"keys/audit.key\"\n\
         segment_bytes = 268435456\n\n\
         [keys]\nfleet = \"keys/fleet.key\"\npseudonym = \"keys/pseudonym.key\"\n\n\
         [review]\ntenant = \"dev\"\noverride_seconds = 3600\n\n\
         [drift]\nstate = \"drift\"\n\n\
         [authorization]\npolicy = \"policy/access.cedar\"\n"
    );
    let models = demo::BUNDLES.map(|(name, version, _)| {
        format!("\n[[models]]\nname = \"{name}\"\nversion = {version}\n")
    });
    let principals = CLIENTS.map(|(name, role)| {
        format!(
            "\n[[principals]]\nname = \"{name}\"\nsan = \"{}\"\nroles = [\"{role}\"]\n\
             models = [\"*\"]\n",
            certificates::subject_alternative_name(name)
        )
    });
    [server, models.concat(), principals.concat()].concat()
}

#[expect(
    clippy::print_stdout,
    reason = "the request to paste is what dev prints"
)]
fn announce(config: &Config, state: &Path) {
    let Some(data) = config.data.first() else {
        return;
    };
    let (listen, state) = (data.listen, state.display());
    let admin = config.admin.as_ref().map(|admin| admin.listen.to_string());
    let admin = admin.unwrap_or_default();
    println!(
        "vitalgate dev: throw-away keys and demo models. NOT FOR PATIENTS.\n\
         \n  data plane  https://{listen}   (mutual TLS; client certificates in {state}/clients)\
         \n  admin       https://{admin}   (vitalgate admin --state {state} --help)\
         \n  health      http://{health}/readyz\
         \n  audit log   {state}/audit/audit.jsonl   (public key {state}/keys/audit.pub)\
         \n  policy      {state}/policy/release.dsse.json\
         \n  config      {state}/vitalgate.toml\n\
         \nScore a patient:\n\n\
         curl --cacert {state}/ca.pem --cert {state}/clients/clinician.pem \\\n  \
         --key {state}/clients/clinician.key -H 'Content-Type: application/json' \\\n  \
         --data '{patient}' \\\n  \
         https://{listen}/v1/models/icu-mortality/predict\n\
         \nready",
        health = config.health.listen,
        patient = one_line(demo::PATIENT),
    );
}

/// JSON without its line breaks and indentation, to be pasted.
fn one_line(json: &str) -> String {
    json.lines().map(str::trim).collect::<Vec<_>>().join(" ")
}
