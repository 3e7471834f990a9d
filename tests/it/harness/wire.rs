//! A client that writes exactly the bytes it is told to, and notices how a stream ends.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    path::Path,
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject},
};
use serde_json::Value;

use super::{Identity, Server, Site};

/// A client's TLS configuration; without an identity it presents no certificate.
pub(crate) fn client_of(
    site: &Site,
    identity: Option<Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(site.root()).unwrap();
    configured(roots, identity, versions)
}

/// The configuration of a principal of the site.
pub(crate) fn client(site: &Site, name: &str) -> Arc<ClientConfig> {
    client_of(site, Some(site.identity(name)), rustls::ALL_VERSIONS)
}

/// The configuration of a client whose files lie at `identity` with `.pem` and `.key`.
pub(crate) fn client_at(authority: &Path, identity: &Path) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(authority).unwrap();
    roots.add(root).unwrap();
    let chain = vec![CertificateDer::from_pem_file(identity.with_extension("pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(identity.with_extension("key")).unwrap();
    configured(roots, Some(Identity { chain, key }), rustls::ALL_VERSIONS)
}

fn configured(
    roots: RootCertStore,
    identity: Option<Identity>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match identity {
        Some(Identity { chain, key }) => builder.with_client_auth_cert(chain, key).unwrap(),
        None => builder.with_no_client_auth(),
    })
}

/// How a stream ended.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With TLS `close_notify`.
    Clean,
    /// Otherwise.
    Cut(String),
}

/// An HTTP answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|e| panic!("{e}: {}{:?}", self.head, self.body))
    }

    /// `code` of problem details.
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn closes(&self) -> bool {
        self.header("connection") == Some("close")
    }
}

/// One TLS connection.
pub(crate) struct Wire {
    tls: StreamOwned<ClientConnection, TcpStream>,
    /// Our address, as the server's records show it.
    pub(crate) source: SocketAddr,
    read: Vec<u8>,
    end: Option<End>,
}

impl Wire {
    pub(crate) fn open(server: &Server, config: &Arc<ClientConfig>) -> Self {
        Self::try_open(server, config).unwrap()
    }

    /// Connects and shakes hands. TLS 1.3 lets a client finish before the server has judged its
    /// certificate.
    pub(crate) fn try_open(server: &Server, config: &Arc<ClientConfig>) -> io::Result<Self> {
        let tcp = TcpStream::connect(server.data)?;
        Self::over(tcp, config)
    }

    /// A connection to the admin plane.
    pub(crate) fn admin(server: &Server, config: &Arc<ClientConfig>) -> Self {
        Self::over(TcpStream::connect(server.admin).unwrap(), config).unwrap()
    }

    pub(crate) fn over(mut tcp: TcpStream, config: &Arc<ClientConfig>) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(Duration::from_secs(10)))?;
        tcp.set_write_timeout(Some(Duration::from_secs(10)))?;
        let source = tcp.local_addr()?;
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut tls = ClientConnection::new(Arc::clone(config), name).unwrap();
        while tls.is_handshaking() {
            tls.complete_io(&mut tcp)?;
        }
        Ok(Self {
            tls: StreamOwned::new(tls, tcp),
            source,
            read: Vec::new(),
            end: None,
        })
    }

    /// Whether the handshake went without certificates, on the strength of an earlier one.
    pub(crate) fn is_resumed(&self) -> bool {
        self.tls.conn.handshake_kind() == Some(rustls::HandshakeKind::Resumed)
    }

    /// The server's certificate.
    pub(crate) fn server_certificate(&self) -> CertificateDer<'static> {
        self.tls.conn.peer_certificates().unwrap()[0]
            .clone()
            .into_owned()
    }

    /// Writes bytes in one piece.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).unwrap();
    }

    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.tls.write_all(bytes)?;
        self.tls.flush()
    }

    /// Encrypts pieces as records of their own, and writes all of them in one piece.
    pub(crate) fn send_records(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            let written = self.tls.conn.writer().write(piece).unwrap();
            assert_eq!(written, piece.len());
        }
        let mut bytes = Vec::new();
        while self.tls.conn.wants_write() {
            self.tls.conn.write_tls(&mut bytes).unwrap();
        }
        self.tls.sock.write_all(&bytes).unwrap();
    }

    /// Says that nothing more will come.
    pub(crate) fn finish_sending(&mut self) {
        self.tls.conn.send_close_notify();
        self.tls.flush().unwrap();
        self.tls.sock.shutdown(Shutdown::Write).unwrap();
    }

    /// Ends without a word, as a process that is killed.
    pub(crate) fn hang_up(self) {
        self.tls.sock.shutdown(Shutdown::Both).unwrap();
    }

    /// Reads some more; `false` at the end.
    fn more(&mut self) -> bool {
        if self.end.is_some() {
            return false;
        }
        let mut piece = [0; 16 * 1024];
        match self.tls.read(&mut piece) {
            Ok(0) => self.end = Some(End::Clean),
            Ok(n) => self.read.extend_from_slice(&piece[..n]),
            Err(e) => self.end = Some(End::Cut(e.to_string())),
        }
        self.end.is_none()
    }

    /// One head, interim ones included, as text with its empty line.
    pub(crate) fn head(&mut self) -> String {
        self.try_head()
            .unwrap_or_else(|| panic!("no head: {:?}, {:?}", self.end, self.read))
    }

    fn try_head(&mut self) -> Option<String> {
        loop {
            if let Some(at) = self.read.windows(4).position(|w| w == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..at + 4).collect();
                return Some(String::from_utf8(head).unwrap());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// One answer; interim ones are passed over.
    pub(crate) fn answer(&mut self) -> Answer {
        self.answer_to(false)
    }

    /// One answer without a body, as `HEAD` gets.
    pub(crate) fn answer_to_head(&mut self) -> Answer {
        self.answer_to(true)
    }

    /// One answer, or nothing when the stream ends before all of it has come.
    pub(crate) fn try_answer(&mut self) -> Option<Answer> {
        self.try_answer_to(false)
    }

    fn answer_to(&mut self, head_only: bool) -> Answer {
        self.try_answer_to(head_only)
            .unwrap_or_else(|| panic!("no answer: {:?}, {:?}", self.end, self.read))
    }

    fn try_answer_to(&mut self, head_only: bool) -> Option<Answer> {
        let mut head = self.try_head()?;
        while head.contains(" 100 ") {
            head = self.try_head()?;
        }
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut answer = Answer {
            status,
            head,
            body: Vec::new(),
        };
        let length: usize = answer.header("content-length").unwrap().parse().unwrap();
        if !head_only {
            while self.read.len() < length {
                if !self.more() {
                    return None;
                }
            }
            answer.body = self.read.drain(..length).collect();
        }
        Some(answer)
    }

    /// Reads to the end: what came, and how it ended.
    pub(crate) fn rest(&mut self) -> (Vec<u8>, End) {
        while self.more() {}
        let end = self.end.take().unwrap();
        (std::mem::take(&mut self.read), end)
    }

    /// Fails unless the stream ends now, cleanly and with nothing more to read.
    pub(crate) fn ends(&mut self, case: &str) {
        let (rest, end) = self.rest();
        let text = String::from_utf8_lossy(&rest);
        assert!(rest.is_empty(), "{case}: more came: {text}");
        assert_eq!(end, End::Clean, "{case}");
    }
}

/// A request's bytes, with a `Content-Length` that is right.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: it\r\n{headers}Content-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

/// Posts JSON and reads the answer.
pub(crate) fn post(wire: &mut Wire, path: &str, body: &[u8]) -> Answer {
    let headers = "Content-Type: application/json\r\n";
    wire.send(&request("POST", path, headers, body));
    wire.answer()
}
