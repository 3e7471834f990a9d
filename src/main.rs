//! The `vitalgate` command.

use std::process::ExitCode;

mod cli;
#[path = "phi/heap.rs"]
mod heap;

fn main() -> ExitCode {
    cli::run()
}
