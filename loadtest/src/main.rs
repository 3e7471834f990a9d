//! Open-loop load generator for vitalgate: a skeleton, which measures nothing yet.

use std::process::ExitCode;

#[expect(clippy::print_stderr, reason = "it says that it does nothing")]
fn main() -> ExitCode {
    eprintln!("loadtest: not written yet");
    ExitCode::from(2)
}
