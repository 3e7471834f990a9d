//! Single-use tokens: each `jti` once.
//!
//! The memory is this process's own and bounded. What it cannot know of, it does not trust: a
//! token issued before the memory began may have been used then, and when it is full of tokens
//! that are still good, no more are taken.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use aws_lc_rs::digest::{SHA256, digest};

use crate::disposition::Code;

/// Tokens remembered at most.
const MEMORY: usize = 65_536;

type Id = [u8; 32];

/// The tokens of one issuer that were used.
#[derive(Debug)]
pub(super) struct UsedTokens {
    began: i64,
    used: Mutex<Used>,
}

#[derive(Debug, Default)]
struct Used {
    until: HashMap<Id, i64>,
    by_time: BTreeSet<(i64, Id)>,
}

impl UsedTokens {
    pub(super) fn since(began: i64) -> Self {
        Self {
            began,
            used: Mutex::default(),
        }
    }

    /// Uses a token up, once everything else about it was found to hold.
    pub(super) fn use_up(&self, jti: &str, issued: i64, until: i64, now: i64) -> Result<(), Code> {
        if issued < self.began {
            return Err(Code::TokenOlderThanServer);
        }
        let mut id = Id::default();
        id.copy_from_slice(digest(&SHA256, jti.as_bytes()).as_ref());
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.forget(now);
        if used.until.contains_key(&id) {
            return Err(Code::TokenReplayed);
        }
        if used.until.len() >= MEMORY {
            return Err(Code::TokenMemoryFull);
        }
        used.until.insert(id, until);
        used.by_time.insert((until, id));
        Ok(())
    }
}

impl Used {
    /// Forgets what has expired: it is refused for that.
    fn forget(&mut self, now: i64) {
        while let Some(&(until, id)) = self.by_time.first()
            && until < now
        {
            self.by_time.pop_first();
            self.until.remove(&id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_once() {
        let used = UsedTokens::since(1000);
        assert_eq!(used.use_up("a", 1000, 1300, 1001), Ok(()));
        for now in [1001, 1299, 1300] {
            let again = used.use_up("a", 1000, 1300, now);
            assert_eq!(again, Err(Code::TokenReplayed), "at {now}");
        }
        assert_eq!(used.use_up("b", 1000, 1300, 1001), Ok(()));
    }

    #[test]
    fn what_was_issued_before_the_memory_began_is_not_taken() {
        let used = UsedTokens::since(1000);
        let old = used.use_up("a", 999, 1300, 1001);
        assert_eq!(old, Err(Code::TokenOlderThanServer));
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_expired() {
        let used = UsedTokens::since(0);
        for i in 0..MEMORY {
            assert_eq!(used.use_up(&i.to_string(), 1, 100, 1), Ok(()));
        }
        assert_eq!(used.use_up("more", 1, 100, 1), Err(Code::TokenMemoryFull));
        assert_eq!(used.use_up("0", 1, 100, 100), Err(Code::TokenReplayed));
        assert_eq!(used.use_up("more", 101, 200, 101), Ok(()));
    }
}
