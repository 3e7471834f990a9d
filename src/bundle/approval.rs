//! Version directory → [`Approved`]: the only way to a model that serves.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    BUNDLE_DIRECTORY, LoadError, SIGNATURES_DIRECTORY,
    policy::{
        InForce, OnExpiry, Policy, PolicyError, PolicyKeys, SerialStore, SignatureFile, read_file,
        read_key,
    },
    signing::{self, Contents, Limits, SigningError, Trust, Verified},
};
use crate::{
    clock,
    config::{ReleasePolicy, Trust as TrustConfig},
    error_chain::one_line,
    named_file::{self, LARGEST_CREDENTIAL},
};

/// Signatures looked at, at most.
const MAX_SIGNATURES: usize = 32;

/// Who says which bundles may be loaded.
#[derive(Debug)]
pub enum Authority {
    /// A signed release policy.
    Policy(Box<InForce>),
    /// Any one of these keys: no roles, no revocation, no lowest version.
    Keys(TrustedKeys),
}

impl Authority {
    /// As the configuration says: reads and verifies the release policy and remembers its serial,
    /// or reads the keys.
    pub fn establish(trust: &TrustConfig) -> Result<Self, LoadError> {
        let config = match trust {
            TrustConfig::Policy(config) => config,
            TrustConfig::Keys(keys) => return TrustedKeys::read(keys).map(Self::Keys),
        };
        let in_force = enforce(config).map_err(|source| LoadError::Policy {
            path: config.file.clone(),
            source: Box::new(source),
        })?;
        Ok(Self::Policy(Box::new(in_force)))
    }
}

/// Reads and verifies what trust rests on without putting it in force: for a look at a
/// configuration, which must not move the serial on.
pub fn check_trust(trust: &TrustConfig) -> Result<(), LoadError> {
    match trust {
        TrustConfig::Policy(config) => match verified(config) {
            Ok(_) => Ok(()),
            Err(source) => Err(LoadError::Policy {
                path: config.file.clone(),
                source: Box::new(source),
            }),
        },
        TrustConfig::Keys(keys) => TrustedKeys::read(keys).map(drop),
    }
}

fn enforce(config: &ReleasePolicy) -> Result<InForce, PolicyError> {
    let store = config.state.as_deref().map(SerialStore::at);
    verified(config)?.enforce(config.min_serial, store.as_ref())
}

fn verified(config: &ReleasePolicy) -> Result<Policy, PolicyError> {
    let pems = config
        .keys
        .iter()
        .map(|path| read_key(path))
        .collect::<Result<Vec<_>, _>>()?;
    let keys = PolicyKeys::new(&pems, config.threshold)?;
    Policy::verify(&read_file(&config.file)?, &keys)
}

/// Public keys whose signature makes a bundle loadable, as PEM texts.
#[derive(Debug)]
pub struct TrustedKeys(Vec<Vec<u8>>);

impl TrustedKeys {
    /// Reads the PEM files.
    pub fn read(paths: &[PathBuf]) -> Result<Self, LoadError> {
        paths
            .iter()
            .map(|path| {
                let pem = named_file::read(path, LARGEST_CREDENTIAL).map_err(|source| {
                    LoadError::Read {
                        path: path.clone(),
                        source,
                    }
                })?;
                match signing::key_id(&pem) {
                    Ok(_) => Ok(pem),
                    Err(source) => Err(LoadError::Signature {
                        path: path.clone(),
                        source,
                    }),
                }
            })
            .collect::<Result<_, _>>()
            .map(Self)
    }

    /// Checks one signature with each key; of the reasons against it, the most telling is kept.
    fn vouch(&self, contents: &Contents, signature: &[u8]) -> Result<Verified, String> {
        let mut reason = "not made with a trusted key".to_owned();
        for key in &self.0 {
            match signing::verify_contents(contents, signature, &Trust::Key { spki_pem: key }) {
                Ok(verified) => return Ok(verified),
                // Another key's signature, as is to be expected with several trusted keys.
                Err(SigningError::KeyHint) => {}
                Err(other) => reason = one_line(&other),
            }
        }
        Err(reason)
    }

    /// The first signature that a trusted key made.
    fn first(
        &self,
        path: &Path,
        contents: &Contents,
        files: Vec<SignatureFile>,
    ) -> Result<Verified, LoadError> {
        let mut reasons = Vec::new();
        for SignatureFile { name, bytes } in files {
            // A signature that cannot be read must not stand in the way of one that can.
            let vouched = match bytes {
                Ok(bytes) => self.vouch(contents, &bytes),
                Err(unreadable) => Err(one_line(&unreadable)),
            };
            match vouched {
                Ok(verified) => return Ok(verified),
                Err(reason) => reasons.push(format!("{name}: {reason}")),
            }
        }
        Err(LoadError::Untrusted {
            path: path.to_owned(),
            reasons: reasons.join("; "),
        })
    }
}

/// Who approved a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approver {
    /// In which capacity; none without a release policy.
    pub role: Option<String>,
    /// Hex SHA-256 of the public key.
    pub key: String,
}

/// A bundle that may be loaded; made only by [`approve`], and by value the bytes that were
/// judged: nothing opens a file again.
#[derive(Debug)]
pub struct Approved {
    pub(super) path: PathBuf,
    verified: Verified,
    pub(super) digest: String,
    pub(super) approvers: Vec<Approver>,
    pub(super) policy_serial: Option<u64>,
    pub(super) until: Option<Duration>,
}

impl Approved {
    /// Hex SHA-256 over the files' digests in order of their names.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// The bytes that were judged, by name.
    pub fn files(&self) -> &BTreeMap<String, Vec<u8>> {
        self.verified.files()
    }

    pub(super) fn take_files(self) -> BTreeMap<String, Vec<u8>> {
        self.verified.into_files()
    }
}

/// Reads `version_directory/bundle` once, and asks `authority` whether the signatures beside it
/// will do.
pub fn approve(version_directory: &Path, authority: &Authority) -> Result<Approved, LoadError> {
    let (path, contents, signatures) = read_version(version_directory)?;
    match authority {
        Authority::Keys(keys) => {
            let verified = keys.first(&path, &contents, signatures)?;
            Ok(Approved {
                digest: contents.root_digest(),
                approvers: vec![Approver {
                    role: None,
                    key: verified.signer().to_owned(),
                }],
                verified,
                policy_serial: None,
                until: None,
                path,
            })
        }
        Authority::Policy(in_force) => {
            let terms = in_force.terms();
            let approval = in_force
                .policy()
                .judge(&path, &contents, &signatures, clock::utc())?;
            let until = match terms.on_expiry() {
                OnExpiry::Keep => None,
                OnExpiry::Stop => Some(terms.expires() - time::OffsetDateTime::UNIX_EPOCH),
            };
            Ok(Approved {
                path,
                digest: approval.digest().to_owned(),
                approvers: approval
                    .by_role()
                    .iter()
                    .flat_map(|(role, keys)| {
                        keys.iter().map(|key| Approver {
                            role: Some(role.clone()),
                            key: key.clone(),
                        })
                    })
                    .collect(),
                policy_serial: Some(terms.serial()),
                // Before 1970 is long ago.
                until: until.map(|d| d.try_into().unwrap_or(Duration::ZERO)),
                verified: approval.verified,
            })
        }
    }
}

/// Reads what lies in a version's directory, once: the bundle's path and contents, and the
/// signatures beside it.
pub fn read_version(
    version_directory: &Path,
) -> Result<(PathBuf, Contents, Vec<SignatureFile>), LoadError> {
    let path = version_directory.join(BUNDLE_DIRECTORY);
    let contents =
        Contents::read(&path, &Limits::default()).map_err(|source| LoadError::Signature {
            path: path.clone(),
            source,
        })?;
    let signatures = signatures(version_directory)?
        .into_iter()
        .map(|path| SignatureFile {
            name: path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned(),
            bytes: signing::read_signature(&path),
        })
        .collect();
    Ok((path, contents, signatures))
}

fn signatures(version_directory: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let directory = version_directory.join(SIGNATURES_DIRECTORY);
    let read = |source| LoadError::Read {
        path: directory.clone(),
        source,
    };
    let mut found = Vec::new();
    let entries = match fs::read_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(LoadError::Unsigned(directory));
        }
        entries => entries.map_err(read)?,
    };
    for entry in entries {
        let path = entry.map_err(read)?.path();
        if path.extension().is_some_and(|e| e == "sig") {
            found.push(path);
        }
    }
    if found.is_empty() {
        return Err(LoadError::Unsigned(directory));
    }
    if found.len() > MAX_SIGNATURES {
        let problem = format!("more than {MAX_SIGNATURES} signatures");
        return Err(LoadError::Mismatch {
            path: directory,
            problem,
        });
    }
    found.sort();
    Ok(found)
}
