//! The sample file, and every way to get it wrong.

use super::*;
use crate::authz::Role;

mod audit;
mod budgets;
mod identity;
mod review;
mod trust;

const SAMPLE: &str = include_str!("../../docs/samples/vitalgate.toml");

/// Fields that may be left out, besides the limits.
const OPTIONAL: [&str; 28] = [
    "tenant",
    "override_seconds",
    "connections",
    "spool",
    "segment_bytes",
    "plaintext",
    "sample",
    "queue",
    "library",
    "state",
    "crl",
    "authentication",
    "names_clinician",
    "refresh_seconds",
    "keep_keys_seconds",
    "max_lifetime_seconds",
    "leeway_seconds",
    "single_use",
    "jku",
    "subject_claim",
    "multi_factor_acr",
    "multi_factor_amr",
    "on_behalf_of_claim",
    "requests_per_second",
    "burst",
    "concurrent_requests",
    "patterns",
    "budget",
];

fn parse(text: &str) -> Result<Config, Vec<Problem>> {
    Config::parse(text, Path::new("/etc/vitalgate"))
}

fn sample_with(from: &str, to: &str) -> String {
    assert_eq!(SAMPLE.matches(from).count(), 1, "{from}");
    SAMPLE.replace(from, to)
}

/// Line (from 1) of a text in the file.
fn line_of(text: &str, needle: &str) -> usize {
    let at = text.find(needle).unwrap_or_else(|| panic!("{needle}"));
    1 + text[..at].matches('\n').count()
}

/// The problems of the sample after one replacement, as line and message.
fn problems(from: &str, to: &str) -> Vec<(usize, String)> {
    let text = sample_with(from, to);
    let problems = parse(&text).expect_err(to);
    problems.into_iter().map(|p| (p.line, p.message)).collect()
}

/// The one problem after a replacement, which must be on the line of the replacement.
fn problem(from: &str, to: &str) -> String {
    let text = sample_with(from, to);
    let found = problems(from, to);
    assert_eq!(found.len(), 1, "{to}: {found:?}");
    let (line, message) = found.into_iter().next().unwrap();
    assert_eq!(line, line_of(&text, to), "{to}: {message}");
    message
}

#[test]
fn the_sample_is_valid_and_complete() {
    let config = parse(SAMPLE).unwrap();
    assert_eq!(config.data[0].listen.port(), 8443);
    let files = &config.data[0].files;
    assert_eq!(files.key, Path::new("/etc/vitalgate/server.key"));
    assert_eq!(config.repository, Path::new("/etc/vitalgate/repository"));
    assert_eq!(config.audit.directory, Path::new("/etc/vitalgate/audit"));
    assert_eq!(config.audit.mode, AuditMode::Written);
    let anchored = |name: &str| Path::new("/etc/vitalgate").join(name);
    assert_eq!(
        config.trust,
        Trust::Policy(ReleasePolicy {
            file: anchored("policy/release.dsse.json"),
            keys: vec![anchored("policy/root.pub")],
            threshold: 1,
            min_serial: 1,
            state: Some(anchored("trust-state.json")),
        })
    );
    let admin = config.admin.unwrap();
    assert_eq!(
        (admin.listen.port(), admin.state),
        (9443, anchored("admin"))
    );
    // An absolute path stays where it is.
    let library = config.onnxruntime.library.unwrap();
    assert_eq!(
        library,
        Path::new("/opt/vitalgate/libonnxruntime.so.1.31.1")
    );
    assert_eq!(config.onnxruntime.execution, Execution::Cpu);
    assert_eq!(config.models.len(), 2);
    assert_eq!(config.models[1].name, "breast-cancer");
    let ehr = &config.principals[0];
    assert_eq!(ehr.name, "ehr");
    assert_eq!(
        ehr.san.as_deref(),
        Some("URI:spiffe://hospital.example/ehr")
    );
    assert_eq!(ehr.roles, [Role::EhrSystem]);
    assert_eq!(ehr.models, ["icu-mortality"]);
    assert_eq!(config.principals[1].roles.len(), 2);
}

#[test]
fn the_sample_shows_the_defaults_of_the_limits() {
    let shown = format!("{:?}", parse(SAMPLE).unwrap().limits);
    assert_eq!(shown, format!("{:?}", Limits::default()));
    let start = SAMPLE.find("\n[limits]").unwrap();
    let end = SAMPLE.find("\n[budgets.").unwrap();
    let without = format!("{}{}", &SAMPLE[..start], &SAMPLE[end..]);
    assert_eq!(format!("{:?}", parse(&without).unwrap().limits), shown);
    let some = sample_with("body_seconds = 10\n", "");
    assert_eq!(parse(&some).unwrap().limits.body(), Duration::from_secs(10));
}

#[test]
fn the_sample_explains_every_field() {
    let mut above = "";
    let mut explained = std::collections::HashSet::new();
    for line in SAMPLE.lines() {
        if let Some((key, _)) = line.split_once(" = ")
            && !line.starts_with('#')
        {
            // Once is enough: a second [[models]] need not say it again.
            assert!(above.starts_with('#') || explained.contains(key), "{line}");
            explained.insert(key);
        }
        above = line;
    }
    // All but `active_requests`, whose default is the machine's.
    assert_eq!(explained.len(), 67);
}

#[test]
fn what_is_not_toml_is_told_by_line() {
    let text = sample_with("execution = \"cpu\"", "execution = ");
    let found = parse(&text).unwrap_err();
    assert_eq!(found[0].line, line_of(&text, "execution = "));
    assert!(found[0].to_string().starts_with("line "));
    assert!(!parse("[data").unwrap_err().is_empty());
    let twice = problems("[audit]\n", "[audit]\n[audit]\n");
    assert!(twice[0].0 > 0, "{twice:?}");
}

#[test]
fn unknown_sections_and_fields_are_refused() {
    let message = problem("[health]", "[dashboards]\nlevel = 1\n[health]");
    assert!(message.contains("unknown section dashboards; known: repository, data, admin, health"));
    for (from, to) in [
        ("key = \"server.key\"", "keys = 1\nkey = \"server.key\""),
        (
            "listen = \"127.0.0.1:8080\"",
            "tls = true\nlisten = \"127.0.0.1:8080\"",
        ),
        ("idle_seconds = 75", "idle_secs = 75"),
        ("mode = \"written\"", "fsync = 1\nmode = \"written\""),
        (
            "name = \"breast-cancer\"",
            "canary = 3\nname = \"breast-cancer\"",
        ),
        ("name = \"ehr\"", "quota = 200\nname = \"ehr\""),
    ] {
        let field = to.split(' ').next().unwrap();
        let message = problem(from, to);
        assert!(
            message.contains("unknown field") && message.contains(field),
            "{message}"
        );
    }
}

#[test]
fn wrong_types_are_refused() {
    for (from, to, section) in [
        (
            "listen = \"0.0.0.0:8443\"",
            "listen = \"localhost\"",
            "data",
        ),
        ("listen = \"127.0.0.1:8080\"", "listen = 8080", "health"),
        ("body_bytes = 65536", "body_bytes = \"64 KiB\"", "limits"),
        ("body_seconds = 10", "body_seconds = -1", "limits"),
        ("idle_seconds = 75", "idle_seconds = 7.5", "limits"),
        ("execution = \"cpu\"", "execution = \"gpu\"", "onnxruntime"),
        ("execution = \"cpu\"", "execution = \"auto\"", "onnxruntime"),
        (
            "policy_keys = [\"policy/root.pub\"]",
            "policy_keys = \"policy/root.pub\"",
            "trust",
        ),
        ("policy_threshold = 1", "policy_threshold = -1", "trust"),
        ("mode = \"written\"", "mode = \"off\"", "audit"),
        (
            "roles = [\"ehr-system\"]",
            "roles = [\"root\"]",
            "principals",
        ),
        ("models = [\"*\"]", "models = \"*\"", "principals"),
        (
            "san = \"DNS:ml.hospital.example\"",
            "san = [\"DNS:ml\"]",
            "principals",
        ),
        (
            "repository = \"repository\"",
            "repository = 1",
            "repository",
        ),
    ] {
        let message = problem(from, to);
        assert!(message.starts_with(&format!("{section}: ")), "{message}");
    }
    let text = "[models]\nname = \"a\"\nversion = 1\n";
    let problems = parse(text).unwrap_err();
    let listed = problems
        .iter()
        .find(|p| p.message == "write it as [[models]]");
    assert_eq!(listed.map(|p| p.line), Some(1), "{problems:?}");
}

#[test]
fn every_required_field_is_missed_once() {
    for line in SAMPLE
        .lines()
        .filter(|l| l.contains(" = ") && !l.starts_with('#'))
    {
        let start = SAMPLE.find(&format!("\n{line}\n")).unwrap();
        let limits = SAMPLE.find("\n[limits]").unwrap()..SAMPLE.find("\n[onnxruntime]").unwrap();
        let field = line.split(' ').next().unwrap();
        let text = SAMPLE.replacen(&format!("\n{line}\n"), "\n", 1);
        let Err(problems) = parse(&text) else {
            assert!(
                limits.contains(&start) || OPTIONAL.contains(&field),
                "{line}"
            );
            continue;
        };
        assert_eq!(problems.len(), 1, "{line}: {problems:?}");
        let message = &problems[0].message;
        assert!(
            message.contains(field) && message.contains("missing"),
            "{message}"
        );
        assert_eq!(problems[0].line == 0, field == "repository", "{line}");
    }
}

#[test]
fn missing_sections_are_all_named() {
    let found = parse("").unwrap_err();
    let messages: Vec<&str> = found.iter().map(|p| p.message.as_str()).collect();
    assert_eq!(
        messages,
        [
            "section repository is missing",
            "section data is missing",
            "section health is missing",
            "section onnxruntime is missing",
            "section trust is missing",
            "section [[models]] is missing",
            "section audit is missing",
            "section keys is missing",
            "section [[principals]] is missing",
        ]
    );
    assert!(found.iter().all(|p| p.line == 0));
    assert_eq!(found[0].to_string(), "section repository is missing");
}

#[test]
fn all_problems_are_reported_at_once_in_order() {
    let mut text = SAMPLE.to_owned();
    for (from, to) in [
        ("listen = \"0.0.0.0:8443\"", "listen = \"everywhere\""),
        ("certificate = \"server.pem\"", "certificate = 1\nextra = 1"),
        ("key = \"server.key\"\n", ""),
        ("body_bytes = 65536", "body_bytes = 0"),
        ("connections = 4096", "connections = 0"),
        ("[onnxruntime]", "[onnx]\nx = 1\n[onnxruntime]"),
        ("policy_threshold = 1", "policy_threshold = 2"),
        ("name = \"breast-cancer\"", "name = \"icu-mortality\""),
        ("mode = \"written\"", "mode = \"sometimes\""),
        ("roles = [\"ehr-system\"]", "roles = [\"root\"]\nrole = 1"),
        (
            "san = \"DNS:ml.hospital.example\"",
            "san = \"ml.hospital.example\"",
        ),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    let problems = parse(&text).unwrap_err();
    let lines: Vec<usize> = problems.iter().map(|p| p.line).collect();
    assert!(lines.is_sorted());
    for (needle, message) in [
        ("[data]", "data: key is missing"),
        ("listen = \"everywhere\"", "data: invalid socket address"),
        ("certificate = 1", "data: invalid type"),
        ("extra = 1", "data: unknown field `extra`"),
        ("body_bytes = 0", "limits: body_bytes must be 1 to"),
        ("connections = 0", "limits: connections must be 1 to"),
        ("[onnx]", "unknown section onnx"),
        ("policy_threshold = 2", "trust: policy_threshold is 2, of 1"),
        ("mode = \"sometimes\"", "audit: unknown variant"),
        ("roles = [\"root\"]", "principals: unknown variant `root`"),
        ("role = 1", "principals: unknown field `role`"),
        (
            "san = \"ml.hospital.example\"",
            "principal ml-engineer: san should be",
        ),
    ] {
        let line = line_of(&text, needle);
        let found = problems
            .iter()
            .any(|p| p.line == line && p.message.starts_with(message));
        assert!(found, "{line}: {message} not among {problems:#?}");
    }
    assert!(problems.iter().any(|p| p.message.contains("listed twice")));
    assert_eq!(problems.len(), 13, "{problems:#?}");
}

#[test]
fn a_name_means_one_principal() {
    let san = "san = \"DNS:ml.hospital.example\"";
    let message = problem(san, "san = \"URI:spiffe://hospital.example/ehr\" # again");
    assert_eq!(message, "san is principal ehr's already");
    for bad in [
        "CN=ehr",
        "IP:10.0.0.1",
        "uri:spiffe://x",
        "URI:",
        "DNS:",
        "",
    ] {
        let message = problem(san, &format!("san = \"{bad}\""));
        assert_eq!(
            message,
            "principal ml-engineer: san should be URI:… or DNS:…"
        );
    }
    let found = problems("name = \"ml-engineer\"", "name = \"ehr\" # again");
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].1, "principal ehr: the name is used twice");
    assert_eq!(found[0].0, line_of(SAMPLE, san));
}

#[test]
fn models_are_named_once_and_plainly() {
    let name = "name = \"breast-cancer\"";
    let twice = problems(name, "name = \"icu-mortality\" # again");
    assert_eq!(
        twice[0].1,
        "models: icu-mortality version 1 is listed twice"
    );
    assert!(twice[0].0 > line_of(SAMPLE, "name = \"icu-mortality\""));
    for bad in ["../icu", "ICU", "", "a/b", "a b", ".", "ü"] {
        let found = problems(name, &format!("name = \"{bad}\""));
        assert_eq!(found.len(), 1);
        assert!(found[0].1.contains("should be of a-z, 0-9, -"), "{found:?}");
        assert!(found[0].0 > 0);
    }
    // The same name in two versions is what a roll-out looks like.
    let two = sample_with(
        "name = \"breast-cancer\"\nversion = 1",
        "name = \"icu-mortality\"\nversion = 2",
    );
    assert_eq!(parse(&two).unwrap().models.len(), 2);
}

#[test]
fn limits_are_above_nothing_and_below_the_absurd() {
    for (from, name) in [
        ("body_bytes = 65536", "body_bytes"),
        ("concurrent_requests = 1024", "concurrent_requests"),
        ("# active_requests = 4", "active_requests"),
        ("connections = 4096", "connections"),
        ("head_seconds = 10", "head_seconds"),
        ("body_seconds = 10", "body_seconds"),
        ("idle_seconds = 75", "idle_seconds"),
    ] {
        let message = problem(from, &format!("{name} = 0"));
        assert!(message.starts_with(&format!("limits: {name} must be 1 to")));
    }
    assert!(parse(&sample_with("drain_seconds = 20", "drain_seconds = 0")).is_ok());
    for (from, name) in [
        ("body_bytes = 65536", "body_bytes"),
        ("concurrent_requests = 1024", "concurrent_requests"),
        ("# active_requests = 4", "active_requests"),
        ("connections = 4096", "connections"),
        ("head_seconds = 10", "head_seconds"),
        ("drain_seconds = 20", "drain_seconds"),
    ] {
        let message = problem(from, &format!("{name} = {}", i64::MAX));
        assert!(message.contains(" to "), "{message}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_a_problem() {
    let found = Config::load(Path::new("/nonexistent/vitalgate.toml")).unwrap_err();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].line, 0);
    assert!(found[0].message.starts_with("No such file"));
}
