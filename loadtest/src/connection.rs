//! One TLS connection and an exchange on it, blocking: a thread that waits for its answer is
//! woken when it is there, and nothing stands between the clock and the socket.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Range,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Error};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, client::Resumption};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use crate::arguments::Target;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// The largest answer that is read, bytes.
const LARGEST: usize = 4 << 20;
const MOST_HEADERS: usize = 64;

/// Makes connections.
pub(crate) struct Client {
    address: SocketAddr,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
    /// The same without session resumption: every handshake is a full one.
    unresumed: Arc<ClientConfig>,
}

impl Client {
    pub(crate) fn new(target: &Target) -> Result<Self, Error> {
        let mut roots = RootCertStore::empty();
        let root = CertificateDer::from_pem_file(&target.ca)
            .with_context(|| format!("cannot read {}", target.ca.display()))?;
        roots.add(root)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let config = if target.no_client_certificate {
            builder.with_no_client_auth()
        } else {
            let chain = CertificateDer::pem_file_iter(&target.cert)
                .and_then(Iterator::collect)
                .with_context(|| format!("cannot read {}", target.cert.display()))?;
            let key = PrivateKeyDer::from_pem_file(&target.key)
                .with_context(|| format!("cannot read {}", target.key.display()))?;
            builder.with_client_auth_cert(chain, key)?
        };
        let mut unresumed = config.clone();
        unresumed.resumption = Resumption::disabled();
        Ok(Self {
            address: target.address,
            name: ServerName::try_from(target.name.clone())?,
            config: Arc::new(config),
            unresumed: Arc::new(unresumed),
        })
    }

    /// A connection whose handshake is done; a session may be resumed.
    pub(crate) fn connect(&self) -> io::Result<Connection> {
        self.handshake(&self.config)
    }

    /// A connection with a full handshake.
    pub(crate) fn connect_anew(&self) -> io::Result<Connection> {
        self.handshake(&self.unresumed)
    }

    fn handshake(&self, config: &Arc<ClientConfig>) -> io::Result<Connection> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        socket.set_write_timeout(Some(PATIENCE))?;
        let mut session = ClientConnection::new(Arc::clone(config), self.name.clone())
            .map_err(io::Error::other)?;
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        Ok(Connection {
            stream: StreamOwned::new(session, socket),
            buffer: Vec::with_capacity(16 * 1024),
        })
    }
}

/// A connection and what was read of the current answer.
pub(crate) struct Connection {
    pub(crate) stream: StreamOwned<ClientConnection, TcpStream>,
    buffer: Vec<u8>,
}

/// An answer, in the connection's buffer.
pub(crate) struct Answer<'a> {
    pub(crate) status: u16,
    pub(crate) body: &'a [u8],
    pub(crate) has_retry_after: bool,
    /// The server ends the connection behind it.
    pub(crate) closes: bool,
}

struct Head {
    status: u16,
    body: Range<usize>,
    has_retry_after: bool,
    closes: bool,
}

impl Connection {
    /// Sends a request and reads its whole answer.
    pub(crate) fn exchange(&mut self, request: &[u8]) -> io::Result<Answer<'_>> {
        self.stream.write_all(request)?;
        self.stream.flush()?;
        self.buffer.clear();
        let head = loop {
            self.read_some()?;
            if let Some(head) = parse(&self.buffer)? {
                break head;
            }
        };
        while self.buffer.len() < head.body.end {
            self.read_some()?;
        }
        let body = self.buffer.get(head.body).unwrap_or_default();
        Ok(Answer {
            status: head.status,
            body,
            has_retry_after: head.has_retry_after,
            closes: head.closes,
        })
    }

    fn read_some(&mut self) -> io::Result<()> {
        let filled = self.buffer.len();
        if filled > LARGEST {
            return Err(io::Error::other("the answer is too large"));
        }
        self.buffer.resize(filled + 8 * 1024, 0);
        let room = self.buffer.get_mut(filled..).unwrap_or_default();
        let read = self.stream.read(room);
        self.buffer
            .truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            other => other.map(drop),
        }
    }
}

/// The head of an answer, once all of it is there.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut response = httparse::Response::new(&mut headers);
    let httparse::Status::Complete(end) = response.parse(bytes).map_err(io::Error::other)? else {
        return Ok(None);
    };
    let mut head = Head {
        status: response.code.unwrap_or(0),
        body: end..end,
        has_retry_after: false,
        closes: false,
    };
    for header in &*response.headers {
        let value = std::str::from_utf8(header.value).unwrap_or_default();
        if header.name.eq_ignore_ascii_case("content-length") {
            let length: usize = value.parse().map_err(io::Error::other)?;
            head.body = end..end.saturating_add(length);
        } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
            return Err(io::Error::other("the answer has no Content-Length"));
        } else if header.name.eq_ignore_ascii_case("retry-after") {
            head.has_retry_after = true;
        } else if header.name.eq_ignore_ascii_case("connection") {
            head.closes = value.eq_ignore_ascii_case("close");
        }
    }
    Ok(Some(head))
}
