//! A client that writes exact bytes over mutual TLS.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

const PATIENCE: Duration = Duration::from_secs(30);
const MAX_ANSWER: usize = 4 << 20;

/// Who is calling, and whom it trusts.
pub(super) fn config(
    authority: &Path,
    certificate: &Path,
    key: &Path,
) -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    for root in CertificateDer::pem_file_iter(authority).map_err(io::Error::other)? {
        roots
            .add(root.map_err(io::Error::other)?)
            .map_err(io::Error::other)?;
    }
    let chain = CertificateDer::pem_file_iter(certificate)
        .map_err(io::Error::other)?
        .collect::<Result<Vec<_>, _>>()
        .map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_root_certificates(roots)
                .with_client_auth_cert(chain, key)
        })
        .map_err(io::Error::other)?;
    Ok(Arc::new(config))
}

/// An answer's outline.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) closes: bool,
    pub(super) body: Vec<u8>,
}

impl Answer {
    /// The token of the review that it opened.
    pub(super) fn review_token(&self) -> Option<String> {
        let body: serde_json::Value = serde_json::from_slice(&self.body).ok()?;
        body.pointer("/review/token")?.as_str().map(str::to_owned)
    }

    /// Status and disposition, for the tally.
    pub(super) fn outcome(&self) -> String {
        let body: serde_json::Value = serde_json::from_slice(&self.body).unwrap_or_default();
        let member = |name: &str| body.get(name).and_then(|v| v.as_str().map(str::to_owned));
        match member("disposition") {
            Some(disposition) => format!("{} {disposition}", self.status),
            None => self.status.to_string(),
        }
    }
}

/// A connection.
pub(super) struct Wire {
    tls: StreamOwned<ClientConnection, TcpStream>,
}

impl Wire {
    pub(super) fn open(address: SocketAddr, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let mut tcp = TcpStream::connect(address)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let name = ServerName::from(address.ip());
        let mut session =
            ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut tcp)?;
        }
        Ok(Self {
            tls: StreamOwned::new(session, tcp),
        })
    }

    /// Sends `bytes` in records of their own, at once.
    pub(super) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.write_all(bytes)?;
        self.tls.flush()
    }

    /// Whether the server has not closed it since the last answer, which it may without having said
    /// so (RFC 9112 section 9.5).
    pub(super) fn is_open(&self) -> bool {
        let tcp = self.tls.get_ref();
        let peek = || tcp.peek(&mut [0]);
        let silent = tcp.set_nonblocking(true).is_ok()
            && peek().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock);
        tcp.set_nonblocking(false).is_ok() && silent
    }

    /// Says goodbye without waiting for anything.
    pub(super) fn close(mut self) {
        self.tls.conn.send_close_notify();
        // It may be gone already.
        drop(self.tls.flush());
    }

    /// Reads an answer; `None` when the server closed without one.
    pub(super) fn answer(&mut self, head_only: bool) -> io::Result<Option<Answer>> {
        let mut read = Vec::new();
        let (head, length) = loop {
            if let Some(end) = read.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = read.split_off(end + 4);
                let head = String::from_utf8_lossy(&read).to_ascii_lowercase();
                read = rest;
                if head.starts_with("http/1.1 100") {
                    continue;
                }
                let field = |name: &str| {
                    let mut lines = head.lines();
                    lines.find_map(|l| l.strip_prefix(name).map(|v| v.trim().to_owned()))
                };
                let length = field("content-length:").and_then(|v| v.parse().ok());
                break (
                    head,
                    if head_only {
                        0
                    } else {
                        length.unwrap_or(0usize)
                    },
                );
            }
            if !self.more(&mut read)? {
                return Ok(None);
            }
        };
        if length > MAX_ANSWER {
            return Err(io::Error::other("the answer is too large"));
        }
        while read.len() < length {
            if !self.more(&mut read)? {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
        let status = head.split(' ').nth(1).and_then(|s| s.parse().ok());
        Ok(Some(Answer {
            status: status.ok_or_else(|| io::Error::other("the answer has no status"))?,
            closes: head.lines().any(|line| line == "connection: close"),
            body: read,
        }))
    }

    fn more(&mut self, read: &mut Vec<u8>) -> io::Result<bool> {
        let mut buffer = [0u8; 8192];
        // What has arrived is read before anything else can fail.
        let arrived = self.tls.conn.reader().read(&mut buffer).unwrap_or(0);
        let count = match arrived {
            0 => self.tls.read(&mut buffer),
            count => Ok(count),
        };
        let count = match count {
            Ok(count) => count,
            // A server that closes on what it will not read may do so abruptly.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
                ) =>
            {
                0
            }
            Err(e) => return Err(e),
        };
        read.extend_from_slice(buffer.get(..count).unwrap_or_default());
        Ok(count > 0)
    }
}
