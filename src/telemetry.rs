//! Metrics: what is counted as it happens, and what is read off when somebody asks.
//!
//! Labels are models, versions, actions, dispositions, statuses and codes: all bounded, none of
//! a caller's choosing. A request's numbers are noted where its answer is written, so that they
//! count what left, not what was meant to.

use std::time::Duration;

use metrics::{counter, histogram};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{
    answer::Disposition,
    authz::Action,
    bundle::LoadedModel,
    disposition::{Code, Refusal},
    trail::Trail,
};

/// Upper bounds of the request durations, seconds.
const DURATIONS: [f64; 12] = [
    0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0,
];
/// Durations wait in memory until they are put into buckets, this often.
const UPKEEP: Duration = Duration::from_secs(5);

/// The process's metrics.
#[derive(Clone, Debug)]
pub struct Telemetry(PrometheusHandle);

/// Why nothing can be counted.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The exporter refuses its set-up.
    #[error("metrics: {0}")]
    Build(#[from] BuildError),
    /// The process has a recorder already.
    #[error("metrics: this process has a recorder already")]
    Installed,
}

impl Telemetry {
    /// Counts from now on, for this whole process.
    pub fn install() -> Result<Self, TelemetryError> {
        let durations = Matcher::Full("vitalgate_request_duration_seconds".to_owned());
        let recorder = PrometheusBuilder::new()
            .set_buckets_for_metric(durations, &DURATIONS)?
            .build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Installed)?;
        describe();
        Ok(Self(handle))
    }

    /// What was counted, in the Prometheus text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Keeps memory bounded, whether or not anybody asks for the metrics. Never ends.
    pub async fn keep_up(self) {
        loop {
            tokio::time::sleep(UPKEEP).await;
            self.0.run_upkeep();
        }
    }
}

fn describe() {
    metrics::describe_counter!(
        "vitalgate_answers_total",
        "Requests answered, by what became of them"
    );
    metrics::describe_counter!(
        "vitalgate_codes_total",
        "Reasons given in answers; an answer may have several"
    );
    metrics::describe_counter!(
        "vitalgate_unanswered_total",
        "Connections and request heads that ended before there was a request to answer"
    );
    metrics::describe_histogram!(
        "vitalgate_request_duration_seconds",
        "From a request's head to its decision"
    );
}

/// Notes an answer that is about to leave.
pub(crate) fn answered(trail: &Trail, disposition: &Disposition) {
    let (model, version) = match trail.model.as_deref().map(LoadedModel::spec) {
        Some(spec) => (spec.name.clone(), spec.version.to_string()),
        None => (String::new(), String::new()),
    };
    let action = trail.action.map_or("", Action::as_str);
    let outcome = disposition.outcome().as_str();
    counter!(
        "vitalgate_answers_total",
        "action" => action,
        "disposition" => outcome,
        "status" => disposition.status().to_string(),
        "model" => model.clone(),
        "version" => version.clone(),
    )
    .increment(1);
    for code in disposition.codes() {
        let (model, version) = (model.clone(), version.clone());
        counter!("vitalgate_codes_total", "code" => code.as_str(), "model" => model, "version" => version)
            .increment(1);
    }
    histogram!("vitalgate_request_duration_seconds", "action" => action, "disposition" => outcome)
        .record(trail.elapsed().as_secs_f64());
}

/// Notes something that ended without an answer of ours.
pub(crate) fn unanswered(refusal: Refusal) {
    counter!("vitalgate_unanswered_total", "code" => Code::as_str(refusal.code)).increment(1);
}
