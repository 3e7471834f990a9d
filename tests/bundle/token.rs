//! Keys in a PKCS#11 token: `SoftHSM`, which is a real one but for its hardware.

use super::{interop::reference_tool, *};

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "472913";

/// Writes `SoftHSM`'s configuration into a directory, with its tokens beside it. None, and it is
/// said, where `SoftHSM` is not installed.
#[expect(clippy::disallowed_methods, reason = "set by whoever runs the tests")]
pub(super) fn softhsm(directory: &Path) -> Option<PathBuf> {
    if !Path::new(MODULE).exists() {
        let ci = std::env::var_os("CI").is_some_and(|value| value == "true");
        assert!(!ci, "{MODULE} is missing, and CI must not skip it");
        println!("skipped: {MODULE} is missing (apt-get install softhsm2)");
        return None;
    }
    let tokens = directory.join("tokens");
    fs::create_dir(&tokens).unwrap();
    let conf = directory.join("softhsm2.conf");
    let text = format!("directories.tokendir = {}\n", tokens.display());
    fs::write(&conf, text).unwrap();
    Some(conf)
}

/// A scene with a token `release` of its own. The user's PIN lies in `pin`.
struct TokenScene(Scene);

impl TokenScene {
    /// None where `SoftHSM` is not installed.
    fn new() -> Option<Self> {
        let scene = Self(Scene::new());
        softhsm(scene.0.0.path())?;
        scene.add_token("release");
        scene.pin("pin", PIN);
        Some(scene)
    }

    fn pin(&self, file: &str, text: &str) {
        fs::write(self.0.path(file), text).unwrap();
        fs::set_permissions(self.0.path(file), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn command(&self, program: &str, arguments: &[&str]) -> Done {
        let output = Command::new(program)
            .args(arguments)
            .env("SOFTHSM2_CONF", self.0.path("softhsm2.conf"))
            .current_dir(self.0.0.path())
            .output()
            .unwrap();
        Done(output)
    }

    #[track_caller]
    fn fine(&self, program: &str, arguments: &[&str]) -> Done {
        let done = self.command(program, arguments);
        assert_eq!(done.code(), 0, "{arguments:?}: {done:?}");
        done
    }

    fn add_token(&self, label: &str) {
        let pins = ["--so-pin", "93814472", "--pin", PIN];
        let start = ["--init-token", "--free", "--label", label];
        self.fine("softhsm2-util", &[&start[..], &pins].concat());
    }

    /// A key made elsewhere, with the arguments that `openssl genpkey` takes for it.
    fn import(&self, label: &str, id: &str, genpkey: &[&str]) {
        let out = ["genpkey", "-out", "imported.pem"];
        self.fine("openssl", &[&out[..], genpkey].concat());
        let start = ["--import", "imported.pem", "--token", "release"];
        let names = ["--label", label, "--id", id, "--pin", PIN];
        self.fine("softhsm2-util", &[&start[..], &names].concat());
    }

    /// Runs `vitalgate …` with these words and the arguments that name a key.
    fn with_key(&self, words: &str, key: &str) -> Done {
        self.with(
            words,
            &[
                "--pkcs11-module",
                MODULE,
                "--token",
                "release",
                "--key-label",
                key,
                "--pin-file",
                "pin",
            ],
        )
    }

    fn with(&self, words: &str, more: &[&str]) -> Done {
        let words: Vec<_> = words
            .split_whitespace()
            .chain(more.iter().copied())
            .collect();
        let done = self.command(env!("CARGO_BIN_EXE_vitalgate"), &words);
        assert!(!done.stdout().contains(PIN) && !done.stderr().contains(PIN));
        done
    }
}

#[test]
fn a_token_signs_on_each_curve_and_everybody_accepts_it() {
    let Some(scene) = TokenScene::new() else {
        return;
    };
    for curve in ["P-256", "P-384", "P-521"] {
        let made = scene.with_key(
            &format!("bundle keygen --json --curve {curve} --out {curve}"),
            curve,
        );
        assert_eq!(made.code(), 0, "{made:?}");
        assert!(!scene.0.path(&format!("{curve}.key")).exists());
        let public = format!("{curve}.pub");
        let ours = fs::read(scene.0.path(&public)).unwrap();
        let openssl = scene.fine("openssl", &["pkey", "-pubin", "-in", &public]);
        assert_eq!(openssl.0.stdout, ours, "written as OpenSSL does");

        // r and s differ in length by chance: several signatures meet the short ones too.
        for _ in 0..20 {
            let signed = scene.with_key("bundle sign 1 --signature t.sig --json", curve);
            assert_eq!(signed.code(), 0, "{signed:?}");
            assert_eq!(signed.json()["signer"], made.json()["key_id"]);
        }
        let ours = [
            "verify",
            "1/bundle",
            "--signature",
            "t.sig",
            "--key",
            &public,
        ];
        let verified = scene.0.bundle(&ours);
        assert_eq!(verified.code(), 0, "{verified:?}");
        if let Some(tool) = reference_tool() {
            let theirs = [
                "verify",
                "key",
                "1/bundle",
                "--signature",
                "t.sig",
                "--public_key",
            ];
            let theirs = [&theirs[..], &[public.as_str()]].concat();
            scene.fine(tool.to_str().unwrap(), &theirs);
        }
        flip(&scene.0.path("1/bundle/README.md"), 7);
        scene.0.bundle(&ours).says(1, &["README.md"]);
        flip(&scene.0.path("1/bundle/README.md"), 7);
    }
}

#[test]
fn a_token_signs_policies_beside_a_key_file() {
    let Some(scene) = TokenScene::new() else {
        return;
    };
    assert_eq!(scene.with_key("bundle keygen --out root", "root").code(), 0);
    let new = "policy new --serial 1 --expires 2099-01-01 --role builder=1:a.pub \
               --min-version icu-mortality=1 --out policy.json";
    assert_eq!(scene.with(new, &[]).code(), 0);
    let signed = scene.with_key("policy sign policy.json --out signed.json", "root");
    assert_eq!(signed.code(), 0, "{signed:?}");
    let file = scene.with("policy sign signed.json --out signed.json --key a.key", &[]);
    assert_eq!(file.code(), 0, "{file:?}");
    let shown = scene.with("policy show signed.json --key root.pub a.pub", &[]);
    assert_eq!(shown.code(), 0, "{shown:?}");
    assert_eq!(shown.stdout().matches(": verified").count(), 2, "{shown:?}");
}

#[test]
fn keys_made_elsewhere_sign_when_they_can() {
    let Some(scene) = TokenScene::new() else {
        return;
    };
    scene.import(
        "ours",
        "a1",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-384"],
    );
    let sign = |key: &str| scene.with_key("bundle sign 1", key);
    assert_eq!(sign("ours").code(), 0);

    scene.import(
        "rsa",
        "a2",
        &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"],
    );
    sign("rsa").says(3, &["\"rsa\"", "not an elliptic-curve key"]);
    scene.import(
        "bitcoin",
        "a3",
        &[
            "-algorithm",
            "EC",
            "-pkeyopt",
            "ec_paramgen_curve:secp256k1",
        ],
    );
    sign("bitcoin").says(3, &["\"bitcoin\"", "not on P-256, P-384 or P-521"]);
    scene.import(
        "ours",
        "a4",
        &["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"],
    );
    sign("ours").says(3, &["2 keys labelled \"ours\""]);
    sign("none").says(
        3,
        &["token \"release\"", "no private key labelled \"none\""],
    );
}

#[test]
fn each_thing_in_the_way_is_named() {
    let Some(scene) = TokenScene::new() else {
        return;
    };
    let key = "release-2026";
    assert_eq!(scene.with_key("bundle keygen --out k", key).code(), 0);
    let before = fs::read(scene.0.path("k.pub")).unwrap();
    scene
        .with_key("bundle keygen --out k", key)
        .says(3, &["k.pub", "exists already"]);
    scene
        .with_key("bundle keygen --out k2", key)
        .says(3, &[key, "never overwritten"]);
    assert!(!scene.0.path("k2.pub").exists(), "no half of a pair");
    assert_eq!(fs::read(scene.0.path("k.pub")).unwrap(), before);

    let sign = |module: &str, token: &str, pin: &[&str]| {
        let place = [
            "--pkcs11-module",
            module,
            "--token",
            token,
            "--key-label",
            key,
        ];
        scene.with("bundle sign 1", &[&place[..], pin].concat())
    };
    let pin = ["--pin-file", "pin"];
    assert_eq!(sign(MODULE, "release", &pin).code(), 0);
    let missing = "/nowhere/token.so";
    sign(missing, "release", &pin).says(3, &[missing, "module cannot be loaded"]);
    sign("./a.pub", "release", &pin).says(3, &["a.pub", "module cannot be loaded"]);
    sign(MODULE, "other", &pin).says(3, &["no token is labelled \"other\"", "\"release\""]);
    sign(MODULE, "release", &[]).says(3, &["needs a PIN", "--pin-file"]);

    let with_pin = |text: &str| {
        scene.pin("other-pin", text);
        sign(MODULE, "release", &["--pin-file", "other-pin"])
    };
    with_pin("999999").says(3, &["the PIN is wrong"]);
    with_pin("1").says(3, &["the PIN is wrong"]);
    for text in ["", "\n", "472\n913", "472913\n\n"] {
        with_pin(text).says(3, &["other-pin", "not a PIN"]);
    }
    with_pin(&"4".repeat(300)).says(3, &["not a PIN file"]);
    for line in ["472913\n", "472913\r\n"] {
        assert_eq!(with_pin(line).code(), 0);
    }
    fs::set_permissions(scene.0.path("other-pin"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = sign(MODULE, "release", &["--pin-file", "other-pin"]);
    open.says(3, &["other-pin", "the PIN can be read by others"]);
    sign(MODULE, "release", &["--pin-file", "no-pin"]).says(3, &["no-pin"]);

    scene.add_token("release");
    sign(MODULE, "release", &pin).says(3, &["2 tokens are labelled \"release\""]);

    let usage = |more: &[&str]| scene.with("bundle sign 1", more).code();
    assert_eq!(usage(&[]), 2);
    assert_eq!(usage(&["--pkcs11-module", MODULE]), 2);
    assert_eq!(usage(&["--key", "a.key", "--pin-file", "pin"]), 2);
    let both = [
        "--key",
        "a.key",
        "--pkcs11-module",
        MODULE,
        "--token",
        "t",
        "--key-label",
        "k",
    ];
    assert_eq!(usage(&both), 2);
    assert_eq!(
        scene
            .with("bundle keygen --out x --curve P-384", &[])
            .code(),
        2
    );
}
