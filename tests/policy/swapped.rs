//! What is judged is what is loaded, whatever happens on the disk meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use vitalgate::{
    bundle::{
        Approved, Authority, LoadError, LoadedModel, approve,
        policy::{Policy, PolicyKeys},
        signing::{Contents, Limits, SigningKey, sign},
    },
    inference::{Execution, PINNED_SHA256, Runtime, find_library},
};

use super::*;

impl Site {
    fn authority(&self) -> Authority {
        let root = fs::read(self.path("root.pub")).unwrap();
        let keys = PolicyKeys::new(&[root], 1).unwrap();
        let file = fs::read(self.path("release.dsse.json")).unwrap();
        let policy = Policy::verify(&file, &keys).unwrap();
        Authority::Policy(Box::new(policy.enforce(1, None).unwrap()))
    }
}

fn digest(version: &Path) -> String {
    let contents = Contents::read(&version.join("bundle"), &Limits::default()).unwrap();
    contents.root_digest()
}

/// The bytes and the digest agree, whichever they are.
fn digest_of(approved: &Approved) -> String {
    use aws_lc_rs::digest::{Context, SHA256, digest};
    let mut root = Context::new(&SHA256);
    for bytes in approved.files().values() {
        root.update(digest(&SHA256, bytes).as_ref());
    }
    hex::encode(root.finish())
}

#[test]
fn a_bundle_swapped_while_it_is_loaded_never_serves() {
    let site = Site::new();
    let (version, authority) = (site.version(1), site.authority());
    let good = digest(&version);
    let card = version.join("bundle/README.md");
    let onnx = version.join("bundle/members/logistic.onnx");
    let (honest_card, honest_onnx) = (fs::read(&card).unwrap(), fs::read(&onnx).unwrap());
    let mut evil_onnx = honest_onnx.clone();
    // A weight, somewhere in the middle: a network that still loads.
    *evil_onnx.get_mut(honest_onnx.len() / 2).unwrap() ^= 1;
    // A whole directory put in the place of the bundle, too.
    let (bundle, aside) = (version.join("bundle"), version.join("aside"));
    copy(&site.version(2).join("bundle"), &aside);
    let spare = version.join("spare");

    let library = find_library(None).unwrap();
    let runtime = Runtime::load(&library, PINNED_SHA256).unwrap();
    let done = AtomicBool::new(false);
    let swap = || {
        while !done.load(Ordering::Relaxed) {
            for (path, bytes) in [
                (&card, &b"evil"[..]),
                (&onnx, &evil_onnx[..]),
                (&card, &honest_card[..]),
                (&onnx, &honest_onnx[..]),
            ] {
                fs::write(version.join("staged"), bytes).unwrap();
                fs::rename(version.join("staged"), path).unwrap();
            }
            fs::rename(&bundle, &spare).unwrap();
            fs::rename(&aside, &bundle).unwrap();
            fs::rename(&bundle, &aside).unwrap();
            fs::rename(&spare, &bundle).unwrap();
            // Left in peace for a moment, so that some loads succeed.
            std::thread::sleep(Duration::from_micros(300));
        }
    };
    let (mut loaded, mut refused) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(swap);
        let watched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for round in 0..4000 {
                match approve(&version, &authority) {
                    Ok(approved) => {
                        loaded += 1;
                        assert_eq!(approved.digest(), good);
                        assert_eq!(digest_of(&approved), good);
                        if loaded % 20 == 0 {
                            let model =
                                LoadedModel::start(approved, &runtime, Execution::Cpu).unwrap();
                            assert_eq!(model.digest(), good);
                            assert_eq!(model.card().as_bytes(), honest_card);
                        }
                    }
                    Err(_) => refused += 1,
                }
                if round > 500 && loaded > 100 && refused > 100 {
                    break;
                }
            }
        }));
        done.store(true, Ordering::Relaxed);
        watched.unwrap();
    });
    assert!(
        loaded > 20 && refused > 20,
        "{loaded} loaded, {refused} refused"
    );
}

/// One flipped bit in any byte of a bundle or its signatures: refused, or (white space, key ids
/// and the like beside a signature) approved with the very same content.
#[test]
fn no_flipped_bit_is_approved_with_other_content() {
    let site = Site::new();
    let (version, authority) = (site.version(1), site.authority());
    // A small one: what the gate itself needs.
    for extra in ["bom.cdx.json", "reference.json"] {
        fs::remove_file(version.join("bundle").join(extra)).unwrap();
    }
    fs::write(version.join("bundle/README.md"), "A card.\n").unwrap();
    let contents = Contents::read(&version.join("bundle"), &Limits::default()).unwrap();
    for key in ["builder", "safety"] {
        let pem = fs::read(site.path(&format!("{key}.key"))).unwrap();
        let key_pair = SigningKey::from_pkcs8_pem(&pem).unwrap();
        fs::write(
            site.signature(1, key),
            sign(&contents, MODEL, &key_pair).unwrap(),
        )
        .unwrap();
    }
    let good = digest(&version);
    assert_eq!(approve(&version, &authority).unwrap().digest(), good);

    let mut unauthenticated = 0;
    for (file, signature) in [
        (version.join("bundle/model.json"), false),
        (version.join("bundle/README.md"), false),
        (version.join("bundle/members/logistic.onnx"), false),
        (site.signature(1, "builder"), true),
        (site.signature(1, "safety"), true),
    ] {
        let original = fs::read(&file).unwrap();
        for position in 0..original.len() {
            let mut flipped = original.clone();
            *flipped.get_mut(position).unwrap() ^= 1 << (position % 8);
            fs::write(&file, flipped).unwrap();
            match approve(&version, &authority) {
                Ok(approved) => {
                    assert!(signature, "{} at {position}", file.display());
                    assert_eq!(digest_of(&approved), good);
                    unauthenticated += 1;
                }
                Err(LoadError::NotApproved { .. }) => {}
                Err(other) => panic!("{}: {other}", file.display()),
            }
        }
        fs::write(&file, original).unwrap();
    }
    assert!(
        unauthenticated < 20,
        "{unauthenticated} bytes that nobody signed"
    );
}
