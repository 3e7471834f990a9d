//! A thousand callers, each with its budget spent and every embedding kept.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicUsize, Ordering},
};

use vitalgate::{
    admission::Accounts,
    authz::Role,
    bundle::model::QueriesSpec,
    config::Budgets,
    extraction::{Embedding, Query, Terms},
};

/// Bytes that are allocated, by everybody.
static HELD: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// Safety: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        HELD.fetch_add(layout.size(), Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        HELD.fetch_sub(layout.size(), Ordering::Relaxed);
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

const CALLERS: usize = 1000;

/// Nextest runs each test in a process of its own, so that nobody else allocates.
#[test]
fn a_thousand_callers_hold_at_most_16_kib_each() {
    let accounts = Accounts::new(Budgets::default());
    let now = 1_800_000_000_000;
    let before = HELD.load(Ordering::Relaxed);
    for caller in 0..CALLERS {
        let name = format!("issuer-of-tokens/subject-{caller:032}");
        let account = accounts.named_now(&name, "issuer/*".into(), &[Role::Clinician], None);
        let queries = QueriesSpec::default();
        let terms = Terms::new(account.limits(), account.clinical(), &queries);
        let rows = u64::from(terms.rows.unwrap());
        for row in 0..rows {
            let bits = std::array::from_fn(|word| {
                let mixed = (row + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15 ^ (word as u64) << 17);
                mixed ^ (mixed >> 29)
            });
            let query = Query {
                fingerprint: row.wrapping_mul(0xd6e8_feb8_6659_fd93),
                embedding: Some(Embedding(bits)),
                flagged: false,
                answered: true,
                version: 1,
            };
            // Far enough apart in time that none is near another in the window.
            account.with_ledger("icu-mortality", |l| l.enter(&query, &terms, now + row));
        }
        account.with_ledger("icu-mortality", |l| assert_eq!(u64::from(l.used()), rows));
    }
    let each = (HELD.load(Ordering::Relaxed) - before) / CALLERS;
    println!("{each} bytes a caller");
    assert!(each <= 16 * 1024, "{each}");
    assert!(each > 200 * 40, "all of it was counted: {each}");
}
