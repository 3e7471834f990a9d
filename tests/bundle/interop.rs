//! Against the reference tool of `OpenSSF` Model Signing.

use super::*;

#[expect(clippy::disallowed_methods, reason = "set by whoever runs the tests")]
/// A command that `make test` installs.
pub(super) fn test_tool(name: &str) -> Option<PathBuf> {
    let tool = root().join("target/test-venv/bin").join(name);
    if tool.exists() {
        return Some(tool);
    }
    let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
    assert!(
        !ci,
        "{} is not installed, and CI must not skip it",
        tool.display()
    );
    println!(
        "skipped: {} is not installed (`make test` does)",
        tool.display()
    );
    None
}

#[test]
fn the_reference_tool_and_we_accept_each_other() {
    let Some(tool) = reference_tool() else { return };
    let scene = Scene::signed();
    let theirs = |arguments: &[&str]| {
        let output = Command::new(&tool)
            .args(arguments)
            .current_dir(scene.0.path())
            .output()
            .unwrap();
        Done(output)
    };
    let verify = [
        "verify",
        "key",
        "1/bundle",
        "--signature",
        "a.sig",
        "--public_key",
        "a.pub",
    ];
    let accepted = theirs(&verify);
    assert_eq!(accepted.code(), 0, "{accepted:?}");
    let signed = theirs(&[
        "sign",
        "key",
        "1/bundle",
        "--signature",
        "theirs.sig",
        "--private_key",
        "a.key",
    ]);
    assert_eq!(signed.code(), 0, "{signed:?}");
    let ours = [
        "verify",
        "1/bundle",
        "--signature",
        "theirs.sig",
        "--key",
        "a.pub",
    ];
    let accepted = scene.bundle(&ours);
    assert_eq!(accepted.code(), 0, "{accepted:?}");

    flip(&scene.path("1/bundle/reference.json"), 100);
    assert_ne!(theirs(&verify).code(), 0);
    scene.bundle(&ours).says(1, &["reference.json"]);
}

/// The reference tool's command.
pub(super) fn reference_tool() -> Option<PathBuf> {
    test_tool("model_signing")
}
