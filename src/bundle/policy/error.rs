use std::{io, path::PathBuf};

use time::OffsetDateTime;

use super::super::signing::SigningError;

/// Why a release policy is not in force.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file could not be read.
    #[error("{path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Not a DSSE envelope of a release policy.
    #[error("not a signed release policy")]
    NotSigned(#[source] SigningError),
    /// Too few of the policy keys signed.
    #[error(
        "the release policy is unsigned: signatures of {found} of the pinned policy keys hold, {threshold} needed"
    )]
    Unsigned {
        /// Policy keys whose signature holds.
        found: usize,
        /// How many must.
        threshold: usize,
    },
    /// More than anybody needs.
    #[error("the release policy has more than {0} signatures")]
    TooManySignatures(usize),
    /// The pinned keys cannot reach the threshold, or need not sign at all.
    #[error("the threshold of the policy keys is {threshold}, of {keys} keys")]
    PolicyThreshold {
        /// The threshold.
        threshold: usize,
        /// How many keys are pinned.
        keys: usize,
    },
    /// What was signed is not the JSON it should be.
    #[error(transparent)]
    Json(SigningError),
    /// A format of another time.
    #[error("release policy: format {0} is not known; this server knows 1")]
    Format(u32),
    /// A field has a value it cannot have.
    #[error("release policy: {field}: {problem}")]
    Field {
        /// The field.
        field: String,
        /// What is wrong.
        problem: String,
    },
    /// Nobody would have to approve anything.
    #[error("release policy: roles: there is none, so that nobody would approve a model")]
    NoRoles,
    /// The role approves without a signature, or can never approve.
    #[error("release policy: role {role}: the threshold is {threshold}, of {keys} keys")]
    Threshold {
        /// The role.
        role: String,
        /// The threshold.
        threshold: usize,
        /// How many keys it has.
        keys: usize,
    },
    /// A key that cannot be used.
    #[error("{place}")]
    Key {
        /// The role, or the policy keys.
        place: String,
        /// What is wrong with it.
        source: SigningError,
    },
    /// A key in another form than the one that has an id.
    #[error("{place}: the key's point is compressed; write the key as OpenSSL does by default")]
    KeyForm {
        /// The role, or the policy keys.
        place: String,
    },
    /// A key counts once.
    #[error("{place}: key {key} is listed twice")]
    KeyTwice {
        /// The role, or the policy keys.
        place: String,
        /// The key's id.
        key: String,
    },
    /// One holder could give two approvals.
    #[error(
        "release policy: key {key} is in the roles {first} and {second}; a key counts once, so it may be in one role only"
    )]
    KeyInTwoRoles {
        /// The key's id.
        key: String,
        /// A role.
        first: String,
        /// Another.
        second: String,
    },
    /// The configuration pins a newer one.
    #[error(
        "the release policy has serial {serial}, below min_serial {min_serial} of the configuration"
    )]
    BelowMinSerial {
        /// The policy's.
        serial: u64,
        /// The least.
        min_serial: u64,
    },
    /// A newer one was in force here before.
    #[error(
        "the release policy is older than one seen before: its serial is {serial}, {highest} was seen"
    )]
    OlderSerial {
        /// The policy's.
        serial: u64,
        /// The highest seen.
        highest: u64,
    },
    /// Two documents with one serial: one of them may take back what the other revoked.
    #[error(
        "another release policy with serial {serial} was seen before; every change needs a higher serial"
    )]
    SerialReused {
        /// The serial of both.
        serial: u64,
    },
    /// The state file does not say which serial was seen.
    #[error(
        "{path}: the record of the highest policy serial is corrupt; restore it, or raise min_serial in the configuration to the newest policy's serial and delete it"
    )]
    State {
        /// The state file.
        path: PathBuf,
        /// What is wrong with it.
        source: SigningError,
    },
    /// The serial could not be recorded, so an older policy could come back unnoticed.
    #[error("{path}: the highest policy serial cannot be recorded")]
    StateIo {
        /// The state file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key holder failed to sign.
    #[error(transparent)]
    Signing(#[from] SigningError),
    /// The policy could not be written as JSON.
    #[error("cannot be written as JSON")]
    Encode(#[source] serde_json::Error),
}

impl PolicyError {
    /// Whether the machine is at fault, not the policy (exit code 3).
    pub fn is_environment(&self) -> bool {
        matches!(self, Self::Read { .. } | Self::StateIo { .. })
    }
}

/// Why a release policy does not let a bundle be loaded.
#[derive(Debug, thiserror::Error)]
pub enum NotApproved {
    /// The policy no longer holds.
    #[error("the release policy (serial {serial}) expired {expires}; nothing new is loaded")]
    Expired {
        /// The policy's.
        serial: u64,
        /// When, RFC 3339.
        expires: String,
    },
    /// This machine's clock cannot judge the expiry.
    #[error(
        "the release policy (serial {serial}) was issued {issued}, which this machine's clock says is yet to come"
    )]
    NotYetIssued {
        /// The policy's.
        serial: u64,
        /// When, RFC 3339.
        issued: String,
    },
    /// These very bytes were withdrawn.
    #[error("the bundle's digest sha256:{0} is revoked")]
    RevokedDigest(String),
    /// An approval is missing because its signer's key was withdrawn.
    #[error(
        "role {role}: {found} of {threshold} approvals; the signature of key {key} does not count, the key is revoked"
    )]
    RevokedKey {
        /// The role.
        role: String,
        /// Approvals that count.
        found: usize,
        /// Approvals needed.
        threshold: usize,
        /// The revoked key.
        key: String,
    },
    /// Too few of a role's keys signed.
    #[error("role {role}: {found} of {threshold} approvals{reasons}")]
    MissingApproval {
        /// The role.
        role: String,
        /// Approvals that count.
        found: usize,
        /// Approvals needed.
        threshold: usize,
        /// What is wrong with the signatures that count for nothing, in parentheses.
        reasons: String,
    },
    /// The policy does not speak of this model.
    #[error("the release policy's min_version does not name the model {0}")]
    ModelNotNamed(String),
    /// Too old to come back.
    #[error("{model} version {version} is below version {least}, the release policy's min_version")]
    BelowMinVersion {
        /// The model.
        model: String,
        /// The bundle's version.
        version: u32,
        /// The least.
        least: u32,
    },
}

pub(super) fn shown(time: OffsetDateTime) -> String {
    time.format(&time::format_description::well_known::Rfc3339)
        .unwrap_or_default()
}
