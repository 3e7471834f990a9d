//! Single-use tokens: each `jti` once.
//!
//! The memory is this process's own and bounded. What it cannot know of, it does not trust: a
//! token issued before the memory began, or in the second in which it did, may have been used
//! then, and when it is full of tokens that are still good, no more are taken. For the same reason
//! no token is used before the second in which it was issued ([`wait_for`]): after a restart it
//! would look like a new one.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};

use super::now;
use crate::{config::LONGEST_LEEWAY, disposition::Code};

/// Tokens remembered at most.
const MEMORY: usize = 65_536;
/// How far ahead an issuer's clock may be: a token waits until its second has come.
const AHEAD: i64 = 2;
/// How often the clock is looked at meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// The memories of single-use issuers, by `iss`; those of issuers that are configured no longer
/// included, since they may come back while their tokens are good.
pub(super) type Memories = HashMap<String, Arc<UsedTokens>>;

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

    /// Uses a token up, once everything else about it was found to hold. It is remembered for as
    /// long as any leeway could make it hold: the configured one may grow.
    pub(super) fn use_up(
        &self,
        jti: &str,
        issued: i64,
        expires: i64,
        now: i64,
    ) -> Result<(), Code> {
        let until = expires.saturating_add(LONGEST_LEEWAY.cast_signed());
        if issued <= self.began {
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

impl UsedTokens {
    /// Whether every token in it has expired, so that a new memory is as good.
    pub(super) fn is_spent(&self, now: i64) -> bool {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        used.forget(now);
        used.until.is_empty()
    }
}

/// Waits until the second in which a token was issued has come, if that is soon.
pub(super) async fn wait_for(issued: i64) -> Result<(), Code> {
    if issued > now().saturating_add(AHEAD) {
        return Err(Code::TokenFromTheFuture);
    }
    while issued > now() {
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
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
        assert_eq!(used.use_up("a", 1001, 1300, 1001), Ok(()));
        // The longest leeway that a configuration can come to have makes it hold until 1420.
        for now in [1001, 1299, 1300, 1420] {
            let again = used.use_up("a", 1001, 1300, now);
            assert_eq!(again, Err(Code::TokenReplayed), "at {now}");
        }
        assert_eq!(used.use_up("b", 1001, 1300, 1001), Ok(()));
    }

    #[test]
    fn what_may_have_been_used_before_the_memory_began_is_not_taken() {
        let used = UsedTokens::since(1000);
        for issued in [999, 1000] {
            let old = used.use_up("a", issued, 1300, 1001);
            assert_eq!(old, Err(Code::TokenOlderThanServer), "issued at {issued}");
        }
    }

    #[tokio::test]
    async fn no_token_is_used_before_its_second() {
        let far = wait_for(now() + AHEAD + 2).await;
        assert_eq!(far, Err(Code::TokenFromTheFuture));
        let soon = now() + 1;
        assert_eq!(wait_for(soon).await, Ok(()));
        assert!(now() >= soon);
    }

    #[test]
    fn the_memory_is_bounded_and_forgets_the_expired() {
        let used = UsedTokens::since(0);
        for i in 0..MEMORY {
            assert_eq!(used.use_up(&i.to_string(), 1, 100, 1), Ok(()));
        }
        assert_eq!(used.use_up("more", 1, 100, 1), Err(Code::TokenMemoryFull));
        assert_eq!(used.use_up("0", 1, 100, 220), Err(Code::TokenReplayed));
        assert_eq!(used.use_up("more", 221, 300, 221), Ok(()));
    }
}
