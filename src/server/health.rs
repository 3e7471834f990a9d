//! `/livez` and `/readyz`, in plaintext, and nothing else: for kubelets and load balancers.

use std::{io, sync::Arc};

use axum::{Json, Router, extract::State, http::StatusCode, response::IntoResponse, routing::get};
use serde_json::json;
use tokio::net::TcpListener;

use super::Application;
use crate::bundle::LoadedModel;

/// Serves until it is aborted: while the server drains, `/readyz` has to say so.
pub async fn serve(listener: TcpListener, application: Arc<Application>) -> io::Result<()> {
    let router = Router::new()
        .route("/livez", get(|| async { Json(json!({"live": true})) }))
        .route("/readyz", get(ready))
        .with_state(application);
    axum::serve(listener, router).await
}

/// Ready means: not draining, every model's threads run on the declared provider and its approval
/// has not run out, and the audit log took its last record.
async fn ready(State(application): State<Arc<Application>>) -> impl IntoResponse {
    let models: Vec<_> = application
        .pipeline
        .models
        .iter()
        .map(|m| {
            let (spec, engine) = (m.spec(), m.engine());
            let provider = engine.provider().name();
            json!({"name": spec.name, "version": spec.version, "provider": provider, "ready": is_ready(m)})
        })
        .collect();
    let audit = application.audit.is_healthy();
    let draining = application.drain.is_cancelled();
    let ready = audit && !draining && application.pipeline.models.iter().all(|m| is_ready(m));
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({"ready": ready, "draining": draining, "audit_log": audit, "models": models});
    (status, Json(body))
}

fn is_ready(model: &LoadedModel) -> bool {
    model.engine().is_alive() && model.is_approved_now()
}
