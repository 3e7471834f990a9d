//! The one place that reads clocks.

use std::time::{Duration, Instant, SystemTime};

use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// Now, since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn since_epoch() -> Duration {
    // A clock before 1970 reads as 1970: every certificate is then "not yet valid", fail closed.
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default()
}

/// Now, on the clock that never goes back: for durations.
#[expect(clippy::disallowed_methods, reason = "this is the one clock")]
pub fn monotonic() -> Instant {
    Instant::now()
}

/// Now, UTC.
pub fn utc() -> OffsetDateTime {
    OffsetDateTime::UNIX_EPOCH + since_epoch()
}

/// Now in RFC 3339 with microseconds, UTC, for audit records.
pub fn rfc3339() -> String {
    rfc3339_at(since_epoch())
}

/// A time since the Unix epoch, in RFC 3339 with microseconds, UTC.
pub fn rfc3339_at(since_epoch: Duration) -> String {
    let micros = i128::try_from(since_epoch.as_micros()).unwrap_or_default();
    OffsetDateTime::from_unix_timestamp_nanos(micros.saturating_mul(1000))
        .ok()
        .and_then(|t| t.format(&Rfc3339).ok())
        .unwrap_or_default()
}
