//! What must not serve does not start: it ends with the documented code and one line that says
//! why.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Output,
};

use serde_json::Value;
use vitalgate::{bundle::signing::SigningKey, inference::find_library};

use crate::harness::{ICU_PATIENT, Server, Site, Wire, client_at, post, run_to_end, sign_bundle};

fn serve(config: &Path) -> Output {
    run_to_end(&["serve", "--config", config.to_str().unwrap()])
}

/// What it said on stderr: the lines for people, and the messages of the log's JSON lines.
fn said(output: &Output) -> (Vec<String>, Vec<String>) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    let (log, people): (Vec<&str>, Vec<&str>) = text.lines().partition(|l| l.starts_with('{'));
    let messages = log.iter().map(|line| {
        let line: Value = serde_json::from_str(line).unwrap();
        line["fields"]["message"].as_str().unwrap().to_owned()
    });
    (
        people.into_iter().map(str::to_owned).collect(),
        messages.collect(),
    )
}

/// It ended with `code`, having said one line, which contains every one of `words`.
fn refused(case: &str, output: &Output, code: i32, words: &[&str]) -> String {
    let (lines, log) = said(output);
    println!("{case}: exit {:?}: {lines:?}", output.status.code());
    assert_eq!(output.status.code(), Some(code), "{case}: {lines:?}");
    assert_eq!(lines.len(), 1, "{case}: {lines:?}");
    for word in words {
        assert!(lines[0].contains(word), "{case}: no {word} in {lines:?}");
    }
    assert!(!log.iter().any(|m| m == "serving"), "{case}: it served");
    assert!(output.stdout.is_empty(), "{case}");
    lines[0].clone()
}

#[test]
fn cuda_without_cuda_is_refused_in_one_line() {
    let state = tempfile::tempdir().unwrap();
    let mut dev = Server::dev(state.path());
    dev.stop();
    let original = state.path().join("vitalgate.toml");
    let text = fs::read_to_string(&original).unwrap();
    let from = "execution = \"cpu\"";
    assert!(text.contains(from));
    let copy = state.path().join("cuda.toml");
    fs::write(&copy, text.replace(from, "execution = \"cuda\"")).unwrap();
    let output = serve(&copy);
    let line = refused("cuda", &output, 3, &["execution = \"cuda\""]);
    assert_eq!(
        line.matches("execution").count(),
        1,
        "it repeats itself: {line}"
    );
    assert_eq!(
        said(&output).1,
        Vec::<String>::new(),
        "the log should be silent"
    );
}

/// A configured file that is a FIFO is refused, by name, and nobody waits for a writer.
#[test]
fn a_fifo_in_the_place_of_any_configured_file_is_refused() {
    let site = Site::new();
    let text = fs::read_to_string(site.config_file()).unwrap();
    let fifo = site.path().join("fifo");
    let made = std::process::Command::new("mkfifo").arg(&fifo).status();
    assert!(made.unwrap().success());
    let config = site.path().join("fifo.toml");
    for (field, file) in [
        ("keys = [\"builder.pub\"]", "builder.pub"),
        ("certificate = \"server.pem\"", "server.pem"),
        ("key = \"server.key\"", "server.key"),
        ("client_ca = \"ca.pem\"", "ca.pem"),
        ("key = \"audit.key\"", "audit.key"),
        ("fleet = \"fleet.key\"", "fleet.key"),
    ] {
        assert!(text.contains(field), "{field}");
        let changed = text.replace(field, &field.replace(file, "fifo"));
        fs::write(&config, changed).unwrap();
        let output = serve(&config);
        let said = String::from_utf8_lossy(&output.stderr);
        println!("{field}: {said}");
        assert!(
            matches!(output.status.code(), Some(1..=3)),
            "{field}: {said}"
        );
        assert!(said.contains("not a regular file"), "{field}: {said}");
    }
    for arguments in [["serve", "--config"], ["check", "--config"]] {
        let output = run_to_end(&[&arguments[..], &[fifo.to_str().unwrap()]].concat());
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(said.contains("not a regular file"), "{said}");
    }
}

/// Flips one bit in the middle of a file, and gives back what was there.
fn flip(path: &Path) -> Vec<u8> {
    let original = fs::read(path).unwrap();
    let mut bytes = original.clone();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(path, bytes).unwrap();
    original
}

fn files_below(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files_below(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[test]
fn an_altered_or_unsigned_bundle_is_not_loaded() {
    let site = Site::new();
    let config = site.config_file();
    let version = site.path().join("repository/icu-mortality/1");
    let mut files = Vec::new();
    files_below(&version, &mut files);
    assert_eq!(files.len(), 7, "{files:?}");
    for path in &files {
        let original = flip(path);
        let root = version.join("bundle");
        let name = path
            .strip_prefix(&root)
            .unwrap_or(path.strip_prefix(&version).unwrap());
        let name = name.file_name().unwrap().to_str().unwrap();
        refused(
            &format!("a bit of {name}"),
            &serve(&config),
            1,
            &["icu-mortality", name],
        );
        fs::write(path, original).unwrap();
    }
    let added = version.join("bundle/extra.txt");
    fs::write(&added, "x").unwrap();
    refused("a file added", &serve(&config), 1, &["extra.txt"]);
    fs::remove_file(added).unwrap();
    let card = version.join("bundle/README.md");
    let aside = site.path().join("README.md");
    fs::rename(&card, &aside).unwrap();
    refused("a file missing", &serve(&config), 1, &["README.md"]);
    fs::rename(&aside, &card).unwrap();

    let signature = version.join("signatures/builder.sig");
    let original = fs::read(&signature).unwrap();
    let (private, _) = SigningKey::generate_p256().unwrap();
    let other = SigningKey::from_pkcs8_pem(private.as_bytes()).unwrap();
    sign_bundle(&version, "icu-mortality", &other);
    refused(
        "another key's signature",
        &serve(&config),
        1,
        &["icu-mortality", "trusted key"],
    );
    fs::remove_file(&signature).unwrap();
    refused(
        "unsigned",
        &serve(&config),
        1,
        &["icu-mortality", "unsigned"],
    );
    // A good bundle in another model's place.
    let breast = site.path().join("repository/breast-cancer/1");
    fs::rename(&version, site.path().join("aside")).unwrap();
    fs::rename(&breast, &version).unwrap();
    fs::create_dir_all(breast.parent().unwrap()).unwrap();
    fs::rename(site.path().join("aside"), &breast).unwrap();
    fs::write(breast.join("signatures/builder.sig"), original).unwrap();
    refused(
        "bundles changed over",
        &serve(&config),
        1,
        &["the bundle is icu-mortality version 1"],
    );
}

#[test]
fn what_stands_in_the_way_is_named() {
    let mut site = Site::new();
    let config = site.config_file();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let good = site.config.clone();

    site.configure(
        "[data]\nlisten = \"127.0.0.1:0\"",
        &format!("[data]\nlisten = \"{address}\""),
    );
    site.config_file();
    refused("port in use", &serve(&config), 3, &[&address]);

    site.config = good.clone();
    site.config_file();
    let key = site.path().join("server.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    refused(
        "key that others may read",
        &serve(&config),
        3,
        &["server.key", "600"],
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let library = site.path().join("libonnxruntime.so.1.31.1");
    let mut bytes = fs::read(find_library(None).unwrap()).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&library, bytes).unwrap();
    let named = format!("execution = \"cpu\"\nlibrary = \"{}\"", library.display());
    site.configure("execution = \"cpu\"", &named);
    site.config_file();
    let name = library.to_str().unwrap();
    refused(
        "another ONNX Runtime",
        &serve(&config),
        3,
        &[name, "SHA-256"],
    );
    fs::remove_file(&library).unwrap();
    refused("no ONNX Runtime", &serve(&config), 3, &[name]);

    for (case, from, to, words) in [
        ("missing file", "\"ca.pem\"", "\"no.pem\"", &["no.pem"][..]),
        (
            "missing audit mode",
            "mode = \"written\"\n",
            "",
            &["mode", "line"],
        ),
        (
            "unknown setting",
            "[limits]\n",
            "[limits]\nx = 1\n",
            &["line 20", "x"],
        ),
        ("not TOML", "[limits]\n", "[limits\n", &["line 19"]),
        (
            "wrong type",
            "body_seconds = 10",
            "body_seconds = \"10\"",
            &["line 20"],
        ),
    ] {
        site.config = good.clone();
        site.configure(from, to);
        site.config_file();
        refused(case, &serve(&config), 3, words);
    }
    site.config = good;
    site.config_file();
    let missing = site.path().join("none.toml");
    refused("no configuration", &serve(&missing), 3, &["none.toml"]);
    let check = run_to_end(&["check", "--config", config.to_str().unwrap()]);
    assert_eq!(check.status.code(), Some(0), "{check:?}");
}

#[test]
fn dev_stays_on_loopback() {
    let state = tempfile::tempdir().unwrap();
    let state = state.path().join("state");
    let path = state.to_str().unwrap();
    for arguments in [
        ["--listen", "0.0.0.0:8443", "--health", "127.0.0.1:0"],
        ["--admin", "0.0.0.0:9443", "--health", "127.0.0.1:0"],
        ["--listen", "127.0.0.1:0", "--health", "0.0.0.0:8080"],
        ["--listen", "[::]:0", "--health", "127.0.0.1:0"],
    ] {
        let output = run_to_end(&[&["dev", "--state", path][..], &arguments].concat());
        refused(arguments[1], &output, 2, &["loopback"]);
        assert!(!state.exists(), "it made something");
    }
}

#[test]
fn a_second_dev_start_uses_what_the_first_made() {
    let state = tempfile::tempdir().unwrap();
    let kept = [
        "ca.pem",
        "server.key",
        "keys/builder.pub",
        "clients/clinician.pem",
    ];
    let read = |name: &str| fs::read(state.path().join(name)).unwrap();
    let mut first = None;
    for start in 1..=2 {
        let mut server = Server::dev(state.path());
        let identity = state.path().join("clients/clinician");
        let config = client_at(&state.path().join("ca.pem"), &identity);
        let mut wire = Wire::open(&server, &config);
        let answer = post(
            &mut wire,
            "/v1/models/icu-mortality/predict",
            ICU_PATIENT.as_bytes(),
        );
        assert_eq!(answer.json()["disposition"], "predicted");
        drop(wire);
        server.stop();
        assert_eq!(server.records().len(), start);
        let found = kept.map(read);
        assert_eq!(*first.get_or_insert(found.clone()), found);
    }
    let mut files = Vec::new();
    files_below(state.path(), &mut files);
    for file in files {
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{} is open to others", file.display());
    }
}
