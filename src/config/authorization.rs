//! `[authorization]`: who may do what.

use std::path::PathBuf;

use serde::Deserialize;

/// `[authorization]`: may be left out, for the shipped policy.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// The access policy, Cedar text that holds against the program's schema; the shipped default
    /// when absent.
    pub policy: Option<PathBuf>,
}
