//! `vitalgate serve`: verify, load, listen, drain.

use std::{path::Path, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};
use vitalgate::{
    admission::Admitter,
    audit::{self, AuditLog, Identifiers},
    authz::{AccessPolicy, Authorizer},
    bundle::{Authority, LoadError, Models},
    config::{Config, ReleasePolicy, Trust},
    connection::Serving,
    inference::{PINNED_SHA256, Runtime, find_library},
    phi::process::Hardening,
    pipeline::Pipeline,
    receive::BodyLimits,
    reload::Watching,
    server::{self, Application, DataPlane, Listener},
};

use super::Failure;
use crate::heap;

mod identity;
use identity::Identity;

/// Beyond reading a request, for deciding and for writing the answer.
const ANSWER_TIME: Duration = Duration::from_secs(30);

pub(crate) fn run(path: &Path) -> Result<(), Failure> {
    log_as_json();
    silence_panics();
    serve(path, load(path)?, |config| {
        let (health, mut data) = (config.health.listen, config.data.iter());
        if let Some(first) = data.next() {
            tracing::info!(data = %first.listen, %health, "serving");
        }
        for listener in &config.data {
            let authentication = listener.authentication.as_str();
            tracing::info!(listener = %listener.listen, authentication, "listening");
        }
    })
}

/// Reads the configuration, or says everything that is wrong with it.
pub(crate) fn load(path: &Path) -> Result<Config, Failure> {
    Config::load(path).map_err(|problems| {
        let list: Vec<String> = problems.iter().map(ToString::to_string).collect();
        Failure::environment(anyhow!("{}: {}", path.display(), list.join("; ")))
    })
}

fn log_as_json() {
    let lines = tracing_subscriber::fmt::layer()
        .json()
        .with_writer(std::io::stderr);
    tracing_subscriber::registry()
        .with(lines.with_filter(log_filter()))
        .init();
}

/// What ONNX Runtime's binding tells at `info` matters to its developers only.
pub(crate) fn log_filter() -> Targets {
    Targets::new()
        .with_default(LevelFilter::INFO)
        .with_target("ort", LevelFilter::ERROR)
}

/// A panic's message may quote what it choked on: only its place is logged.
pub(crate) fn silence_panics() {
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "panic");
    }));
}

/// Serves until SIGTERM or SIGINT, then drains. `ready` is called when all listeners are up.
pub(crate) fn serve(
    path: &Path,
    config: Config,
    ready: impl FnOnce(&Config),
) -> Result<(), Failure> {
    let hardening = Hardening::apply(heap::is_wiped());
    // First: from here on its files are watched, and models take their time.
    let access = access_policy(&config)?;
    let warnings: Vec<String> = access.warnings().iter().map(ToString::to_string).collect();
    let policies = access.count();
    let authorizer = Arc::new(Authorizer::new(access));
    let identity =
        Identity::load(path, &config, authorizer).map_err(|e| Failure::Environment(anyhow!(e)))?;
    let (models, authority) = load_models(&config)?;
    log_authority(&authority, &config.trust);
    log_access(&config, policies, &warnings);
    let identifiers = Identifiers::load(&config.keys.fleet, &config.keys.pseudonym)
        .map_err(Failure::environment)?;
    let settings = audit::Settings::load(&config.audit).map_err(Failure::environment)?;
    let (audit, audit_writer) = AuditLog::open(settings).map_err(Failure::environment)?;
    let prepared = Prepared {
        models,
        identity,
        audit,
        identifiers,
        hardening,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(Failure::environment)?;
    let served = runtime.block_on(async {
        let listening = listen(config, prepared, ready);
        let Authority::Policy(policy) = &authority else {
            return listening.await;
        };
        let watching = async {
            server::watch_expiry(policy.terms()).await;
            std::future::pending().await
        };
        tokio::select! {
            served = listening => served,
            never = watching => never,
        }
    });
    // Ends what outlived the drain, and with it the last handles of the audit log.
    drop(runtime);
    if audit_writer.join().is_err() {
        tracing::error!("the audit log's writer panicked");
    }
    served
}

/// What vouches for the models, and what is weaker than it could be.
fn log_authority(authority: &Authority, trust: &Trust) {
    match authority {
        Authority::Policy(policy) => {
            let terms = policy.terms();
            let (serial, expires) = (terms.serial(), terms.expires_text());
            tracing::info!(serial, expires, "release policy in force");
        }
        Authority::Keys(_) => tracing::warn!(
            "NO RELEASE POLICY IS ENFORCED: trust.keys lets any one key approve a model, and \
             nothing can be revoked; set trust.policy"
        ),
    }
    if let Trust::Policy(ReleasePolicy {
        state: None,
        min_serial,
        ..
    }) = trust
    {
        tracing::warn!(
            min_serial,
            "trust.state is not set: only min_serial keeps older release policies out"
        );
    }
}

/// The access policy that the configuration names, or the shipped one.
fn access_policy(config: &Config) -> Result<AccessPolicy, Failure> {
    let Some(path) = &config.authorization.policy else {
        return AccessPolicy::shipped().map_err(Failure::environment);
    };
    AccessPolicy::load(path)
        .with_context(|| format!("access policy {}", path.display()))
        .map_err(Failure::Environment)
}

fn log_access(config: &Config, policies: usize, warnings: &[String]) {
    let Some(path) = &config.authorization.policy else {
        return tracing::info!("access policy in force: the shipped default");
    };
    let file = path.display();
    tracing::info!(%file, policies, "access policy in force");
    for warning in warnings {
        tracing::warn!(%file, %warning, "access policy");
    }
}

fn load_models(config: &Config) -> Result<(Models, Authority), Failure> {
    let onnxruntime = &config.onnxruntime;
    let library = find_library(onnxruntime.library.as_deref()).map_err(Failure::environment)?;
    let sha256 = onnxruntime.sha256.as_deref().unwrap_or(PINNED_SHA256);
    let runtime = Runtime::load(&library, sha256).map_err(Failure::environment)?;
    let load = || {
        let authority = Authority::establish(&config.trust)?;
        let models = Models::load(
            &config.repository,
            &config.models,
            &authority,
            &runtime,
            onnxruntime.execution,
        )?;
        Ok((models, authority))
    };
    load().map_err(|error: LoadError| {
        if error.is_environment() {
            Failure::environment(error)
        } else {
            Failure::does_not_hold(error)
        }
    })
}

/// Everything that was loaded and found good before anything listens.
struct Prepared {
    models: Models,
    identity: Identity,
    audit: AuditLog,
    identifiers: Identifiers,
    hardening: Hardening,
}

async fn listen(
    mut config: Config,
    prepared: Prepared,
    ready: impl FnOnce(&Config),
) -> Result<(), Failure> {
    let Prepared {
        models,
        identity,
        audit,
        identifiers,
        mut hardening,
    } = prepared;
    let bind = async |address| {
        TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address}"))
            .map_err(Failure::Environment)
    };
    let Identity {
        authenticator,
        authorizer,
        tls,
        watching,
    } = identity;
    let mut listeners = Vec::new();
    for (data, tls) in config.data.iter_mut().zip(tls) {
        let listener = bind(data.listen).await?;
        // Port 0 in the file means any; from here on it is the one that was given.
        data.listen = listener.local_addr().map_err(Failure::environment)?;
        listeners.push(Listener {
            listener,
            tls,
            authentication: data.authentication,
        });
    }
    let health = bind(config.health.listen).await?;
    config.health.listen = health.local_addr().map_err(Failure::environment)?;
    let drain = CancellationToken::new();
    drain_on_signal(&drain)?;
    reload_on_signal(&watching)?;
    // By now the threads have their stacks and the models their memory.
    hardening.dump_exclusion = heap::exclude_from_dumps();
    hardening.log();
    ready(&config);
    let Config { limits, .. } = config;
    let serving = Serving {
        head: limits.head(),
        idle: limits.idle(),
        request: limits.head() + limits.body() + ANSWER_TIME,
        drain: drain.clone(),
    };
    let application = Arc::new(Application {
        pipeline: Pipeline {
            authenticator,
            authorizer,
            models,
            admitter: Admitter::new(limits.concurrent_requests),
            body: BodyLimits {
                bytes: limits.body_bytes,
                time: limits.body(),
            },
            identifiers,
        },
        audit,
        hardening,
        drain,
        reloads: watching.outcomes().clone(),
    });
    let health = tokio::spawn(server::serve_health(health, Arc::clone(&application)));
    let plane = DataPlane {
        listeners,
        serving,
        connections: limits.connections,
        drain_time: limits.drain(),
    };
    server::serve(plane, application).await;
    // By now it has nobody to tell that the server is going; a kept connection must not hold it.
    health.abort();
    tracing::info!("drained");
    Ok(())
}

fn drain_on_signal(drain: &CancellationToken) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::environment)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::environment)?;
    let drain = drain.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
        drain.cancel();
    });
    Ok(())
}

/// SIGHUP: everything that can be reloaded is, whether or not it looks changed.
fn reload_on_signal(watching: &Watching) -> Result<(), Failure> {
    let mut hangup = signal(SignalKind::hangup()).map_err(Failure::environment)?;
    let watching = watching.clone();
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            watching.reload_now();
        }
    });
    Ok(())
}
