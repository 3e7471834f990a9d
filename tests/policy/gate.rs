//! Each way to be refused, with a reason of its own.

use super::*;

#[test]
fn two_roles_approve_and_the_answer_says_who() {
    let site = Site::new();
    let text = site.verify(1);
    assert_eq!(text.code(), 0, "{text:?}");
    for word in [
        "breast-cancer version 1",
        "serial 1, until 2099",
        "approval   builder: key",
    ] {
        assert!(text.stdout().contains(word), "{word}: {text:?}");
    }
    let found = site
        .fine(&format!(
            "bundle verify {} --policy release.dsse.json --policy-key root.pub --json",
            site.version(1).display()
        ))
        .json();
    assert_eq!(found["verified"], json!(true));
    assert_eq!(found["version"], json!(1));
    assert_eq!(
        found["approvals"]["clinical-safety"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    site.serve_loads();
    site.serve_loads();
}

#[test]
fn a_missing_approval_names_role_and_count() {
    let site = Site::new();
    fs::remove_file(site.signature(1, "safety")).unwrap();
    site.refused(&["not approved", "role clinical-safety: 0 of 1 approvals"]);
    // Somebody else's signature is not one, nor is the builder's a second time.
    site.sign(1, "other");
    site.refused(&[
        "role clinical-safety: 0 of 1 approvals",
        "other.sig: not made with a key of the release policy",
    ]);
    fs::copy(site.signature(1, "builder"), site.signature(1, "safety")).unwrap();
    site.refused(&["role clinical-safety: 0 of 1 approvals"]);
    // One over other bytes counts for nothing.
    fs::copy(site.signature(2, "safety"), site.signature(1, "safety")).unwrap();
    site.refused(&[
        "role clinical-safety: 0 of 1",
        "safety.sig: model.json: its content is not",
    ]);
    fs::remove_dir_all(site.version(1).join("signatures")).unwrap();
    site.refused(&["an unsigned bundle is not loaded"]);
}

#[test]
fn a_threshold_counts_keys_not_signatures() {
    let site = Site::new();
    let two = "--role builder=2:builder.pub,other.pub --role clinical-safety=1:safety.pub";
    site.release(2, two);
    fs::copy(site.signature(1, "builder"), site.signature(1, "again")).unwrap();
    site.refused(&["role builder: 1 of 2 approvals"]);
    site.sign(1, "other");
    assert_eq!(site.verify(1).code(), 0);
}

#[test]
fn a_key_is_in_one_role_only() {
    let site = Site::new();
    let roles = "--role builder=1:builder.pub --role clinical-safety=1:builder.pub";
    site.run(&format!(
        "policy new --serial 2 --expires {FAR} {roles} --min-version {MODEL}=1 --out two.json"
    ))
    .says(
        1,
        &["is in the roles builder and clinical-safety", "counts once"],
    );
    // Signed all the same, by a tool that does not look.
    sign_unchecked(&site, |d| {
        d["roles"]["clinical-safety"]["keys"] = d["roles"]["builder"]["keys"].clone();
    });
    site.refused(&["is in the roles builder and clinical-safety"]);
}

#[test]
fn a_policy_without_roles_or_thresholds_is_refused() {
    let site = Site::new();
    sign_unchecked(&site, |d| d["roles"] = json!({}));
    site.refused(&["roles: there is none"]);
    for (threshold, words) in [
        (0, "the threshold is 0, of 1"),
        (2, "the threshold is 2, of 1"),
    ] {
        site.release(2, "");
        sign_unchecked(&site, |d| {
            d["roles"]["builder"]["threshold"] = json!(threshold);
        });
        site.refused(&["role builder", words]);
    }
}

/// Has `root` sign `policy.json` after an edit that our own tools would not sign.
fn sign_unchecked(site: &Site, edit: impl FnOnce(&mut Value)) {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use vitalgate::bundle::{
        policy::PAYLOAD_TYPE,
        signing::{Signer, SigningKey},
    };
    site.edit_policy(edit);
    let payload = fs::read(site.path("policy.json")).unwrap();
    let key = SigningKey::from_pkcs8_pem(&fs::read(site.path("root.key")).unwrap()).unwrap();
    let head = format!(
        "DSSEv1 {} {PAYLOAD_TYPE} {} ",
        PAYLOAD_TYPE.len(),
        payload.len()
    );
    let signature = key.sign(&[head.as_bytes(), &payload].concat()).unwrap();
    let envelope = json!({
        "payloadType": PAYLOAD_TYPE,
        "payload": STANDARD.encode(payload),
        "signatures": [{"sig": STANDARD.encode(signature)}],
    });
    fs::write(site.path("release.dsse.json"), envelope.to_string()).unwrap();
}

#[test]
fn an_unsigned_policy_is_refused() {
    let site = Site::new();
    let policy = site.path("release.dsse.json");
    fs::remove_file(&policy).unwrap();
    fs::copy(site.path("policy.json"), &policy).unwrap();
    site.refused(&["not a signed release policy"]);
    fs::remove_file(&policy).unwrap();
    site.fine("policy sign policy.json --key other.key --out release.dsse.json");
    site.refused(&["unsigned: signatures of 0 of the pinned policy keys hold, 1 needed"]);
    fs::remove_file(&policy).unwrap();
    site.verify(1).says(3, &["release.dsse.json"]);
    site.serve().says(3, &["release.dsse.json"]);
}

#[test]
fn an_expired_policy_loads_nothing() {
    let site = Site::new();
    site.edit_policy(|d| {
        d["issued"] = json!("2020-01-01T00:00:00Z");
        d["expires"] = json!("2020-02-01T00:00:00Z");
    });
    site.sign_policy();
    site.refused(&["(serial 1) expired 2020-02-01T00:00:00Z; nothing new is loaded"]);
    site.edit_policy(|d| {
        d["issued"] = json!("2090-01-01T00:00:00Z");
        d["expires"] = json!("2091-01-01T00:00:00Z");
    });
    site.sign_policy();
    site.verify(1)
        .says(1, &["was issued 2090-01-01T00:00:00Z", "yet to come"]);
}

#[test]
fn an_older_policy_is_refused_even_without_the_state_file() {
    let site = Site::new();
    site.serve_loads();
    fs::copy(site.path("release.dsse.json"), site.path("old.dsse.json")).unwrap();
    site.release(2, "");
    site.serve_loads();
    fs::copy(site.path("old.dsse.json"), site.path("release.dsse.json")).unwrap();
    site.serve().says(
        1,
        &["older than one seen before: its serial is 1, 2 was seen"],
    );

    // Whoever can delete the file meets the configuration.
    fs::remove_file(site.path("trust-state.json")).unwrap();
    site.configure(1, 2);
    site.serve().says(1, &["serial 1, below min_serial 2"]);
    assert!(!site.path("trust-state.json").exists());
    let verify = format!(
        "bundle verify {} --policy release.dsse.json --policy-key root.pub --min-serial 2",
        site.version(1).display()
    );
    site.run(&verify).says(1, &["serial 1, below min_serial 2"]);
    site.release(2, "");
    site.serve_loads();
    fs::write(site.path("trust-state.json"), "{\"serial\":").unwrap();
    site.serve().says(
        1,
        &[
            "trust-state.json",
            "the record of the highest policy serial is corrupt",
        ],
    );
}

#[test]
fn a_revoked_key_or_digest_is_refused() {
    let site = Site::new();
    let shown = site.fine("policy show release.dsse.json --json").json();
    assert_eq!(shown["policy"]["serial"], json!(1));
    let id =
        vitalgate::bundle::signing::key_id(&fs::read(site.path("safety.pub")).unwrap()).unwrap();
    site.release(2, &format!("--revoke-key {id}"));
    site.refused(&["role clinical-safety: 0 of 1", &id, "the key is revoked"]);
    // Once another of the role's keys has signed, the old signature may lie where it is.
    let roles = "--role builder=1:builder.pub --role clinical-safety=1:safety.pub,other.pub";
    site.release(3, &format!("--revoke-key {id} {roles}"));
    site.refused(&["the key is revoked"]);
    site.sign(1, "other");
    assert_eq!(site.verify(1).code(), 0);

    let digest = site
        .run(&format!(
            "bundle inspect {} --json",
            site.version(1).display()
        ))
        .json();
    let digest = digest["digest"].as_str().unwrap().to_owned();
    site.release(4, &format!("--revoke-digest {digest}"));
    site.refused(&["the bundle's digest", &digest, "is revoked"]);
    assert_eq!(site.verify(2).code(), 0);
}

#[test]
fn versions_go_back_as_far_as_the_policy_says() {
    let site = Site::new();
    site.configure(2, 1);
    site.serve_loads();
    // The emergency: version 2 misbehaves. Back to 1, no new policy needed.
    site.configure(1, 1);
    site.serve_loads();
    site.release(2, &format!("--min-version {MODEL}=2"));
    site.refused(&["breast-cancer version 1 is below version 2", "min_version"]);
    site.release(3, "--min-version icu-mortality=1");
    site.refused(&["min_version does not name the model breast-cancer"]);
}

#[test]
fn a_ceremony_of_several_signers() {
    let site = Site::new();
    let verify = |more: &str| {
        site.run(&format!(
            "bundle verify {} --policy release.dsse.json {more}",
            site.version(1).display()
        ))
    };
    let both = "--policy-key root.pub other.pub";
    verify(both).says(
        1,
        &["signatures of 1 of the pinned policy keys hold, 2 needed"],
    );
    assert_eq!(verify(&format!("{both} --policy-threshold 1")).code(), 0);
    site.fine("policy sign policy.json --key other.key --out release.dsse.json");
    assert_eq!(verify(both).code(), 0);
    site.fine("policy show release.dsse.json --key root.pub other.pub");
    site.run("policy show release.dsse.json --key safety.pub")
        .says(1, &["unsigned"]);
    assert_eq!(verify("--policy-key root.pub root.pub").code(), 2);
    assert_eq!(verify("").code(), 2);

    // Nothing else is overwritten.
    fs::write(site.path("notes"), "kept").unwrap();
    site.run("policy sign policy.json --key root.key --out notes")
        .says(3, &["not overwritten"]);
    site.run("policy sign policy.json --key root.key --out policy.json")
        .says(3, &["not overwritten"]);
    let again = format!(
        "policy new --serial 2 --expires {FAR} --role a=1:root.pub --min-version m=1 --out policy.json"
    );
    site.run(&again).says(3, &["not overwritten"]);
    assert_eq!(site.run(&again.replace(FAR, "2020-01-01")).code(), 2);
    assert_eq!(site.run(&again.replace("--serial 2", "")).code(), 2);
    assert_eq!(site.run(&again.replace("a=1:", "a=")).code(), 2);
}

#[test]
fn plain_keys_are_allowed_and_complained_of() {
    let site = Site::new();
    let config = site.path("vitalgate.toml");
    let text = fs::read_to_string(&config).unwrap();
    let start = text.find("policy = ").unwrap();
    let end = text.find("[[models]]").unwrap();
    let keys = format!(
        "{}keys = [\"builder.pub\"]\n{}",
        &text[..start],
        &text[end..]
    );
    fs::write(&config, keys).unwrap();
    let done = site.serve();
    done.says(3, &["fleet.key"]);
    assert!(done.stderr().contains("NO RELEASE POLICY IS ENFORCED"));
}
