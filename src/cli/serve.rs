//! `vitalgate serve`: verify, load, listen, drain.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};
use vitalgate::{
    admin::{self, Administration, FormKey},
    admission::Admitter,
    audit::{self, AuditLog, Identifiers},
    authz::{AccessPolicy, Authorizer},
    bundle::{Authority, Models},
    clock,
    config::{AdminPlane, Config, ReleasePolicy, Trust},
    connection::Serving,
    containment::Containment,
    deployment::Deployer,
    drift::keeping::Keeper,
    extraction::Extraction,
    fleet::Fleet,
    inference::{PINNED_SHA256, Runtime, find_library},
    phi::{process::Hardening, scrub::wiped_when_idle},
    pipeline::Pipeline,
    receive::BodyLimits,
    reload::Watching,
    review::Reviews,
    server::{self, Application, DataPlane, Listener},
    telemetry::{Telemetry, otlp::Export},
    tls::ListenerTls,
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
        let admin = config.admin.as_ref().map(|admin| admin.listen.to_string());
        if let Some(first) = data.next() {
            tracing::info!(data = %first.listen, admin, %health, "serving");
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

pub(crate) fn log_as_json() {
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
    if hardening.memory_lock.done {
        heap::keep_pages();
    }
    // What is loaded from here on is counted.
    let telemetry = Telemetry::install().map_err(Failure::environment)?;
    let otlp = config.telemetry.otlp.as_ref();
    let export = otlp.map(Export::start).transpose();
    // Ended last: spans of what outlived the drain are sent too.
    let _export = export.map_err(Failure::environment)?;
    let containment = open_containment(config.admin.as_ref())?;
    // First: from here on its files are watched, and models take their time.
    let access = access_policy(&config)?;
    let warnings: Vec<String> = access.warnings().iter().map(ToString::to_string).collect();
    let policies = access.count();
    let authorizer = Arc::new(Authorizer::new(access));
    let identity =
        Identity::load(path, &config, authorizer).map_err(|e| Failure::Environment(anyhow!(e)))?;
    let (models, deployer) = load_models(&config)?;
    log_authority(&deployer.authority(), &config.trust);
    let deployer = Arc::new(deployer);
    let state = config.drift.state.as_deref();
    let keeper = state.map(|state| Keeper::open(state, &models.all()));
    let keeper = keeper.transpose().map_err(Failure::environment)?;
    log_access(&config, policies, &warnings);
    let identifiers = Identifiers::load(&config.keys.fleet, &config.keys.pseudonym)
        .map_err(Failure::environment)?;
    let settings = audit::Settings::load(&config.audit).map_err(Failure::environment)?;
    let (audit, audit_writer) = AuditLog::open(settings).map_err(Failure::environment)?;
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = wiped_when_idle(runtime.enable_all())
        .build()
        .map_err(Failure::environment)?;
    let prepared = Prepared {
        models,
        keeper,
        deployer: Arc::clone(&deployer),
        containment: Arc::new(containment),
        identity,
        telemetry,
        audit,
        identifiers,
        hardening,
    };
    let served = runtime.block_on(async {
        tokio::select! {
            served = listen(config, prepared, ready) => served,
            () = server::watch_expiry(&deployer) => Ok(()),
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

fn load_models(config: &Config) -> Result<(Models, Deployer), Failure> {
    let onnxruntime = &config.onnxruntime;
    let library = find_library(onnxruntime.library.as_deref()).map_err(Failure::environment)?;
    let sha256 = onnxruntime.sha256.as_deref().unwrap_or(PINNED_SHA256);
    let runtime = Runtime::load(&library, sha256).map_err(Failure::environment)?;
    Deployer::start(config, runtime).map_err(|error| {
        if error.is_environment() {
            Failure::environment(error)
        } else {
            Failure::does_not_hold(error)
        }
    })
}

/// What was quarantined when the last server ended. What cannot be known is not released.
fn open_containment(admin: Option<&AdminPlane>) -> Result<Containment, Failure> {
    let containment = Containment::open(admin.map(|admin| admin.state.as_path()))
        .map_err(Failure::environment)?;
    let stopped = containment.stopped();
    for (model, version, hold) in stopped.models() {
        let (by, reason) = (&hold.by, hold.reason.as_str());
        tracing::warn!(model, version, by, reason, "model is quarantined");
    }
    for (caller, hold) in stopped.callers() {
        let (by, reason) = (&hold.by, hold.reason.as_str());
        tracing::warn!(caller, by, reason, "caller is quarantined");
    }
    if let Some(hold) = stopped.read_only() {
        let (by, reason) = (&hold.by, hold.reason.as_str());
        tracing::warn!(by, reason, "read-only mode");
    }
    Ok(containment)
}

/// Everything that was loaded and found good before anything listens.
struct Prepared {
    models: Models,
    keeper: Option<Keeper>,
    deployer: Arc<Deployer>,
    containment: Arc<Containment>,
    identity: Identity,
    telemetry: Telemetry,
    audit: AuditLog,
    identifiers: Identifiers,
    hardening: Hardening,
}

/// Sockets that are bound.
struct Bound {
    data: Vec<Listener>,
    admin: Option<Listener>,
    health: TcpListener,
}

/// Binds every listener. Port 0 in the file means any; from here on it is the one that was given.
async fn bind(
    config: &mut Config,
    tls: Vec<Arc<ListenerTls>>,
    admin_tls: Option<Arc<ListenerTls>>,
) -> Result<Bound, Failure> {
    let bind = async |address: &mut SocketAddr| {
        let listener = TcpListener::bind(*address)
            .await
            .with_context(|| format!("cannot listen on {address}"))
            .map_err(Failure::Environment)?;
        *address = listener.local_addr().map_err(Failure::environment)?;
        Ok::<_, Failure>(listener)
    };
    let mut data = Vec::new();
    for (section, tls) in config.data.iter_mut().zip(tls) {
        data.push(Listener {
            listener: bind(&mut section.listen).await?,
            tls,
            authentication: section.authentication,
        });
    }
    let mut admin = None;
    if let (Some(section), Some(tls)) = (&mut config.admin, admin_tls) {
        admin = Some(Listener {
            listener: bind(&mut section.listen).await?,
            tls,
            authentication: AdminPlane::AUTHENTICATION,
        });
    }
    let health = bind(&mut config.health.listen).await?;
    Ok(Bound {
        data,
        admin,
        health,
    })
}

async fn listen(
    mut config: Config,
    mut prepared: Prepared,
    ready: impl FnOnce(&Config),
) -> Result<(), Failure> {
    let Identity {
        authenticator,
        authorizer,
        tls,
        admin_tls,
        watching,
    } = prepared.identity;
    let bound = bind(&mut config, tls, admin_tls).await?;
    let drain = CancellationToken::new();
    drain_on_signal(&drain)?;
    reload_on_signal(&watching)?;
    // By now the threads have their stacks and the models their memory.
    prepared.hardening.dump_exclusion = heap::exclude_from_dumps();
    prepared.hardening.log();
    ready(&config);
    let body = BodyLimits {
        bytes: config.limits.body_bytes,
        time: config.limits.body(),
    };
    let limits = &config.limits;
    let serving = Serving {
        head: limits.head(),
        idle: limits.idle(),
        request: limits.head() + limits.body() + ANSWER_TIME,
        drain: drain.clone(),
        crowded: Arc::default(),
    };
    let fleet = config
        .store
        .as_ref()
        .map(|store| Fleet::new(store, &prepared.identifiers));
    let fleet = fleet
        .transpose()
        .map_err(Failure::environment)?
        .map(Arc::new);
    let application = Arc::new(Application {
        pipeline: Pipeline {
            authenticator,
            authorizer,
            models: prepared.models,
            admitter: Admitter::new(
                limits.concurrent_requests,
                limits.active(config.onnxruntime.execution),
                config.budgets.clone(),
                Arc::clone(&prepared.containment),
            ),
            extraction: Extraction::new(fleet.clone()),
            containment: prepared.containment,
            body,
            reviews: Reviews::new(&prepared.identifiers, &config.review),
            identifiers: prepared.identifiers,
        },
        audit: prepared.audit,
        hardening: prepared.hardening,
        drain,
        reloads: watching.outcomes().clone(),
    });
    let sharing = share(fleet, &application).await;
    let counted = Arc::clone(&application);
    let keeper = prepared.keeper;
    let keeping = keeper.map(|keeper| keeper.start(move || counted.pipeline.models.all()));
    let keeping = keeping.transpose().map_err(Failure::environment)?;
    let health = tokio::spawn(server::serve_health(bound.health, Arc::clone(&application)));
    let plane = |listeners, connections| DataPlane {
        listeners,
        serving: serving.clone(),
        connections,
        drain_time: limits.drain(),
    };
    let administrating = async {
        let (Some(listener), Some(section)) = (bound.admin, &config.admin) else {
            return;
        };
        let administration = Arc::new(Administration {
            application: Arc::clone(&application),
            deployer: prepared.deployer,
            configuration: config.redacted(),
            audit_directory: config.audit.directory.clone(),
            telemetry: prepared.telemetry.clone(),
            body,
            forms: FormKey::generate(),
            started: clock::since_epoch(),
        });
        let plane = plane(vec![listener], section.connections);
        let routes = |tasks| admin::router(administration, tasks);
        server::serve_routes(plane, Arc::clone(&application), routes).await;
    };
    let upkeep = tokio::spawn(prepared.telemetry.clone().keep_up());
    let data = server::serve(
        plane(bound.data, limits.connections),
        Arc::clone(&application),
    );
    tokio::join!(data, administrating);
    // Writes what drift has counted to the end.
    drop(keeping);
    upkeep.abort();
    sharing.abort();
    // By now it has nobody to tell that the server is going; a kept connection must not hold it.
    health.abort();
    tracing::info!("drained");
    Ok(())
}

/// Meets the shared store, if there is one, before anybody is answered; a store that is away does
/// not keep the server from starting.
async fn share(fleet: Option<Arc<Fleet>>, application: &Arc<Application>) -> JoinHandle<()> {
    if let Some(fleet) = &fleet {
        let pipeline = &application.pipeline;
        let accounts = pipeline.admitter.accounts();
        fleet.look(accounts, &pipeline.containment).await;
    }
    let application = Arc::clone(application);
    tokio::spawn(async move {
        let pipeline = &application.pipeline;
        if let Some(fleet) = fleet {
            let accounts = pipeline.admitter.accounts();
            fleet.keep(accounts, &pipeline.containment).await;
        }
    })
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
