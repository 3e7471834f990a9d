//! A log that a real server wrote is tampered with in every way; `audit verify` finds what was
//! done and where.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use tempfile::TempDir;
use vitalgate::audit::{Checkpoint, SigningKey, chain, merkle::Tree};

use crate::harness::{
    BINARY, ICU_PATIENT, Server, Site, Verdict, Wire, client, log_text, post, segments, verify_log,
    wait_until,
};

const PREDICT: &str = "/v1/models/icu-mortality/predict";
/// Records of the log that is tampered with.
const RECORDS: usize = 60;

/// A log with several checkpoints and segments, copied anew for each case.
struct Original {
    site: Site,
    /// A checkpoint that was kept elsewhere when half of the log was written.
    anchor: PathBuf,
}

struct Copy<'o> {
    original: &'o Original,
    directory: TempDir,
}

fn checkpoints(directory: &Path) -> usize {
    let names = fs::read_dir(directory).unwrap().map(|e| e.unwrap().path());
    names
        .filter(|path| path.extension().is_some_and(|e| e == "checkpoints"))
        .map(|path| {
            fs::read_to_string(path)
                .unwrap()
                .matches("it.example/log\n")
                .count()
        })
        .sum()
}

impl Original {
    fn write() -> Self {
        let mut site = Site::new();
        site.configure(
            "key = \"audit.key\"",
            "key = \"audit.key\"\nsegment_bytes = 12000",
        );
        let log = site.path().join("audit");
        let anchor = site.path().join("kept-elsewhere");
        let mut server = Server::start(&site);
        let mut wire = Wire::open(&server, &client(&site, "clinician"));
        for number in 0..RECORDS {
            if number % 20 == 0 {
                let before = checkpoints(&log);
                let due = number > 0;
                wait_until("a checkpoint", || {
                    !due || checkpoints(&log) > before || is_signed(&log)
                });
            }
            if number == RECORDS / 2 {
                let live = fs::read_to_string(log.join("audit.checkpoints")).unwrap();
                let last = live.split("\n\nit.example").last().unwrap();
                let last = format!("it.example{}", last.trim_start_matches("it.example"));
                fs::write(&anchor, last).unwrap();
            }
            assert_eq!(post(&mut wire, PREDICT, ICU_PATIENT.as_bytes()).status, 200);
        }
        drop(wire);
        server.stop();
        assert!(segments(&log).len() > 2 && checkpoints(&log) >= 3);
        Self { site, anchor }
    }

    fn copy(&self) -> Copy<'_> {
        let directory = tempfile::tempdir().unwrap();
        for entry in fs::read_dir(self.site.path().join("audit")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
        }
        Copy {
            original: self,
            directory,
        }
    }
}

/// Whether the last checkpoint covers every record.
fn is_signed(log: &Path) -> bool {
    let records = log_text(log).lines().count();
    let live = fs::read_to_string(log.join("audit.checkpoints")).unwrap_or_default();
    let sizes = live
        .split("it.example/log\n")
        .filter_map(|note| note.lines().next());
    sizes.last() == Some(records.to_string().as_str())
}

impl Copy<'_> {
    fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The file that a record is in, and its line, from 0.
    fn find(&self, seq: usize) -> (PathBuf, usize) {
        let wanted = format!("{{\"seq\":{seq},");
        for path in segments(self.path()) {
            let text = fs::read_to_string(&path).unwrap();
            if let Some(line) = text.lines().position(|l| l.starts_with(&wanted)) {
                return (path, line);
            }
        }
        panic!("no seq {seq}");
    }

    /// Changes the lines of the file that a record is in; tells where it was.
    fn edit(&self, seq: usize, change: impl FnOnce(&mut Vec<String>, usize)) -> String {
        let (path, line) = self.find(seq);
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<String> = text.lines().map(|l| format!("{l}\n")).collect();
        change(&mut lines, line);
        fs::write(&path, lines.concat()).unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        format!("{name}:{}", line + 1)
    }

    fn verify(&self, more: &[&str]) -> Verdict {
        verify_log(
            self.path(),
            &self.original.site.path().join("audit.pub"),
            more,
        )
    }

    #[track_caller]
    fn finds(&self, case: &str, expected: &str) {
        let found = self.verify(&[]).found();
        println!("{case}: {found:?}");
        assert!(
            found.iter().any(|f| f.starts_with(expected)),
            "{case}: {expected}: {found:?}"
        );
    }

    /// Removes every checkpoint of more than so many records.
    fn forget_checkpoints_after(&self, most: u64) {
        for path in fs::read_dir(self.path())
            .unwrap()
            .map(|e| e.unwrap().path())
        {
            if path.extension().is_some_and(|e| e == "checkpoints") {
                let text = fs::read_to_string(&path).unwrap();
                let kept: Vec<String> = text
                    .split("it.example/log\n")
                    .skip(1)
                    .filter(|note| note.lines().next().unwrap().parse::<u64>().unwrap() <= most)
                    .map(|note| format!("it.example/log\n{}\n", note.trim_end()))
                    .collect();
                fs::write(&path, kept.join("\n")).unwrap();
            }
        }
    }

    /// Makes the chain anew over all records, after a change of their texts.
    fn rechain(&self, change: impl Fn(&str) -> String) -> Tree {
        let (mut seq, mut prev, mut tree) = (0u64, chain::GENESIS, Tree::default());
        for path in segments(self.path()) {
            let mut out = String::new();
            for line in fs::read_to_string(&path).unwrap().lines() {
                let body = change(line.split_once("\",").unwrap().1);
                let prev_hex = hex::encode(prev);
                let line = format!("{{\"seq\":{seq},\"prev\":\"{prev_hex}\",{body}");
                prev = chain::line_hash(line.as_bytes());
                tree.push(vitalgate::audit::merkle::leaf_hash(line.as_bytes()));
                seq += 1;
                out += &line;
                out.push('\n');
            }
            fs::write(&path, out).unwrap();
        }
        tree
    }

    fn checkpoint_files(&self) -> Vec<PathBuf> {
        let names = fs::read_dir(self.path())
            .unwrap()
            .map(|e| e.unwrap().path());
        names
            .filter(|path| path.extension().is_some_and(|e| e == "checkpoints"))
            .collect()
    }

    /// Names of the files of records, and how many lines each has.
    fn ends(&self) -> Vec<(String, usize)> {
        let ends = segments(self.path()).into_iter().map(|path| {
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap().lines().count())
        });
        ends.collect()
    }

    /// Removes the files without records and makes the last of the others the live one.
    fn end_with_what_is_left(&self) {
        let files = self.ends();
        let mut kept = files.iter().filter(|(_, lines)| *lines > 0);
        let (last, _) = kept.next_back().unwrap();
        for (name, lines) in &files {
            let records = self.path().join(name);
            let checkpoints = records.with_extension("checkpoints");
            if *lines == 0 {
                fs::remove_file(records).unwrap();
                fs::remove_file(checkpoints).unwrap();
            } else if name == last && name != "audit.jsonl" {
                fs::rename(checkpoints, self.path().join("audit.checkpoints.kept")).unwrap();
                fs::rename(records, self.path().join("audit.jsonl.kept")).unwrap();
            }
        }
        for name in ["audit.jsonl", "audit.checkpoints"] {
            let kept = self.path().join(format!("{name}.kept"));
            if kept.exists() {
                fs::rename(kept, self.path().join(name)).unwrap();
            }
        }
    }

    /// Cuts every record from this one on.
    fn cut_from(&self, seq: usize) {
        let (cut, line) = self.find(seq);
        let mut behind = false;
        for path in segments(self.path()) {
            if behind {
                fs::write(&path, "").unwrap();
            }
            if path == cut {
                let text = fs::read_to_string(&path).unwrap();
                let kept: String = text.split_inclusive('\n').take(line).collect();
                fs::write(&path, kept).unwrap();
                behind = true;
            }
        }
    }
}

#[test]
fn a_log_made_anew_does_not_hold_for_lack_of_checkpoints() {
    let original = Original::write();
    // The oldest checkpoint, of no records at all, contradicts nothing.
    let copy = original.copy();
    copy.rechain(|body| body.replacen("\"status\":200", "\"status\":422", 1));
    copy.forget_checkpoints_after(0);
    let found = copy.verify(&[]).found();
    println!("re-chained, later checkpoints removed: {found:?}");
    let (end, line) = copy.ends().remove(0);
    assert_eq!(
        found[0],
        format!("CHECKPOINT_MISSING {end}:{line} {}", line - 1)
    );
    assert!(found.iter().all(|f| f.starts_with("CHECKPOINT_MISSING")));

    // Nor does it in one file, which leaves no closed segment: its records tell their times.
    let copy = original.copy();
    let whole = log_text(copy.path());
    for path in segments(copy.path()) {
        fs::remove_file(path).unwrap();
    }
    fs::write(copy.path().join("audit.jsonl"), whole).unwrap();
    let seconds = std::cell::Cell::new(0u32);
    copy.rechain(|body| {
        let second = seconds.replace(seconds.get() + 1);
        let own = body.split_once("Z\",").unwrap().1;
        format!("\"time\":\"2026-03-01T10:00:{second:02}Z\",{own}")
    });
    let first = copy.path().join("audit-000001.checkpoints");
    let text = fs::read_to_string(&first).unwrap();
    let note = format!(
        "{}\n",
        text.split("\n\nit.example").next().unwrap().trim_end()
    );
    assert!(note.starts_with("it.example/log\n0\n"), "{note}");
    for path in copy.checkpoint_files() {
        fs::remove_file(path).unwrap();
    }
    fs::write(copy.path().join("audit.checkpoints"), note).unwrap();
    assert_eq!(
        copy.verify(&[]).found(),
        ["CHECKPOINT_MISSING audit.jsonl:1 0"]
    );

    // One file of checkpoints whose records a later one covers is told, and no more.
    let copy = original.copy();
    fs::remove_file(copy.path().join("audit-000002.checkpoints")).unwrap();
    let verdict = copy.verify(&[]).holds();
    let warnings = verdict.report["warnings"].as_array().unwrap();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert_eq!(warnings[0]["kind"], "CHECKPOINT_MISSING");
    assert_eq!(warnings[0]["file"], "audit-000002.checkpoints");
    assert_eq!(
        original.copy().verify(&[]).report["warnings"],
        serde_json::json!([])
    );
}

#[test]
fn a_record_is_json_that_says_each_thing_once_with_a_number_that_has_a_next() {
    let original = Original::write();
    for (what, from, to) in [
        (
            "a key twice",
            "\"status\":200",
            "\"status\":422,\"status\":200",
        ),
        ("not JSON", "\"status\":200", "\"status\":200,,"),
        ("no time", "\"time\":", "\"tine\":"),
        (
            "the last number",
            "\"seq\":9,",
            "\"seq\":18446744073709551615,",
        ),
    ] {
        let copy = original.copy();
        let at = copy.edit(9, |lines, i| lines[i] = lines[i].replacen(from, to, 1));
        copy.finds(what, &format!("MALFORMED {at} 9"));
    }
    // The number before the last is a gap, and an end.
    let copy = original.copy();
    copy.edit(59, |lines, i| {
        lines[i] = lines[i].replacen("\"seq\":59,", "\"seq\":18446744073709551614,", 1);
    });
    copy.finds("nearly the last number", "MISSING ");
}

fn another_key() -> SigningKey {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(file.path(), SigningKey::generate().unwrap().0.as_bytes()).unwrap();
    SigningKey::load(file.path()).unwrap()
}

#[test]
fn whatever_was_done_to_a_log_is_found_and_located() {
    let original = Original::write();
    let whole = original.copy();
    let verdict = whole
        .verify(&["--anchor", original.anchor.to_str().unwrap()])
        .holds();
    assert_eq!(
        (verdict.number("records"), verdict.number("unproven")),
        (60, 0)
    );
    println!("untouched: {}", verdict.report);

    let copy = original.copy();
    let at = copy.edit(9, |lines, i| {
        lines[i] = lines[i].replace("clinician", "clinicien");
    });
    copy.finds("a byte edited", &format!("EDITED {at} 9"));

    let copy = original.copy();
    let at = copy.edit(9, |lines, i| {
        lines[i] = lines[i].replacen("\"seq\"", "\"sep\"", 1);
    });
    copy.finds("a line made unreadable", &format!("MALFORMED {at} 9"));

    let copy = original.copy();
    let at = copy.edit(9, |lines, i| drop(lines.remove(i)));
    copy.finds("a record deleted", &format!("MISSING {at} 9"));

    let copy = original.copy();
    let at = copy.edit(9, |lines, i| lines.swap(i, i + 1));
    let (file, line) = at.split_once(':').unwrap();
    let behind = line.parse::<usize>().unwrap() + 1;
    copy.finds(
        "two records swapped",
        &format!("REORDERED {file}:{behind} 9"),
    );
    let found = copy.verify(&[]).found();
    assert!(found.iter().all(|f| !f.starts_with("MISSING")), "{found:?}");

    let copy = original.copy();
    let at = copy.edit(9, |lines, i| lines.insert(i + 1, lines[i].clone()));
    let (file, line) = at.split_once(':').unwrap();
    let again = line.parse::<usize>().unwrap() + 1;
    copy.finds(
        "a record duplicated",
        &format!("DUPLICATED {file}:{again} 9"),
    );

    let copy = original.copy();
    copy.cut_from(50);
    copy.finds("the tail cut", "TRUNCATED ");
    let verdict = copy.verify(&[]);
    assert!(verdict.found()[0].ends_with(" 50"), "{:?}", verdict.found());

    let copy = original.copy();
    let segment = segments(copy.path())[1].clone();
    fs::remove_file(&segment).unwrap();
    copy.finds("a whole segment deleted", "MISSING ");

    let copy = original.copy();
    let (first, second) = (&segments(copy.path())[0], &segments(copy.path())[1]);
    let lines = copy.ends()[0].1;
    let aside = copy.path().join("aside");
    fs::rename(first, &aside).unwrap();
    fs::rename(second, first).unwrap();
    fs::rename(&aside, second).unwrap();
    let found = copy.verify(&[]).found();
    println!("two segments swapped: {found:?}");
    let moved: Vec<&String> = found
        .iter()
        .filter(|f| f.starts_with("REORDERED"))
        .collect();
    assert_eq!(moved, ["REORDERED audit-000002.jsonl:1 0"], "{found:?}");
    let report = copy.verify(&[]).report.to_string();
    assert!(
        report.contains(&format!("seq 0 to {} stand behind", lines - 1)),
        "{report}"
    );

    // The last record has no next one to contradict it, but a checkpoint.
    let copy = original.copy();
    copy.edit(59, |lines, i| {
        lines[i] = lines[i].replace("clinician", "clinicien");
    });
    copy.finds("the last record edited", "NOT_AS_SIGNED ");

    let copy = original.copy();
    copy.rechain(|body| body.replacen("\"status\":200", "\"status\":422", 1));
    copy.finds("re-chained", "NOT_AS_SIGNED audit-000001.jsonl:1 0");

    forged_checkpoints(&original);
}

fn forged_checkpoints(original: &Original) {
    let live = "audit.checkpoints";
    let copy = original.copy();
    let tree = copy.rechain(|body| body.replacen("\"status\":200", "\"status\":422", 1));
    copy.forget_checkpoints_after(0);
    let checkpoint = Checkpoint {
        origin: "it.example/log".to_owned(),
        size: 60,
        root: tree.root(),
    };
    let note = checkpoint.sign(&another_key()).unwrap();
    fs::write(copy.path().join(live), note).unwrap();
    copy.finds(
        "re-chained and signed with another key",
        &format!("FOREIGN_KEY {live}:1"),
    );

    let copy = original.copy();
    let path = copy.path().join(live);
    let text = fs::read_to_string(&path).unwrap();
    let root = text.lines().nth(2).unwrap().to_owned();
    let first = if root.starts_with('A') { 'B' } else { 'A' };
    let other = format!("{first}{}", &root[1..]);
    fs::write(&path, text.replacen(&root, &other, 1)).unwrap();
    copy.finds(
        "a checkpoint forged",
        &format!("FORGED_CHECKPOINT {live}:1"),
    );

    // A key that lies beside the log is nobody's.
    let copy = original.copy();
    let stranger = copy.path().join("stranger.pub");
    fs::write(&stranger, another_key().public().to_pem()).unwrap();
    let found = verify_log(copy.path(), &stranger, &[]).found();
    assert!(
        found.iter().all(|f| f.starts_with("FOREIGN_KEY")),
        "{found:?}"
    );

    let copy = original.copy();
    let found = copy.verify(&["--origin", "another.example/log"]).found();
    assert!(
        found.iter().all(|f| f.starts_with("FOREIGN_ORIGIN")),
        "{found:?}"
    );

    let copy = original.copy();
    for path in fs::read_dir(copy.path())
        .unwrap()
        .map(|e| e.unwrap().path())
    {
        if path.extension().is_some_and(|e| e == "checkpoints") {
            fs::remove_file(path).unwrap();
        }
    }
    copy.finds("all checkpoints deleted", "NO_CHECKPOINT");
}

#[test]
fn what_follows_the_last_checkpoint_is_unproven_and_an_anchor_proves_more() {
    let original = Original::write();
    let anchor = original.anchor.to_str().unwrap();
    let anchored: u64 = fs::read_to_string(anchor)
        .unwrap()
        .lines()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    assert!((1..=30).contains(&anchored), "{anchored}");

    // A loss after the last checkpoint leaves no trace; the verdict says what it cannot say.
    let copy = original.copy();
    let live = fs::read_to_string(copy.path().join("audit.jsonl")).unwrap();
    let unproven = u64::try_from(live.lines().count()).unwrap() - 1;
    let proven = 59 - unproven;
    assert!(unproven > 1, "{unproven}");
    copy.forget_checkpoints_after(proven);
    copy.cut_from(59);
    let verdict = copy.verify(&[]).holds();
    assert_eq!(verdict.number("proven"), proven);
    assert_eq!(verdict.number("unproven"), unproven);
    let output = Command::new(BINARY)
        .args(["audit", "verify"])
        .arg(copy.path())
        .arg("--key")
        .arg(original.site.path().join("audit.pub"))
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    println!("{text}");
    assert!(text.contains(&format!("unproven     {unproven}")), "{text}");

    // Cutting log and checkpoints together leaves a log that holds, but not against the anchor.
    let copy = original.copy();
    let kept = usize::try_from(anchored).unwrap() - 1;
    copy.cut_from(kept);
    copy.forget_checkpoints_after(anchored - 1);
    copy.end_with_what_is_left();
    copy.verify(&[]).holds();
    let found = copy.verify(&["--anchor", anchor]).found();
    println!("log and checkpoints cut: {found:?}");
    assert!(
        found
            .iter()
            .any(|f| f.starts_with("TRUNCATED") && f.ends_with(&format!(" {kept}")))
    );

    // So does making both anew: with a key that leaked, the anchor still tells.
    let copy = original.copy();
    let key = SigningKey::load(&original.site.path().join("audit.key")).unwrap();
    let tree = copy.rechain(|body| body.replacen("\"status\":200", "\"status\":422", 1));
    copy.forget_checkpoints_after(0);
    let checkpoint = Checkpoint {
        origin: "it.example/log".to_owned(),
        size: 60,
        root: tree.root(),
    };
    fs::write(
        copy.path().join("audit.checkpoints"),
        checkpoint.sign(&key).unwrap(),
    )
    .unwrap();
    copy.verify(&[]).holds();
    let found = copy.verify(&["--anchor", anchor]).found();
    println!("made anew with the leaked key: {found:?}");
    assert!(
        found.iter().any(|f| f.starts_with("NOT_AS_SIGNED")),
        "{found:?}"
    );
}

#[test]
fn usage_and_environment_have_exit_codes_of_their_own() {
    let site = Site::new();
    let key = site.path().join("audit.pub");
    let run = |arguments: &[&str]| {
        let output = Command::new(BINARY)
            .args(["audit", "verify"])
            .args(arguments)
            .output()
            .unwrap();
        (
            output.status.code().unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (path, key) = (site.path().to_str().unwrap(), key.to_str().unwrap());
    assert_eq!(run(&[path]).0, 2);
    let (code, message) = run(&[path, "--key", key]);
    assert_eq!(code, 3, "{message}");
    assert!(message.contains("no audit log"), "{message}");
    let (code, message) = run(&[path, "--key", &format!("{path}/ca.pem")]);
    assert_eq!((code, message.contains("Ed25519")), (3, true), "{message}");

    // What has no end, or nobody at the other one, is not read.
    for name in ["audit.jsonl", "audit.checkpoints", "audit-000001.jsonl"] {
        let log = tempfile::tempdir().unwrap();
        fs::write(log.path().join("audit.jsonl"), "").unwrap();
        let path = log.path().join(name);
        let _absent = fs::remove_file(&path);
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        let directory = log.path().to_str().unwrap();
        let (code, message) = run(&[directory, "--key", key]);
        assert_eq!(code, 3, "{name}: {message}");
        assert!(message.contains("not a regular file"), "{message}");
        fs::remove_file(&path).unwrap();
        let made = Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        assert_eq!(run(&[directory, "--key", key]).0, 3, "{name}");
    }
}
