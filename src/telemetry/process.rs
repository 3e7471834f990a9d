//! What the system knows about the process, from `/proc/self`: with the conventional names.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::{
    catalogue::{CPU_TIME, MAX_FILES, OPEN_FILES, RESIDENT_MEMORY, THREADS},
    count, number,
};

/// Reads it off; what cannot be read is left out.
pub(crate) fn read_off() {
    if let Some(seconds) = cpu_seconds() {
        CPU_TIME.with([]).absolute(seconds);
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    if let Some(kibibytes) = field(&status, "VmRSS:") {
        RESIDENT_MEMORY.with([]).set(number(kibibytes * 1024));
    }
    if let Some(threads) = field(&status, "Threads:") {
        THREADS.with([]).set(number(threads));
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        OPEN_FILES.with([]).set(count(open.count()));
    }
    if let Some(most) = getrlimit(Resource::Nofile).current {
        MAX_FILES.with([]).set(number(most));
    }
}

/// `proc_pid_status(5)`.
fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// `proc_pid_stat(5)`: fields 14 and 15, counted behind the command's name, which may hold spaces.
fn cpu_seconds() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/stat").ok()?;
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    // Linux has told user space in hundredths of a second on every architecture since 2.6.
    Some((ticks(14)? + ticks(15)?) / 100)
}
