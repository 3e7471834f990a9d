//! The in-toto statement: which files, with which content.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use super::{
    envelope::Authentic,
    error::{SigningError, excerpt},
    strict_json,
    tree::{Contents, GIT_PATHS, MAX_FILES, is_canonical},
};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const PREDICATE: &str = "https://model_signing/signature/v1.0";

/// Fields unknown here are ignored, as in-toto asks, except in `serialization`, where one could
/// change what the digests mean.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Statement {
    #[serde(rename = "_type")]
    kind: String,
    subject: Vec<Subject>,
    predicate_type: String,
    predicate: Predicate,
}

#[derive(Serialize, Deserialize)]
struct Subject {
    name: String,
    digest: SubjectDigest,
}

#[derive(Serialize, Deserialize)]
struct SubjectDigest {
    sha256: String,
}

#[derive(Serialize, Deserialize)]
struct Predicate {
    serialization: Serialization,
    resources: Vec<Resource>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Serialization {
    method: String,
    hash_type: String,
    allow_symlinks: bool,
    #[serde(default)]
    ignore_paths: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Resource {
    name: String,
    algorithm: String,
    digest: String,
}

impl Statement {
    /// Reads a payload whose signature holds; nothing else is ever parsed.
    pub(super) fn parse(authentic: &Authentic) -> Result<Self, SigningError> {
        strict_json::parse("signed statement", authentic.payload(), |reason| {
            SigningError::StatementJson { reason }
        })
    }

    /// Describes `contents`, files in order of their names' code points (spec 7.2).
    pub(super) fn describe(contents: &Contents, model_name: &str) -> Result<Self, SigningError> {
        check_count(contents.digests().len())?;
        let resources = contents
            .digests()
            .iter()
            .map(|(name, digest)| Resource {
                name: name.clone(),
                algorithm: "sha256".to_owned(),
                digest: hex::encode(digest),
            })
            .collect();
        Ok(Self {
            kind: STATEMENT.to_owned(),
            subject: vec![Subject {
                name: model_name.to_owned(),
                digest: SubjectDigest {
                    sha256: contents.root_digest(),
                },
            }],
            predicate_type: PREDICATE.to_owned(),
            predicate: Predicate {
                serialization: Serialization {
                    method: "files".to_owned(),
                    hash_type: "sha256".to_owned(),
                    allow_symlinks: false,
                    // Others may leave these out; what we sign is all there is.
                    ignore_paths: Vec::new(),
                },
                resources,
            },
        })
    }

    pub(super) fn to_json(&self) -> Result<Vec<u8>, SigningError> {
        serde_json::to_vec(self).map_err(SigningError::Encode)
    }

    /// Holds the statement against the files: each listed once, each as signed, none besides.
    /// Returns the root digest.
    pub(super) fn check(self, contents: &Contents) -> Result<String, SigningError> {
        expect("_type", &self.kind, STATEMENT)?;
        expect("predicateType", &self.predicate_type, PREDICATE)?;
        let [subject] = self.subject.as_slice() else {
            return Err(SigningError::SubjectCount {
                found: self.subject.len(),
            });
        };
        check_digest_form("subject", &subject.digest.sha256)?;
        self.predicate.serialization.check()?;
        check_count(self.predicate.resources.len())?;

        let mut signed = BTreeSet::new();
        let mut root = Context::new(&SHA256);
        for resource in &self.predicate.resources {
            let name = resource.name.as_str();
            resource.check()?;
            if !signed.insert(name) {
                return Err(SigningError::ListedTwice {
                    name: name.to_owned(),
                });
            }
            let digest = contents
                .digests()
                .get(name)
                .ok_or_else(|| SigningError::Missing {
                    name: name.to_owned(),
                })?;
            if hex::encode(digest) != resource.digest {
                return Err(SigningError::Digest {
                    name: name.to_owned(),
                });
            }
            // In listed order: the reference tool sorts by path part, the specification by code
            // point, and signatures of both kinds are about.
            root.update(digest.as_ref());
        }

        let ignored = &self.predicate.serialization.ignore_paths;
        let unread = contents
            .git_paths()
            .iter()
            .filter(|name| !ignored.contains(*name));
        let unsigned = contents.names().filter(|name| !signed.contains(name));
        if let Some(name) = unsigned.chain(unread.map(String::as_str)).next() {
            return Err(SigningError::Unsigned {
                name: name.to_owned(),
            });
        }
        if hex::encode(root.finish()) != subject.digest.sha256 {
            return Err(SigningError::RootDigest);
        }
        Ok(subject.digest.sha256.clone())
    }
}

impl Serialization {
    fn check(&self) -> Result<(), SigningError> {
        let refused = |field, found: &str| {
            Err(SigningError::Serialization {
                field,
                found: excerpt(found),
            })
        };
        if self.method != "files" {
            return refused("method", &self.method);
        }
        if self.hash_type != "sha256" {
            return refused("hash_type", &self.hash_type);
        }
        if self.allow_symlinks {
            return refused("allow_symlinks", "true");
        }
        // A signer must not be able to open a hole for files nobody signed.
        match self
            .ignore_paths
            .iter()
            .find(|path| !GIT_PATHS.contains(&path.as_str()))
        {
            Some(path) => refused("ignore_paths", path),
            None => Ok(()),
        }
    }
}

impl Resource {
    fn check(&self) -> Result<(), SigningError> {
        let name = self.name.as_str();
        if !is_canonical(name) {
            let shown = name.chars().take(80).collect();
            return Err(SigningError::Name { name: shown });
        }
        if name
            .split('/')
            .next()
            .is_some_and(|top| GIT_PATHS.contains(&top))
        {
            return Err(SigningError::GitFile {
                name: name.to_owned(),
            });
        }
        if self.algorithm != "sha256" {
            let found = excerpt(&self.algorithm);
            return Err(SigningError::Algorithm {
                name: name.to_owned(),
                found,
            });
        }
        check_digest_form(name, &self.digest)
    }
}

fn expect(field: &'static str, found: &str, expected: &'static str) -> Result<(), SigningError> {
    if found == expected {
        Ok(())
    } else {
        Err(SigningError::StatementType {
            field,
            found: excerpt(found),
            expected,
        })
    }
}

fn check_count(found: usize) -> Result<(), SigningError> {
    if (1..=MAX_FILES).contains(&found) {
        Ok(())
    } else {
        Err(SigningError::ResourceCount {
            found,
            limit: MAX_FILES,
        })
    }
}

fn check_digest_form(name: &str, digest: &str) -> Result<(), SigningError> {
    if digest.len() == 64
        && digest
            .bytes()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    {
        Ok(())
    } else {
        Err(SigningError::DigestForm {
            name: name.to_owned(),
        })
    }
}
