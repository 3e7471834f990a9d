//! The admin plane: models, callers, read-only mode, and what there is to know about the server.
//!
//! A listener of its own, mutual TLS only. Every call is authenticated like any other request,
//! authorized by its own action, and recorded. A change says why it is made, and is recorded
//! twice: before anything is done, so that nothing can be done unrecorded, and with its outcome.

use std::{path::PathBuf, sync::Arc, time::Duration};

use serde_json::Value;

use crate::{
    answer::Disposition,
    deployment::Deployer,
    disposition::{Code, Refusal},
    receive::BodyLimits,
    server::Application,
    telemetry::Telemetry,
};

mod audit;
mod change;
pub(crate) mod console;
mod metrics;
mod reports;
mod routes;
mod target;

pub use console::form::FormKey;
pub use routes::router;

/// Everything an admin call can reach.
#[derive(Debug)]
pub struct Administration {
    /// What the data plane runs on.
    pub application: Arc<Application>,
    /// Loads models.
    pub deployer: Arc<Deployer>,
    /// The effective configuration, redacted.
    pub configuration: Value,
    /// Directory of the audit log.
    pub audit_directory: PathBuf,
    /// What was counted.
    pub telemetry: Telemetry,
    /// Bounds on the body of a call.
    pub body: BodyLimits,
    /// Authenticates the console's forms.
    pub forms: FormKey,
    /// When the server started, since the Unix epoch.
    pub started: Duration,
}

/// An admin call that is not done, and why.
#[derive(Debug)]
struct Declined {
    refusal: Refusal,
    /// In this case, for the caller only; never a patient's.
    cause: Option<String>,
}

impl Declined {
    fn because(code: Code, cause: impl Into<String>) -> Self {
        Self {
            refusal: code.into(),
            cause: Some(cause.into()),
        }
    }
}

impl From<Refusal> for Declined {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            cause: None,
        }
    }
}

impl From<Code> for Declined {
    fn from(code: Code) -> Self {
        Refusal::from(code).into()
    }
}

impl From<Declined> for Disposition {
    fn from(Declined { refusal, cause }: Declined) -> Self {
        match cause {
            None => Self::Refused(refusal),
            Some(cause) => Self::Declined { refusal, cause },
        }
    }
}
