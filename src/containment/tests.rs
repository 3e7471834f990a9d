//! What is stopped stays stopped: over a restart, a full disk and a damaged file.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use proptest::prelude::*;

use super::*;
use crate::state_directory::DirectoryError;

fn hold(reason: &str) -> Hold {
    Hold {
        since: "2026-11-24T00:00:00Z".to_owned(),
        by: "ops".to_owned(),
        reason: Reason::new(reason).unwrap(),
    }
}

fn icu(version: Option<u32>) -> Subject {
    Subject::Model {
        name: "icu-mortality".to_owned(),
        version,
    }
}

fn file(directory: &tempfile::TempDir) -> PathBuf {
    directory.path().join("incident-controls.json")
}

#[test]
fn a_restart_releases_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let open = || Containment::open(Some(directory.path())).unwrap();
    let subjects = [
        icu(None),
        icu(Some(2)),
        Subject::Caller("ehr".to_owned()),
        Subject::Deployments,
    ];
    let first = open();
    for subject in &subjects {
        assert!(first.stop(subject, hold("drill")).unwrap());
    }
    let before = first.stopped();
    assert!(
        matches!(
            Containment::open(Some(directory.path())),
            Err(StateError::Directory(DirectoryError::InUse(_)))
        ),
        "one server a directory"
    );
    drop(first);
    let second = open();
    assert_eq!(second.stopped(), before);
    assert_eq!(before.models().count(), 2);
    for subject in &subjects {
        assert!(second.release(subject).unwrap());
        assert!(!second.release(subject).unwrap(), "released already");
    }
    drop(second);
    assert_eq!(*open().stopped(), Stopped::default());
    let mode = fs::metadata(file(&directory)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_version_is_stopped_by_itself_or_with_its_model() {
    let containment = Containment::open(None).unwrap();
    let is = |version| {
        let stopped = containment.stopped();
        let hold = stopped.model("icu-mortality", version);
        hold.map(|h| h.reason.as_str().to_owned())
    };
    containment
        .stop(&icu(Some(1)), hold("bad calibration"))
        .unwrap();
    assert_eq!((is(1).as_deref(), is(2)), (Some("bad calibration"), None));
    assert_eq!(containment.stopped().model("other", 1), None);
    containment.stop(&icu(None), hold("all of it")).unwrap();
    assert_eq!(is(2).as_deref(), Some("all of it"));
    // Releasing the model leaves the version that was stopped by itself.
    containment.release(&icu(None)).unwrap();
    assert_eq!((is(1).as_deref(), is(2)), (Some("bad calibration"), None));
}

#[test]
fn the_first_reason_stays() {
    let containment = Containment::open(None).unwrap();
    assert!(
        containment
            .stop(&Subject::Deployments, hold("first"))
            .unwrap()
    );
    assert!(
        !containment
            .stop(&Subject::Deployments, hold("second"))
            .unwrap()
    );
    let stopped = containment.stopped();
    assert_eq!(stopped.read_only().unwrap().reason.as_str(), "first");
}

#[test]
fn without_a_disk_stopping_works_and_releasing_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let containment = Containment::open(Some(&state)).unwrap();
    containment.stop(&icu(None), hold("drill")).unwrap();
    fs::remove_dir_all(&state).unwrap();
    let ehr = Subject::Caller("ehr".to_owned());
    assert!(containment.stop(&ehr, hold("drill")).is_err());
    let caller = Principal::example("ehr", &[], &[]);
    let stopped = containment.check_caller(&caller, || None);
    assert!(stopped.is_err(), "in force anyway");
    assert!(containment.release(&icu(None)).is_err());
    assert!(containment.stopped().model("icu-mortality", 1).is_some());
}

#[test]
fn any_damage_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let containment = Containment::open(Some(directory.path())).unwrap();
    containment.stop(&icu(None), hold("drill")).unwrap();
    drop(containment);
    let whole = fs::read(file(&directory)).unwrap();
    let refused = |bytes: &[u8]| {
        fs::write(file(&directory), bytes).unwrap();
        match Containment::open(Some(directory.path())) {
            Err(StateError::Corrupt { problem, .. }) => problem,
            other => panic!("{other:?}"),
        }
    };
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        refused(&bytes);
        refused(&whole[..at]);
    }
    refused(&[&whole[..], b"\n"].concat());
    let line = r#"{"format":2,"stopped":{"models":{},"callers":{},"read_only":null}}"#;
    let sum = hex::encode(aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        line.as_bytes(),
    ));
    let problem = refused(format!("{line}\nsha256 {sum}\n").as_bytes());
    assert!(problem.contains("format 2"), "{problem}");
    fs::write(file(&directory), whole).unwrap();
    assert!(Containment::open(Some(directory.path())).is_ok());
}

proptest! {
    #[test]
    fn a_reason_cannot_act_on_what_shows_it(text in any::<String>()) {
        if let Ok(reason) = Reason::new(&text) {
            let plain = |c: char| c.is_ascii_alphanumeric() || " .,:;()/#@+-_".contains(c);
            prop_assert!(reason.as_str().chars().all(plain));
            prop_assert!((3..=200).contains(&reason.as_str().len()));
        }
    }
}

#[test]
fn reasons_are_short_plain_and_not_empty() {
    let long = "x".repeat(200);
    for fit in ["CVE-2026-1", "alert #12 (ward 3): drift", &long] {
        assert!(Reason::new(fit).is_ok(), "{fit}");
    }
    let longer = "x".repeat(201);
    for unfit in [
        "",
        "  ",
        "ab",
        " abc",
        "abc ",
        "a\nbc",
        "caf\u{e9}",
        "<b>x</b>",
        &longer,
    ] {
        assert_eq!(Reason::new(unfit), Err(UnfitReason), "{unfit:?}");
    }
}
