use super::*;

/// Signs the bundle's own statement, changed, and checks it: what a trusted but careless or
/// subverted signer can do.
fn changed(mut change: impl FnMut(&mut Value)) -> Result<Verified, SigningError> {
    let (dir, key) = (bundle(), key());
    let contents = read(dir.path());
    let payload = Statement::describe(&contents, "bundle")
        .unwrap()
        .to_json()
        .unwrap();
    let mut statement = serde_json::from_slice(&payload).unwrap();
    change(&mut statement);
    let signature = envelope::seal(statement.to_string().as_bytes(), &key).unwrap();
    verify_contents(&contents, signature.as_bytes(), &trust(&key))
}

fn set(pointer: &str, value: Value) -> Result<Verified, SigningError> {
    let mut value = Some(value);
    changed(|statement| *statement.pointer_mut(pointer).unwrap() = value.take().unwrap())
}

fn add(pointer: &str) -> Result<Verified, SigningError> {
    changed(|statement| statement.pointer_mut(pointer).unwrap()["x"] = json!([{ "y": 1 }]))
}

#[test]
fn a_well_signed_statement_outside_the_profile_is_refused() {
    changed(|_| ()).unwrap();
    add("").unwrap();
    add("/predicate").unwrap();
    add("/predicate/resources/0").unwrap();
    assert_fails!(
        add("/predicate/serialization"),
        SigningError::StatementJson { .. }
    );

    assert_fails!(
        set("/_type", json!("https://in-toto.io/Statement/v0.1")),
        SigningError::StatementType { field: "_type", .. }
    );
    assert_fails!(
        set(
            "/predicateType",
            json!("https://model_signing/Digests/v0.1")
        ),
        SigningError::StatementType {
            field: "predicateType",
            ..
        }
    );
    assert_fails!(
        set("/subject", json!([])),
        SigningError::SubjectCount { found: 0 }
    );
    assert_fails!(
        changed(|s| s["subject"].as_array_mut().unwrap().extend_from_within(..1)),
        SigningError::SubjectCount { found: 2 }
    );
    for (field, value) in [
        ("/predicate/serialization/method", json!("shards")),
        ("/predicate/serialization/hash_type", json!("blake3")),
        ("/predicate/serialization/allow_symlinks", json!(true)),
        (
            "/predicate/serialization/ignore_paths",
            json!([".git", "members"]),
        ),
    ] {
        assert_fails!(set(field, value), SigningError::Serialization { .. });
    }
}

#[test]
fn the_list_of_files_is_read_strictly() {
    for name in [
        "", "/a", "a/", "a//b", "./a", "a/../b", "..", "a\\b", "c:d", "a\u{0}", "a\u{7f}",
    ] {
        assert_fails!(
            set("/predicate/resources/0/name", json!(name)),
            SigningError::Name { .. }
        );
    }
    assert_fails!(
        set("/predicate/resources/0/name", json!("a".repeat(2000))),
        SigningError::Name { .. }
    );
    for name in [".git", ".github/workflows/a.yml"] {
        assert_fails!(
            set("/predicate/resources/0/name", json!(name)),
            SigningError::GitFile { .. }
        );
    }
    assert_fails!(
        set("/predicate/resources/0/name", json!("other")),
        SigningError::Missing { .. }
    );
    assert_fails!(
        set("/predicate/resources/0/algorithm", json!("md5")),
        SigningError::Algorithm { .. }
    );
    for digest in [
        String::new(),
        "a".repeat(63),
        "A".repeat(64),
        "g".repeat(64),
        "é".repeat(32),
    ] {
        for field in ["/predicate/resources/0/digest", "/subject/0/digest/sha256"] {
            assert_fails!(set(field, json!(digest)), SigningError::DigestForm { .. });
        }
    }
    assert_fails!(
        set("/predicate/resources/0/digest", json!("a".repeat(64))),
        SigningError::Digest { .. }
    );
    assert_fails!(
        set("/subject/0/digest/sha256", json!("a".repeat(64))),
        SigningError::RootDigest
    );
    assert_fails!(
        set("/predicate/resources", json!([])),
        SigningError::ResourceCount { found: 0, .. }
    );
    assert_fails!(
        changed(|s| s["predicate"]["resources"]
            .as_array_mut()
            .unwrap()
            .extend_from_within(..1)),
        SigningError::ListedTwice { .. }
    );
    assert_fails!(
        changed(|s| drop(s["predicate"]["resources"].as_array_mut().unwrap().pop())),
        SigningError::Unsigned { .. }
    );
}

#[test]
fn the_root_digest_follows_the_listed_order() {
    assert_fails!(
        changed(|s| s["predicate"]["resources"]
            .as_array_mut()
            .unwrap()
            .reverse()),
        SigningError::RootDigest
    );
}

#[test]
fn a_signed_payload_that_means_two_things_or_nothing_is_refused() {
    let (dir, key) = (bundle(), key());
    let contents = read(dir.path());
    let payload = Statement::describe(&contents, "bundle")
        .unwrap()
        .to_json()
        .unwrap();
    let text = String::from_utf8(payload).unwrap();
    let check = |text: &str| {
        let signature = envelope::seal(text.as_bytes(), &key).unwrap();
        verify_contents(&contents, signature.as_bytes(), &trust(&key))
    };
    check(&text).unwrap();
    let nested = text.replacen(
        "\"predicate\":{",
        r#""predicate":{"x":{"a":1,"\u0061":2},"#,
        1,
    );
    assert_fails!(check(&nested), SigningError::DuplicateKey { .. });
    let twice = text.replacen('{', r#"{"predicateType":"x","#, 1);
    assert_fails!(check(&twice), SigningError::DuplicateKey { .. });
    for text in ["", "not JSON", "[]", "null", &format!("{text}{text}")] {
        assert_fails!(check(text), SigningError::StatementJson { .. });
    }
}
