//! Judges a bundle on rows of patients, before people approve it.

pub mod families;
pub mod metrics;
