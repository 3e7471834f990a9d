//! How urgent a request is, and until when its answer is of use.
//!
//! Both are the caller's word, in headers, and both only matter when there is more to do than can
//! be done at once: who may say `stat` is a matter of the access policy, and a deadline can only
//! make the server give up sooner.

use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue};

use crate::disposition::Code;

const PRIORITY: HeaderName = HeaderName::from_static("x-priority");
const DEADLINE: HeaderName = HeaderName::from_static("x-request-deadline");
const PREFER: HeaderName = HeaderName::from_static("prefer");
/// The longest time that a deadline may give, milliseconds.
const LONGEST: u64 = 600_000;

/// Who goes first, as orders in a hospital say it; most urgent first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// At once: somebody waits at the bedside.
    Stat,
    /// What nobody says anything about.
    #[default]
    Routine,
    /// When there is room.
    Batch,
}

impl Priority {
    /// All, most urgent first.
    pub const ALL: [Self; 3] = [Self::Stat, Self::Routine, Self::Batch];

    /// As the header writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stat => "stat",
            Self::Routine => "routine",
            Self::Batch => "batch",
        }
    }

    /// How many of `places` requests of this priority may take, so that what is less urgent
    /// never takes the last ones from what is more.
    pub fn share(self, places: usize) -> usize {
        match self {
            Self::Stat => places,
            Self::Routine => places.saturating_sub(places / 8),
            Self::Batch => places.div_ceil(2),
        }
    }
}

/// What a request's headers ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Urgency {
    /// `X-Priority`.
    pub priority: Priority,
    /// When the answer is of no use any more, the earlier of `X-Request-Deadline` (milliseconds)
    /// and `Prefer: wait` (seconds, RFC 7240 section 4.3).
    pub deadline: Option<Instant>,
}

impl Urgency {
    /// Reads the headers of a request that arrived at `arrived`.
    ///
    /// # Errors
    /// `PRIORITY_INVALID`, `DEADLINE_INVALID`. A preference that cannot be read is none (RFC 7240
    /// section 2).
    pub fn asked_for(headers: &HeaderMap, arrived: Instant) -> Result<Self, Code> {
        let priority = match only(headers, &PRIORITY).map_err(|()| Code::PriorityInvalid)? {
            None => Priority::default(),
            Some(text) => Priority::ALL
                .into_iter()
                .find(|priority| priority.as_str() == text)
                .ok_or(Code::PriorityInvalid)?,
        };
        let milliseconds = match only(headers, &DEADLINE).map_err(|()| Code::DeadlineInvalid)? {
            None => None,
            Some(text) => {
                let time = number(text).filter(|time| (1..=LONGEST).contains(time));
                Some(time.ok_or(Code::DeadlineInvalid)?)
            }
        };
        let preferred = preferred_wait(headers).map(|seconds| seconds.saturating_mul(1000));
        let time = milliseconds.into_iter().chain(preferred).min();
        let deadline = time.map(|time| arrived + Duration::from_millis(time.min(LONGEST)));
        Ok(Self { priority, deadline })
    }

    /// Whether the answer is of no use any more.
    pub fn has_passed(&self, now: Instant) -> bool {
        self.deadline.is_some_and(|deadline| deadline <= now)
    }
}

/// The text of a header that may be there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => value.to_str().map(|text| Some(text.trim())).map_err(drop),
        (Some(_), Some(_)) => Err(()),
    }
}

/// Seconds of the first `wait` among the preferences; a later one does not count.
fn preferred_wait(headers: &HeaderMap) -> Option<u64> {
    let values = headers.get_all(PREFER).iter();
    let texts = values.filter_map(|value: &HeaderValue| value.to_str().ok());
    let preferences = texts.flat_map(|text| text.split(','));
    preferences
        .filter_map(|preference| preference.split(';').next()?.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("wait"))
        .and_then(|(_, seconds)| number(seconds.trim().trim_matches('"')))
}

fn number(digits: &str) -> Option<u64> {
    let all_digits = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    digits.parse().ok().filter(|_| all_digits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    fn read(lines: &[(&str, &str)]) -> Result<(Priority, Option<u128>), Code> {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            let name: HeaderName = name.parse().unwrap();
            headers.append(name, value.parse().unwrap());
        }
        let now = clock::monotonic();
        let urgency = Urgency::asked_for(&headers, now)?;
        let left = urgency.deadline.map(|d| d.duration_since(now).as_millis());
        Ok((urgency.priority, left))
    }

    #[test]
    fn headers_say_how_urgent_it_is() {
        use Priority::{Batch, Routine, Stat};
        assert_eq!(read(&[]), Ok((Routine, None)));
        for (text, priority) in [("stat", Stat), ("routine", Routine), (" batch ", Batch)] {
            assert_eq!(read(&[("x-priority", text)]), Ok((priority, None)));
        }
        for wrong in [
            &[("x-priority", "STAT")][..],
            &[("x-priority", "")],
            &[("x-priority", "u=1")],
            &[("x-priority", "stat"), ("x-priority", "stat")],
        ] {
            assert_eq!(read(wrong), Err(Code::PriorityInvalid), "{wrong:?}");
        }
    }

    #[test]
    fn headers_say_until_when_an_answer_is_of_use() {
        let left = |lines: &[(&str, &str)]| read(lines).map(|(_, left)| left);
        assert_eq!(left(&[("x-request-deadline", "250")]), Ok(Some(250)));
        for wrong in ["0", "-1", "+5", "1.5", "600001", "", "soon"] {
            let read = left(&[("x-request-deadline", wrong)]);
            assert_eq!(read, Err(Code::DeadlineInvalid), "{wrong}");
        }
        let twice = [("x-request-deadline", "5"), ("x-request-deadline", "5")];
        assert_eq!(left(&twice), Err(Code::DeadlineInvalid));
        for (preference, expected) in [
            ("wait=2", Some(2000)),
            ("respond-async, Wait=3; x=1, wait=1", Some(3000)),
            ("wait=\"4\"", Some(4000)),
            ("wait=99999999999", Some(600_000)),
            ("wait", None),
            ("wait=now", None),
            ("return=minimal", None),
        ] {
            assert_eq!(left(&[("prefer", preference)]), Ok(expected));
        }
        let both = [("prefer", "wait=1"), ("x-request-deadline", "300")];
        assert_eq!(left(&both), Ok(Some(300)));
    }

    #[test]
    fn the_less_urgent_never_takes_the_last_places() {
        for places in [8, 32, 1024] {
            let [stat, routine, batch] = Priority::ALL.map(|priority| priority.share(places));
            assert!(stat == places && routine < stat && batch < routine);
        }
        assert_eq!(Priority::ALL.map(|priority| priority.share(1)), [1; 3]);
    }
}
