//! The requests of a run: every kind that the server treats in its own way.

use rand::{RngExt, rngs::StdRng};

use super::{
    Load,
    canary::{Marks, Model, Patient},
    patterns::Patterns,
};
use crate::{bundle::model::Feature, review::OverrideReason};

/// Size of a large body, bytes.
const LARGE: usize = 300 * 1024;
/// Of so many requests that time out, each takes a connection for the server's whole patience.
const TIMED_OUT: usize = 16;

/// How a request is delivered.
pub(super) enum Delivery {
    /// In these pieces, then the answer is awaited.
    Pieces(Vec<usize>),
    /// Up to here; then the connection is dropped.
    Aborted(usize),
    /// Up to here; then nothing more comes.
    Stalled(usize),
}

/// A request that will be sent.
pub(super) struct Request {
    pub(super) model: String,
    pub(super) kind: &'static str,
    pub(super) bytes: Vec<u8>,
    pub(super) delivery: Delivery,
    /// Sent by a principal that may not predict.
    pub(super) refused: bool,
    /// A HEAD request, whose answer has no body.
    pub(super) head: bool,
    /// The body again, for a review that is overridden.
    pub(super) body: Vec<u8>,
}

impl Request {
    /// The same input once more, to override the review with this token.
    pub(super) fn overriding(&self, token: &str) -> Vec<u8> {
        let mut body = self.body.clone();
        // Behind the last member.
        body.truncate(body.len().saturating_sub(1));
        let review = format!(
            ", \"review\": {{\"token\": \"{token}\", \"reason_code\": \"{}\"}}}}",
            OverrideReason::ConfirmedByClinician.as_str()
        );
        body.extend_from_slice(review.as_bytes());
        message(self.kind, &self.model, "override", &body)
    }
}

/// The kinds, in the proportions in which they are sent.
const KINDS: [&str; 42] = [
    "whole",
    "split",
    "whole",
    "split",
    "review",
    "overridden",
    "whole",
    "split",
    "rejected",
    "chunked",
    "whole",
    "split",
    "wrong type",
    "unknown key",
    "whole",
    "atypical",
    "review",
    "overridden",
    "unit text",
    "malformed JSON",
    "whole",
    "split",
    "large",
    "chunked",
    "too large",
    "split",
    "rejected",
    "not UTF-8",
    "refused role",
    "unknown model",
    "split",
    "get with body",
    "head with body",
    "expect continue",
    "whole",
    "aborted",
    "pipelined",
    "split",
    "malformed HTTP",
    "chunked too large",
    "unknown key",
    "duplicate key",
];

/// Makes the requests of a run, over all models, and notes their patterns. The last ones, as many
/// as there are connections, are such that all of them are predicted.
pub(super) fn plan(
    models: &mut [Model],
    marks: &Marks,
    load: Load,
    body_limit: usize,
    rng: &mut StdRng,
    patterns: &mut Patterns,
) -> Vec<Request> {
    let stalled_every = (load.requests / TIMED_OUT).max(1);
    let mut requests = Vec::with_capacity(load.requests);
    let count = models.len().max(1);
    for index in 0..load.requests {
        let Some(model) = models.get_mut(index % count) else {
            break;
        };
        let kind = if index + load.connections >= load.requests {
            if index % 4 < 2 { "whole" } else { "split" }
        } else if index % stalled_every == stalled_every - 1 {
            "timed out"
        } else {
            KINDS
                .get(index / count % KINDS.len())
                .copied()
                .unwrap_or("whole")
        };
        requests.push(request(model, marks, kind, body_limit, rng, patterns));
    }
    requests
}

/// A request as most are.
#[cfg(feature = "phi-teeth")]
pub(super) fn whole(
    model: &mut Model,
    marks: &Marks,
    rng: &mut StdRng,
    patterns: &mut Patterns,
) -> Request {
    request(model, marks, "whole", 0, rng, patterns)
}

fn request(
    model: &mut Model,
    marks: &Marks,
    kind: &'static str,
    body_limit: usize,
    rng: &mut StdRng,
    patterns: &mut Patterns,
) -> Request {
    let mut patient = model.patient(marks, rng);
    let kind = match kind {
        "atypical" if !model.make_atypical(&mut patient, rng) => "whole",
        _ => kind,
    };
    spoil(&mut patient, &model.spec.features, kind, rng);
    model.note(&patient, kind, patterns);
    let mut body = patient.body().into_bytes();
    deform(&mut body, &patient.identifier, kind, body_limit);
    let bytes = message(kind, &model.spec.name, &patient.identifier, &body);
    let delivery = match kind {
        "timed out" => Delivery::Stalled(bytes.len() - rng.random_range(1..body.len())),
        "aborted" => Delivery::Aborted(bytes.len() - rng.random_range(1..body.len())),
        "split" | "chunked" => {
            let cuts = rng.random_range(1..8);
            let mut cuts: Vec<usize> = (0..cuts)
                .map(|_| rng.random_range(0..bytes.len()))
                .collect();
            cuts.sort_unstable();
            Delivery::Pieces(cuts)
        }
        _ => Delivery::Pieces(Vec::new()),
    };
    Request {
        model: model.spec.name.clone(),
        kind,
        bytes,
        delivery,
        refused: kind == "refused role",
        head: kind == "head with body",
        body: if kind == "overridden" {
            body
        } else {
            Vec::new()
        },
    }
}

/// Makes the observations what `kind` says.
fn spoil(patient: &mut Patient, features: &[Feature], kind: &str, rng: &mut StdRng) {
    let identifier = patient.identifier.clone();
    let decimals: Vec<usize> = (0..patient.observations.len())
        .filter(|i| {
            patient
                .observations
                .get(*i)
                .is_some_and(|(_, v)| v.contains('.'))
        })
        .collect();
    let Some(&chosen) = decimals.get(rng.random_range(0..decimals.len().max(1))) else {
        return;
    };
    let (Some((name, value)), Some(feature)) =
        (patient.observations.get_mut(chosen), features.get(chosen))
    else {
        return;
    };
    // The digits behind the point are the canary's.
    let tail = value
        .split_once('.')
        .map(|(_, t)| t.to_owned())
        .unwrap_or_default();
    let beyond = |low: f64, high: f64| format!("{:.0}.{tail}", f64::midpoint(low, high).ceil());
    match kind {
        "review" | "overridden" => *value = beyond(feature.expected.max, feature.possible.max),
        "rejected" => *value = beyond(feature.possible.max * 2.0, feature.possible.max * 4.0),
        "wrong type" => *value = format!("\"{identifier} {value}\""),
        "unit text" => *value = format!("{{\"value\": {value}, \"unit\": \"{identifier}\"}}"),
        "unknown key" => {
            let unknown = (format!("{identifier}/{name}"), value.clone());
            patient.observations.push(unknown);
        }
        "duplicate key" => {
            let again = (name.clone(), value.clone());
            patient.observations.push(again);
        }
        _ => {}
    }
}

/// Makes the body what `kind` says.
fn deform(body: &mut Vec<u8>, identifier: &str, kind: &str, body_limit: usize) {
    let fill = |body: &mut Vec<u8>, size: usize| {
        // Inside the encounter's string, which is the last thing in the body.
        let end = body.split_off(body.len() - 3);
        while body.len() < size {
            body.extend_from_slice(identifier.as_bytes());
        }
        body.extend(end);
    };
    match kind {
        "malformed JSON" => body.truncate(body.len() - 5),
        "not UTF-8" => body.insert(body.len() - 4, 0xff),
        "large" => fill(body, LARGE),
        "too large" | "chunked too large" => fill(body, (body_limit + 4096).max(LARGE)),
        _ => {}
    }
}

/// Head and body.
fn message(kind: &str, model: &str, identifier: &str, body: &[u8]) -> Vec<u8> {
    let method = match kind {
        "get with body" => "GET",
        "head with body" => "HEAD",
        _ => "POST",
    };
    let path = match kind {
        "unknown model" => format!("/v1/models/{identifier}/predict?patient={identifier}"),
        "get with body" | "head with body" => format!("/v1/models?patient={identifier}"),
        _ => format!("/v1/models/{model}/predict"),
    };
    let mut head = format!(
        "{method} {path} HTTP/1.1\r\nHost: selftest\r\nContent-Type: application/json\r\n\
         X-Patient-Id: {identifier}\r\n"
    );
    if kind == "malformed HTTP" {
        head.extend([identifier, " : ", identifier, "\r\n"]);
    }
    if kind == "expect continue" {
        head.push_str("Expect: 100-continue\r\n");
    }
    let chunked = kind.starts_with("chunked");
    if chunked {
        head.push_str("Transfer-Encoding: chunked\r\n\r\n");
    } else {
        head.extend(["Content-Length: ", &body.len().to_string(), "\r\n\r\n"]);
    }
    let mut bytes = head.into_bytes();
    if chunked {
        for chunk in body.chunks(511) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
    } else {
        bytes.extend_from_slice(body);
    }
    if kind == "pipelined" {
        let again = bytes.clone();
        bytes.extend(again);
    }
    bytes
}
