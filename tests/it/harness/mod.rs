//! What the tests stand on: a site (authority, keys, bundles, configuration), the server as a
//! child process, and a client that writes exact bytes.

mod admin;
mod book;
mod collector;
mod log;
mod patients;
mod provider;
mod redis;
mod server;
mod site;
mod tokens;
mod wire;

pub(crate) use admin::{admin, change, change_with, identity_files};
pub(crate) use book::{Book, Record, codes};
pub(crate) use collector::{Collector, Span};
pub(crate) use log::{Verdict, log_text, segments, verify_log};
pub(crate) use patients::{ICU_PATIENT, breast_cancer_patients, icu_patients};
pub(crate) use provider::IdentityProvider;
pub(crate) use redis::Store;
pub(crate) use server::{BINARY, Server, run_to_end};
use site::write_private;
pub(crate) use site::{AUTHORITY, Identity, Site, Validity, model_source, sign_bundle};
pub(crate) use tokens::{AUDIENCE, TokenIssuer, now, take_tokens, thumbprint};
pub(crate) use wire::{Answer, Wire, client, client_at, client_of, post, request};

use std::{net::TcpListener, time::Duration};

/// A port that nobody listens on, for a program that cannot say which it was given.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits until `ready` holds; fails the test after 10 s.
pub(crate) fn wait_until(what: &str, mut ready: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if ready() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("waited 10 s for: {what}");
}

/// Seeded pseudo-random numbers (xorshift64*), the same in every run.
pub(crate) struct Seeded(u64);

impl Seeded {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    /// Below `bound`.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let mixed = self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        usize::try_from(mixed).unwrap() % bound
    }
}
