//! `[audit.ship]`: where copies of the log's checkpoints are sent.

use std::path::{Path, PathBuf};

use serde::Deserialize;

/// `[audit.ship]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Shipping {
    /// `https://…`, or `syslog+tls://host[:port]`.
    pub to: Destination,
    /// Roots that the collector's certificate must chain to, PEM.
    pub ca: PathBuf,
    /// Our certificate, PEM, where the collector asks for one.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM, not readable by group or others.
    pub key: Option<PathBuf>,
    /// Checkpoints that wait for the collector at most; beyond it the oldest is given up.
    #[serde(default = "spool")]
    pub spool: usize,
}

fn spool() -> usize {
    600
}

/// Who collects checkpoints.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub enum Destination {
    /// Each is posted to this address.
    Https(String),
    /// RFC 5425.
    Syslog {
        /// Name or address; it must be in the collector's certificate.
        host: String,
        /// 6514 unless said otherwise.
        port: u16,
    },
}

impl TryFrom<String> for Destination {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let expected = "expected https://… or syslog+tls://host:port";
        if text.starts_with("https://") && text.len() > "https://".len() {
            return Ok(Self::Https(text));
        }
        let address = text.strip_prefix("syslog+tls://").ok_or(expected)?;
        let address = address.trim_end_matches('/');
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| expected)?)
            }
            Some(_) | None => (address, 6514),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() || host.contains('/') || port == 0 {
            return Err(expected);
        }
        Ok(Self::Syslog {
            host: host.to_owned(),
            port,
        })
    }
}

/// Which of a certificate and its key is not there, when the other is.
pub(super) fn missing_half(certificate: Option<&Path>, key: Option<&Path>) -> Option<&'static str> {
    match (certificate, key) {
        (Some(_), None) => Some("key"),
        (None, Some(_)) => Some("certificate"),
        (Some(_), Some(_)) | (None, None) => None,
    }
}

impl Shipping {
    /// Which of certificate and key is not there, when the other is.
    pub(super) fn missing_half(&self) -> Option<&'static str> {
        missing_half(self.certificate.as_deref(), self.key.as_deref())
    }

    /// The files it names.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.ca]
            .into_iter()
            .chain(&mut self.certificate)
            .chain(&mut self.key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_is_https_or_syslog() {
        let parse = |text: &str| Destination::try_from(text.to_owned()).ok();
        let syslog = |host: &str, port| {
            let host = host.to_owned();
            Some(Destination::Syslog { host, port })
        };
        let https = "https://collector.example/checkpoints";
        assert_eq!(parse(https), Some(Destination::Https(https.to_owned())));
        assert_eq!(
            parse("syslog+tls://logs.example"),
            syslog("logs.example", 6514)
        );
        assert_eq!(
            parse("syslog+tls://10.0.0.9:1514/"),
            syslog("10.0.0.9", 1514)
        );
        assert_eq!(parse("syslog+tls://[::1]:1514"), syslog("::1", 1514));
        assert_eq!(parse("syslog+tls://[::1]"), syslog("::1", 6514));
        for wrong in [
            "",
            "https://",
            "http://collector.example",
            "syslog://logs.example",
            "syslog+tls://",
            "syslog+tls://logs.example:0",
            "syslog+tls://logs.example:x",
            "syslog+tls://logs.example/path",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
