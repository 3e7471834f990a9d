//! Changed, unchanged, broken and mended files.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

/// Waits until it holds; a test fails after 10 s.
fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..500 {
        if holds() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("waited 10 s for: {what}");
}

fn number(path: &Path) -> Result<usize, ReloadError> {
    Ok(fs::read_to_string(path)?.trim().parse()?)
}

#[test]
fn a_good_file_is_taken_a_bad_one_is_not_and_a_mended_one_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("number");
    fs::write(&path, "1").unwrap();
    let (value, loads) = (Arc::new(AtomicUsize::new(1)), Arc::new(AtomicUsize::new(0)));
    let mut reloader = Reloader::default();
    let watching = {
        let (file, value, loads) = (path.clone(), Arc::clone(&value), Arc::clone(&loads));
        let files = vec![path.clone()];
        reloader.watch(
            "number",
            move || files.clone(),
            move || {
                loads.fetch_add(1, Ordering::SeqCst);
                value.store(number(&file)?, Ordering::SeqCst);
                Ok(())
            },
        );
        reloader.start().unwrap()
    };
    let outcome = || watching.outcomes().snapshot()["number"].clone();
    let value = || value.load(Ordering::SeqCst);
    // Untouched, it is not read.
    thread::sleep(3 * TICK);
    assert_eq!(loads.load(Ordering::SeqCst), 0);

    // Written in place.
    fs::write(&path, "2").unwrap();
    wait_until("2", || value() == 2);
    wait_until("its outcome", || outcome().successes == 2);

    fs::write(&path, "broken").unwrap();
    wait_until("the failure", || outcome().failures == 1);
    assert_eq!(value(), 2, "the old value went");
    assert!(outcome().failure.unwrap().contains("invalid digit"));
    assert!(!watching.outcomes().all_good());

    // Gone is not good either.
    fs::remove_file(&path).unwrap();
    wait_until("the second failure", || outcome().failures == 2);
    assert_eq!(value(), 2);

    // Moved into its place.
    fs::write(directory.path().join("new"), "3").unwrap();
    fs::rename(directory.path().join("new"), &path).unwrap();
    wait_until("3", || value() == 3);
    wait_until("a clean state", || watching.outcomes().all_good());

    // Asked to, it reads what has not changed.
    let before = loads.load(Ordering::SeqCst);
    watching.reload_now();
    wait_until("another load", || loads.load(Ordering::SeqCst) > before);
}

#[test]
fn files_that_follow_a_link_are_seen_to_change() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    // As Kubernetes replaces a mounted secret: a link to a directory is exchanged.
    for (version, text) in [("v1", "1"), ("v2", "2")] {
        fs::create_dir(at(version)).unwrap();
        fs::write(at(version).join("number"), text).unwrap();
    }
    std::os::unix::fs::symlink("v1", at("data")).unwrap();
    let path = at("data").join("number");
    let value = Arc::new(AtomicUsize::new(1));
    let mut reloader = Reloader::default();
    let (file, set, files) = (path.clone(), Arc::clone(&value), vec![path]);
    reloader.watch(
        "number",
        move || files.clone(),
        move || {
            set.store(number(&file)?, Ordering::SeqCst);
            Ok(())
        },
    );
    let _watching = reloader.start().unwrap();
    std::os::unix::fs::symlink("v2", at("data.new")).unwrap();
    fs::rename(at("data.new"), at("data")).unwrap();
    wait_until("2", || value.load(Ordering::SeqCst) == 2);
}
