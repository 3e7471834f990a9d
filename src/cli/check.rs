//! `vitalgate check`: every problem of a configuration file, with its line.

use std::{error::Error, fs, io, path::Path};

use anyhow::anyhow;
use serde_json::json;
use vitalgate::{
    authz::{AccessPolicy, AccessPolicyError},
    bundle::check_trust,
    config::{Config, Problem},
    error_chain::one_line,
    tls,
};

use super::Failure;

/// What the configuration names and a start would stumble over. Models are not loaded.
fn unusable(config: &Config) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut problem = |error: &dyn Error| {
        let message = one_line(error);
        problems.push(Problem { line: 0, message });
    };
    if let Err(error) = tls::server_config(&config.data) {
        problem(&error);
    }
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
    if config.data.listen == config.health.listen && config.data.listen.port() != 0 {
        problem(&io::Error::other(
            "data.listen and health.listen are the same address",
        ));
    }
    problems
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
