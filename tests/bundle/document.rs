//! The commands of docs/models.md, in their order, do what the page says.

use super::{interop::test_tool, token, *};

/// Commands with the lines shown below each.
fn shown(page: &str) -> Vec<(String, Vec<String>)> {
    let mut found: Vec<(String, Vec<String>)> = Vec::new();
    for block in page.split("```\n").filter(|block| block.starts_with("$ ")) {
        for line in block.replace("\\\n", " ").lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                found.push((command.to_owned(), Vec::new()));
            } else if let Some((_, lines)) = found.last_mut() {
                lines.push(line.to_owned());
            }
        }
    }
    found
}

/// Keys, digests, times and sizes differ from run to run, or from release to release.
fn stable(line: &str) -> String {
    let word = |word: &str| {
        let digest = word
            .trim_end_matches([':', ','])
            .strip_prefix("sha256:")
            .unwrap_or(word);
        let hex = digest.len() >= 32 && digest.bytes().all(|b| b.is_ascii_hexdigit() || b == b':');
        let time = word.len() == 20 && word.ends_with('Z');
        let size = word
            .trim_start_matches('(')
            .parse::<u64>()
            .is_ok_and(|size| size > 99);
        if hex || time || size {
            "*".to_owned()
        } else {
            word.to_owned()
        }
    };
    line.split_whitespace()
        .map(word)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_commands_on_the_page_print_what_it_says() {
    let page = fs::read_to_string(root().join("docs/models.md")).unwrap();
    let scene = Scene::empty();
    let model = fs::read_to_string(demo("icu-mortality").join("model.json")).unwrap();
    let wrong = model.replacen("\"gbdt\": 0.022667", "\"gbdt\": 0.5", 1);
    fs::write(scene.path("model.json"), model).unwrap();
    fs::write(scene.path("wrong.json"), wrong).unwrap();
    for member in ["gbdt", "mlp"] {
        let file = format!("{member}.onnx");
        let from = demo("icu-mortality").join("members").join(&file);
        fs::copy(from, scene.path(&file)).unwrap();
    }
    let rows = root().join("models/icu-mortality/synthetic.csv");
    fs::copy(rows, scene.path("rows.csv")).unwrap();
    let (_, origin) = page.split_once("```json\n").unwrap();
    let (origin, _) = origin.split_once("```").unwrap();
    fs::write(scene.path("origin.json"), origin).unwrap();

    let ours = Path::new(env!("CARGO_BIN_EXE_vitalgate")).parent().unwrap();
    let theirs = test_tool("model_signing");
    let path = [
        ours.to_str().unwrap(),
        theirs
            .as_deref()
            .map_or("", |t| t.parent().unwrap().to_str().unwrap()),
        "/usr/bin:/bin",
    ]
    .join(":");
    let commands = shown(&page);
    assert!(commands.len() > 45, "{commands:#?}");
    let hsm = token::softhsm(scene.0.path());
    for (command, lines) in commands {
        if command.starts_with("model_signing") && theirs.is_none()
            || command.contains("token") && hsm.is_none()
        {
            println!("skipped: {command}");
            continue;
        }
        let output = Command::new("sh")
            .args(["-c", &format!("{command} 2>&1")])
            .env("PATH", &path)
            .envs(hsm.iter().map(|conf| ("SOFTHSM2_CONF", conf)))
            .current_dir(scene.0.path())
            .output()
            .unwrap();
        let done = Done(output);
        let refused = lines.iter().any(|line| line.starts_with("vitalgate: "));
        assert_eq!(done.code(), i32::from(refused), "{command}: {done:?}");
        let stable = |lines: &[&str]| -> Vec<String> {
            let said = lines.iter().filter(|line| !line.is_empty());
            said.map(|line| stable(line)).collect()
        };
        let printed = stable(&done.stdout().lines().collect::<Vec<_>>());
        let lines = stable(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        if lines.iter().any(|line| line == "…") {
            for line in lines.iter().filter(|line| *line != "…") {
                assert!(
                    printed.contains(line),
                    "{command}: {line:?} is not in {printed:#?}"
                );
            }
        } else if !lines.is_empty() {
            assert_eq!(printed, lines, "{command}");
        }
    }
}
