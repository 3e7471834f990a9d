//! Sends each checkpoint as a syslog message (RFC 5424) over TLS (RFC 5425).
//!
//! Syslog has no acknowledgement. A connection is therefore made for each checkpoint, closed with
//! `close_notify`, and the message counts as delivered when the collector has closed its side too
//! (RFC 5425 section 4.4), which it does after it has read everything.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpStream, ToSocketAddrs},
    process,
    sync::Arc,
};

use rustls::{ClientConfig, ClientConnection, StreamOwned};
use rustls_pki_types::ServerName;

use super::PATIENCE;
use crate::{clock, tls::TlsSetupError};

/// Facility 13 (log audit), severity 6 (informational).
const PRIORITY: u8 = 13 * 8 + 6;

pub(super) struct Sender {
    host: String,
    port: u16,
    name: ServerName<'static>,
    config: Arc<ClientConfig>,
}

impl Sender {
    pub(super) fn new(
        host: &str,
        port: u16,
        config: Arc<ClientConfig>,
    ) -> Result<Self, TlsSetupError> {
        let name = ServerName::try_from(host.to_owned())
            .map_err(|e| TlsSetupError::Config(format!("checkpoint collector {host}: {e}")))?;
        Ok(Self {
            host: host.to_owned(),
            port,
            name,
            config,
        })
    }

    pub(super) fn send(&self, note: &str) -> Result<(), String> {
        self.converse(&frame(note))
            .map_err(|error| format!("{}: {error}", self.host))
    }

    fn converse(&self, frame: &[u8]) -> std::io::Result<()> {
        let mut last = std::io::Error::new(ErrorKind::NotFound, "the name has no address");
        let mut connected = None;
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(tcp) => {
                    connected = Some(tcp);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let Some(tcp) = connected else {
            return Err(last);
        };
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.set_write_timeout(Some(PATIENCE))?;
        let session = ClientConnection::new(Arc::clone(&self.config), self.name.clone())
            .map_err(std::io::Error::other)?;
        let mut stream = StreamOwned::new(session, tcp);
        stream.write_all(frame)?;
        stream.conn.send_close_notify();
        stream.flush()?;
        // Nothing is expected but the end.
        let mut rest = [0; 256];
        loop {
            match stream.read(&mut rest) {
                Ok(0) => return Ok(()),
                Ok(_) => {}
                // Without its own close_notify, but after ours.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }
}

/// One message, framed by its length in octets.
fn frame(note: &str) -> Vec<u8> {
    let (time, pid) = (clock::rfc3339(), process::id());
    // The byte order mark says that the text is UTF-8 (RFC 5424 section 6.4).
    let message = format!("<{PRIORITY}>1 {time} - vitalgate {pid} checkpoint - \u{feff}{note}");
    format!("{} {message}", message.len()).into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_is_as_long_as_it_says() {
        let text = String::from_utf8(frame("a note\n")).unwrap();
        let (length, message) = text.split_once(' ').unwrap();
        assert_eq!(length.parse::<usize>().unwrap(), message.len());
        assert!(message.starts_with("<110>1 2"), "{message}");
        assert!(
            message.ends_with(" checkpoint - \u{feff}a note\n"),
            "{message}"
        );
    }
}
