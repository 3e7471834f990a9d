//! The admin plane's paths. Every answer, whatever became of it, is [`Recorded`].

use std::sync::Arc;

use axum::{
    Extension, Router,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::HeaderMap,
    routing::{MethodRouter, get, post},
};
use hyper::body::Body as _;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use super::{
    Administration, Declined, audit, change,
    console::{self, Page, View},
    metrics, reports,
    target::{Ask, Change, Named, Report},
};
use crate::{
    answer::Disposition,
    audit::Recorded,
    authn::Principal,
    authz::{Action, Plane},
    connection::Peer,
    disposition::{Code, Refusal},
    receive::Framing,
    server::is_well_framed,
    trace::Trace,
    trail::{Stage, Trail},
};

#[derive(Clone)]
struct Context {
    administration: Arc<Administration>,
    tasks: TaskTracker,
}

/// The admin plane's paths; calls run in `tasks`.
pub fn router(administration: Arc<Administration>, tasks: TaskTracker) -> Router {
    let version = "/admin/v1/models/{model}/versions/{version}";
    Router::new()
        .route("/metrics", read(Report::Metrics))
        .route("/admin/v1/state", read(Report::State))
        .route("/admin/v1/config", read(Report::Configuration))
        .route("/admin/v1/models", read(Report::Models))
        .route("/admin/v1/callers", read(Report::Callers))
        .route("/admin/v1/audit/head", read(Report::AuditHead))
        .route("/admin/v1/audit/records", read(Report::AuditRecords))
        .route(
            "/admin/v1/read-only",
            make(|_| Ask::Change(Change::ReadOnly)),
        )
        .route(&format!("{version}/load"), make(Named::load))
        .route(&format!("{version}/unload"), make(Named::unload))
        .route(&format!("{version}/quarantine"), make(Named::stop))
        .route(&format!("{version}/release"), make(Named::release))
        .route("/admin/v1/models/{model}/quarantine", make(Named::stop))
        .route("/admin/v1/models/{model}/release", make(Named::release))
        .route("/admin/v1/callers/{caller}/quarantine", make(Named::stop))
        .route("/admin/v1/callers/{caller}/release", make(Named::release))
        .merge(console())
        .fallback(unknown_path)
        .with_state(Context {
            administration,
            tasks,
        })
}

/// The console's pages, and the forms on them.
fn console() -> Router<Context> {
    let version = "/console/models/{model}/versions/{version}";
    let page = |page: fn() -> Page| look(move |_| Ask::Page(page()));
    Router::new()
        .route(console::ROOT, page(|| Page::Overview))
        .route("/console/callers", page(|| Page::Callers))
        .route("/console/audit", page(|| Page::Audit))
        .route("/console/configuration", page(|| Page::Configuration))
        .route(version, look(Named::page))
        .route(
            "/console/read-only",
            make(|_| Ask::Change(Change::ReadOnly)),
        )
        .route(&format!("{version}/load"), make(Named::load))
        .route(&format!("{version}/unload"), make(Named::unload))
        .route(&format!("{version}/quarantine"), make(Named::stop))
        .route(&format!("{version}/release"), make(Named::release))
        .route("/console/models/{model}/quarantine", make(Named::stop))
        .route("/console/models/{model}/release", make(Named::release))
        .route("/console/callers/{caller}/quarantine", make(Named::stop))
        .route("/console/callers/{caller}/release", make(Named::release))
}

type Connection = (Extension<Peer>, Extension<Framing>);
type Decoded = Result<Path<Named>, PathRejection>;

fn read(report: Report) -> MethodRouter<Context> {
    look(move |_| Ask::Read(report))
}

fn look(ask: impl Fn(Named) -> Ask + Clone + Send + Sync + 'static) -> MethodRouter<Context> {
    let answer =
        move |State(context): State<Context>,
              connection: Connection,
              named: Decoded,
              request: Request| { context.answer(connection, request, asked(named, &ask)) };
    get(answer).fallback(|context, connection, request| {
        refuse(context, connection, request, not_allowed("GET, HEAD"))
    })
}

fn make(ask: fn(Named) -> Ask) -> MethodRouter<Context> {
    let answer =
        move |State(context): State<Context>,
              connection: Connection,
              named: Decoded,
              request: Request| { context.answer(connection, request, asked(named, ask)) };
    post(answer).fallback(|context, connection, request| {
        refuse(context, connection, request, not_allowed("POST"))
    })
}

/// The only way to fail is a path that is not UTF-8 once decoded.
fn asked(named: Decoded, ask: impl Fn(Named) -> Ask) -> Ask {
    named.map_or_else(|_| Code::UnknownPath.into(), |Path(named)| ask(named))
}

fn not_allowed(methods: &'static str) -> Refusal {
    Refusal {
        allow: Some(methods),
        ..Code::MethodNotAllowed.into()
    }
}

async fn unknown_path(
    context: State<Context>,
    connection: Connection,
    request: Request,
) -> Recorded {
    refuse(context, connection, request, Code::UnknownPath.into()).await
}

async fn refuse(
    State(context): State<Context>,
    connection: Connection,
    request: Request,
    refusal: Refusal,
) -> Recorded {
    context
        .answer(connection, request, Ask::Nothing(refusal.into()))
        .await
}

impl Context {
    /// Decides, records and answers in a task of its own: a caller that hangs up must not stop
    /// a change half-way, its outcome unrecorded.
    async fn answer(self, connection: Connection, request: Request, ask: Ask) -> Recorded {
        let (Extension(peer), Extension(framing)) = connection;
        let source = peer.source;
        let audit = self.administration.application.audit.clone();
        let ask = if is_well_framed(&request) {
            ask
        } else {
            Code::MalformedHttp.into()
        };
        let mut call = Call {
            administration: self.administration,
            trail: Trail::start(source),
            tasks: self.tasks.clone(),
        };
        call.trail.console = console::has(request.uri().path());
        call.trail.trace = Trace::of(request.headers(), &call.trail.id);
        let trace = call.trail.trace.as_ref();
        let span = trace.map_or_else(Span::none, Trace::span);
        let decided = async move {
            let disposition = call.decide(&peer, request, &framing, ask).await;
            let audit = &call.administration.application.audit;
            audit.record(&call.trail, disposition).await
        };
        let task = self.tasks.spawn(decided.instrument(span));
        match task.await {
            Ok(recorded) => recorded,
            Err(_panicked) => {
                let failed = Disposition::Refused(Code::Internal.into());
                audit.record(&Trail::start(source), failed).await
            }
        }
    }
}

/// One call, from its head to its decision.
pub(super) struct Call {
    pub(super) administration: Arc<Administration>,
    pub(super) trail: Trail,
    pub(super) tasks: TaskTracker,
}

impl Call {
    async fn decide(
        &mut self,
        peer: &Peer,
        request: Request,
        framing: &Framing,
        ask: Ask,
    ) -> Disposition {
        let (head, body) = request.into_parts();
        let query = head.uri.query().unwrap_or_default().to_owned();
        let decided = match self.identify(peer, &head.headers).await {
            Ok(principal) => match ask {
                Ask::Read(report) => {
                    note_empty(&body, framing);
                    self.read(&principal, report, &query).await
                }
                Ask::Page(page) => {
                    note_empty(&body, framing);
                    self.look(&principal, &page, &query).await
                }
                Ask::Change(change) => {
                    self.change(&principal, change, (head.headers, body), framing)
                        .await
                }
                Ask::Nothing(declined) => {
                    note_empty(&body, framing);
                    Err(declined)
                }
            },
            Err(code) => Err(code.into()),
        };
        decided.unwrap_or_else(Disposition::from)
    }

    async fn identify(&mut self, peer: &Peer, headers: &HeaderMap) -> Result<Arc<Principal>, Code> {
        let pipeline = &self.administration.application.pipeline;
        pipeline
            .identify(&mut self.trail, &peer.presented, headers)
            .await
    }

    async fn read(
        &mut self,
        principal: &Arc<Principal>,
        report: Report,
        query: &str,
    ) -> Result<Disposition, Declined> {
        self.permit(principal, report.action())?;
        let of = &self.administration;
        let answer = match report {
            Report::Metrics => return Ok(Disposition::Exposition(metrics::exposition(of)?)),
            Report::State => reports::state(of),
            Report::Models => reports::models(of, principal),
            Report::Callers => reports::callers(of),
            Report::Configuration => of.configuration.clone(),
            Report::AuditHead => audit::head(of),
            Report::AuditRecords => audit::records(of, query).await?,
        };
        Ok(Disposition::Answered(answer))
    }

    async fn look(
        &mut self,
        principal: &Arc<Principal>,
        page: &Page,
        query: &str,
    ) -> Result<Disposition, Declined> {
        self.permit(principal, page.action())?;
        let of = &self.administration;
        let page = console::render(&View { of, principal }, page, query).await?;
        Ok(Disposition::Page(page))
    }

    async fn change(
        &mut self,
        principal: &Arc<Principal>,
        change: Change,
        message: (HeaderMap, Body),
        framing: &Framing,
    ) -> Result<Disposition, Declined> {
        let action = change.action();
        self.trail.action = Some(action);
        let authorizer = &self.administration.application.pipeline.authorizer;
        let granted = match change.model() {
            Some(model) => authorizer
                .authorize(Plane::Admin, principal, action, model)
                .map(drop),
            None => authorizer.authorize_server(Plane::Admin, principal, action),
        };
        self.trail
            .mark(Stage::Authorize, granted)
            .map_err(|refusal| not_granted(refusal, action))?;
        let of = Arc::clone(&self.administration);
        if !self.trail.console {
            let explained = change::read(&of, change, message, framing).await?;
            let made = change::make(self, principal, explained).await?;
            return Ok(Disposition::Answered(made));
        }
        let explained = console::form::read(&of, principal, change, message, framing).await?;
        let target = explained.target();
        change::make(self, principal, explained).await?;
        let view = View { of: &of, principal };
        Ok(Disposition::Page(console::done(&view, &target)))
    }

    /// Whether the principal may do this on the server as a whole.
    fn permit(&mut self, principal: &Arc<Principal>, action: Action) -> Result<(), Declined> {
        self.trail.action = Some(action);
        let authorizer = &self.administration.application.pipeline.authorizer;
        let granted = authorizer.authorize_server(Plane::Admin, principal, action);
        self.trail
            .mark(Stage::Authorize, granted)
            .map_err(|refusal| not_granted(refusal, action))
    }
}

/// Says which permission is missing: operators have to know whom to ask for it.
fn not_granted(refusal: Refusal, action: Action) -> Declined {
    Declined {
        refusal,
        cause: Some(format!(
            "This call needs the permission {}.",
            action.as_str()
        )),
    }
}

fn note_empty(body: &Body, framing: &Framing) {
    if body.is_end_stream() {
        framing.complete();
    }
}
