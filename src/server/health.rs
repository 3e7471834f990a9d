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

/// Ready means: not draining, there are models, every model's threads run on the declared provider
/// and its approval has not run out, and the audit log took its last record. A quarantined model
/// is ready: taking the replica away would stop the others too.
async fn ready(State(application): State<Arc<Application>>) -> impl IntoResponse {
    let pipeline = &application.pipeline;
    let loaded = pipeline.models.all();
    let models: Vec<_> = loaded
        .iter()
        .map(|m| {
            let (spec, engine) = (m.spec(), m.engine());
            json!({
                "name": spec.name,
                "version": spec.version,
                "provider": engine.provider().name(),
                "ready": is_ready(m),
                "quarantined": pipeline.containment.check_model(m).is_err(),
            })
        })
        .collect();
    let audit = application.audit.is_healthy();
    let draining = application.drain.is_cancelled();
    let serving = !loaded.is_empty() && loaded.iter().all(|m| is_ready(m));
    let ready = audit && !draining && serving;
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
