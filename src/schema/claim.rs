//! `review`: the caller wants to override the review of this input.

use jiter::Peek;

use super::{Key, Read, Reader};
use crate::{
    disposition::Code,
    review::{Claim, OverrideReason},
};

/// Longest `review.token`, in bytes.
pub(super) const MAX_TOKEN: usize = 128;

impl Reader<'_> {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "a key that is not expected here is refused, whatever it is"
    )]
    pub(super) fn review(&mut self) -> Read<()> {
        match self.json.peek()? {
            Peek::Object => {}
            Peek::Null => return self.json.known_null(),
            _ => return self.wrong_type(None, "an object with token, reason_code"),
        }
        let faults = self.faults.len();
        let (mut token, mut reason) = (None, None);
        let (mut token_seen, mut reason_seen) = (false, false);
        self.object(
            |_, key| match key {
                "token" => Key::Token,
                "reason_code" => Key::ReasonCode,
                _ => Key::Unknown,
            },
            |reader, key| match key {
                Key::Token if !std::mem::replace(&mut token_seen, true) => {
                    token = reader.token()?;
                    Ok(())
                }
                Key::ReasonCode if !std::mem::replace(&mut reason_seen, true) => {
                    reason = reader.reason()?;
                    Ok(())
                }
                other => reader.unexpected(other, "token, reason_code"),
            },
        )?;
        for (name, seen) in [("token", token_seen), ("reason_code", reason_seen)] {
            if !seen {
                let mark = self.descend(name);
                self.fault(Code::MissingValue, None, "a string");
                self.ascend(mark);
            }
        }
        if let (Some(token), Some(reason)) = (token, reason)
            && self.faults.len() == faults
        {
            self.row.claim = Some(Claim::new(&token, reason));
        }
        Ok(())
    }

    fn token(&mut self) -> Read<Option<String>> {
        if self.json.peek()? != Peek::String {
            return self.wrong_type(None, "a review's token").map(|()| None);
        }
        let text = self.json.known_str()?;
        if text.len() > MAX_TOKEN {
            self.fault(Code::TooLong, None, &format!("at most {MAX_TOKEN} bytes"));
            return Ok(None);
        }
        Ok(Some(text.to_owned()))
    }

    fn reason(&mut self) -> Read<Option<OverrideReason>> {
        if self.json.peek()? != Peek::String {
            return self.wrong_type(None, "a reason code").map(|()| None);
        }
        let reason = OverrideReason::of(self.json.known_str()?);
        if reason.is_none() {
            let expected = format!("one of {}", OverrideReason::codes());
            self.fault(Code::UnknownReasonCode, None, &expected);
        }
        Ok(reason)
    }
}
