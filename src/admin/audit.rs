//! The audit log, as far as the admin plane shows it: its head, and its last records.

use std::sync::Arc;

use serde_json::{Value, json};

use super::{Administration, Declined};
use crate::{audit, disposition::Code};

/// Records in an answer when their number is not asked for.
const RECORDS: usize = 1000;
/// And at most.
const MOST_RECORDS: usize = 10_000;
/// The end of the log that is looked at, bytes.
const TAIL: u64 = 8 << 20;

/// Where the log ends: how many records, the hash of the last, the last signed checkpoint.
pub(super) fn head(of: &Administration) -> Value {
    let head = of.application.audit.head();
    json!({
        "records": head.records,
        "hash": hex::encode(head.hash),
        "checkpoint": head.checkpoint,
        "healthy": of.application.audit.is_healthy(),
    })
}

/// The last records, oldest first, each as it is in the log (their hashes depend on every byte),
/// whether there are fewer than wanted because of [`TAIL`], and the checkpoints beside them.
pub(super) async fn records(of: &Arc<Administration>, query: &str) -> Result<Value, Declined> {
    let wanted = match query.strip_prefix("last=") {
        Some(number) => number.parse().map_err(|_| Code::InvalidQuery)?,
        None if query.is_empty() => RECORDS,
        None => return Err(Code::InvalidQuery.into()),
    };
    if wanted > MOST_RECORDS {
        return Err(Code::InvalidQuery.into());
    }
    let directory = of.audit_directory.clone();
    let read = tokio::task::spawn_blocking(move || audit::tail(&directory, wanted, TAIL));
    let read = read.await.map_err(|_panicked| Code::Internal)?;
    let tail = read.map_err(|error| {
        tracing::error!(%error, "the audit log cannot be read");
        Code::Internal
    })?;
    Ok(json!({"lines": tail.lines, "cut": tail.cut, "checkpoints": tail.checkpoints}))
}
