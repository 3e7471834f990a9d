//! `vitalgate check`: every problem of a configuration file, with its line.

use std::path::Path;

use anyhow::anyhow;
use serde_json::json;
use vitalgate::config::Config;

use super::Failure;

#[expect(clippy::print_stdout, reason = "the report is what the command is for")]
pub(crate) fn run(path: &Path, as_json: bool) -> Result<(), Failure> {
    let problems = Config::load(path).err().unwrap_or_default();
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
