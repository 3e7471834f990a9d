//! The catalogue holds its own rules, and is what the documentation says.

use std::{collections::HashSet, fmt::Write, fs};

use super::{ALL, Description, Kind};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md");
const BEGIN: &str =
    "<!-- catalogue: written by a test; VITALGATE_BLESS=1 cargo nextest run --lib telemetry -->\n";
const END: &str = "<!-- end of the catalogue -->\n";

fn table() -> String {
    let mut table =
        "| metric | type | labels | says | moved by |\n|---|---|---|---|---|\n".to_owned();
    for Description {
        name,
        kind,
        labels,
        help,
        moved_by,
    } in ALL
    {
        let labels: Vec<String> = labels.iter().map(|l| format!("`{l}`")).collect();
        let (kind, labels) = (kind.as_str(), labels.join(", "));
        writeln!(
            table,
            "| `{name}` | {kind} | {labels} | {help} | {moved_by} |"
        )
        .unwrap();
    }
    table
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "asks whether to rewrite a file of the repository"
)]
fn the_document_is_the_catalogue() {
    let found = fs::read_to_string(FILE).unwrap();
    let (head, rest) = found.split_once(BEGIN).unwrap();
    let (_, tail) = rest.split_once(END).unwrap();
    let written = format!("{head}{BEGIN}\n{}\n{END}{tail}", table());
    if std::env::var_os("VITALGATE_BLESS").is_some() {
        fs::write(FILE, &written).unwrap();
        return;
    }
    assert!(
        found == written,
        "docs/metrics.md is out of date: VITALGATE_BLESS=1 rewrites it"
    );
}

#[test]
fn names_follow_prometheus() {
    let names: HashSet<&str> = ALL.iter().map(|d| d.name).collect();
    assert_eq!(names.len(), ALL.len(), "a name is used twice");
    for description in ALL {
        let name = description.name;
        assert!(
            name.starts_with("vitalgate_") || name.starts_with("process_"),
            "{name}"
        );
        let counts = description.kind == Kind::Counter;
        assert_eq!(counts, name.ends_with("_total"), "{name}");
        for odd in ["_ms", "_micros", "_minutes", "_percent", "_kib"] {
            assert!(!name.ends_with(odd), "{name}: not a base unit");
        }
        for text in [description.help, description.moved_by] {
            assert!(!text.ends_with('.') && !text.contains('|'), "{name}");
        }
        if let Kind::Histogram(bounds) = description.kind {
            assert!(bounds.is_sorted() && !bounds.is_empty(), "{name}");
        }
    }
}
