//! Who may call, and do what: loaded at the start, and again whenever its files change.

use std::{path::Path, sync::Arc};

use vitalgate::{
    authn::Authenticator,
    authz::{AccessPolicy, Authorizer},
    config::Config,
    error_chain::one_line,
    reload::{ReloadError, Reloader, Watching},
    tls::{ClientCertificates, ListenerTls},
};

/// Certificates, keys, principals, issuers and policy, and what keeps them current.
pub(super) struct Identity {
    pub(super) authenticator: Arc<Authenticator>,
    pub(super) authorizer: Arc<Authorizer>,
    /// One for each listener of the data plane, in the configuration's order.
    pub(super) tls: Vec<Arc<ListenerTls>>,
    pub(super) admin_tls: Option<Arc<ListenerTls>>,
    pub(super) watching: Watching,
}

impl Identity {
    /// Loads it, and watches every file it came from; `path` is the configuration, `authorizer`
    /// has its policy already.
    pub(super) fn load(
        path: &Path,
        config: &Config,
        authorizer: Arc<Authorizer>,
    ) -> Result<Self, ReloadError> {
        let mut reloader = Reloader::default();
        let mut tls = Vec::new();
        for data in &config.data {
            let client_certificates = data.authentication.client_certificates();
            let listener = ListenerTls::load(data.files.clone(), client_certificates)?;
            let (files, watched) = (listener.files().paths(), Arc::clone(&listener));
            reloader.watch(
                format!("certificates of {}", data.listen),
                move || files.clone(),
                move || Ok(watched.reload()?),
            );
            tls.push(listener);
        }
        let mut admin_tls = None;
        if let Some(admin) = &config.admin {
            let listener = ListenerTls::load(admin.files.clone(), ClientCertificates::Required)?;
            let (files, watched) = (listener.files().paths(), Arc::clone(&listener));
            reloader.watch(
                format!("certificates of {} (admin)", admin.listen),
                move || files.clone(),
                move || Ok(watched.reload()?),
            );
            admin_tls = Some(listener);
        }
        let authenticator = Arc::new(Authenticator::new(
            config.principals.clone(),
            config.issuers.clone(),
            reloader.outcomes().clone(),
        )?);
        let (file, known) = (path.to_path_buf(), Arc::clone(&authenticator));
        let files = vec![path.to_path_buf()];
        reloader.watch(
            "principals and issuers",
            move || files.clone(),
            move || {
                let config = read_again(&file)?;
                Ok(known.replace(config.principals, config.issuers)?)
            },
        );
        let (keys, watched) = (Arc::clone(&authenticator), Arc::clone(&authenticator));
        reloader.watch(
            "key set files",
            move || keys.key_files(),
            move || Ok(watched.reload_key_files()?),
        );
        if let Some(policy) = config.authorization.policy.clone() {
            let (files, deciding) = (vec![policy.clone()], Arc::clone(&authorizer));
            reloader.watch(
                "access policy",
                move || files.clone(),
                move || {
                    let policy = AccessPolicy::load(&policy)
                        .map_err(|e| format!("{}: {}", policy.display(), one_line(&e)))?;
                    for warning in policy.warnings() {
                        tracing::warn!(%warning, "access policy");
                    }
                    deciding.replace(policy);
                    Ok(())
                },
            );
        }
        Ok(Self {
            authenticator,
            authorizer,
            tls,
            admin_tls,
            watching: reloader.start()?,
        })
    }
}

/// The whole file must hold, though only principals and issuers are taken from it.
fn read_again(path: &Path) -> Result<Config, ReloadError> {
    Config::load(path).map_err(|problems| {
        let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("{}: {}", path.display(), list.join("; ")).into()
    })
}
