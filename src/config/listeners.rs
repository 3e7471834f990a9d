//! `[data]`, or `[[data]]` once for each of several: the HTTPS listeners of the data plane.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::reader::{At, Reader};
use crate::tls::{ClientCertificates, TlsFiles};

/// An HTTPS listener of the data plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataPlane {
    /// Address and port.
    pub listen: SocketAddr,
    /// Certificates, key, client roots and revocation lists.
    pub files: TlsFiles,
    /// What it takes; all of it, from everybody.
    pub authentication: Methods,
    /// Its line in the file.
    pub line: usize,
}

/// What a caller has to show. There is no anonymous caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// A client certificate.
    Mtls,
    /// A bearer token. A certificate is looked at if the client has one, for tokens bound to it.
    Jwt,
    /// A client certificate and a bearer token.
    MtlsAndJwt,
    /// A client certificate, and a bearer token where the caller shows one.
    MtlsAndPerhapsJwt,
}

impl Methods {
    /// Whether the handshake fails without a client certificate.
    pub fn client_certificates(self) -> ClientCertificates {
        match self {
            Self::Mtls | Self::MtlsAndJwt | Self::MtlsAndPerhapsJwt => ClientCertificates::Required,
            Self::Jwt => ClientCertificates::Optional,
        }
    }

    /// Whether a bearer token is needed.
    pub fn takes_tokens(self) -> bool {
        matches!(self, Self::Jwt | Self::MtlsAndJwt)
    }

    /// As logs write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mtls => "mtls",
            Self::Jwt => "jwt",
            Self::MtlsAndJwt => "mtls+jwt",
            Self::MtlsAndPerhapsJwt => "mtls or mtls+jwt",
        }
    }
}

#[derive(Clone, Copy, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
enum Method {
    Mtls,
    Jwt,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawDataPlane {
    listen: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
    client_ca: Option<PathBuf>,
    crl: Option<Spanned<PathBuf>>,
    authentication: Option<Spanned<Vec<Method>>>,
}

const REQUIRED: [&str; 3] = ["listen", "certificate", "key"];

impl Reader<'_> {
    /// At least one listener.
    pub(super) fn listeners(&mut self, table: &DeTable<'_>) -> Option<Vec<DataPlane>> {
        let Some(value) = table.get("data") else {
            self.problem(None, "section data is missing");
            return None;
        };
        let raw: Vec<At<RawDataPlane>> = if let DeValue::Array(items) = value.get_ref() {
            if items.is_empty() {
                self.problem(Some(value.span().start), "data: there is no listener");
            }
            self.list(table, "data", &REQUIRED)
        } else {
            let start = value.span().start;
            let it = self.value(value.clone(), "data", &REQUIRED);
            it.map(|it| At { start, it }).into_iter().collect()
        };
        let listeners: Vec<DataPlane> = raw
            .into_iter()
            .filter_map(|At { start, it }| self.listener(start, it))
            .collect();
        for (i, one) in listeners.iter().enumerate() {
            let again = |other: &DataPlane| other.listen == one.listen && one.listen.port() != 0;
            if listeners.iter().take(i).any(again) {
                let message = format!("data: another listener has {}", one.listen);
                self.problem_at_line(one.line, &message);
            }
        }
        (!listeners.is_empty()).then_some(listeners)
    }

    fn listener(&mut self, start: usize, raw: RawDataPlane) -> Option<DataPlane> {
        let authentication = match &raw.authentication {
            None => Methods::Mtls,
            Some(listed) => {
                let has = |method| listed.get_ref().contains(&method);
                match (has(Method::Mtls), has(Method::Jwt)) {
                    (true, true) => Methods::MtlsAndJwt,
                    (true, false) => Methods::Mtls,
                    (false, true) => Methods::Jwt,
                    (false, false) => {
                        let at = Some(listed.span().start);
                        self.problem(at, "data: authentication: name mtls, jwt or both");
                        return None;
                    }
                }
            }
        };
        let certificates = authentication.client_certificates();
        if raw.client_ca.is_none() && certificates == ClientCertificates::Required {
            let message = "data: client_ca is missing (authentication by mtls needs it)";
            self.problem(Some(start), message);
            return None;
        }
        if let (Some(crl), None) = (&raw.crl, &raw.client_ca) {
            self.problem(Some(crl.span().start), "data: crl goes with client_ca");
        }
        Some(DataPlane {
            listen: raw.listen,
            files: TlsFiles {
                certificate: raw.certificate,
                key: raw.key,
                client_ca: raw.client_ca,
                crl: raw.crl.map(Spanned::into_inner),
            },
            authentication,
            line: self.line(start),
        })
    }
}
