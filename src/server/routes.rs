//! The data plane's paths. Every answer, whatever became of it, is [`Recorded`].

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderName, Method, Version, header},
    response::{IntoResponse, Response},
};
use hyper::body::Body as _;
use percent_encoding::percent_decode_str;
use serde_json::{Value, json};
use tokio_util::task::TaskTracker;
use tracing::{Instrument, Span};

use super::{Answers, Application, decision::Decision};
use crate::{
    answer::{Disposition, Language},
    audit::Recorded,
    authn::Principal,
    authz::{Action, Plane},
    bundle::LoadedModel,
    connection::Peer,
    disposition::{Code, Refusal},
    pipeline::{Call, Stop},
    receive::Framing,
    schema,
    trace::Trace,
    trail::{Stage, Trail},
};

/// What a path names.
#[derive(Debug)]
struct Target {
    model: String,
    version: Option<String>,
}

/// What a request asks for.
enum Ask {
    Predict(Target),
    List,
    Describe(Target),
    Schema(Target),
    Nothing(Refusal),
}

/// Answers the data plane's requests.
#[derive(Clone)]
pub(super) struct Routes {
    pub(super) application: Arc<Application>,
    /// Where decisions go on whose caller has gone.
    pub(super) tasks: TaskTracker,
}

/// What a request asks for, by its method and path.
fn ask(method: &Method, path: &str) -> Ask {
    let unknown = Ask::Nothing(Code::UnknownPath.into());
    let segments: Vec<&str> = path.split('/').collect();
    let ["", "v1", "models", ref named @ ..] = *segments else {
        return unknown;
    };
    let [model, ref of_model @ ..] = *named else {
        return if reads(method) {
            Ask::List
        } else {
            not_allowed(READS)
        };
    };
    let (version, of_version) = match *of_model {
        ["versions", version, ref rest @ ..] => (Some(version), rest),
        _ => (None, of_model),
    };
    let (methods, allowed, asked): (_, _, fn(Target) -> Ask) = match *of_version {
        [] => (READS, reads(method), Ask::Describe),
        ["schema"] => (READS, reads(method), Ask::Schema),
        ["predict"] => ("POST", method == Method::POST, Ask::Predict),
        _ => return unknown,
    };
    let target = || {
        let model = decoded(model)?;
        let version = match version {
            Some(version) => Some(decoded(version)?),
            None => None,
        };
        Some(Target { model, version })
    };
    match target() {
        Some(_) if !allowed => not_allowed(methods),
        Some(target) => asked(target),
        None => unknown,
    }
}

const READS: &str = "GET, HEAD";

fn reads(method: &Method) -> bool {
    method == Method::GET || method == Method::HEAD
}

fn not_allowed(methods: &'static str) -> Ask {
    Ask::Nothing(Refusal {
        allow: Some(methods),
        ..Code::MethodNotAllowed.into()
    })
}

/// A name out of a path; nothing when it is empty, or not UTF-8 once decoded.
fn decoded(segment: &str) -> Option<String> {
    let name = percent_decode_str(segment).decode_utf8().ok()?;
    (!name.is_empty()).then(|| name.into_owned())
}

impl Answers for Routes {
    async fn answer(&self, request: Request, peer: Peer, framing: Framing) -> Response {
        self.recorded(request, peer, framing).await.into_response()
    }
}

impl Routes {
    /// Decides, records and answers. A caller that hangs up does not stop it ([`Decision`]).
    async fn recorded(&self, request: Request, peer: Peer, framing: Framing) -> Recorded {
        let source = peer.source;
        let application = Arc::clone(&self.application);
        let ask = if is_well_framed(&request) {
            ask(request.method(), request.uri().path())
        } else {
            Ask::Nothing(Code::MalformedHttp.into())
        };
        let decision = Decision::new(&self.tasks, async move {
            let mut trail = Trail::start(peer.source);
            trail.trace = Trace::of(request.headers(), &trail.id);
            let span = trail.trace.as_ref().map_or_else(Span::none, Trace::span);
            let decided = async move {
                let disposition =
                    decide(&application, &mut trail, peer, request, framing, ask).await;
                application.audit.record(&trail, disposition).await
            };
            decided.instrument(span).await
        });
        if let Ok(recorded) = decision.await {
            return recorded;
        }
        // It panicked.
        let failed = Disposition::Refused(Code::Internal.into());
        let audit = &self.application.audit;
        audit.record(&Trail::start(source), failed).await
    }
}

/// Whether everybody who read this request's head framed it alike (RFC 9112 sections 3.2, 6.1,
/// 6.3 and 11.2): what others tolerate here is how requests are smuggled past them.
pub(crate) fn is_well_framed(request: &Request) -> bool {
    let headers = request.headers();
    let count = |name: HeaderName| headers.get_all(name).iter().count();
    let is = |name: HeaderName, value: &str| {
        headers
            .get_all(name)
            .iter()
            .all(|v| v.as_bytes().eq_ignore_ascii_case(value.as_bytes()))
    };
    let hosts = count(header::HOST);
    let (codings, lengths) = (
        count(header::TRANSFER_ENCODING),
        count(header::CONTENT_LENGTH),
    );
    (hosts == 1 || (hosts == 0 && request.version() != Version::HTTP_11))
        && codings + lengths <= 1
        && is(header::TRANSFER_ENCODING, "chunked")
        && is(header::EXPECT, "100-continue")
        && count(header::CONTENT_TYPE) <= 1
}

async fn decide(
    application: &Application,
    trail: &mut Trail,
    peer: Peer,
    request: Request,
    framing: Framing,
    ask: Ask,
) -> Disposition {
    let (head, body) = request.into_parts();
    trail.language = Language::asked_for(&head.headers);
    let pipeline = &application.pipeline;
    if let Ask::Predict(Target { model, version }) = ask {
        let (presented, headers) = (peer.presented, head.headers);
        return pipeline
            .predict(
                trail,
                Call {
                    presented,
                    model,
                    version,
                    headers,
                    body,
                    framing,
                },
            )
            .await;
    }
    // No other request has a use for a body; one that came stays unread.
    note_empty(&body, &framing);
    if !matches!(ask, Ask::Nothing(_)) {
        trail.action = Some(Action::ReadModel);
    }
    let identified = pipeline
        .identify(trail, &peer.presented, &head.headers)
        .await;
    let principal = match identified {
        Ok(principal) => principal,
        Err(code) => return Disposition::Refused(code.into()),
    };
    if let Err(refusal) = pipeline.pace(trail, &peer.presented, &principal) {
        return Disposition::Refused(refusal);
    }
    let described = match ask {
        Ask::List => list_models(application, trail, &principal),
        Ask::Describe(target) => find(application, trail, &principal, &target).map(|m| card(&m)),
        Ask::Schema(target) => {
            find(application, trail, &principal, &target).map(|m| schema::request_schema(m.spec()))
        }
        Ask::Predict(_) => Err(Code::Internal.into()),
        Ask::Nothing(refusal) => Err(refusal.into()),
    };
    described.map_or_else(Disposition::from, Disposition::Answered)
}

fn note_empty(body: &Body, framing: &Framing) {
    if body.is_end_stream() {
        framing.complete();
    }
}

fn list_models(
    application: &Application,
    trail: &mut Trail,
    principal: &Arc<Principal>,
) -> Result<Value, Stop> {
    let pipeline = &application.pipeline;
    let may = |name: &str| {
        pipeline
            .authorizer
            .authorize(Plane::Data, principal, Action::ReadModel, name)
    };
    let listed = pipeline
        .authorizer
        .authorize_server(Plane::Data, principal, Action::ReadModel);
    trail.mark(Stage::Authorize, listed)?;
    let models: Vec<Value> = pipeline
        .models
        .all()
        .iter()
        .filter(|m| may(&m.spec().name).is_ok())
        .map(|m| summary(m))
        .collect();
    Ok(json!({"models": models}))
}

fn find(
    application: &Application,
    trail: &mut Trail,
    principal: &Arc<Principal>,
    target: &Target,
) -> Result<Arc<LoadedModel>, Stop> {
    let pipeline = &application.pipeline;
    let grant =
        pipeline
            .authorizer
            .authorize(Plane::Data, principal, Action::ReadModel, &target.model);
    let grant = trail.mark(Stage::Authorize, grant)?;
    let model = pipeline.find(grant.model(), target.version.as_deref())?;
    trail.model = Some(Arc::clone(&model));
    Ok(model)
}

fn summary(model: &LoadedModel) -> Value {
    let spec = model.spec();
    json!({
        "name": spec.name,
        "version": spec.version,
        "title": spec.title,
        "digest": model.named_digest(),
        "provider": model.engine().provider().name(),
    })
}

fn card(model: &LoadedModel) -> Value {
    let spec = model.spec();
    let features: Vec<Value> = spec
        .features
        .iter()
        .map(|f| {
            json!({
                "name": f.name,
                "title": f.title,
                "kind": f.kind,
                "unit": f.unit,
                "other_units": f.declared.accepted_examples(),
                "loinc": f.loinc,
                "possible": f.possible,
                "expected": f.expected,
                "precision": f.precision,
                "missing": f.missing,
            })
        })
        .collect();
    let mut card = summary(model);
    if let Some(object) = card.as_object_mut() {
        object.insert("intended_use".to_owned(), spec.intended_use.clone().into());
        let approvers = model.approvers().iter().map(|approver| {
            let key = format!("sha256:{}", approver.key);
            match &approver.role {
                Some(role) => json!({"role": role, "key": key}),
                None => json!({"key": key}),
            }
        });
        object.insert("approvals".to_owned(), approvers.collect());
        object.insert("outcome".to_owned(), json!(spec.outcome));
        object.insert("output".to_owned(), json!(spec.output));
        object.insert("review".to_owned(), json!(spec.review));
        object.insert("features".to_owned(), features.into());
        object.insert("card".to_owned(), model.card().into());
    }
    card
}
