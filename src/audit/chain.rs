//! The chain: every record carries its number and the hash of the record before it.
//!
//! A line is `{"seq":12,"prev":"<64 hex digits>",` and then the record's own members. `prev` is
//! the SHA-256 of the previous line without its newline; the first record of a log names
//! [`GENESIS`]. The chain runs on over the files of a log.

use std::io::Write as _;

use aws_lc_rs::digest::{SHA256, digest};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use crate::unique_keys::repeated_key;

/// A SHA-256.
pub type Hash = [u8; 32];

/// What the first record of a log names as the one before it.
pub const GENESIS: Hash = [0; 32];

const SEQ: &[u8] = b"{\"seq\":";
const PREV: &[u8] = b",\"prev\":\"";
const AFTER: &[u8] = b"\",";
/// The first of a record's own members.
const TIME: &[u8] = b"\"time\":\"";

/// Where a log's chain stands: the number of the next record, and what it has to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Number of the next record; the first is 0.
    pub next: u64,
    /// Hash of the last record.
    pub head: Hash,
}

impl Chain {
    /// Of a log without records.
    pub fn genesis() -> Self {
        Self {
            next: 0,
            head: GENESIS,
        }
    }

    /// Appends a record to `out` as the chain's next line, and returns its leaf hash. `body` is a
    /// JSON object with at least one member; it is not serialised again.
    pub(super) fn append(&mut self, body: &[u8], out: &mut Vec<u8>) -> Hash {
        let start = out.len();
        out.extend_from_slice(SEQ);
        // Writing to a vector cannot fail.
        let _written: Result<(), _> = write!(out, "{}", self.next);
        out.extend_from_slice(PREV);
        push_hex(&self.head, out);
        out.extend_from_slice(AFTER);
        out.extend_from_slice(body.get(1..).unwrap_or_default());
        let leaf = self.follow(out.get(start..).unwrap_or_default());
        out.push(b'\n');
        leaf
    }

    /// Takes `line` as the chain's next record; returns its leaf hash.
    pub(super) fn follow(&mut self, line: &[u8]) -> Hash {
        self.next += 1;
        self.head = line_hash(line);
        super::merkle::leaf_hash(line)
    }
}

/// What a record names as the one before it is the hash of that one's line, newline excluded.
pub fn line_hash(line: &[u8]) -> Hash {
    sha256(line)
}

/// The number and `prev` of a line; nothing when it is not a record as [`Chain`] writes it.
pub fn parse_line(line: &[u8]) -> Option<(u64, Hash)> {
    let rest = line.strip_prefix(SEQ)?;
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, rest) = rest.split_at_checked(digits)?;
    if digits > 1 && number.first() == Some(&b'0') {
        return None;
    }
    // There is no next number behind the last one of 64 bits.
    let seq = std::str::from_utf8(number).ok()?.parse().ok()?;
    if seq == u64::MAX {
        return None;
    }
    let (prev, rest) = rest.strip_prefix(PREV)?.split_at_checked(64)?;
    if prev.iter().any(u8::is_ascii_uppercase) || !rest.starts_with(AFTER) || !rest.ends_with(b"}")
    {
        return None;
    }
    // Two readers must not understand a record differently.
    if !matches!(repeated_key(line), Ok(None)) {
        return None;
    }
    let mut hash = GENESIS;
    hex::decode_to_slice(prev, &mut hash).ok()?;
    Some((seq, hash))
}

/// When the record of a line was made, as its own first member says; `line` is a record.
pub(super) fn time_of(line: &[u8]) -> Option<OffsetDateTime> {
    let digits = line.get(SEQ.len()..)?;
    let number = digits.iter().take_while(|b| b.is_ascii_digit()).count();
    let own = digits.get(number + PREV.len() + 64 + AFTER.len()..)?;
    let text = own.strip_prefix(TIME)?.split(|&b| b == b'"').next()?;
    OffsetDateTime::parse(std::str::from_utf8(text).ok()?, &Rfc3339).ok()
}

pub(super) fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = GENESIS;
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

fn push_hex(hash: &Hash, out: &mut Vec<u8>) {
    let mut digits = [0; 64];
    if hex::encode_to_slice(hash, &mut digits).is_ok() {
        out.extend_from_slice(&digits);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_the_line_before_it() {
        let (mut chain, mut out) = (Chain::genesis(), Vec::new());
        chain.append(b"{\"a\":1}", &mut out);
        chain.append(b"{\"b\":2}", &mut out);
        let text = String::from_utf8(out).unwrap();
        let [first, second] = text.lines().collect::<Vec<_>>()[..] else {
            panic!("{text}")
        };
        let zeros = "0".repeat(64);
        assert_eq!(first, format!("{{\"seq\":0,\"prev\":\"{zeros}\",\"a\":1}}"));
        let hash = hex::encode(sha256(first.as_bytes()));
        assert_eq!(second, format!("{{\"seq\":1,\"prev\":\"{hash}\",\"b\":2}}"));
        assert_eq!(parse_line(first.as_bytes()), Some((0, GENESIS)));
        assert_eq!(
            parse_line(second.as_bytes()),
            Some((1, sha256(first.as_bytes())))
        );
        assert_eq!((chain.next, chain.head), (2, sha256(second.as_bytes())));
    }

    #[test]
    fn only_lines_as_the_writer_makes_them_are_records() {
        let line = format!("{{\"seq\":7,\"prev\":\"{}\",\"a\":1}}", "ab".repeat(32));
        assert!(parse_line(line.as_bytes()).is_some());
        for (from, to) in [
            ("7", "07"),
            ("7", "-7"),
            ("7", "\"7\""),
            ("7", "99999999999999999999"),
            ("7", "18446744073709551615"),
            ("abab", "ABAB"),
            ("abab", "zzab"),
            ("{\"seq\"", "{ \"seq\""),
            ("1}", "1"),
            ("1}", "1,}"),
            ("1}", "1,\"a\":1}"),
            ("1}", "1,\"seq\":8}"),
            ("1}", "1}}"),
        ] {
            let altered = line.replacen(from, to, 1);
            assert_eq!(parse_line(altered.as_bytes()), None, "{altered}");
        }
        assert_eq!(parse_line(b""), None);
    }

    #[test]
    fn a_record_tells_its_time() {
        let with = |own: &str| format!("{{\"seq\":70,\"prev\":\"{}\",{own}}}", "ab".repeat(32));
        let line = with("\"time\":\"2026-03-01T10:00:00.25Z\",\"a\":1");
        assert!(parse_line(line.as_bytes()).is_some());
        let time = time_of(line.as_bytes()).unwrap();
        assert_eq!(time, time::macros::datetime!(2026-03-01 10:00:00.25 UTC));
        for other in [
            "\"a\":1",
            "\"time\":\"noon\"",
            "\"a\":1,\"time\":\"2026-03-01T10:00:00Z\"",
        ] {
            assert_eq!(time_of(with(other).as_bytes()), None, "{other}");
        }
    }
}
