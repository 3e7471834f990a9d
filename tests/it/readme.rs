//! The README's commands, pasted, print what the README says.

use std::process::Command;

use super::harness::Server;

const README: &str = include_str!("../../README.md");

/// Commands with the answer shown below each.
fn shown() -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = README;
    while let Some((command, after)) = block(rest, "sh") {
        let (answer, after) = block(after, "json").unwrap();
        found.push((command, answer));
        rest = after;
    }
    found
}

fn block<'t>(text: &'t str, language: &str) -> Option<(String, &'t str)> {
    let (_, after) = text.split_once(&format!("```{language}\n"))?;
    let (inside, after) = after.split_once("```\n")?;
    Some((inside.trim_end().to_owned(), after))
}

/// Every answer has an id of its own, and every review a token that expires.
fn without_its_own(answer: &str) -> Vec<&str> {
    let own = ["\"id\":", "\"token\":", "\"expires\":"];
    let lines = answer.trim_end().lines();
    lines
        .filter(|l| !own.iter().any(|name| l.trim_start().starts_with(name)))
        .collect()
}

#[test]
fn its_commands_print_what_it_says() {
    let state = tempfile::tempdir().unwrap();
    let server = Server::dev(state.path());
    let shown = shown();
    assert_eq!(
        shown.len(),
        4,
        "a predicted, a flagged, an overridden and a rejected patient"
    );
    for (command, answer) in shown {
        let here = command
            .replace(".vitalgate", state.path().to_str().unwrap())
            .replace("127.0.0.1:8443", &server.data.to_string());
        let output = Command::new("sh")
            .args(["-c", &here])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(
            without_its_own(&printed),
            without_its_own(&answer),
            "{command}\n{errors}"
        );
    }
}
