//! `[audit]` and `[keys]`: the log, and the keys of what it keeps of patients.

use std::path::PathBuf;

use serde::Deserialize;
use toml::de::DeTable;

use super::{
    reader::{Reader, field},
    shipping::Shipping,
};

/// Smallest segment: smaller ones would be more names than records.
const MIN_SEGMENT: u64 = 4096;

/// `[audit]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Audit {
    /// Directory of the log.
    pub directory: PathBuf,
    /// When a record counts as accepted.
    pub mode: AuditMode,
    /// The log's name in its checkpoints; unique among those that one key signs.
    pub origin: String,
    /// Ed25519 key that signs the checkpoints, PKCS#8 PEM, not readable by group or others.
    pub key: PathBuf,
    /// A segment is closed before it grows beyond this, bytes.
    #[serde(default = "segment_bytes")]
    pub segment_bytes: u64,
    /// Where copies of checkpoints go.
    pub ship: Option<Shipping>,
}

fn segment_bytes() -> u64 {
    256 << 20
}

/// When an audit record counts as accepted.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum AuditMode {
    /// `write(2)` has returned: a killed process loses nothing. fsync follows within 100 ms.
    Written,
    /// The fsync after the write has returned: a power cut loses nothing either.
    Synced,
    /// Nothing is written, to measure what writing costs. No build that serves has it.
    #[cfg(feature = "null-audit")]
    Null,
}

/// `[keys]`: secrets that identifiers are made with, 64 hexadecimal digits each.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    /// Shared by all replicas; today's fingerprints of inputs are made with a key derived from it.
    pub fleet: PathBuf,
    /// Makes patients' pseudonyms in the audit log; retained as long as the log is.
    pub pseudonym: PathBuf,
}

impl Reader<'_> {
    pub(super) fn check_audit(&mut self, table: &DeTable<'_>, audit: Option<&Audit>) {
        let Some(audit) = audit else { return };
        // The key's name in a signed note: no space, no plus sign (C2SP signed-note).
        let named = |c: char| c.is_ascii_graphic() && c != '+';
        if audit.origin.is_empty() || !audit.origin.chars().all(named) {
            self.problem(
                field(table, "audit", "origin"),
                "audit: origin should be a name like hospital.example/vitalgate, without spaces or +",
            );
        }
        let missing = audit.ship.as_ref().and_then(Shipping::missing_half);
        if let Some(name) = missing {
            self.problem(
                field(table, "audit", "ship"),
                &format!("audit: ship: {name} is missing; certificate and key go together"),
            );
        }
        if audit.segment_bytes < MIN_SEGMENT {
            self.problem(
                field(table, "audit", "segment_bytes"),
                &format!("audit: segment_bytes must be at least {MIN_SEGMENT}"),
            );
        }
    }
}
