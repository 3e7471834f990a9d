//! A decision → the bytes of its answer. The only writer of responses, and with it the only
//! reader of a hardened prediction.

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use serde::Serialize;
use serde_json::Value;

mod body;
mod problem;
mod words;
use body::Answer;
use problem::{challenge, problem, rejected, step_up};
pub use words::Language;

use crate::{
    admin::console,
    bundle::model::ModelSpec,
    consensus::{Loss, Lost},
    disposition::{Code, Outcome, Refusal, Rejection, ReviewReason},
    hardening::Hardened,
    review::{Clearance, Confirmed, OverrideReason, Withheld},
    telemetry,
    trace::{TRACEPARENT, Trace},
    trail::Trail,
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// Headers of most answers, and what hyper adds to them.
const HEADERS: usize = 10;

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
    /// A page of the console was asked for.
    Page(String),
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
            Self::Predicted(h) if h.clearance == Clearance::Attached => Outcome::Review,
            Self::Predicted(_) => Outcome::Predicted,
            Self::Review(_) => Outcome::Review,
            Self::Rejected(_) => Outcome::Rejected,
            Self::Refused(_) | Self::Declined { .. } => Outcome::Refused,
            Self::Answered(_) | Self::Exposition(_) | Self::Page(_) => Outcome::Answered,
            Self::Announced => Outcome::Announced,
        }
    }

    /// Whether a prediction leaves because somebody overrode a review.
    pub fn is_overridden(&self) -> bool {
        self.overridden().is_some()
    }

    /// Why, if a prediction leaves because somebody overrode a review.
    pub fn overridden(&self) -> Option<OverrideReason> {
        self.confirmed().map(Confirmed::reason)
    }

    /// The override that let a prediction leave.
    fn confirmed(&self) -> Option<&Confirmed> {
        match self {
            Self::Predicted(h) => h.confirmed.as_ref(),
            Self::Review(_)
            | Self::Rejected(_)
            | Self::Refused(_)
            | Self::Answered(_)
            | Self::Exposition(_)
            | Self::Page(_)
            | Self::Declined { .. }
            | Self::Announced => None,
        }
    }

    /// Codes that were found after the review that was overridden: nobody has confirmed them.
    pub fn unconfirmed(&self) -> Vec<Code> {
        let Some(confirmed) = self.confirmed() else {
            return Vec::new();
        };
        let mut codes = self.codes();
        codes.retain(|code| !confirmed.covers(*code));
        codes
    }

    /// Notes what is on record now.
    pub(crate) fn note_recorded(&self) {
        if let Some(confirmed) = self.confirmed() {
            confirmed.note_answered();
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        match self {
            Self::Predicted(_)
            | Self::Review(_)
            | Self::Answered(_)
            | Self::Exposition(_)
            | Self::Page(_) => 200,
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
            Self::Answered(_) | Self::Exposition(_) | Self::Page(_) | Self::Announced => Vec::new(),
        };
        codes.sort_unstable();
        codes.dedup();
        codes
    }

    /// The networks that gave no usable output, by name and cause.
    pub fn lost(&self) -> impl Iterator<Item = (&str, Loss)> {
        let (spec, lost): (Option<&ModelSpec>, &[Lost]) = match self {
            Self::Predicted(h) => (Some(&h.spec), &h.lost),
            Self::Review(w) => (Some(&w.spec), &w.lost),
            Self::Rejected(_)
            | Self::Refused(_)
            | Self::Answered(_)
            | Self::Exposition(_)
            | Self::Page(_)
            | Self::Declined { .. }
            | Self::Announced => (None, &[]),
        };
        lost.iter().filter_map(move |lost| {
            let member = spec?.members.get(lost.member)?;
            Some((member.name.as_str(), lost.cause))
        })
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
            | Self::Page(_)
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
struct ModelName<'a> {
    name: &'a str,
    version: u32,
    digest: &'a str,
}

/// Writes the answer to a decision.
pub(crate) fn write(trail: &Trail, disposition: &Disposition) -> Response {
    let body = match disposition {
        Disposition::Predicted(hardened) => {
            serde_json::to_vec(&Answer::predicted(trail, disposition, hardened))
        }
        Disposition::Review(withheld) => {
            serde_json::to_vec(&Answer::withheld(trail, disposition, withheld))
        }
        Disposition::Refused(refusal) if trail.console => {
            Ok(console::refused(trail, refusal.code.public(), None).into_bytes())
        }
        Disposition::Declined { refusal, cause } if trail.console => {
            Ok(console::refused(trail, refusal.code.public(), Some(cause)).into_bytes())
        }
        Disposition::Rejected(rejection) => serde_json::to_vec(&rejected(trail, rejection)),
        Disposition::Refused(refusal) => {
            serde_json::to_vec(&problem(trail, refusal.code.public(), None))
        }
        Disposition::Declined { refusal, cause } => {
            serde_json::to_vec(&problem(trail, refusal.code.public(), Some(cause)))
        }
        Disposition::Answered(value) => serde_json::to_vec(value),
        Disposition::Exposition(text) | Disposition::Page(text) => Ok(text.clone().into_bytes()),
        Disposition::Announced => serde_json::to_vec(&problem(trail, Code::Internal, None)),
    };
    telemetry::answered(trail, disposition);
    let mut response = Response::new(Body::from(body.unwrap_or_default()));
    *response.status_mut() =
        StatusCode::from_u16(disposition.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    headers(&mut response, disposition, trail);
    response
}

fn headers(response: &mut Response, disposition: &Disposition, trail: &Trail) {
    let media = match disposition {
        Disposition::Page(_) => "text/html; charset=utf-8",
        _ if trail.console => "text/html; charset=utf-8",
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
    headers.reserve(HEADERS);
    if trail.console {
        console::headers(headers);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if matches!(
        disposition,
        Disposition::Predicted(_) | Disposition::Review(_)
    ) {
        let language = HeaderValue::from_static(trail.language.as_str());
        headers.insert(header::CONTENT_LANGUAGE, language);
    }
    if let Ok(id) = HeaderValue::from_str(&trail.id) {
        headers.insert(REQUEST_ID, id);
    }
    if let Some(ours) = trail.trace.as_ref().and_then(Trace::header) {
        headers.insert(TRACEPARENT, ours);
    }
    if trail.shown.requests.is_some() {
        let (policy, left) = (trail.shown.policy(), trail.shown.left());
        for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, left)] {
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
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

fn model(trail: &Trail) -> Option<ModelName<'_>> {
    trail.model.as_ref().map(|m| ModelName {
        name: &m.spec().name,
        version: m.spec().version,
        digest: m.named_digest(),
    })
}
