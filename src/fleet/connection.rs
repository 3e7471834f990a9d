//! How the store is reached.

use std::{path::Path, time::Duration};

use redis::{
    Client, ConnectionAddr, IntoConnectionInfo, RedisConnectionInfo, RedisError, TlsCertificates,
    aio::{ConnectionManager, ConnectionManagerConfig},
};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{BESIDE, ON_PATH, TICK};
use crate::{
    audit::{KeyError, read_secret},
    config::Store,
    named_file::{self, LARGEST_CREDENTIAL},
};

/// Why the store cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// The file of roots cannot be read.
    #[error("{path}: {source}")]
    Roots {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// With it no server could be trusted.
    #[error("{0}: no certificate in it, in PEM")]
    NoRoots(std::path::PathBuf),
    /// One of the roots is none.
    #[error("{path}: a certificate in it cannot be a root: {source}")]
    BadRoot {
        /// Which file.
        path: std::path::PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The file of the password.
    #[error(transparent)]
    Password(#[from] KeyError),
    /// The address, the user or the roots.
    #[error("store: {0}")]
    Client(#[from] RedisError),
}

/// The configured store, not connected yet.
///
/// # Errors
/// When a file is not good.
pub fn client(store: &Store) -> Result<Client, FleetError> {
    let root = named_file::read(&store.ca, LARGEST_CREDENTIAL);
    let root = root.map_err(|source| FleetError::Roots {
        path: store.ca.clone(),
        source,
    })?;
    check_roots(&store.ca, &root)?;
    let password = read_secret(&store.password)?;
    let password = String::from_utf8_lossy(password.trim_ascii());
    let address = ConnectionAddr::TcpTls {
        host: store.url.host.clone(),
        port: store.url.port,
        insecure: false,
        tls_params: None,
    };
    let user = RedisConnectionInfo::default()
        .set_username(&store.url.user)
        .set_password(&password)
        .set_db(store.url.database)
        .set_skip_set_lib_name();
    let info = address.into_connection_info()?.set_redis_settings(user);
    let roots = TlsCertificates {
        client_tls: None,
        root_cert: Some(root),
    };
    Ok(Client::build_with_tls(info, roots)?)
}

/// The library takes a file without certificates for no roots, and would refuse every server.
fn check_roots(path: &Path, pem: &[u8]) -> Result<(), FleetError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(pem) {
        let certificate = certificate.map_err(|_| FleetError::NoRoots(path.to_owned()))?;
        roots
            .add(certificate)
            .map_err(|source| FleetError::BadRoot {
                path: path.to_owned(),
                source,
            })?;
    }
    if roots.is_empty() {
        return Err(FleetError::NoRoots(path.to_owned()));
    }
    Ok(())
}

/// Connects when it is first used, and again when the connection breaks.
pub(super) fn connect(store: &Store) -> Result<ConnectionManager, FleetError> {
    let config = ConnectionManagerConfig::new()
        .set_number_of_retries(1)
        .set_min_delay(Duration::from_millis(50))
        .set_max_delay(TICK)
        .set_connection_timeout(Some(BESIDE))
        .set_response_timeout(Some(ON_PATH));
    Ok(ConnectionManager::new_lazy_with_config(
        client(store)?,
        config,
    )?)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    #[test]
    fn roots_without_a_certificate_or_with_one_that_is_none_are_refused() {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["store.example".to_owned()]).unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let check = |pem: &str| check_roots(Path::new("ca.pem"), pem.as_bytes());
        assert!(check(&certificate).is_ok());
        let none = ["", "no certificate", &key.serialize_pem()];
        for pem in none {
            assert!(matches!(check(pem), Err(FleetError::NoRoots(_))), "{pem}");
        }
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let damaged = check(&format!("{certificate}{damaged}"));
        assert!(matches!(damaged, Err(FleetError::BadRoot { .. })));
    }
}
