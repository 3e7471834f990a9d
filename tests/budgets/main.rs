//! What budgets and query patterns cost in memory, and whom they trouble who should not be.
#![cfg(test)]
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "small numbers, and bits that are mixed"
)]

mod benign;
mod memory;
mod stays;
