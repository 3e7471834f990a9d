//! `[admin]`: the admin plane. Without the section there is none.

use std::{net::SocketAddr, path::PathBuf};

use serde::Deserialize;
use toml::de::DeTable;

use super::{
    Methods,
    reader::{Reader, field},
};
use crate::tls::TlsFiles;

/// The HTTPS admin plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdminPlane {
    /// Address and port; keep it on a management network.
    pub listen: SocketAddr,
    /// Certificates, key, client roots and revocation lists.
    pub files: TlsFiles,
    /// Directory in which quarantines and read-only mode survive a restart; made if absent.
    pub state: PathBuf,
    /// Connections held at once.
    pub connections: usize,
    /// Its line in the file.
    pub line: usize,
}

impl AdminPlane {
    /// A certificate, always; a token beside it shows what a certificate cannot.
    pub const AUTHENTICATION: Methods = Methods::MtlsAndPerhapsJwt;
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawAdmin {
    listen: SocketAddr,
    certificate: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
    crl: Option<PathBuf>,
    state: PathBuf,
    #[serde(default = "connections")]
    connections: usize,
}

const REQUIRED: [&str; 5] = ["listen", "certificate", "key", "client_ca", "state"];

/// People and a few programs call it; nobody needs more.
fn connections() -> usize {
    64
}

impl Reader<'_> {
    /// The section, if there is one; nothing when it is not good.
    #[expect(
        clippy::option_option,
        reason = "absent is fine, unreadable is reported"
    )]
    pub(super) fn admin(&mut self, table: &DeTable<'_>) -> Option<Option<AdminPlane>> {
        let Some(section) = table.get("admin") else {
            return Some(None);
        };
        let start = section.span().start;
        let raw: RawAdmin = self.section(table, "admin", &REQUIRED)?;
        if !(1..=4096).contains(&raw.connections) {
            let at = field(table, "admin", "connections");
            self.problem(at, "admin: connections must be 1 to 4096");
        }
        Some(Some(AdminPlane {
            listen: raw.listen,
            files: TlsFiles {
                certificate: raw.certificate,
                key: raw.key,
                client_ca: Some(raw.client_ca),
                crl: raw.crl,
            },
            state: raw.state,
            connections: raw.connections,
            line: self.line(start),
        }))
    }
}
