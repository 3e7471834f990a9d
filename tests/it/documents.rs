//! What the documents for reviewers call a test is one.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

const DOCUMENTS: [&str; 2] = ["docs/security.md", "docs/compliance.md"];

/// Tests of a tree of Rust files: by name, the files that have one of that name.
fn tests_below(directory: &Path, found: &mut BTreeMap<String, Vec<PathBuf>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            for name in tests_in(&fs::read_to_string(&path).unwrap()) {
                found.entry(name).or_default().push(path.clone());
            }
        }
    }
}

/// Names of the functions that stand below a test attribute, with nothing but further
/// attributes, their continuation and comments between.
fn tests_in(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut awaited = false;
    for line in source.lines().map(str::trim) {
        if line == "#[test]" || line.starts_with("#[tokio::test") {
            awaited = true;
            continue;
        }
        let function = line
            .strip_prefix("async ")
            .unwrap_or(line)
            .strip_prefix("fn ");
        if let (true, Some(function)) = (awaited, function) {
            let end = function.find(['(', '<']).unwrap();
            names.push(function[..end].to_owned());
            awaited = false;
        }
    }
    names
}

/// `module::test` in the last column of a table's row.
fn named(row: &str) -> Vec<&str> {
    let last = row.trim().trim_end_matches('|').rsplit('|').next();
    let quoted = last.unwrap_or_default().split('`').skip(1).step_by(2);
    quoted.filter(|text| text.contains("::")).collect()
}

/// Whether a file is where a path of modules says.
fn is_in(file: &Path, modules: &[&str]) -> bool {
    let parts: Vec<String> = file
        .with_extension("")
        .iter()
        .map(|part| part.to_string_lossy().into_owned())
        .collect();
    modules
        .iter()
        .all(|module| parts.iter().any(|part| part == module))
}

#[test]
fn every_test_they_name_exists_and_every_control_names_one() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut tests = BTreeMap::new();
    tests_below(&root.join("src"), &mut tests);
    tests_below(&root.join("tests"), &mut tests);
    assert!(tests.len() > 150, "only {} tests were found", tests.len());
    for document in DOCUMENTS {
        let text = fs::read_to_string(root.join(document)).unwrap();
        let (mut count, mut tested) = (0, false);
        for (number, line) in text.lines().enumerate() {
            let at = format!("{document}:{}", number + 1);
            if !line.starts_with('|') {
                tested = false;
                continue;
            }
            if line.ends_with("| test |") {
                tested = true;
                continue;
            }
            if !tested || line.starts_with("|---") {
                continue;
            }
            let names = named(line);
            assert!(
                !names.is_empty() || line.ends_with("| – |"),
                "{at} names no test, and does not say so with –"
            );
            for name in names {
                count += 1;
                let path: Vec<&str> = name.split("::").collect();
                let (function, modules) = path.split_last().unwrap();
                let files = tests.get(*function);
                let here = files.is_some_and(|files| files.iter().any(|f| is_in(f, modules)));
                assert!(here, "{at}: there is no test {name}");
            }
        }
        assert!(count > 20, "{document} names {count} tests");
    }
}
