//! Quarantines of other servers: whichever change of a subject is the latest stands on all.
//!
//! Read-only mode is of one server and is not shared.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Containment, Hold, Stopped, Subject};
use crate::{clock, error_chain::one_line};

/// A change of what is stopped, as servers tell each other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedChange {
    /// What it is about, in a text of our own.
    pub subject: String,
    /// When, Unix milliseconds.
    pub at: u64,
    hold: Option<Hold>,
}

impl SharedChange {
    fn new(subject: &Subject, at: u64, hold: Option<Hold>) -> Option<Self> {
        let subject = write(subject)?;
        Some(Self { subject, at, hold })
    }

    /// The caller, where it was released.
    pub fn released_caller(&self) -> Option<&str> {
        let caller = self.subject.strip_prefix("caller ");
        caller.filter(|_| self.hold.is_none())
    }

    /// The hold, in JSON; empty when it was released.
    pub fn text(&self) -> String {
        let hold = self.hold.as_ref();
        hold.and_then(|hold| serde_json::to_string(hold).ok())
            .unwrap_or_default()
    }

    /// Reads what the store has of a subject: milliseconds, a space, and the hold.
    pub fn read(subject: &str, text: &str) -> Option<Self> {
        let (at, hold) = text.split_once(' ')?;
        parse(subject)?;
        Some(Self {
            subject: subject.to_owned(),
            at: at.parse().ok()?,
            hold: match hold {
                "" => None,
                hold => Some(serde_json::from_str(hold).ok()?),
            },
        })
    }
}

fn write(subject: &Subject) -> Option<String> {
    match subject {
        Subject::Model {
            name,
            version: None,
        } => Some(format!("model {name}")),
        Subject::Model {
            name,
            version: Some(version),
        } => Some(format!("version {version} {name}")),
        Subject::Caller(name) => Some(format!("caller {name}")),
        Subject::Deployments => None,
    }
}

fn parse(text: &str) -> Option<Subject> {
    let (kind, rest) = text.split_once(' ')?;
    match kind {
        "model" => Some(Subject::Model {
            name: rest.to_owned(),
            version: None,
        }),
        "version" => {
            let (version, name) = rest.split_once(' ')?;
            let version = Some(version.parse().ok()?);
            let name = name.to_owned();
            Some(Subject::Model { name, version })
        }
        "caller" => Some(Subject::Caller(rest.to_owned())),
        _ => None,
    }
}

/// Changes that other servers have not been told of, by subject.
pub(super) type Unshared = BTreeMap<String, SharedChange>;

/// What was stopped when the last server ended: the others may not know it.
pub(super) fn since_before(stopped: &Stopped) -> Unshared {
    let models = stopped.models().map(|(name, version, hold)| {
        let name = name.to_owned();
        (Subject::Model { name, version }, hold)
    });
    let callers = stopped.callers();
    let callers = callers.map(|(name, hold)| (Subject::Caller(name.to_owned()), hold));
    let all = models.chain(callers).filter_map(|(subject, hold)| {
        let since = OffsetDateTime::parse(&hold.since, &Rfc3339).ok();
        let at = since.map_or(0, |t| t.unix_timestamp_nanos() / 1_000_000);
        let at = u64::try_from(at).unwrap_or_default();
        SharedChange::new(&subject, at, Some(hold.clone()))
    });
    all.map(|change| (change.subject.clone(), change)).collect()
}

impl Containment {
    /// Changes made here that other servers have not been told of.
    pub fn unshared(&self) -> Vec<SharedChange> {
        let unshared = self.unshared.lock().unwrap_or_else(PoisonError::into_inner);
        unshared.values().cloned().collect()
    }

    /// They have been told of these.
    pub fn shared(&self, changes: &[SharedChange]) {
        let mut unshared = self.unshared.lock().unwrap_or_else(PoisonError::into_inner);
        for change in changes {
            if unshared.get(&change.subject) == Some(change) {
                unshared.remove(&change.subject);
            }
        }
    }

    /// Does as other servers did. What was changed here since is left as it is.
    pub fn learn(&self, changes: impl IntoIterator<Item = SharedChange>) {
        for change in changes {
            let Some(subject) = parse(&change.subject) else {
                continue;
            };
            let known = self.stopped();
            if self.is_unshared(&change.subject) || known.has(&subject) == change.hold.is_some() {
                continue;
            }
            let subject_text = crate::error_chain::printable(&change.subject);
            let done = if let Some(hold) = change.hold {
                let (by, reason) = (hold.by.as_str(), hold.reason.as_str());
                tracing::warn!(subject_text, by, reason, "quarantined on another server");
                self.apply_stop(&subject, hold)
            } else {
                tracing::warn!(subject_text, "released on another server");
                self.apply_release(&subject)
            };
            if let Err(error) = done {
                tracing::error!(cause = one_line(&error), "incident controls are not kept");
            }
        }
    }

    /// Notes what is stopped here and not in the store, which may have lost its memory: a release
    /// would be there.
    pub fn miss(&self, known: &BTreeSet<String>) {
        let lacking = since_before(&self.stopped());
        let mut unshared = self.unshared.lock().unwrap_or_else(PoisonError::into_inner);
        for (subject, change) in lacking {
            if !known.contains(&subject) {
                unshared.entry(subject).or_insert(change);
            }
        }
    }

    fn is_unshared(&self, subject: &str) -> bool {
        let unshared = self.unshared.lock().unwrap_or_else(PoisonError::into_inner);
        unshared.contains_key(subject)
    }

    /// Notes a change made here.
    pub(super) fn note(&self, subject: &Subject, hold: Option<Hold>) {
        let at = u64::try_from(clock::since_epoch().as_millis()).unwrap_or(u64::MAX);
        if let Some(change) = SharedChange::new(subject, at, hold) {
            let mut unshared = self.unshared.lock().unwrap_or_else(PoisonError::into_inner);
            unshared.insert(change.subject.clone(), change);
        }
    }
}

impl Stopped {
    /// Whether exactly this is stopped.
    fn has(&self, subject: &Subject) -> bool {
        match subject {
            Subject::Model { name, version } => {
                self.models().any(|(n, v, _)| n == name && v == *version)
            }
            Subject::Caller(name) => self.caller(name).is_some(),
            Subject::Deployments => self.read_only().is_some(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::containment::Reason;

    fn hold() -> Hold {
        Hold {
            since: "2026-11-24T00:00:00Z".to_owned(),
            by: "ops".to_owned(),
            reason: Reason::new("drill").unwrap(),
        }
    }

    #[test]
    fn what_one_server_stops_another_stops_and_the_latest_change_stands() {
        let [one, other] = [(); 2].map(|()| Containment::open(None).unwrap());
        let caller = Subject::Caller("a b".to_owned());
        let model = Subject::Model {
            name: "icu-mortality".to_owned(),
            version: Some(3),
        };
        for subject in [&caller, &model] {
            one.stop(subject, hold()).unwrap();
        }
        one.stop(&Subject::Deployments, hold()).unwrap();
        let told = one.unshared();
        assert_eq!(told.len(), 2, "read-only mode is not told");
        let store = |change: &SharedChange| format!("{} {}", change.at, change.text());
        let read = told
            .iter()
            .map(|c| SharedChange::read(&c.subject, &store(c)).unwrap());
        let read: Vec<_> = read.collect();
        assert_eq!(read, told);
        one.shared(&told);
        assert!(one.unshared().is_empty());
        other.learn(read.clone());
        assert!(other.stopped().has(&caller) && other.stopped().has(&model));
        assert!(other.unshared().is_empty(), "it is not told back");
        // Released there, and not yet told: what the store still says does not stop it again.
        other.release(&caller).unwrap();
        other.learn(read);
        assert!(!other.stopped().has(&caller));
        one.learn(other.unshared());
        assert!(!one.stopped().has(&caller) && one.stopped().has(&model));
    }

    #[test]
    fn nonsense_in_the_store_is_passed_over() {
        for (subject, text) in [
            ("caller x", ""),
            ("caller x", "1"),
            ("caller x", "-1 "),
            ("caller x", "1 {}"),
            ("printer x", "1 "),
            ("version x y", "1 "),
        ] {
            assert_eq!(SharedChange::read(subject, text), None, "{subject} {text}");
        }
    }
}
