//! What an answer's `RateLimit` fields say (draft-ietf-httpapi-ratelimit-headers-10).

use std::fmt::Write;

/// What of a caller's limits an answer shows, as far as the request came to be counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shown {
    /// Its rate.
    pub requests: Option<Requests>,
    /// Its distinct rows of the model.
    pub rows: Option<Rows>,
}

/// A rate: so many requests at once, and the seconds in which as many come back.
#[derive(Clone, Copy, Debug)]
pub struct Requests {
    quota: u32,
    window: u32,
    remaining: u32,
    reset: u32,
}

impl Requests {
    pub(super) fn new(burst: u32, per_second: u32, remaining: u32) -> Self {
        let seconds = |requests: u32| requests.div_ceil(per_second.max(1)).max(1);
        Self {
            quota: burst,
            window: seconds(burst),
            remaining,
            reset: seconds(burst.saturating_sub(remaining)),
        }
    }
}

/// Distinct rows of a model in a UTC day.
#[derive(Clone, Copy, Debug)]
pub struct Rows {
    /// As many as may be asked about.
    pub quota: u32,
    /// As many as are left.
    pub remaining: u32,
    /// Seconds until the day ends.
    pub reset: u32,
}

impl Shown {
    /// `RateLimit-Policy`: the limits, the same on every answer. Empty where none applies.
    pub fn policy(&self) -> String {
        let mut text = String::with_capacity(64);
        if let Some(Requests { quota, window, .. }) = self.requests {
            // Writing to a String cannot fail.
            let _written = write!(text, "\"requests\";q={quota};w={window}");
        }
        if let Some(Rows { quota, .. }) = self.rows {
            let _written = write!(text, ", \"rows\";q={quota};w=86400");
        }
        text
    }

    /// `RateLimit`: what is left of them.
    pub fn left(&self) -> String {
        let mut text = String::with_capacity(64);
        if let Some(Requests {
            remaining, reset, ..
        }) = self.requests
        {
            let _written = write!(text, "\"requests\";r={remaining};t={reset}");
        }
        if let Some(Rows {
            remaining, reset, ..
        }) = self.rows
        {
            let _written = write!(text, ", \"rows\";r={remaining};t={reset}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_lists_of_strings_with_parameters() {
        assert_eq!(Shown::default().policy(), "");
        let mut shown = Shown {
            requests: Some(Requests::new(1000, 500, 999)),
            rows: None,
        };
        assert_eq!(shown.policy(), "\"requests\";q=1000;w=2");
        assert_eq!(shown.left(), "\"requests\";r=999;t=1");
        shown.rows = Some(Rows {
            quota: 200,
            remaining: 150,
            reset: 3600,
        });
        assert_eq!(
            shown.policy(),
            "\"requests\";q=1000;w=2, \"rows\";q=200;w=86400"
        );
        assert_eq!(
            shown.left(),
            "\"requests\";r=999;t=1, \"rows\";r=150;t=3600"
        );
    }
}
