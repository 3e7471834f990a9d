//! The catalogue of metrics: every number that the admin plane exports, in one table.
//!
//! A metric that is not in it cannot be counted, its kind and its labels are part of its type,
//! and `docs/metrics.md` is written from it. To add one, add a line and use it:
//!
//! ```ignore
//! Counter BUDGET_EXHAUSTED = "vitalgate_budget_exhausted_total" [caller, model],
//!     "Requests refused for want of extraction budget",
//!     "A caller asks for more distinct patients than its budget";
//!
//! catalogue::BUDGET_EXHAUSTED.with([caller.label(), model.labels().model()]).increment(1);
//! ```
//!
//! Label values are bounded by construction: models, versions and features of bundles that were
//! verified, principals that are configured (the tokens of an issuer share one), and the texts of
//! our own enums. Text that a caller chose is never one.

use metrics::{Key, Label, Level, Metadata, SharedString, with_recorder};

/// What kind of number a metric is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Kind {
    /// Only rises, until the server restarts.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Observations in buckets, with these upper bounds.
    Histogram(&'static [f64]),
}

impl Kind {
    /// As Prometheus calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram(_) => "histogram",
        }
    }
}

/// A metric, as documentation and tests see it.
#[derive(Debug)]
pub struct Description {
    /// Its name, with its base unit, and `_total` for a counter.
    pub name: &'static str,
    /// What kind of number.
    pub kind: Kind,
    /// Names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
    /// The event that moves it.
    pub moved_by: &'static str,
}

const METADATA: Metadata<'static> = Metadata::new("vitalgate", Level::INFO, None);

impl Description {
    fn key<const L: usize>(&self, values: [SharedString; L]) -> Key {
        let labels = self.labels.iter().zip(values);
        let labels: Vec<Label> = labels
            .map(|(name, value)| Label::new(*name, value))
            .collect();
        Key::from_parts(self.name, labels)
    }
}

/// A metric that only rises, with `L` labels.
#[derive(Debug)]
pub struct Counter<const L: usize>(Description);

/// A metric that rises and falls, with `L` labels.
#[derive(Debug)]
pub struct Gauge<const L: usize>(Description);

/// Observations in buckets, with `L` labels.
#[derive(Debug)]
pub struct Histogram<const L: usize>(Description);

impl<const L: usize> Counter<L> {
    /// The series with these values of its labels, in the catalogue's order.
    pub fn with(&self, values: [SharedString; L]) -> metrics::Counter {
        with_recorder(|r| r.register_counter(&self.0.key(values), &METADATA))
    }
}

impl<const L: usize> Gauge<L> {
    /// The series with these values of its labels, in the catalogue's order.
    pub fn with(&self, values: [SharedString; L]) -> metrics::Gauge {
        with_recorder(|r| r.register_gauge(&self.0.key(values), &METADATA))
    }
}

impl<const L: usize> Histogram<L> {
    /// The series with these values of its labels, in the catalogue's order.
    pub fn with(&self, values: [SharedString; L]) -> metrics::Histogram {
        with_recorder(|r| r.register_histogram(&self.0.key(values), &METADATA))
    }
}

macro_rules! kind {
    (Counter) => {
        Kind::Counter
    };
    (Gauge) => {
        Kind::Gauge
    };
    (Histogram $bounds:ident) => {
        Kind::Histogram(&$bounds)
    };
}

const fn count_of(labels: &[&str]) -> usize {
    labels.len()
}

macro_rules! catalogue {
    ($($kind:ident $(($bounds:ident))? $name:ident = $text:literal [$($label:ident),*], $help:literal, $moved_by:literal;)*) => {
        $(
            #[doc = $help]
            pub static $name: $kind<{ count_of(&[$(stringify!($label)),*]) }> = $kind(Description {
                name: $text,
                kind: kind!($kind $($bounds)?),
                labels: &[$(stringify!($label)),*],
                help: $help,
                moved_by: $moved_by,
            });
        )*
        /// Every metric, in the order of `docs/metrics.md`.
        pub static ALL: &[&Description] = &[$(&$name.0),*];
    };
}

/// Upper bounds of durations of requests and stages, seconds.
const DURATIONS: [f64; 16] = [
    0.000_01, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1,
    0.25, 1.0, 2.5, 10.0,
];
/// Upper bounds of sizes of batches, rows.
const ROWS: [f64; 6] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0];

catalogue! {
    // Requests
    Counter ANSWERS = "vitalgate_answers_total" [action, disposition, status, model, version],
        "Requests answered, by what became of them; model and version are empty where none was reached",
        "Any request";
    Counter CODES = "vitalgate_codes_total" [code, model, version],
        "Reasons given in answers, by the codes of docs/errors.md and of the audit log; an answer may have several",
        "A review, a rejection or a refusal";
    Counter CALLER_ANSWERS = "vitalgate_caller_answers_total" [caller, disposition],
        "Requests answered, by configured principal; callers whose tokens name them share `issuer/*`",
        "Any request of an authenticated caller";
    Counter UNANSWERED = "vitalgate_unanswered_total" [code],
        "Connections and request heads that ended before there was a request to answer",
        "A handshake that fails, or a broken request head";
    Counter ATYPICAL = "vitalgate_atypical_total" [model, version, channel],
        "Inputs that the distribution screen flagged, by the channel that was most surprised",
        "An input unlike the model's patients";
    Counter OVERRIDES = "vitalgate_overrides_total" [model, version, reason, repeat],
        "Reviews overridden, by reason code; repeat says whether the same override had been answered before",
        "A prediction that leaves because somebody overrode its review";
    Counter LOST_MEMBERS = "vitalgate_lost_members_total" [model, version, member, cause],
        "Networks that gave no usable output for an input: they failed on it, or answered with what is no probability",
        "A network that fails on an input, or answers with NaN";
    Counter FLAGGED_FEATURES = "vitalgate_flagged_features_total" [model, version, feature, disposition],
        "Features named in reviews and rejections",
        "A review or rejection that names a feature";
    Histogram(DURATIONS) REQUEST_DURATION = "vitalgate_request_duration_seconds" [action, disposition],
        "From a request's head to its decision",
        "Any request";
    Histogram(DURATIONS) STAGE_DURATION = "vitalgate_stage_duration_seconds" [stage],
        "Time in each stage of the request path",
        "Any request, stage by stage as far as it comes";
    Gauge IN_FLIGHT = "vitalgate_requests_in_flight" [],
        "Admitted requests for a prediction that are not decided yet",
        "A request whose body is on its way";
    Gauge PLACES = "vitalgate_request_places" [],
        "How many requests may be in flight at once, `limits.concurrent_requests`",
        "The configuration";

    // Models and inference
    Gauge MODELS = "vitalgate_models" [state],
        "Loaded versions of models: serving, quarantined, failed (its engine stopped), policy-expired",
        "A load, an unload, a quarantine";
    Gauge MODEL_INFO = "vitalgate_model_info" [model, version, digest, provider, state],
        "1 for each loaded version: the digest of its signed bytes and the provider that runs it",
        "A load, an unload, a quarantine";
    Counter MODEL_LOADS = "vitalgate_model_loads_total" [result],
        "Bundles that were verified and loaded, or why not",
        "The start, or vitalgate admin load";
    Gauge QUEUED_ROWS = "vitalgate_inference_queued_rows" [model, version],
        "Rows that wait for the model's networks",
        "More requests at once than one batch takes";
    Histogram(ROWS) BATCH_ROWS = "vitalgate_inference_batch_rows" [model, version],
        "Rows run as one batch",
        "A prediction";
    Histogram(DURATIONS) BATCH_DURATION = "vitalgate_inference_batch_duration_seconds" [model, version],
        "Time to run all members on a batch",
        "A prediction";

    // Signatures and policy
    Gauge POLICY_ENFORCED = "vitalgate_release_policy_enforced" [],
        "1 when a release policy approves models, 0 when trust.keys lets any one key do so",
        "The configuration";
    Gauge POLICY_SERIAL = "vitalgate_release_policy_serial" [],
        "Serial of the release policy in force; absent without one",
        "A load under a newer policy";
    Gauge POLICY_EXPIRY = "vitalgate_release_policy_expiry_timestamp_seconds" [],
        "When the release policy expires, Unix time; absent without one",
        "A load under a newer policy";

    // Drift
    Gauge DRIFT_ROWS = "vitalgate_drift_window_rows" [model, version, window],
        "Rows in the window (of the last 100 rows, hour, 24 hours), each encounter once; below 20 nothing else is said",
        "A prediction, review or rejection; an evaluator's are not counted";
    Gauge DRIFT_PSI = "vitalgate_drift_psi" [model, version, window, series],
        "Population stability index of a feature, of `probability` or of `atypicality` (the p-value of the distribution screen) against the bundle's reference",
        "20 rows";
    Gauge DRIFT_JS = "vitalgate_drift_jensen_shannon_bits" [model, version, window, series],
        "Jensen-Shannon divergence from the reference, 0 to 1",
        "20 rows";
    Gauge DRIFT_KS = "vitalgate_drift_ks_distance" [model, version, window, series],
        "Largest distance between the distribution functions, 0 to 1",
        "20 rows";
    Gauge DRIFT_EVIDENCE = "vitalgate_drift_evidence" [model, version, window, series, test],
        "-log10 of the probability of what is seen if nothing had changed, after Bonferroni; test is values (Kolmogorov-Smirnov), missing or rate (binomial), or joint (Hotelling's T2 of all features, series population)",
        "20 rows";
    Gauge DRIFT_ALARM = "vitalgate_drift_alarm" [model, version, window, series, test],
        "1 while that is beyond what comes up by chance once in ten months",
        "20 rows (1: a shift)";
    Gauge DRIFT_MISSING = "vitalgate_drift_missing_ratio" [model, version, window, feature],
        "Share of rows without the feature",
        "20 rows";
    Gauge DRIFT_RATE = "vitalgate_drift_disposition_ratio" [model, version, window, disposition],
        "Share of reviews and of rejections",
        "20 rows";
    Gauge DRIFT_CUSUM = "vitalgate_drift_cusum_ratio" [model, version, direction],
        "Cumulative sum of the predictions' place in the reference, as a share of its threshold: 1 is an alarm",
        "20 predictions";
    Counter DRIFT_STATE = "vitalgate_drift_state_total" [result],
        "Counts that survive a restart: restored (of a model, at the start), refused (the file is damaged or not ours, so that windows begin empty), written, failed; absent without drift.state",
        "A start; an hour that is over; SIGTERM";

    // Audit log
    Gauge AUDIT_HEALTHY = "vitalgate_audit_log_healthy" [],
        "1 while the audit log takes records; without it there are no answers",
        "A write that fails, and one that succeeds after it";
    Gauge AUDIT_QUEUED = "vitalgate_audit_log_queued_records" [],
        "Records that wait to be written",
        "Requests that come faster than the disk writes";
    Gauge AUDIT_RECORDS = "vitalgate_audit_log_records" [],
        "Records in the log",
        "Any request";
    Gauge AUDIT_UNPROVEN = "vitalgate_audit_log_unproven_records" [],
        "Records that no signed checkpoint covers yet",
        "Any request, until the next checkpoint";
    Gauge AUDIT_CHECKPOINT = "vitalgate_audit_log_checkpoint_timestamp_seconds" [],
        "When this process last signed a checkpoint, Unix time; there is none while nothing is new",
        "A record, a second later";
    Counter AUDIT_FAILURES = "vitalgate_audit_log_failures_total" [],
        "Batches, checkpoints and syncs that could not be written",
        "A full disk";
    Histogram(DURATIONS) AUDIT_COMMIT = "vitalgate_audit_log_commit_duration_seconds" [],
        "Time to write (in mode synced: and sync) a batch of records",
        "Any request";

    // Callers, containment, configuration
    Gauge CALLERS_QUARANTINED = "vitalgate_callers_quarantined" [],
        "Callers that an operator stopped",
        "A quarantine, a release";
    Gauge BUDGET_USED = "vitalgate_budget_used_ratio" [caller, model],
        "Share of the day's budget of distinct rows that is used up, 1 when it is; absent for callers without one. Of callers whose tokens name them, the highest",
        "A caller that asks about a row it has not asked about today";
    Counter CALLER_EVENTS = "vitalgate_caller_events_total" [caller, model, event],
        "What operators are told of a caller's queries: budget-alert (80 %), budget-exhausted, near-duplicate, flag-rate, response-raised, response-eased, store-away, store-back",
        "A caller that asks about many rows, or in a way that looks like probing";
    Gauge CALLERS_LIMITED = "vitalgate_callers_limited" [step],
        "Callers and models at each step of the response to query patterns, shadow mode included",
        "A caller that asks in a way that looks like probing";
    Gauge STORE_UP = "vitalgate_shared_store_up" [],
        "1 while the shared store answers, 0 while this server counts within its share; absent without a shared store",
        "A store that stops or comes back";
    Gauge READ_ONLY = "vitalgate_read_only" [],
        "1 in read-only mode: nothing can be deployed",
        "vitalgate admin read-only";
    Gauge DRAINING = "vitalgate_draining" [],
        "1 once the server was told to end",
        "SIGTERM";
    Gauge RELOAD_GOOD = "vitalgate_reload_good" [of],
        "0 when a file was changed and is not good, so that the one before it is still in force",
        "A bad certificate, key set, policy or configuration";
    Counter RELOADS = "vitalgate_reloads_total" [of, result],
        "Files that were read again",
        "A file that changes";

    Counter TRACE_SPANS = "vitalgate_trace_spans_total" [result],
        "Spans by what became of them: sent, rejected (by the collector), undelivered (it did not answer), dropped (the queue was full); absent without telemetry.otlp",
        "A request whose trace is sampled";

    // Process
    Gauge HARDENING = "vitalgate_hardening" [measure],
        "1 for each measure against patient data leaving memory that is in force (docs/phi.md)",
        "The start";
    Gauge BUILD_INFO = "vitalgate_build_info" [version, onnxruntime],
        "Always 1",
        "The start";
    Gauge START_TIME = "process_start_time_seconds" [],
        "When the server started, Unix time",
        "The start";
    Gauge RESIDENT_MEMORY = "process_resident_memory_bytes" [],
        "Memory that is in RAM",
        "Use";
    Gauge OPEN_FILES = "process_open_fds" [],
        "Open file descriptors, connections among them",
        "A connection";
    Gauge MAX_FILES = "process_max_fds" [],
        "How many there may be",
        "The limit of the process";
    Gauge THREADS = "process_threads" [],
        "Threads",
        "A model that is loaded";
    Counter CPU_TIME = "process_cpu_seconds_total" [],
        "Processor time, whole seconds",
        "Use";
}

#[cfg(test)]
mod tests;
