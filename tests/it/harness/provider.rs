//! A real `OpenID` provider: npm's `oidc-provider`, run by node.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::Arc,
};

use rustls::ClientConfig;
use serde_json::{Value, json};

use super::{AUDIENCE, Site, TokenIssuer, Wire, now};

/// Where `make` installs what the tests take from npm.
fn modules() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-npm")
}

pub(crate) struct IdentityProvider {
    child: Child,
    commands: ChildStdin,
    replies: BufReader<ChildStdout>,
    pub(crate) address: SocketAddr,
    client: TokenIssuer,
}

impl IdentityProvider {
    /// Starts it with the site's certificate; or says plainly that it is not there, and is not.
    pub(crate) fn start(site: &Site) -> Option<Self> {
        if !modules().join("ready").exists() {
            println!("skipped: oidc-provider is not installed; `make test` installs it with npm");
            return None;
        }
        let client = TokenIssuer::new();
        fs::write(site.path().join("client.jwks"), client.jwks(&["p256"])).unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/npm/identity-provider.mjs");
        let mut child = Command::new("node")
            .arg(script)
            .arg(modules())
            .arg(site.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let replies = BufReader::new(child.stdout.take().unwrap());
        let mut provider = Self {
            child,
            commands,
            replies,
            address: ([127, 0, 0, 1], 0).into(),
            client,
        };
        let port = provider.reply()["port"].as_u64().unwrap();
        provider.address.set_port(port.try_into().unwrap());
        Some(provider)
    }

    pub(crate) fn issuer(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Carries out a command; says how often the key set was fetched so far.
    pub(crate) fn tell(&mut self, command: &str) -> u64 {
        writeln!(self.commands, "{command}").unwrap();
        let reply = self.reply();
        assert_eq!(reply["done"], command);
        reply["fetched"].as_u64().unwrap()
    }

    fn reply(&mut self) -> Value {
        let mut line = String::new();
        self.replies.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// Asks for an access token for the server, over a connection with this certificate; its
    /// client authenticates by a signed assertion.
    pub(crate) fn token(&self, config: &Arc<ClientConfig>, scope: &str) -> Result<String, Value> {
        let assertion = self.client.token(|header, claims| {
            header["typ"] = "JWT".into();
            *claims = json!({
                "iss": "ward-app", "sub": "ward-app", "aud": self.issuer(),
                "jti": claims["jti"], "iat": now(), "exp": now() + 60,
            });
        });
        let audience = AUDIENCE.replace(':', "%3A").replace('/', "%2F");
        let form = format!(
            "grant_type=client_credentials&scope={scope}&resource={audience}&client_assertion={assertion}\
             &client_assertion_type=urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
        );
        let mut wire = Wire::over(TcpStream::connect(self.address).unwrap(), config).unwrap();
        let (host, length) = (self.address, form.len());
        let request = format!(
            "POST /token HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\
             Content-Type: application/x-www-form-urlencoded\r\n\r\n{form}"
        );
        wire.send(request.as_bytes());
        let answer = wire.answer().json();
        match answer["access_token"].as_str() {
            Some(token) => Ok(token.to_owned()),
            None => Err(answer),
        }
    }
}

impl Drop for IdentityProvider {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
