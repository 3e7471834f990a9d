use std::{
    ffi::OsStr,
    os::unix::{ffi::OsStrExt, fs::symlink, net::UnixListener},
};

use rustix::fs::{CWD, Mode, mkfifoat};

use super::*;

fn read_error(dir: &Path) -> SigningError {
    Contents::read(dir, &Limits::default()).unwrap_err()
}

#[test]
fn the_files_are_exactly_the_signed_ones() {
    let (dir, key) = (bundle(), key());
    let signature = sign(&read(dir.path()), "bundle", &key).unwrap();
    let at = |name: &str| dir.path().join(name);

    fs::write(at("members/b.onnx"), b"").unwrap();
    let error = check(dir.path(), &signature, &key).unwrap_err();
    assert_eq!(
        error.to_string(),
        "members/b.onnx: in the bundle, but not signed"
    );
    fs::remove_file(at("members/b.onnx")).unwrap();

    fs::rename(at("model.json"), at("Model.json")).unwrap();
    let error = check(dir.path(), &signature, &key).unwrap_err();
    assert_eq!(
        error.to_string(),
        "model.json: signed, but missing from the bundle"
    );
    fs::rename(at("Model.json"), at("model.json")).unwrap();

    fs::create_dir(at("nothing")).unwrap();
    check(dir.path(), &signature, &key).unwrap();
}

#[test]
fn git_files_are_tolerated_at_the_top_only_where_the_signer_left_them_out() {
    let (dir, key) = (bundle(), key());
    let contents = read(dir.path());
    fs::create_dir(dir.path().join(".git")).unwrap();
    fs::write(dir.path().join(".git/config"), b"").unwrap();
    fs::write(dir.path().join(".gitattributes"), b"").unwrap();
    let ours = sign(&contents, "bundle", &key).unwrap();
    assert_fails!(
        check(dir.path(), &ours, &key),
        SigningError::Unsigned { .. }
    );
    assert_fails!(
        sign(&read(dir.path()), "bundle", &key),
        SigningError::Unsigned { .. }
    );

    let leaving_out = |paths: Value| {
        let statement = Statement::describe(&contents, "bundle").unwrap();
        let mut statement: Value = serde_json::from_slice(&statement.to_json().unwrap()).unwrap();
        statement["predicate"]["serialization"]["ignore_paths"] = paths;
        envelope::seal(statement.to_string().as_bytes(), &key).unwrap()
    };
    // As the reference tool signs.
    let signature = leaving_out(json!([".git", ".gitattributes", ".github", ".gitignore"]));
    let verified = check(dir.path(), &signature, &key).unwrap();
    assert!(
        verified
            .files()
            .keys()
            .all(|name| !name.starts_with(".git"))
    );

    let narrow = leaving_out(json!([".git"]));
    let error = check(dir.path(), &narrow, &key).unwrap_err();
    assert_eq!(
        error.to_string(),
        ".gitattributes: in the bundle, but not signed"
    );

    fs::write(dir.path().join("members/.gitignore"), b"").unwrap();
    assert_fails!(
        check(dir.path(), &signature, &key),
        SigningError::Unsigned { name: _ }
    );
}

#[test]
fn links_and_special_files_are_refused_without_hanging() {
    let elsewhere = bundle();
    let links = ["model.json", "members"];
    for target in links {
        let dir = bundle();
        symlink(elsewhere.path().join(target), dir.path().join("link")).unwrap();
        assert_fails!(
            Err::<(), _>(read_error(dir.path())),
            SigningError::Symlink { .. }
        );
    }
    let dir = bundle();
    symlink(elsewhere.path(), dir.path().join("link")).unwrap();
    let error = read_error(&dir.path().join("link"));
    assert_fails!(Err::<(), _>(error), SigningError::NotDirectory { .. });

    let dir = bundle();
    mkfifoat(CWD, dir.path().join("fifo"), Mode::RWXU).unwrap();
    assert_eq!(
        read_error(dir.path()).to_string(),
        "fifo: not a regular file"
    );
    let dir = bundle();
    let _listener = UnixListener::bind(dir.path().join("socket")).unwrap();
    assert_eq!(
        read_error(dir.path()).to_string(),
        "socket: not a regular file"
    );

    let dir = bundle();
    let signature = dir.path().join("x.sig");
    mkfifoat(CWD, &signature, Mode::RWXU).unwrap();
    let trusted = key();
    let limits = Limits::default();
    for path in [signature.as_path(), dir.path()] {
        assert_fails!(
            verify(dir.path(), path, &trust(&trusted), &limits),
            SigningError::NotRegular { .. }
        );
    }
    assert_fails!(
        verify(
            dir.path(),
            Path::new("/dev/zero"),
            &trust(&trusted),
            &limits
        ),
        SigningError::NotRegular { .. }
    );
}

#[test]
fn names_that_could_mean_another_file_are_refused() {
    for name in [&b"a\\b"[..], b"c:d", b"line\nfeed", b"\xff"] {
        let dir = bundle();
        fs::write(dir.path().join(OsStr::from_bytes(name)), b"").unwrap();
        assert_fails!(
            Err::<(), _>(read_error(dir.path())),
            SigningError::Name { .. }
        );
    }
}

#[test]
fn sizes_counts_and_depth_are_bounded() {
    let dir = bundle();
    let with = |file_bytes, total_bytes| {
        Contents::read(
            dir.path(),
            &Limits {
                file_bytes,
                total_bytes,
            },
        )
    };
    with(7, 9).unwrap();
    assert_fails!(with(6, 9), SigningError::FileTooLarge { limit: 6, .. });
    assert_fails!(with(7, 8), SigningError::BundleTooLarge { limit: 8, .. });

    let deep = |levels| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(vec!["d"; levels - 1].join("/"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("f"), b"").unwrap();
        dir
    };
    assert_eq!(read(deep(MAX_DEPTH).path()).names().count(), 1);
    let error = read_error(deep(MAX_DEPTH + 1).path());
    assert_fails!(Err::<(), _>(error), SigningError::TooDeep { .. });

    let full = tempfile::tempdir().unwrap();
    for file in 0..MAX_FILES {
        fs::write(full.path().join(file.to_string()), b"").unwrap();
    }
    let key = key();
    let signature = sign(&read(full.path()), "bundle", &key).unwrap();
    check(full.path(), &signature, &key).unwrap();
    fs::write(full.path().join("more"), b"").unwrap();
    assert_fails!(
        Err::<(), _>(read_error(full.path())),
        SigningError::TooMany { .. }
    );

    let hollow = tempfile::tempdir().unwrap();
    for directory in 0..MAX_FILES {
        fs::create_dir(hollow.path().join(directory.to_string())).unwrap();
    }
    assert_fails!(
        Err::<(), _>(read_error(hollow.path())),
        SigningError::TooMany { .. }
    );
    let none = tempfile::tempdir().unwrap();
    assert_fails!(
        sign(&read(none.path()), "bundle", &key),
        SigningError::ResourceCount { found: 0, .. }
    );
}
