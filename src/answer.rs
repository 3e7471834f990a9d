//! A decision → the bytes of its answer. The only writer of responses, and with it the only
//! reader of a hardened prediction.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    bundle::model::ModelSpec,
    disposition::{Code, Finding, Outcome, Refusal, Rejection, ReviewReason},
    hardening::Hardened,
    phi::Phi,
    review::{Clearance, Handling, Withheld},
    row::FeatureSet,
    screening::{Channel, Oddness},
    telemetry,
    trail::Trail,
};

/// What was decided about a request.
#[derive(Debug)]
pub enum Disposition {
    /// A prediction may leave (attached to a review, when there are reasons).
    Predicted(Hardened),
    /// A person has to look.
    Review(Withheld),
    /// The input cannot be a patient.
    Rejected(Rejection),
    /// The caller or the server's state stands in the way.
    Refused(Refusal),
    /// A description was asked for.
    Answered(Value),
    /// Metrics were asked for: the Prometheus text format.
    Exposition(String),
    /// An admin call is not done, for a reason that its caller may know.
    Declined {
        /// The code, and when to come again.
        refusal: Refusal,
        /// What stands in the way in this case.
        cause: String,
    },
    /// An admin call is about to be made. Recorded, never answered.
    Announced,
}

impl Disposition {
    /// The outcome.
    pub fn outcome(&self) -> Outcome {
        match self {
            Self::Predicted(h) if h.clearance == Clearance::Clear => Outcome::Predicted,
            Self::Predicted(_) | Self::Review(_) => Outcome::Review,
            Self::Rejected(_) => Outcome::Rejected,
            Self::Refused(_) | Self::Declined { .. } => Outcome::Refused,
            Self::Answered(_) | Self::Exposition(_) => Outcome::Answered,
            Self::Announced => Outcome::Announced,
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Predicted(_) | Self::Review(_) | Self::Answered(_) | Self::Exposition(_) => 200,
            Self::Rejected(rejection) => rejection.status(),
            Self::Refused(refusal) | Self::Declined { refusal, .. } => refusal.code.status(),
            Self::Announced => Code::Internal.status(),
        }
    }

    /// Every distinct code, for the record.
    pub fn codes(&self) -> Vec<Code> {
        let mut codes: Vec<Code> = match self {
            Self::Predicted(h) => h.reasons.iter().map(|r| r.code).collect(),
            Self::Review(w) => w.reasons.iter().map(|r| r.code).collect(),
            Self::Rejected(r) => r.faults.iter().map(|f| f.code).collect(),
            Self::Refused(refusal) | Self::Declined { refusal, .. } => vec![refusal.code],
            Self::Answered(_) | Self::Exposition(_) | Self::Announced => Vec::new(),
        };
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    /// Names of the features concerned, for the record.
    pub fn features(&self) -> Vec<&str> {
        let (spec, mut indices): (&ModelSpec, Vec<usize>) = match self {
            Self::Predicted(h) => (&h.spec, features_of(&h.reasons)),
            Self::Review(w) => (&w.spec, features_of(&w.reasons)),
            Self::Rejected(r) => (&r.spec, r.faults.iter().filter_map(|f| f.feature).collect()),
            Self::Refused(_)
            | Self::Answered(_)
            | Self::Exposition(_)
            | Self::Declined { .. }
            | Self::Announced => return Vec::new(),
        };
        indices.sort_unstable();
        indices.dedup();
        indices
            .iter()
            .filter_map(|&i| spec.features.get(i))
            .map(|f| f.name.as_str())
            .collect()
    }
}

fn features_of(reasons: &[ReviewReason]) -> Vec<usize> {
    reasons
        .iter()
        .flat_map(|r| r.features.iter().copied())
        .collect()
}

#[derive(Serialize)]
struct Answer<'a> {
    id: &'a str,
    disposition: &'static str,
    model: Option<ModelName<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prediction: Option<Prediction<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    reasons: Vec<Reason<'a>>,
    screening: Screening<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    scores: Option<Scores>,
}

#[derive(Serialize)]
struct ModelName<'a> {
    name: &'a str,
    version: u32,
    digest: String,
}

/// RFC 9457 problem details. The `type` is a stable name, not an address to fetch.
#[derive(Serialize)]
struct Problem<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: &'static str,
    code: &'static str,
    disposition: &'static str,
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<ModelName<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<InputError<'a>>,
}

/// One fault of a rejected input.
#[derive(Serialize)]
struct InputError<'a> {
    code: &'static str,
    pointer: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    feature: Option<&'a str>,
    detail: String,
}

#[derive(Serialize)]
struct Prediction<'a> {
    outcome: &'a str,
    probability: f64,
    precision: f64,
    band: &'a str,
}

#[derive(Serialize)]
struct Reason<'a> {
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    feature: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pointer: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    features: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    findings: Vec<Found<'a>>,
    message: &'a str,
}

/// A value that stands out, as it was given, and what would be typical given the others.
#[derive(Serialize)]
struct Found<'a> {
    feature: &'a str,
    value: f64,
    typical: f64,
    unit: &'a str,
}

/// What an attacker would learn from; only for those who may read scores.
#[derive(Serialize)]
struct Scores {
    distribution: serde_json::Map<String, Value>,
}

impl Scores {
    /// Conformal p-values: of the decision and of each channel.
    fn new(trail: &Trail, oddness: Option<&Phi<Oddness>>) -> Option<Self> {
        let oddness = oddness.filter(|_| trail.may_read_scores)?.expose();
        let mut distribution = serde_json::Map::new();
        distribution.insert("p".to_owned(), oddness.p.into());
        for (channel, p) in Channel::ALL.iter().zip(oddness.channels) {
            distribution.insert(channel.as_str().to_owned(), p.into());
        }
        Some(Self { distribution })
    }
}

/// What became of each screen, and what was done to the input.
#[derive(Serialize)]
struct Screening<'a> {
    ranges: &'static str,
    consistency: &'static str,
    missingness: &'static str,
    distribution: &'static str,
    robustness: &'static str,
    agreement: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rounded: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    converted: Vec<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    imputed: Vec<&'a str>,
}

const PASS: &str = "pass";
const REVIEW: &str = "review";
const NOT_RUN: &str = "not_run";
const NOT_CONFIGURED: &str = "not_configured";

impl<'a> Screening<'a> {
    fn new(
        spec: &'a ModelSpec,
        reasons: &[ReviewReason],
        handling: Handling,
        compared: bool,
        scored: bool,
    ) -> Self {
        let screen = |codes: &[Code]| {
            let found = reasons.iter().any(|r| codes.contains(&r.code));
            if found { REVIEW } else { PASS }
        };
        let names = |set: FeatureSet| {
            set.iter()
                .filter_map(|i| spec.features.get(i))
                .map(|f| f.name.as_str())
                .collect()
        };
        let agreement = match screen(&[Code::Disagreement, Code::MemberFailed]) {
            REVIEW => REVIEW,
            _ if spec.agreement.is_none() => NOT_CONFIGURED,
            _ if !scored => NOT_RUN,
            other => other,
        };
        Self {
            ranges: screen(&[Code::OutsideExpected]),
            consistency: screen(&[Code::ImplausibleCombination]),
            missingness: screen(&[Code::TooMuchMissing]),
            // Said, not left out: a clinician must not take a screen for granted that was not
            // there.
            distribution: if compared {
                screen(&[Code::Atypical])
            } else {
                NOT_CONFIGURED
            },
            robustness: NOT_CONFIGURED,
            agreement,
            rounded: names(handling.rounded),
            converted: names(handling.converted),
            imputed: names(handling.imputed),
        }
    }
}

/// Writes the answer to a decision.
pub(crate) fn write(trail: &Trail, disposition: &Disposition) -> Response {
    let body = match disposition {
        Disposition::Predicted(hardened) => serde_json::to_vec(&Answer {
            id: &trail.id,
            disposition: disposition.outcome().as_str(),
            model: model(trail),
            prediction: Some(Prediction {
                outcome: &hardened.spec.outcome.name,
                probability: *hardened.probability().expose(),
                precision: hardened.spec.output.precision,
                band: hardened.band(),
            }),
            reasons: reasons(&hardened.spec, &hardened.reasons),
            screening: Screening::new(
                &hardened.spec,
                &hardened.reasons,
                hardened.handling,
                hardened.oddness.is_some(),
                true,
            ),
            scores: Scores::new(trail, hardened.oddness.as_deref()),
        }),
        Disposition::Review(withheld) => serde_json::to_vec(&Answer {
            id: &trail.id,
            disposition: disposition.outcome().as_str(),
            model: model(trail),
            prediction: None,
            reasons: reasons(&withheld.spec, &withheld.reasons),
            screening: Screening::new(
                &withheld.spec,
                &withheld.reasons,
                withheld.handling,
                withheld.oddness.is_some(),
                false,
            ),
            scores: Scores::new(trail, withheld.oddness.as_deref()),
        }),
        Disposition::Rejected(rejection) => serde_json::to_vec(&rejected(trail, rejection)),
        Disposition::Refused(refusal) => {
            serde_json::to_vec(&problem(trail, refusal.code.public(), None))
        }
        Disposition::Declined { refusal, cause } => {
            serde_json::to_vec(&problem(trail, refusal.code.public(), Some(cause)))
        }
        Disposition::Answered(value) => serde_json::to_vec(value),
        Disposition::Exposition(text) => Ok(text.clone().into_bytes()),
        Disposition::Announced => serde_json::to_vec(&problem(trail, Code::Internal, None)),
    };
    telemetry::answered(trail, disposition);
    let mut response = Response::new(Body::from(body.unwrap_or_default()));
    *response.status_mut() =
        StatusCode::from_u16(disposition.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    headers(&mut response, disposition, &trail.id);
    response
}

fn headers(response: &mut Response, disposition: &Disposition, id: &str) {
    let media = match disposition {
        Disposition::Rejected(_)
        | Disposition::Refused(_)
        | Disposition::Declined { .. }
        | Disposition::Announced => "application/problem+json",
        Disposition::Predicted(_) | Disposition::Review(_) | Disposition::Answered(_) => {
            "application/json"
        }
        Disposition::Exposition(_) => "text/plain; version=0.0.4",
    };
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Ok(id) = HeaderValue::from_str(id) {
        headers.insert("x-request-id", id);
    }
    if let Disposition::Refused(refusal) | Disposition::Declined { refusal, .. } = disposition {
        if let Some(seconds) = refusal.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(challenge) = challenge(refusal.code) {
            headers.insert(
                header::WWW_AUTHENTICATE,
                HeaderValue::from_static(challenge),
            );
        }
        if let Some(allow) = refusal.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if refusal.code == Code::StepUpRequired
            && let Ok(challenge) = HeaderValue::from_str(&step_up(refusal.max_age))
        {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
    }
}

/// RFC 9470 section 3: the person's authentication, not the token, is what falls short.
fn step_up(max_age: Option<u32>) -> String {
    let challenge = "Bearer error=\"insufficient_user_authentication\", \
                     error_description=\"More than one factor is required\"";
    match max_age {
        Some(seconds) => format!("{challenge}, max_age=\"{seconds}\""),
        None => challenge.to_owned(),
    }
}

/// RFC 6750 section 3: no error for a request that showed nothing.
fn challenge(code: Code) -> Option<&'static str> {
    match (code.status(), code.public()) {
        (401, Code::TokenRequired) => Some("Bearer realm=\"vitalgate\""),
        (401, Code::InvalidToken) => Some("Bearer realm=\"vitalgate\", error=\"invalid_token\""),
        _ => None,
    }
}

fn model(trail: &Trail) -> Option<ModelName<'_>> {
    trail.model.as_ref().map(|m| ModelName {
        name: &m.spec().name,
        version: m.spec().version,
        digest: format!("sha256:{}", m.digest()),
    })
}

fn reasons<'a>(spec: &'a ModelSpec, reasons: &'a [ReviewReason]) -> Vec<Reason<'a>> {
    reasons
        .iter()
        .map(|r| {
            let features: Vec<&str> = spec.names(&r.features).collect();
            let feature = features.first().copied();
            Reason {
                code: r.code.as_str(),
                feature,
                pointer: feature.map(|name| format!("/observations/{name}")),
                features: if features.len() > 1 {
                    features
                } else {
                    Vec::new()
                },
                findings: r.findings.iter().filter_map(|f| found(spec, f)).collect(),
                message: r.message.expose(),
            }
        })
        .collect()
}

fn found<'a>(spec: &'a ModelSpec, finding: &'a Finding) -> Option<Found<'a>> {
    Some(Found {
        feature: spec.features.get(finding.feature)?.name.as_str(),
        value: *finding.value.expose(),
        typical: *finding.typical.expose(),
        unit: finding.unit.expose(),
    })
}

fn problem<'a>(trail: &'a Trail, code: Code, cause: Option<&'a str>) -> Problem<'a> {
    Problem {
        kind: format!(
            "urn:vitalgate:problem:{}",
            code.as_str().to_lowercase().replace('_', "-")
        ),
        title: code.title(),
        status: code.status(),
        detail: code.remedy(),
        code: code.as_str(),
        disposition: code.outcome().as_str(),
        id: &trail.id,
        model: None,
        cause,
        errors: Vec::new(),
    }
}

fn rejected<'a>(trail: &'a Trail, rejection: &'a Rejection) -> Problem<'a> {
    let errors = rejection.faults.iter().map(|fault| InputError {
        code: fault.code.as_str(),
        pointer: fault.pointer.expose(),
        feature: fault
            .feature
            .and_then(|i| rejection.spec.features.get(i))
            .map(|f| &*f.name),
        detail: format!("{}; expected {}", fault.code.title(), fault.expected),
    });
    Problem {
        kind: "urn:vitalgate:problem:rejected-input".to_owned(),
        title: "The input was rejected; no prediction was made",
        status: rejection.status(),
        detail: "Every fault found is listed under errors. Correct them and send the request again.",
        code: "REJECTED_INPUT",
        disposition: Outcome::Rejected.as_str(),
        id: &trail.id,
        model: model(trail),
        cause: None,
        errors: errors.collect(),
    }
}
