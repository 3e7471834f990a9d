//! Vitalgate serves clinical models and screens every input before a prediction exists.
//!
//! Terminate TLS, **authenticate**, **authorize**, **admit**, **receive**, **parse** (schema,
//! units, precision), check **ranges**, check **consistency**, check **distribution**, **charge**,
//! **clear**, **infer**, check **agreement**, check **stability**, **harden**, decide the
//! **disposition**, **record**, answer.
//! [`pipeline`] is that sentence as code; the modules below are in its order.

pub mod config;

pub mod admin;
pub mod containment;
pub mod deployment;
pub mod telemetry;

pub mod connection;
pub mod server;
pub mod tls;

pub mod admission;
pub mod answer;
pub mod audit;
pub mod authn;
pub mod authz;
pub mod clinical;
pub mod consensus;
pub mod disposition;
pub mod drift;
pub mod extraction;
pub mod fleet;
pub mod hardening;
pub mod inference;
pub mod pipeline;
pub mod receive;
pub mod review;
pub mod schema;
pub mod screening;
pub mod stability;
pub mod units;

pub mod bundle;
pub mod clock;
pub mod error_chain;
pub mod named_file;
pub mod phi;
pub mod reload;
pub mod row;
#[cfg(feature = "tools")]
pub mod selftest;
pub mod state_directory;
pub mod trace;
pub mod trail;
mod unique_keys;
pub mod urgency;

#[cfg(feature = "tools")]
pub mod evaluation;
#[cfg(feature = "tools")]
pub mod intake;
#[cfg(feature = "tools")]
pub mod statistics;
#[cfg(feature = "tools")]
pub mod training_data;

#[cfg(test)]
mod specimens;
