//! Metrics: what is counted as it happens, and what is read off when somebody asks.
//!
//! All of them are in the [`catalogue`]. A request's numbers are noted where its answer is
//! written, so that they count what left, not what was meant to.

use std::{
    sync::{LazyLock, OnceLock},
    time::Duration,
};

use metrics::{KeyName, Recorder, SharedString};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};

use crate::{
    answer::Disposition,
    authn::Principal,
    authz::Action,
    bundle::{LoadedModel, model::ModelSpec},
    clock,
    disposition::{Code, Outcome, Refusal},
    drift,
    extraction::Event,
    trail::{Stage, Trail},
};

pub mod catalogue;
pub mod history;
pub mod otlp;
pub(crate) mod process;

use catalogue::{
    ANSWERS, ATYPICAL, CALLER_ANSWERS, CALLER_EVENTS, CODES, FLAGGED_FEATURES, Kind, LOST_MEMBERS,
    OVERRIDES, REQUEST_DURATION, STAGE_DURATION, UNANSWERED,
};

/// Durations wait in memory until they are put into buckets, this often.
const UPKEEP: Duration = Duration::from_secs(1);

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
    /// Counts from now on, for this whole process. Models loaded before are not counted, so this
    /// comes first.
    pub fn install() -> Result<Self, TelemetryError> {
        let recorder = recorder()?;
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::Installed)?;
        begin();
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

/// A recorder that knows the catalogue.
pub(crate) fn recorder() -> Result<PrometheusRecorder, BuildError> {
    let mut builder = PrometheusBuilder::new();
    for metric in catalogue::ALL {
        if let Kind::Histogram(bounds) = metric.kind {
            let name = Matcher::Full(metric.name.to_owned());
            builder = builder.set_buckets_for_metric(name, bounds)?;
        }
    }
    let recorder = builder.build_recorder();
    for metric in catalogue::ALL {
        let (name, help) = (
            KeyName::from_const_str(metric.name),
            SharedString::const_str(metric.help),
        );
        match metric.kind {
            Kind::Counter => recorder.describe_counter(name, None, help),
            Kind::Gauge => recorder.describe_gauge(name, None, help),
            Kind::Histogram(_) => recorder.describe_histogram(name, None, help),
        }
    }
    Ok(recorder)
}

/// A counter that appears with its first event hides that event from `increase()`: those that an
/// alert watches begin at zero.
fn begin() {
    catalogue::AUDIT_FAILURES.with([]).absolute(0);
    for code in Code::ALL.iter().filter(|code| code.status() == 0) {
        UNANSWERED.with([code.as_str().into()]).absolute(0);
    }
    for result in crate::bundle::LoadError::RESULTS {
        catalogue::MODEL_LOADS.with([result.into()]).absolute(0);
    }
}

/// A model's labels, made once when it is loaded.
#[derive(Clone, Debug)]
pub struct ModelLabels {
    model: SharedString,
    version: SharedString,
    features: Vec<SharedString>,
    /// Its predictions and its reviews, looked up with the first of each: most of its answers.
    frequent: Frequent<(metrics::Counter, metrics::Histogram)>,
}

/// What is looked up once for predictions, and once for reviews.
#[derive(Clone, Debug)]
struct Frequent<T> {
    predicted: OnceLock<T>,
    review: OnceLock<T>,
}

impl<T> Frequent<T> {
    const fn new() -> Self {
        Self {
            predicted: OnceLock::new(),
            review: OnceLock::new(),
        }
    }

    /// Hands what is looked up for `outcome` to `note`.
    fn with(&self, outcome: Outcome, look_up: impl FnOnce() -> T, note: impl FnOnce(&T)) {
        match outcome {
            Outcome::Predicted => note(self.predicted.get_or_init(look_up)),
            Outcome::Review => note(self.review.get_or_init(look_up)),
            Outcome::Rejected | Outcome::Refused | Outcome::Answered | Outcome::Announced => {
                note(&look_up());
            }
        }
    }
}

/// As metrics name a caller.
#[derive(Debug)]
pub struct CallerLabel {
    name: SharedString,
    frequent: Frequent<metrics::Counter>,
}

impl CallerLabel {
    /// With this name.
    pub fn new(name: &str) -> Self {
        Self {
            name: SharedString::from_shared(name.into()),
            frequent: Frequent::new(),
        }
    }

    /// The name.
    pub fn name(&self) -> SharedString {
        self.name.clone()
    }

    fn answered(&self, outcome: Outcome) {
        let counter = || CALLER_ANSWERS.with([self.name(), outcome.as_str().into()]);
        self.frequent
            .with(outcome, counter, |known| known.increment(1));
    }
}

/// Of requests that reached no model.
static NO_MODEL: ModelLabels = ModelLabels {
    model: SharedString::const_str(""),
    version: SharedString::const_str(""),
    features: Vec::new(),
    frequent: Frequent::new(),
};

impl ModelLabels {
    /// Of a model whose bundle was verified.
    pub fn new(spec: &ModelSpec) -> Self {
        let shared = |text: &str| SharedString::from_shared(text.into());
        Self {
            model: shared(&spec.name),
            version: shared(&spec.version.to_string()),
            features: spec.features.iter().map(|f| shared(&f.name)).collect(),
            frequent: Frequent::new(),
        }
    }

    fn answered(&self, trail: &Trail, outcome: Outcome, status: u16) {
        let action = trail.action.map_or("", Action::as_str);
        let look_up = || {
            let (model, version) = (self.model(), self.version());
            let (of, status) = (outcome.as_str(), status_text(status));
            (
                ANSWERS.with([action.into(), of.into(), status.into(), model, version]),
                REQUEST_DURATION.with([action.into(), of.into()]),
            )
        };
        let note = |(answers, duration): &(metrics::Counter, metrics::Histogram)| {
            answers.increment(1);
            duration.record(trail.elapsed().as_secs_f64());
        };
        // One place for each: of predictions and reviews that were answered as most are.
        if trail.action == Some(Action::Predict) && status == 200 {
            self.frequent.with(outcome, look_up, note);
        } else {
            note(&look_up());
        }
    }

    /// Its name.
    pub fn model(&self) -> SharedString {
        self.model.clone()
    }

    /// Its version.
    pub fn version(&self) -> SharedString {
        self.version.clone()
    }

    /// Name of one of the series that drift is watched in.
    pub fn series(&self, name: &str) -> SharedString {
        let mut features = self.features.iter();
        let feature = features.find(|feature| &***feature == name).cloned();
        feature.unwrap_or_else(|| match name {
            drift::PROBABILITY => drift::PROBABILITY.into(),
            drift::ATYPICALITY => drift::ATYPICALITY.into(),
            drift::POPULATION => drift::POPULATION.into(),
            "review" => "review".into(),
            _ => "rejected".into(),
        })
    }

    /// Name of a feature, by its index.
    pub fn feature(&self, index: usize) -> SharedString {
        self.features.get(index).cloned().unwrap_or_default()
    }
}

/// One histogram a stage, looked up once.
static STAGES: LazyLock<[metrics::Histogram; Stage::ALL.len()]> =
    LazyLock::new(|| Stage::ALL.map(|stage| STAGE_DURATION.with([stage.as_str().into()])));

/// Notes an answer that is about to leave.
pub(crate) fn answered(trail: &Trail, disposition: &Disposition) {
    otlp::answered(trail, disposition);
    let labels = trail.model.as_deref().map(LoadedModel::labels);
    let labels = labels.unwrap_or(&NO_MODEL);
    let outcome = disposition.outcome();
    labels.answered(trail, outcome, disposition.status());
    if trail.action == Some(Action::Predict) {
        history::note(&labels.model, outcome, clock::since_epoch());
    }
    for code in disposition.codes() {
        CODES
            .with([code.as_str().into(), labels.model(), labels.version()])
            .increment(1);
    }
    if let Some(caller) = trail.principal.as_deref().map(Principal::label) {
        caller.answered(outcome);
    }
    if let Some(channel) = trail.atypical {
        let channel = channel.as_str().into();
        ATYPICAL
            .with([labels.model(), labels.version(), channel])
            .increment(1);
    }
    if let Some(reason) = disposition.overridden() {
        let repeat = if trail.repeated { "true" } else { "false" };
        let (model, version) = (labels.model(), labels.version());
        OVERRIDES
            .with([model, version, reason.as_str().into(), repeat.into()])
            .increment(1);
    }
    for (member, cause) in disposition.lost() {
        let (member, cause) = (member.to_owned().into(), cause.as_str().into());
        LOST_MEMBERS
            .with([labels.model(), labels.version(), member, cause])
            .increment(1);
    }
    if let Some(model) = trail.model.as_deref() {
        for name in disposition.features() {
            let Some(index) = model.spec().by_name.get(name) else {
                continue;
            };
            let (feature, outcome) = (labels.feature(*index), outcome.as_str().into());
            FLAGGED_FEATURES
                .with([labels.model(), labels.version(), feature, outcome])
                .increment(1);
        }
    }
    // Not rounded: seconds of few decimals look like a patient's value to whoever scans memory.
    for (stage, taken) in trail.stages() {
        if let Some(histogram) = STAGES.get(stage.index()) {
            histogram.record(taken.as_secs_f64());
        }
    }
}

/// Notes what operators are told of a caller's queries.
pub(crate) fn caller_event(caller: SharedString, model: &LoadedModel, event: Event) {
    let model = model.labels().model();
    CALLER_EVENTS
        .with([caller, model, event.as_str().into()])
        .increment(1);
}

/// Notes something that ended without an answer of ours.
pub(crate) fn unanswered(refusal: Refusal) {
    UNANSWERED
        .with([Code::as_str(refusal.code).into()])
        .increment(1);
}

/// A number as Prometheus has them.
#[expect(
    clippy::cast_precision_loss,
    reason = "exact below 2^53, which nothing here reaches"
)]
pub(crate) fn number(n: u64) -> f64 {
    n as f64
}

/// As [`number`].
pub(crate) fn count(n: usize) -> f64 {
    u64::try_from(n).map_or(f64::INFINITY, number)
}

/// A status as a label. All that the table of codes has, and no others.
fn status_text(status: u16) -> &'static str {
    match status {
        200 => "200",
        400 => "400",
        401 => "401",
        403 => "403",
        404 => "404",
        405 => "405",
        408 => "408",
        409 => "409",
        413 => "413",
        415 => "415",
        422 => "422",
        429 => "429",
        499 => "499",
        500 => "500",
        503 => "503",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_of_a_code_has_a_label() {
        for status in Code::ALL.iter().map(|code| code.status()) {
            assert!(status == 0 || status_text(status) == status.to_string());
        }
    }

    #[test]
    fn stages_are_at_their_index() {
        for (index, stage) in Stage::ALL.iter().enumerate() {
            assert_eq!(stage.index(), index);
        }
    }
}
