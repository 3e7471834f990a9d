//! Keeps the process's memory out of core dumps, debuggers and swap, as far as the system
//! allows, and says what was and was not done.

use rustix::{
    mm::{MlockAllFlags, mlockall},
    process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit},
    thread::{CapabilitySet, capabilities},
};
use serde::Serialize;

/// What became of a measure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// Whether it is in force.
    pub done: bool,
    /// How, or why not.
    pub detail: String,
}

impl Outcome {
    /// It is in force.
    pub fn done(detail: impl Into<String>) -> Self {
        Self {
            done: true,
            detail: detail.into(),
        }
    }

    /// It is not.
    pub fn not_done(detail: impl Into<String>) -> Self {
        Self {
            done: false,
            detail: detail.into(),
        }
    }

    fn of(result: rustix::io::Result<()>, detail: &str) -> Self {
        match result {
            Ok(()) => Self::done(detail),
            Err(error) => Self::not_done(error.to_string()),
        }
    }
}

/// The measures that concern the process as a whole, and what became of each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Hardening {
    /// Heap blocks are wiped when freed, by whichever library.
    pub heap_wipe: Outcome,
    /// `PR_SET_DUMPABLE` 0: no core dump, and no process of the same user may read the memory.
    pub not_dumpable: Outcome,
    /// `RLIMIT_CORE` 0.
    pub no_core: Outcome,
    /// `mlockall`: nothing is swapped out.
    pub memory_lock: Outcome,
    /// `MADV_DONTDUMP` on what is writable: even a dump made by root leaves it out.
    pub dump_exclusion: Outcome,
}

impl Hardening {
    /// Applies what can be applied at start, before any key or patient is in memory.
    /// `heap_wipe` is the executable's word on its allocator.
    pub fn apply(heap_wipe: Outcome) -> Self {
        Self {
            heap_wipe,
            not_dumpable: Outcome::of(
                set_dumpable_behavior(DumpableBehavior::NotDumpable),
                "PR_SET_DUMPABLE is 0",
            ),
            no_core: Outcome::of(
                setrlimit(
                    Resource::Core,
                    Rlimit {
                        current: Some(0),
                        maximum: Some(0),
                    },
                ),
                "RLIMIT_CORE is 0",
            ),
            memory_lock: lock_memory(),
            dump_exclusion: Outcome::not_done("not yet"),
        }
    }

    /// The measures by name.
    pub fn measures(&self) -> [(&'static str, &Outcome); 5] {
        [
            ("heap_wipe", &self.heap_wipe),
            ("not_dumpable", &self.not_dumpable),
            ("no_core", &self.no_core),
            ("memory_lock", &self.memory_lock),
            ("dump_exclusion", &self.dump_exclusion),
        ]
    }

    /// A line in the log for each measure.
    pub fn log(&self) {
        for (measure, Outcome { done, detail }) in self.measures() {
            if *done {
                tracing::info!(measure, done, detail, "process hardening");
            } else {
                tracing::warn!(measure, done, detail, "process hardening");
            }
        }
    }
}

/// Locks all memory, present and future, but only where no limit stands in the way: under a small
/// `RLIMIT_MEMLOCK` the call succeeds, and later allocations fail.
fn lock_memory() -> Outcome {
    let limit = getrlimit(Resource::Memlock).current;
    let may_exceed =
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
    if let Some(bytes) = limit.filter(|_| !may_exceed) {
        return Outcome::not_done(format!(
            "RLIMIT_MEMLOCK is {bytes} bytes; it must be unlimited (systemd: \
             LimitMEMLOCK=infinity), or swap must be off or encrypted"
        ));
    }
    // On fault: reserved but untouched memory (stacks, arenas) need not become resident.
    let flags = MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT;
    Outcome::of(mlockall(flags), "all memory is locked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measure_serialises_with_its_reason() {
        let outcome = Outcome::not_done("because");
        let json = serde_json::to_value(&outcome).unwrap();
        assert_eq!(
            json,
            serde_json::json!({"done": false, "detail": "because"})
        );
    }
}
