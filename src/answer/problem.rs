//! RFC 9457 problem details: the body of a rejection or a refusal, and its challenge.

use serde::Serialize;

use super::{ModelName, model};
use crate::{
    disposition::{Code, Outcome, Rejection},
    trail::Trail,
};

/// RFC 9457 problem details. The `type` is a stable name, not an address to fetch.
#[derive(Serialize)]
pub(super) struct Problem<'a> {
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

pub(super) fn problem<'a>(trail: &'a Trail, code: Code, cause: Option<&'a str>) -> Problem<'a> {
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

pub(super) fn rejected<'a>(trail: &'a Trail, rejection: &'a Rejection) -> Problem<'a> {
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

/// RFC 9470 section 3: the person's authentication, not the token, is what falls short.
pub(super) fn step_up(max_age: Option<u32>) -> String {
    let challenge = "Bearer error=\"insufficient_user_authentication\", \
                     error_description=\"More than one factor is required\"";
    match max_age {
        Some(seconds) => format!("{challenge}, max_age=\"{seconds}\""),
        None => challenge.to_owned(),
    }
}

/// RFC 6750 section 3: no error for a request that showed nothing.
pub(super) fn challenge(code: Code) -> Option<&'static str> {
    match (code.status(), code.public()) {
        (401, Code::TokenRequired) => Some("Bearer realm=\"vitalgate\""),
        (401, Code::InvalidToken) => Some("Bearer realm=\"vitalgate\", error=\"invalid_token\""),
        _ => None,
    }
}
