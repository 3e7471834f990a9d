//! `[telemetry]`: where traces go.

use std::{net::IpAddr, path::PathBuf};

use serde::Deserialize;
use toml::de::DeTable;

use super::{
    reader::{Reader, field},
    shipping::missing_half,
};

/// `[telemetry]`: may be left out, and so may its fields.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    /// Where spans of requests are sent; nowhere when none.
    pub otlp: Option<Otlp>,
}

/// `[telemetry.otlp]`: a collector that takes OTLP over HTTP, in protobuf.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Otlp {
    /// Where it takes traces; the path is mostly `/v1/traces`.
    pub to: Collector,
    /// Roots that its certificate must chain to, PEM; goes with `https`.
    pub ca: Option<PathBuf>,
    /// Our certificate, PEM, where the collector asks for one.
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM, not readable by group or others.
    pub key: Option<PathBuf>,
    /// Must be true for `http`, and only then.
    #[serde(default)]
    pub plaintext: bool,
    /// Share of the requests that are traced among those whose caller sends no `traceparent`; of
    /// the others the caller decides.
    #[serde(default = "all")]
    pub sample: f64,
    /// Requests that wait for the collector at most; spans of further ones are dropped.
    #[serde(default = "queue")]
    pub queue: usize,
}

fn all() -> f64 {
    1.0
}

fn queue() -> usize {
    2048
}

/// `https://…`, or `http://` to an address of the loopback interface.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub enum Collector {
    /// Over TLS.
    Https(String),
    /// In plain text, to this machine only.
    Loopback(String),
}

impl TryFrom<String> for Collector {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let expected = "expected https://HOST:PORT/PATH, or http:// to 127.0.0.1 or [::1]";
        let (scheme, rest) = text.split_once("://").ok_or(expected)?;
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        // A secret in an address would be in logs.
        if authority.is_empty() || authority.contains('@') {
            return Err(expected);
        }
        let host = match authority.rsplit_once(':') {
            Some((host, _)) if !authority.ends_with(']') => host,
            Some(_) | None => authority,
        };
        let address = host.trim_start_matches('[').trim_end_matches(']');
        let loopback = address.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        match scheme {
            "https" => Ok(Self::Https(text)),
            "http" if loopback => Ok(Self::Loopback(text)),
            _ => Err(expected),
        }
    }
}

impl Otlp {
    /// The files it names.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        self.ca
            .iter_mut()
            .chain(&mut self.certificate)
            .chain(&mut self.key)
    }

    /// What does not fit together, and the field that it is about.
    fn problem(&self) -> Option<(&'static str, String)> {
        let plain = matches!(self.to, Collector::Loopback(_));
        let certified = self.ca.is_some() || self.certificate.is_some();
        let half = missing_half(self.certificate.as_deref(), self.key.as_deref());
        let (field, problem) = match (plain, self.plaintext, half) {
            (true, false, _) => (
                "to",
                "http is not encrypted: say plaintext = true, or use https",
            ),
            (false, true, _) => ("plaintext", "an https collector is not asked in plain text"),
            (true, true, _) if certified => ("to", "ca and certificate go with https"),
            (false, false, _) if self.ca.is_none() => ("to", "ca is missing; https needs it"),
            (_, _, Some("key")) => ("to", "key is missing; it goes with certificate"),
            (_, _, Some(_)) => ("to", "certificate is missing; it goes with key"),
            _ if !(0.0..=1.0).contains(&self.sample) => ("sample", "sample must be 0 to 1"),
            _ if !(1..=1 << 20).contains(&self.queue) => ("queue", "queue must be 1 to 1048576"),
            _ => return None,
        };
        Some((field, format!("telemetry.otlp: {problem}")))
    }
}

impl Reader<'_> {
    pub(super) fn check_telemetry(&mut self, table: &DeTable<'_>, telemetry: Option<&Telemetry>) {
        let otlp = telemetry.and_then(|telemetry| telemetry.otlp.as_ref());
        if let Some((name, message)) = otlp.and_then(Otlp::problem) {
            let section = table.get("telemetry").map(toml::Spanned::get_ref);
            let section = section.and_then(toml::de::DeValue::as_table);
            let at = section.and_then(|section| field(section, "otlp", name));
            self.problem(at, &message);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_reached_over_tls_or_on_this_machine() {
        let parse = |text: &str| Collector::try_from(text.to_owned()).ok();
        for https in ["https://c.example/v1/traces", "https://[2001:db8::1]:4318"] {
            assert_eq!(parse(https), Some(Collector::Https(https.to_owned())));
        }
        for http in [
            "http://127.0.0.1:4318/v1/traces",
            "http://[::1]/x",
            "http://[::1]:1",
        ] {
            assert_eq!(parse(http), Some(Collector::Loopback(http.to_owned())));
        }
        for wrong in [
            "",
            "c.example:4318",
            "https://",
            "https:///v1/traces",
            "http://c.example/v1/traces",
            "http://localhost:4318",
            "http://127.0.0.1.example:4318",
            "http://10.0.0.1:4318",
            "grpc://c.example:4317",
            "https://user:secret@c.example",
            "http://127.0.0.1@c.example",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_does_not_fit_together_is_a_problem() {
        let problem = |lines: &str| {
            let otlp: Otlp = toml::from_str(lines).unwrap();
            otlp.problem().map(|(name, _)| name)
        };
        let https = "to = \"https://c.example/v1/traces\"\n";
        let http = "to = \"http://127.0.0.1:4318/v1/traces\"\n";
        assert_eq!(problem(&format!("{https}ca = \"c.pem\"")), None);
        assert_eq!(problem(&format!("{http}plaintext = true\nqueue = 1")), None);
        for (wrong, name) in [
            (https.to_owned(), "to"),
            (http.to_owned(), "to"),
            (
                format!("{https}ca = \"c.pem\"\nplaintext = true"),
                "plaintext",
            ),
            (format!("{http}plaintext = true\nca = \"c.pem\""), "to"),
            (format!("{https}ca = \"c.pem\"\nkey = \"k.pem\""), "to"),
            (format!("{https}ca = \"c.pem\"\nsample = 1.5"), "sample"),
            (format!("{https}ca = \"c.pem\"\nqueue = 0"), "queue"),
        ] {
            assert_eq!(problem(&wrong), Some(name), "{wrong}");
        }
    }
}
