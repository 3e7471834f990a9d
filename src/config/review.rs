//! `[review]`: how long a review may be overridden, and by whose servers.

use std::time::Duration;

use serde::Deserialize;
use toml::de::DeTable;

use super::reader::{Reader, field};

/// A day: a patient's values are others by then.
const LONGEST: u64 = 24 * 60 * 60;
/// Longest name of a tenant, bytes.
const LONGEST_NAME: usize = 128;

/// `[review]`: may be left out, and so may its fields.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields, default)]
pub struct Review {
    /// Whose patients these servers judge. Another tenant's review tokens do not hold here, not
    /// even under the same fleet key.
    pub tenant: String,
    /// How long a review may be overridden, seconds.
    pub override_seconds: u64,
}

impl Default for Review {
    fn default() -> Self {
        Self {
            tenant: String::new(),
            override_seconds: 60 * 60,
        }
    }
}

impl Review {
    /// How long a review may be overridden.
    pub fn lifetime(&self) -> Duration {
        Duration::from_secs(self.override_seconds)
    }
}

impl Reader<'_> {
    pub(super) fn check_review(&mut self, table: &DeTable<'_>, review: Option<&Review>) {
        let Some(review) = review else { return };
        if !(1..=LONGEST).contains(&review.override_seconds) {
            let message = format!("review: override_seconds must be 1 to {LONGEST}");
            self.problem(field(table, "review", "override_seconds"), &message);
        }
        let plain = |b: u8| b.is_ascii_graphic();
        if review.tenant.len() > LONGEST_NAME || !review.tenant.bytes().all(plain) {
            let message =
                format!("review: tenant should be a name of at most {LONGEST_NAME} characters");
            self.problem(field(table, "review", "tenant"), &message);
        }
    }
}
