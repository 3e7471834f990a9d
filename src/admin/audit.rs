//! The audit log, as far as the admin plane shows it: its head, and its last records.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
    sync::Arc,
};

use serde_json::{Value, json};

use super::{Administration, Declined};
use crate::disposition::Code;

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

/// The last records, oldest first, each as it is in the log: their hashes depend on every byte.
pub(super) async fn records(of: &Arc<Administration>, query: &str) -> Result<Value, Declined> {
    let wanted = match query.strip_prefix("last=") {
        Some(number) => number.parse().map_err(|_| Code::InvalidQuery)?,
        None if query.is_empty() => RECORDS,
        None => return Err(Code::InvalidQuery.into()),
    };
    if wanted > MOST_RECORDS {
        return Err(Code::InvalidQuery.into());
    }
    let mut lines = tail(of).await?;
    lines.drain(..lines.len().saturating_sub(wanted));
    Ok(json!({"lines": lines}))
}

async fn tail(of: &Arc<Administration>) -> Result<Vec<String>, Declined> {
    let path = of.audit_directory.join("audit.jsonl");
    let read = tokio::task::spawn_blocking(move || last_lines(&path));
    let lines = read.await.map_err(|_panicked| Code::Internal)?;
    lines.map_err(|error| {
        tracing::error!(%error, "the audit log cannot be read");
        Code::Internal.into()
    })
}

/// The whole lines among the last bytes of a file.
fn last_lines(path: &Path) -> io::Result<Vec<String>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened?,
    };
    let length = file.metadata()?.len();
    let start = length.saturating_sub(TAIL);
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length - start).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    // A line that is still being written has no end yet; the first may have lost its beginning.
    let (whole, _torn) = text.rsplit_once('\n').unwrap_or_default();
    let skip = usize::from(start > 0);
    Ok(whole.lines().skip(skip).map(str::to_owned).collect())
}
