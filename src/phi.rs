//! Patient data in memory: types that cannot be printed, cloned by accident or left behind.
//!
//! [`Phi`] keeps a datum from being shown. What the datum leaves behind on its way through
//! parsers, buffers and stacks is wiped by [`scrub`] (stacks, TLS read buffers) and, in the
//! executable, by `src/phi/heap.rs` (every heap block, whoever frees it). [`process`] keeps the
//! process's memory from being dumped or swapped out. `docs/phi.md` lists every measure, how its
//! effect is shown, and what stays outside.

use std::fmt;

use zeroize::Zeroize;

pub mod measures;
pub mod process;
pub mod scrub;

/// A patient's datum (or text that may contain one): no `Display`, no `Clone`, no
/// `Serialize`, a redacted `Debug`, wiped when dropped. Only the response writer reads it.
pub struct Phi<T: Zeroize>(T);

impl<T: Zeroize> Phi<T> {
    /// Takes `datum` into custody.
    pub fn new(datum: T) -> Self {
        Self(datum)
    }

    /// The datum itself, for screening and for the response writer, nothing else.
    pub fn expose(&self) -> &T {
        &self.0
    }

    /// The datum, to be filled in place.
    pub fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Zeroize> Drop for Phi<T> {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl<T: Zeroize> fmt::Debug for Phi<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Phi(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Phi::new("Jane Doe".to_owned())), "Phi(…)");
    }
}
