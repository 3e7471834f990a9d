//! Against the reference tool and `OpenSSL`, where they are installed.

use std::process::{Command, Output};

use super::*;

fn run(program: &Path, arguments: &[&str]) -> Option<Output> {
    Command::new(program).args(arguments).output().ok()
}

/// `model_signing` of a virtual environment at the crate's root, or of the search path.
fn reference_tool() -> Option<std::path::PathBuf> {
    let local = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-venv/bin/model_signing");
    let tool = if local.exists() {
        local
    } else {
        "model_signing".into()
    };
    let found = run(&tool, &["--version"])?.status.success();
    found.then_some(tool)
}

#[test]
fn the_reference_tool_and_we_accept_each_other() {
    let (Some(tool), Some(_)) = (reference_tool(), run(Path::new("openssl"), &["version"])) else {
        println!("skipped: no model_signing or no openssl");
        return;
    };
    let succeed = |program: &Path, arguments: &[&str]| {
        let output = run(program, arguments).unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output.stdout
    };
    for curve in ["P-256", "P-384", "P-521"] {
        let (dir, aside) = (bundle(), tempfile::tempdir().unwrap());
        let model = dir.path().to_str().unwrap();
        let at = |name: &str| aside.path().join(name).to_str().unwrap().to_owned();
        let (private, public) = (at("key.pem"), at("key.pub"));
        let (ours, theirs) = (at("ours.sig"), at("theirs.sig"));
        let openssl = Path::new("openssl");
        let group = format!("ec_paramgen_curve:{curve}");
        succeed(
            openssl,
            &[
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                &group,
                "-out",
                &private,
            ],
        );
        let printed = succeed(openssl, &["pkey", "-in", &private, "-pubout"]);
        fs::write(&public, &printed).unwrap();
        let key = SigningKey::from_pkcs8_pem(&fs::read(&private).unwrap()).unwrap();
        assert_eq!(key.public_key_pem().as_bytes(), printed);

        let arguments = [
            "sign",
            "key",
            model,
            "--signature",
            &theirs,
            "--private_key",
            &private,
        ];
        succeed(&tool, &arguments);
        let limits = Limits::default();
        verify(dir.path(), Path::new(&theirs), &trust(&key), &limits).unwrap();

        fs::write(&ours, sign(&read(dir.path()), "bundle", &key).unwrap()).unwrap();
        let arguments = [
            "verify",
            "key",
            model,
            "--signature",
            &ours,
            "--public_key",
            &public,
        ];
        succeed(&tool, &arguments);
        fs::write(dir.path().join("empty"), b"x").unwrap();
        assert!(!run(&tool, &arguments).unwrap().status.success());
    }
}
