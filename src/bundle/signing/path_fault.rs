//! What is wrong with a certificate or its path, in words.

use std::fmt;

use rustls_pki_types::UnixTime;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use webpki::Error;

/// Why a certificate or the path from it to a root is refused.
#[derive(Debug)]
pub struct PathFault(pub(super) Error);

impl std::error::Error for PathFault {}

impl fmt::Display for PathFault {
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "what has no words here is spelled out"
    )]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let words = match &self.0 {
            Error::CertExpired { not_after, .. } => {
                return write!(f, "a certificate expired at {}", shown(*not_after));
            }
            Error::CertNotValidYet { not_before, .. } => {
                return write!(
                    f,
                    "a certificate is not valid before {}",
                    shown(*not_before)
                );
            }
            Error::UnknownIssuer => "no path to a trusted root",
            Error::BadDer => "malformed DER",
            Error::CaUsedAsEndEntity => "it is an authority's certificate",
            Error::EndEntityUsedAsCa => "an issuer is not a certificate authority",
            Error::PathLenConstraintViolated => "more issuers than one of them allows",
            Error::NameConstraintViolation => "a name that an issuer may not certify",
            Error::RequiredEkuNotFoundContext(_) => "its extended key usage lacks code signing",
            Error::InvalidSignatureForPublicKey => "a certificate's signature does not hold",
            other => return f.write_str(&spelled_out(&format!("{other:?}"))),
        };
        f.write_str(words)
    }
}

fn shown(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{} s after 1970", time.as_secs()))
}

/// The words of a variant's name, without what it holds.
fn spelled_out(name: &str) -> String {
    let mut words = String::new();
    for letter in name.chars().take_while(char::is_ascii_alphanumeric) {
        if letter.is_ascii_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.push(letter.to_ascii_lowercase());
    }
    words
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn times_are_rfc_3339_and_names_are_words() {
        let at = |seconds| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let (time, not_after) = (at(1_600_000_001), at(1_600_000_000));
        assert_eq!(
            PathFault(Error::CertExpired { time, not_after }).to_string(),
            "a certificate expired at 2020-09-13T12:26:40Z"
        );
        assert_eq!(
            PathFault(Error::UnsupportedCriticalExtension).to_string(),
            "unsupported critical extension"
        );
    }
}
