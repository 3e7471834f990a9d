//! What a call is about: a path → [`Ask`].

use serde::Deserialize;

use super::{Declined, console::Page};
use crate::{
    authz::Action, config::ServedModel, containment::Subject, disposition::Code,
    error_chain::printable,
};

/// What a path names, decoded.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Named {
    model: Option<String>,
    version: Option<String>,
    caller: Option<String>,
}

/// What a call asks for.
#[derive(Debug)]
pub(super) enum Ask {
    /// A look at something.
    Read(Report),
    /// A page of the console.
    Page(Page),
    /// A change.
    Change(Change),
    /// Nothing that there is.
    Nothing(Declined),
}

/// What can be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Report {
    State,
    Models,
    Callers,
    Configuration,
    Metrics,
    AuditHead,
    AuditRecords,
}

impl Report {
    pub(super) fn action(self) -> Action {
        match self {
            Self::State | Self::Models | Self::Callers | Self::Configuration | Self::Metrics => {
                Action::ReadMetrics
            }
            Self::AuditHead | Self::AuditRecords => Action::ReadAudit,
        }
    }
}

/// What can be changed.
#[derive(Debug)]
pub(super) enum Change {
    /// Serve a version of a model.
    Load(ServedModel),
    /// Serve it no longer.
    Unload(ServedModel),
    /// Stop something.
    Stop(Subject),
    /// Let it go on.
    Release(Subject),
    /// Read-only mode, on or off as the body says.
    ReadOnly,
}

impl Change {
    pub(super) fn action(&self) -> Action {
        match self {
            Self::Load(_) | Self::Unload(_) => Action::Deploy,
            Self::Stop(_) | Self::Release(_) | Self::ReadOnly => Action::Quarantine,
        }
    }

    /// The model concerned, if it is one.
    pub(super) fn model(&self) -> Option<&str> {
        match self {
            Self::Load(served) | Self::Unload(served) => Some(&served.name),
            Self::Stop(Subject::Model { name, .. })
            | Self::Release(Subject::Model { name, .. }) => Some(name),
            Self::Stop(Subject::Caller(_) | Subject::Deployments)
            | Self::Release(Subject::Caller(_) | Subject::Deployments)
            | Self::ReadOnly => None,
        }
    }

    /// As audit records write it. Only for names that are known to exist: it holds no text of
    /// the caller's.
    pub(super) fn target(&self) -> String {
        let of = |subject: &Subject| match subject {
            Subject::Model {
                name,
                version: None,
            } => format!("model {name}"),
            Subject::Model {
                name,
                version: Some(version),
            } => format!("model {name} version {version}"),
            Subject::Caller(name) => format!("caller {}", printable(name)),
            Subject::Deployments => "read-only mode".to_owned(),
        };
        match self {
            Self::Load(s) => format!("load model {} version {}", s.name, s.version),
            Self::Unload(s) => format!("unload model {} version {}", s.name, s.version),
            Self::Stop(Subject::Deployments) => "enter read-only mode".to_owned(),
            Self::Release(Subject::Deployments) => "leave read-only mode".to_owned(),
            Self::Stop(subject) => format!("quarantine {}", of(subject)),
            Self::Release(subject) => format!("release {}", of(subject)),
            Self::ReadOnly => "read-only mode".to_owned(),
        }
    }
}

impl Named {
    pub(super) fn page(self) -> Ask {
        self.served().map_or_else(Ask::from, |s| {
            Ask::Page(Page::Model {
                name: s.name,
                version: s.version,
            })
        })
    }

    pub(super) fn load(self) -> Ask {
        self.served()
            .map_or_else(Ask::from, |s| Ask::Change(Change::Load(s)))
    }

    pub(super) fn unload(self) -> Ask {
        self.served()
            .map_or_else(Ask::from, |s| Ask::Change(Change::Unload(s)))
    }

    pub(super) fn stop(self) -> Ask {
        self.subject()
            .map_or_else(Ask::from, |s| Ask::Change(Change::Stop(s)))
    }

    pub(super) fn release(self) -> Ask {
        self.subject()
            .map_or_else(Ask::from, |s| Ask::Change(Change::Release(s)))
    }

    fn served(self) -> Result<ServedModel, Declined> {
        let version = self.version()?.ok_or(Code::UnknownVersion)?;
        let name = self.model.ok_or(Code::UnknownModel)?;
        Ok(ServedModel { name, version })
    }

    fn subject(self) -> Result<Subject, Declined> {
        let version = self.version()?;
        match (self.model, self.caller) {
            (Some(name), None) => Ok(Subject::Model { name, version }),
            (None, Some(name)) => Ok(Subject::Caller(name)),
            (Some(_), Some(_)) | (None, None) => Err(Code::UnknownPath.into()),
        }
    }

    fn version(&self) -> Result<Option<u32>, Declined> {
        let Some(text) = &self.version else {
            return Ok(None);
        };
        // Digits as we write them, so that a version has one path.
        let number = text.parse().ok().filter(|n: &u32| n.to_string() == *text);
        number.map(Some).ok_or_else(|| {
            let cause = "a version is a whole number, written without leading zeros";
            Declined::because(Code::UnknownVersion, cause)
        })
    }
}

impl From<Code> for Ask {
    fn from(code: Code) -> Self {
        Self::Nothing(code.into())
    }
}

impl From<Declined> for Ask {
    fn from(declined: Declined) -> Self {
        Self::Nothing(declined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_written_one_way() {
        for (text, said) in [("1", true), ("01", false), ("+1", false), ("", false)] {
            let named = Named {
                model: Some("m".to_owned()),
                version: Some(text.to_owned()),
                caller: None,
            };
            match named.load() {
                Ask::Change(Change::Load(served)) => assert!(said && served.version == 1),
                Ask::Nothing(declined) => {
                    assert!(!said);
                    assert_eq!(declined.refusal.code, Code::UnknownVersion);
                    assert!(declined.cause.unwrap().contains("leading zeros"));
                }
                ask @ (Ask::Read(_) | Ask::Page(_) | Ask::Change(_)) => panic!("{ask:?}"),
            }
        }
    }

    #[test]
    fn nothing_in_a_target_drives_a_terminal() {
        let name = "idp/a\n\u{1b}[2J\u{202e}b".to_owned();
        let target = Change::Release(Subject::Caller(name)).target();
        assert_eq!(target, "release caller idp/a  [2J b");
    }
}
