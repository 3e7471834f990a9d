//! Tokens that were found to hold: a signature check costs more than the whole screen.
//!
//! A token is known by its SHA-256 alone. It is forgotten when it expires or its key is gone;
//! when the configuration changes, all are. What the connection must show is asked every time.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::digest::{Context, SHA256};

use super::{Authentication, issuer::VerifiedToken};
use crate::disposition::Code;

/// Tokens in each of the two halves.
const HALF: usize = 8192;

type Key = [u8; 32];

/// At most twice [`HALF`] tokens: when the younger half is full it becomes the older one, and
/// what was not asked for since is forgotten.
#[derive(Debug, Default)]
pub(super) struct VerifiedTokens(Mutex<Halves>);

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<Key, VerifiedToken>,
    old: HashMap<Key, VerifiedToken>,
}

impl VerifiedTokens {
    /// A token that still holds.
    ///
    /// # Errors
    /// [`Code::TokenExpired`] when it did until it expired.
    pub(super) fn get(
        &self,
        text: &str,
        how: Authentication,
        now: i64,
    ) -> Result<Option<VerifiedToken>, Code> {
        let key = key(text, how);
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = halves.old.remove(&key) {
            halves.put(key, found);
        }
        let Some(found) = halves.young.get(&key) else {
            return Ok(None);
        };
        let (expired, stands) = (now >= found.holds_until, found.key_stands());
        if expired || !stands {
            halves.young.remove(&key);
        }
        match (expired, stands) {
            (true, _) => Err(Code::TokenExpired),
            // Judged from the start, which says why it does not hold any more.
            (false, false) => Ok(None),
            (false, true) => Ok(halves.young.get(&key).cloned()),
        }
    }

    /// How many are remembered.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        let halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        halves.young.len() + halves.old.len()
    }

    pub(super) fn put(&self, text: &str, how: Authentication, token: VerifiedToken) {
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        halves.put(key(text, how), token);
    }
}

impl Halves {
    fn put(&mut self, key: Key, token: VerifiedToken) {
        if self.young.len() >= HALF {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, token);
    }
}

fn key(text: &str, how: Authentication) -> Key {
    let mut context = Context::new(&SHA256);
    context.update(how.as_str().as_bytes());
    context.update(b" ");
    context.update(text.as_bytes());
    let mut key = Key::default();
    key.copy_from_slice(context.finish().as_ref());
    key
}
