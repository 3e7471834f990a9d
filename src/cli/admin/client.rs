//! Calls the admin plane over mutual TLS.

use std::{fmt::Write as _, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use clap::Args;
use rustls::crypto::aws_lc_rs;
use serde_json::Value;
use ureq::{
    Agent, Body,
    http::Response,
    tls::{
        Certificate, ClientCert, PemItem, PrivateKey, RootCerts, TlsConfig, TlsProvider, parse_pem,
    },
};
use vitalgate::{
    config::Config,
    error_chain::printable,
    named_file::{self, LARGEST_CREDENTIAL},
};
use zeroize::Zeroizing;

use crate::cli::{Failure, serve};

/// Loading a model takes seconds; a server that hangs must not hang its operators.
const PATIENCE: Duration = Duration::from_mins(2);
/// Largest answer, bytes: ten thousand audit records have room.
const MAX_ANSWER: u64 = 64 << 20;

#[derive(Debug, Args)]
pub(super) struct Connection {
    /// The admin plane, https://HOST:PORT; with --state, what its configuration says.
    #[arg(long, global = true)]
    url: Option<String>,
    /// Roots that the server's certificate must chain to, PEM.
    #[arg(long, global = true)]
    ca: Option<PathBuf>,
    /// Client certificate, PEM.
    #[arg(long, global = true, requires = "key")]
    cert: Option<PathBuf>,
    /// Its private key, PEM.
    #[arg(long, global = true, requires = "cert")]
    key: Option<PathBuf>,
    /// File of a bearer token to show beside the certificate, where the access policy asks for a
    /// fresh sign-in.
    #[arg(long, global = true, value_name = "FILE")]
    token: Option<PathBuf>,
    /// State directory of `vitalgate dev`, for whatever of the above is not given.
    #[arg(long, global = true, default_value = ".vitalgate")]
    state: PathBuf,
    /// Whose certificate of the state directory to use; by default the least role that will do.
    #[arg(long = "as", global = true, value_name = "ROLE")]
    role: Option<String>,
}

/// An identity and where to use it.
pub(super) struct Client {
    agent: Agent,
    url: String,
    authorization: Option<Zeroizing<String>>,
}

impl Client {
    pub(super) fn new(connection: &Connection, usual_role: &str) -> Result<Self, Failure> {
        let url = match &connection.url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => connection.url_of_state()?,
        };
        if !url.starts_with("https://") {
            return Err(Failure::usage(anyhow!(
                "--url: {} is not an https address",
                printable(&url)
            )));
        }
        let tls = connection.tls(usual_role).map_err(Failure::Environment)?;
        let agent = Agent::config_builder()
            .tls_config(tls)
            .https_only(true)
            .http_status_as_error(false)
            .max_redirects(0)
            // A proxy of the environment has no business between an operator and a server.
            .proxy(None)
            .timeout_global(Some(PATIENCE))
            .user_agent(concat!("vitalgate/", env!("CARGO_PKG_VERSION")))
            .build()
            .into();
        let authorization = connection.authorization().map_err(Failure::Environment)?;
        Ok(Self {
            agent,
            url,
            authorization,
        })
    }

    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// The body of a `GET`.
    pub(super) fn get(&self, path: &str) -> Result<String, Failure> {
        let url = format!("{}{path}", self.url);
        let mut request = self.agent.get(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.as_str());
        }
        self.text(request.call())
    }

    /// The JSON of a `GET`.
    pub(super) fn read(&self, path: &str) -> Result<Value, Failure> {
        parse(&self.get(path)?)
    }

    /// The JSON of a `POST`.
    pub(super) fn post(&self, path: &str, body: &Value) -> Result<Value, Failure> {
        let mut request = self
            .agent
            .post(format!("{}{path}", self.url))
            .content_type("application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("Authorization", authorization.as_str());
        }
        parse(&self.text(request.send(body.to_string()))?)
    }

    fn text(&self, result: Result<Response<Body>, ureq::Error>) -> Result<String, Failure> {
        let unreachable = |error: ureq::Error| {
            Failure::Environment(anyhow!(error).context(format!("cannot call {}", self.url)))
        };
        let mut response = result.map_err(unreachable)?;
        let status = response.status();
        let body = response.body_mut().with_config().limit(MAX_ANSWER);
        let text = body.read_to_string().map_err(unreachable)?;
        if status.is_success() {
            Ok(text)
        } else {
            Err(Failure::DoesNotHold(refused(status.as_u16(), &text)))
        }
    }
}

impl Connection {
    fn url_of_state(&self) -> Result<String, Failure> {
        let file = self.state.join("vitalgate.toml");
        if !file.exists() {
            return Err(Failure::usage(anyhow!(
                "{} is not there: say which server with --url, --ca, --cert and --key, or name \
                 the state directory of a dev server with --state",
                file.display()
            )));
        }
        let config: Config = serve::load(&file)?;
        match config.admin {
            Some(admin) if admin.listen.port() != 0 => Ok(format!("https://{}", admin.listen)),
            Some(_) => Err(Failure::usage(anyhow!(
                "{}: the admin plane listens on any port: say which with --url",
                file.display()
            ))),
            None => Err(Failure::usage(anyhow!(
                "{}: has no [admin]",
                file.display()
            ))),
        }
    }

    fn authorization(&self) -> anyhow::Result<Option<Zeroizing<String>>> {
        let Some(path) = &self.token else {
            return Ok(None);
        };
        let text = named_file::read_text(path, LARGEST_CREDENTIAL).map(Zeroizing::new);
        let text = text.with_context(|| path.display().to_string())?;
        Ok(Some(Zeroizing::new(format!("Bearer {}", text.trim()))))
    }

    fn tls(&self, usual_role: &str) -> anyhow::Result<TlsConfig> {
        let role = self.role.as_deref().unwrap_or(usual_role);
        let client = |extension| {
            self.state
                .join("clients")
                .join(format!("{role}.{extension}"))
        };
        let ca = self.ca.clone().unwrap_or_else(|| self.state.join("ca.pem"));
        let cert = self.cert.clone().unwrap_or_else(|| client("pem"));
        let key = self.key.clone().unwrap_or_else(|| client("key"));
        let chain = certificates(&cert)?;
        let pem = Zeroizing::new(read(&key)?);
        let key = PrivateKey::from_pem(&pem).with_context(|| key.display().to_string())?;
        Ok(TlsConfig::builder()
            .provider(TlsProvider::Rustls)
            .unversioned_rustls_crypto_provider(Arc::new(aws_lc_rs::default_provider()))
            .root_certs(RootCerts::new_with_certs(&certificates(&ca)?))
            .client_cert(Some(ClientCert::new_with_certs(&chain, key)))
            .build())
    }
}

fn read(path: &std::path::Path) -> anyhow::Result<Vec<u8>> {
    named_file::read(path, LARGEST_CREDENTIAL).with_context(|| path.display().to_string())
}

fn certificates(path: &std::path::Path) -> anyhow::Result<Vec<Certificate<'static>>> {
    let pem = read(path)?;
    let mut found = Vec::new();
    for item in parse_pem(&pem) {
        if let PemItem::Certificate(certificate) =
            item.with_context(|| path.display().to_string())?
        {
            found.push(certificate);
        }
    }
    anyhow::ensure!(
        !found.is_empty(),
        "{}: holds no certificate",
        path.display()
    );
    Ok(found)
}

fn parse(text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text)
        .context("the server's answer is not JSON")
        .map_err(Failure::Environment)
}

/// What problem details say, on one line.
fn refused(status: u16, body: &str) -> anyhow::Error {
    let problem: Value = serde_json::from_str(body).unwrap_or_default();
    let field = |name: &str| {
        problem
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let code = field("code");
    if code.is_empty() {
        return anyhow!("the server answered {status}; is this its admin plane?");
    }
    let mut line = format!("{code}: {}", field("title"));
    for sentence in [field("cause"), field("detail")] {
        if !sentence.is_empty() {
            line.push_str(". ");
            line.push_str(sentence.trim_end_matches('.'));
        }
    }
    anyhow!("{} (request {})", printable(&line), printable(field("id")))
}

/// A name as one segment of a path (RFC 3986 section 3.3).
pub(super) fn segment(name: &str) -> String {
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _infallible = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(segment("icu-mortality"), "icu-mortality");
        assert_eq!(segment("../a b/ü"), "%2E%2E%2Fa%20b%2F%C3%BC");
    }

    #[test]
    fn a_refusal_says_what_stands_in_the_way() {
        let body =
            r#"{"code":"FORBIDDEN","title":"No","cause":"Needs deploy.","detail":"Ask.","id":"1"}"#;
        let line = refused(403, body).to_string();
        assert_eq!(line, "FORBIDDEN: No. Needs deploy. Ask (request 1)");
        assert!(refused(404, "<html>").to_string().contains("404"));
    }
}
