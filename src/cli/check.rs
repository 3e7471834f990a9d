//! `vitalgate check`: every problem of a configuration file, with its line.

use std::{error::Error, fs, io, path::Path};

use anyhow::anyhow;
use serde_json::json;
use vitalgate::{
    audit::{Identifiers, Settings},
    authn,
    authz::{AccessPolicy, AccessPolicyError},
    bundle::check_trust,
    config::{Config, Problem},
    error_chain::one_line,
    fleet, telemetry,
    tls::{ClientCertificates, ListenerTls},
};

use super::Failure;

/// What the configuration names and a start would stumble over. Models are not loaded.
fn unusable(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut problem_at = |line: usize, error: &dyn Error| {
        let message = one_line(error);
        problems.push(Problem { line, message });
    };
    for data in &config.data {
        let client_certificates = data.authentication.client_certificates();
        if let Err(error) = ListenerTls::load(data.files.clone(), client_certificates) {
            problem_at(data.line, &error);
        }
    }
    if let Some(admin) = &config.admin
        && let Err(error) = ListenerTls::load(admin.files.clone(), ClientCertificates::Required)
    {
        problem_at(admin.line, &error);
    }
    for issuer in &config.issuers {
        if let Err(error) = authn::check_keys(issuer) {
            problem_at(issuer.line, &error);
        }
    }
    for (line, error) in same_addresses(config) {
        problem_at(line, &error);
    }
    let mut problem = |error: &dyn Error| problem_at(0, error);
    if let Err(error) = check_trust(&config.trust) {
        problem(&error);
    }
    if let Some(path) = &config.authorization.policy {
        let file = path.display();
        match AccessPolicy::load(path) {
            Ok(_) => {}
            Err(error @ AccessPolicyError::Unreadable { .. }) => problem(&error),
            Err(AccessPolicyError::Faulty(faults)) => {
                for fault in faults {
                    problem(&io::Error::other(format!("access policy {file}: {fault}")));
                }
            }
        }
    }
    if let Err(error) = Settings::load(&config.audit) {
        problem(&error);
    }
    if let Err(error) = Identifiers::load(&config.keys.fleet, &config.keys.pseudonym) {
        problem(&error);
    }
    if let Some(store) = &config.store
        && let Err(error) = fleet::client(store)
    {
        problem(&error);
    }
    if let Some(otlp) = &config.telemetry.otlp
        && let Err(error) = telemetry::otlp::check(otlp)
    {
        problem(&error);
    }
    for model in &config.models {
        let directory = config
            .repository
            .join(&model.name)
            .join(model.version.to_string());
        if let Err(error) = fs::read_dir(&directory) {
            problem(&io::Error::new(
                error.kind(),
                format!("{}: {error}", directory.display()),
            ));
        }
    }
    problems.sort_by_key(|p| p.line);
    problems
}

/// Listeners that would get in each other's way, by line.
fn same_addresses(config: &Config) -> Vec<(usize, io::Error)> {
    let data = config.data.iter().map(|d| ("data", d.listen, d.line));
    let admin = config.admin.iter().map(|a| ("admin", a.listen, a.line));
    let others = data.chain(admin).collect::<Vec<_>>();
    let health = ("health", config.health.listen, 0);
    let mut found = Vec::new();
    for (i, (name, address, line)) in others.iter().enumerate() {
        let rest = others.iter().skip(i + 1).chain([&health]);
        // The reader has compared the data listeners with each other.
        for (other, _, _) in rest.filter(|(n, a, _)| n != name && a == address && a.port() != 0) {
            let message = format!("{name}.listen and {other}.listen are the same address");
            found.push((*line, io::Error::other(message)));
        }
    }
    found
}

#[expect(clippy::print_stdout, reason = "the report is what the command is for")]
pub(crate) fn run(path: &Path, as_json: bool) -> Result<(), Failure> {
    let problems = match Config::load(path) {
        Ok(config) => unusable(&config),
        Err(problems) => problems,
    };
    if as_json {
        let list: Vec<_> = problems
            .iter()
            .map(|p| json!({"line": p.line, "message": p.message}))
            .collect();
        println!(
            "{}",
            json!({"valid": problems.is_empty(), "problems": list})
        );
    } else {
        for problem in &problems {
            println!("{}: {problem}", path.display());
        }
    }
    match problems.len() {
        0 if as_json => Ok(()),
        0 => {
            println!("{}: no problem found", path.display());
            Ok(())
        }
        n => Err(Failure::DoesNotHold(anyhow!(
            "{} has {n} problem(s)",
            path.display()
        ))),
    }
}
