//! `[store]`: where replicas share budgets, query patterns and quarantines.

use std::path::PathBuf;

use rustls_pki_types::ServerName;
use serde::Deserialize;
use toml::de::DeTable;

use super::reader::{Reader, field};

/// `[store]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Store {
    /// A Valkey or Redis server, over TLS.
    pub url: StoreAddress,
    /// Roots that its certificate must chain to, PEM.
    pub ca: PathBuf,
    /// A file with the password of the address's user, closed to group and others.
    pub password: PathBuf,
    /// Servers that share it: while it is away, each has one share of what is left of a budget.
    pub replicas: u32,
}

/// `rediss://USER@HOST[:PORT][/DATABASE]`.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(try_from = "String")]
pub struct StoreAddress {
    /// An ACL user.
    pub user: String,
    /// Name or address; it must be in the server's certificate.
    pub host: String,
    /// 6379 unless said otherwise.
    pub port: u16,
    /// 0 unless said otherwise.
    pub database: i64,
}

impl TryFrom<String> for StoreAddress {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let expected = "expected rediss://USER@HOST:PORT/DATABASE, with TLS and without a password";
        let rest = text.strip_prefix("rediss://").ok_or(expected)?;
        let (user, rest) = rest.split_once('@').ok_or(expected)?;
        let (address, database) = match rest.trim_end_matches('/').split_once('/') {
            Some((address, database)) => (address, database.parse().map_err(|_| expected)?),
            None => (rest.trim_end_matches('/'), 0),
        };
        let (host, port) = match address.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => {
                (host, port.parse().map_err(|_| expected)?)
            }
            Some(_) | None => (address, 6379),
        };
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
        let host = bare.unwrap_or(host);
        let user_is_plain =
            !user.is_empty() && user.chars().all(|c| c.is_ascii_graphic() && c != ':');
        // What no certificate can name is no address.
        let host_can_be_certified = ServerName::try_from(host).is_ok();
        if !user_is_plain || !host_can_be_certified || port == 0 || database < 0 {
            return Err(expected);
        }
        Ok(Self {
            user: user.to_owned(),
            host: host.to_owned(),
            port,
            database,
        })
    }
}

impl Store {
    /// The files it names.
    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        [&mut self.ca, &mut self.password].into_iter()
    }
}

impl Reader<'_> {
    pub(super) fn check_store(&mut self, table: &DeTable<'_>, store: Option<&Store>) {
        if store.is_some_and(|store| !(1..=1000).contains(&store.replicas)) {
            let at = field(table, "store", "replicas");
            self.problem(at, "store: replicas must be 1 to 1000");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_tls_a_user_and_no_password() {
        let parse = |text: &str| StoreAddress::try_from(text.to_owned()).ok();
        let address = |host: &str, port, database| {
            let (user, host) = ("vitalgate".to_owned(), host.to_owned());
            Some(StoreAddress {
                user,
                host,
                port,
                database,
            })
        };
        for (text, expected) in [
            (
                "rediss://vitalgate@store.example",
                address("store.example", 6379, 0),
            ),
            (
                "rediss://vitalgate@10.0.0.9:6380/3",
                address("10.0.0.9", 6380, 3),
            ),
            ("rediss://vitalgate@[::1]:6380/", address("::1", 6380, 0)),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
        for wrong in [
            "",
            "redis://vitalgate@store.example",
            "rediss://store.example",
            "rediss://a b@store.example",
            "rediss://vitalgate@store example",
            "rediss://vitalgate@store.example?ssl=no",
            "rediss://vitalgate@[::1",
            "rediss://vitalgate@::1",
            "rediss://vitalgate@store.example/-1",
            "rediss://vitalgate:secret@store.example",
            "rediss://vitalgate@",
            "rediss://vitalgate@store.example:0",
            "rediss://vitalgate@store.example/x",
        ] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }
}
