//! Which of the measures against residue are in force: all of them, always.
//!
//! Only a build with the feature `phi-teeth`, which is made for tests, can leave one out, to show
//! that the scan of `vitalgate selftest phi` then finds something. In every other build the
//! answer is a constant, and there is nothing to switch.

/// A measure that can be left out in a test build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Heap blocks are wiped when freed.
    Heap,
    /// The stack is wiped after whatever touched patient data.
    Stack,
    /// The free part of the TLS read buffer is wiped before each read.
    ReadBuffer,
    /// Each request has an HTTP parser of its own.
    Recycling,
    /// ONNX Runtime keeps no arena and no memory pattern.
    Arena,
    /// The worker's batch buffer is wiped after each run.
    Batch,
}

/// Whether `measure` is in force.
#[cfg(not(feature = "phi-teeth"))]
#[inline]
pub const fn in_force(_measure: Measure) -> bool {
    true
}

#[cfg(feature = "phi-teeth")]
pub use teeth::{NAMES, in_force, leave_out};

#[cfg(feature = "phi-teeth")]
mod teeth {
    use std::sync::atomic::{AtomicU8, Ordering};

    use super::Measure;

    /// The measures by the name a test leaves them out by.
    pub const NAMES: [(&str, Measure); 6] = [
        ("heap", Measure::Heap),
        ("stack", Measure::Stack),
        ("read-buffer", Measure::ReadBuffer),
        ("recycling", Measure::Recycling),
        ("arena", Measure::Arena),
        ("batch", Measure::Batch),
    ];

    static LEFT_OUT: AtomicU8 = AtomicU8::new(0);

    /// Whether `measure` is in force.
    #[inline]
    pub fn in_force(measure: Measure) -> bool {
        LEFT_OUT.load(Ordering::Relaxed) & (1 << measure as u8) == 0
    }

    /// Leaves the named measures out, `all` for every one; an unknown name is an error.
    pub fn leave_out(names: &str) -> Result<(), String> {
        for name in names.split(',').filter(|name| !name.is_empty()) {
            let mut found = false;
            for (known, measure) in NAMES {
                if name == known || name == "all" {
                    LEFT_OUT.fetch_or(1 << measure as u8, Ordering::Relaxed);
                    found = true;
                }
            }
            if !found {
                return Err(format!("no measure is called {name}"));
            }
        }
        Ok(())
    }
}
