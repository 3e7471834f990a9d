//! Writes `docs/errors.md` and holds it to the code: the table of codes, the shape of a problem
//! document, and what becomes of odd inputs.
//!
//! `VITALGATE_BLESS=1 cargo nextest run --lib catalogue` rewrites the file.

use std::{collections::HashSet, fmt::Write as _, path::Path};

use axum::body::to_bytes;
use serde_json::{Value, json};

use super::*;
use crate::{
    answer::{self, Disposition},
    clinical, review, schema, screening,
    specimens::{self, Body},
    trail::Trail,
};

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/errors.md");
const EXAMPLE_ID: &str = "1f0c9a7be2d84c63a5f7d0b1c4e89a26";
const EXAMPLE_DIGEST: &str = "sha256:4be1…";

const INTRODUCTION: &str = "# Answers that are not a prediction

<!-- Written by a test from the table of codes; edit that, then VITALGATE_BLESS=1 cargo nextest run --lib catalogue -->

Every answer to a prediction request has a `disposition`, and so has every error, but for the bare
400 or 431 to a request head that the HTTP parser cannot read. Model lists, descriptions and schemas
have none. Clients branch on it, then on `code`; a code is never renamed or used again for something
else. No problem document repeats a patient's value.

| disposition | HTTP | means | body |
|---|---|---|---|
| `predicted` | 200 | every screen passed | a prediction |
| `review` | 200 | a person has to look | `reasons`; no prediction, unless the model's policy is `attach` |
| `rejected` | 400, 422 | the input cannot be a patient | a problem document with the faults found, at most 64 |
| `refused` | 400, other 4xx, 5xx | the caller, its rights or the server's state stand in the way | a problem document |

## Problem documents

`rejected` and `refused` are `application/problem+json` (RFC 9457). `type` is a stable name, not an
address to fetch; `id` names the request in the audit log and is also the header `x-request-id`.
";

const REJECTED: &str = "
A rejection lists under `errors` everything wrong with the JSON, its fields, types and units,
together with every impossible value among what could be read; only when there is none of these,
every impossible combination. Nothing behind a break in the JSON is looked at. Each fault has a
`code`, the RFC 6901 `pointer` into the body, the `feature` where there is one, and what was
expected. Keys in a pointer are cut after 64 characters, and at most 64 faults are listed. The
status is 400 when the body could not be read to its end as JSON, else 422. A `refused` can be 400
too (`MALFORMED_HTTP`, `BODY_INCOMPLETE`): the status alone does not tell them apart.

A number too large for a double (`1e999`) is `NON_FINITE`. A number of more digits than the parser
takes (some 4,300) is `MALFORMED_JSON`, \"number out of range\", and ends the reading.
";

const REFUSED: &str = "
A refusal has one `code`. 503 carries `Retry-After`, 405 carries `Allow`, and the 401 of a step-up
carries `WWW-Authenticate` with the longest time since the person signed in that would do, in
seconds: `Bearer error=\"insufficient_user_authentication\", …, max_age=\"900\"`.
";

const TOKENS: &str = "
### Why a token does not hold

These codes are in the audit log only. Outside they are all `INVALID_TOKEN`, with the same words and
`WWW-Authenticate: Bearer realm=\"vitalgate\", error=\"invalid_token\"` (RFC 6750): what is wrong with
a token would tell a thief or a forger what to mend. `TOKEN_REQUIRED` has the challenge without an
error.
";

const REVIEW: &str = "
## Reviews

A review is not an error: the status is 200, the body `application/json`. `reasons` lists all that
the screens found, each with its `code`, the `features` that drove it (the first as `feature`, with
its `pointer`; `features` only where there are several) and a `message` in words for a clinician.
`ATYPICAL` also has `findings`: for each of its features, ranked, the value given, the value typical
given the others, and their unit. It is the one reason that repeats values, which are the caller's own.
Reasons come in the order of their codes in the table above, within a code in the order of the model's
features or rules. `screening` names each screen with `pass`, `review`, `not_run` (an earlier screen
asked for review, or a network failed on it) or `not_configured`; `agreement` may be `degraded` (of the
networks that are left), `robustness` `unstable`. `UNSTABLE` is a review only where the model's
`stability.policy` is `review`; by default the answer is `predicted`, with `prediction.range`.
";

const HANDSHAKE: &str = "
## Refusals at the TLS handshake

Before there is a request there can be no document: the handshake ends with a TLS alert, and the
audit log has the code. With TLS 1.3 a client may believe that the handshake is done and see the
alert only when it first reads.

| code | TLS alert |
|---|---|
| `NO_CLIENT_CERTIFICATE` | `certificate_required` (116) |
| `UNTRUSTED_CERTIFICATE` | `unknown_ca` (48), `bad_certificate` (42), `unsupported_certificate` (43) or `decrypt_error` (51) |
| `CERTIFICATE_REVOKED` | `certificate_revoked` (44) |
| `REVOCATION_UNKNOWN` | `unknown_ca` (48) |
| `CERTIFICATE_NOT_CURRENT` | `certificate_expired` (45), for one that is not valid yet too |
| `HANDSHAKE_FAILED` | `protocol_version` (70), `handshake_failure` (40) or whichever fits; none when time ran out |

A certificate that expires or is revoked while its connection is open, or whose CA is no longer
trusted, is refused with 403 on the next request; so is one on a resumed session.

## Broken request heads

A head that the HTTP parser cannot read (`MALFORMED_HTTP` in the audit log) gets a bare 400 (431 for
one over 16 KiB or over 100 header fields), with an empty body and no id, or the connection is closed.
";

fn table(codes: impl Iterator<Item = Code>) -> String {
    let mut table =
        "\n| code | HTTP | disposition | meaning | remedy |\n|---|---|---|---|---|\n".to_owned();
    for code in codes {
        let status = match code.status() {
            0 => "TLS alert".to_owned(),
            status => status.to_string(),
        };
        writeln!(
            table,
            "| `{}` | {status} | `{}` | {} | {} |",
            code.as_str(),
            code.outcome().as_str(),
            code.title(),
            code.remedy()
        )
        .unwrap();
    }
    table
}

/// The document that a client gets.
fn document(disposition: &Disposition) -> Value {
    let response = answer::write(&Trail::start(([127, 0, 0, 1], 1).into()), disposition);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let body = runtime
        .block_on(to_bytes(response.into_body(), 1 << 20))
        .unwrap();
    let mut document: Value = serde_json::from_slice(&body).unwrap();
    document["id"] = json!(EXAMPLE_ID);
    // The trail of the example has no loaded model, a real rejection or review always has.
    if !matches!(disposition, Disposition::Refused(_)) {
        let model = json!({"name": "icu-mortality", "version": 1, "digest": EXAMPLE_DIGEST});
        document["model"] = model;
    }
    document
}

fn example(disposition: &Disposition) -> String {
    let text = serde_json::to_string_pretty(&document(disposition)).unwrap();
    format!("\n```json\n{text}\n```\n")
}

/// Everything before the networks.
fn judge(spec: &Arc<ModelSpec>, body: &[u8]) -> Disposition {
    let path = || -> Result<Disposition, Rejection> {
        let plausible = clinical::check_ranges(schema::parse(spec, body)?)?;
        let consistent = clinical::check_consistency(plausible)?;
        let screened = screening::check_distribution(None, consistent);
        Ok(match review::clear(screened) {
            Ok(_) => panic!("an odd input went through"),
            Err(withheld) => Disposition::Review(withheld),
        })
    };
    path().unwrap_or_else(Disposition::Rejected)
}

/// Odd inputs, and what the request path makes of them.
fn odd_inputs() -> Vec<(&'static str, Disposition)> {
    let (icu, breast) = (specimens::icu(), specimens::breast());
    let refused = |code: Code| Disposition::Refused(code.into());
    let with = |feature: &str, json: &str| judge(&icu, &Body::icu().with(feature, json).bytes());
    vec![
        ("`NaN` for a number", with("bun", "NaN")),
        ("`Infinity` or `-Infinity`", with("bun", "-Infinity")),
        ("`1e999`, too large for a double", with("bun", "1e999")),
        ("a number of 5,000 digits", with("bun", &"9".repeat(5000))),
        ("`1e30`, a number no patient has", with("bun", "1e30")),
        ("a string for a number (`\"36\"`)", with("bun", "\"36\"")),
        ("14.5 for a whole number", with("gcs", "14.5")),
        ("`true` for a quantity", with("bun", "true")),
        ("`null` where the model needs a value", with("bun", "null")),
        (
            "29 of the 30 features of `breast-cancer`",
            judge(&breast, &Body::breast().without("worst_area").bytes()),
        ),
        (
            "31 features for `breast-cancer`",
            judge(&breast, &Body::breast().plus("mean_colour", "1").bytes()),
        ),
        (
            "the same feature twice",
            judge(&icu, &Body::icu().plus("age", "81").bytes()),
        ),
        (
            "heart rate in `mm[Hg]`",
            with("heart_rate", r#"{"value": 68, "unit": "mm[Hg]"}"#),
        ),
        (
            "a unit nobody knows",
            with("heart_rate", r#"{"value": 68, "unit": "zorkmid"}"#),
        ),
        (
            "temperature 98.6 in degrees Celsius",
            with("temperature", "98.6"),
        ),
        (
            "a worst radius below the mean radius",
            judge(&breast, &Body::breast().with("worst_radius", "15").bytes()),
        ),
        ("temperature 24 °C", with("temperature", "24")),
        ("mean above systolic pressure", with("mean_bp", "130")),
        (
            "two optional values missing where one may be",
            judge(
                &icu,
                &Body::icu()
                    .without("magnesium")
                    .without("bicarbonate")
                    .bytes(),
            ),
        ),
        ("an empty body", judge(&icu, b"")),
        ("`[]` or `null`", judge(&icu, b"[]")),
        ("JSON cut short", judge(&icu, b"{\"observations\": {")),
        (
            "10,000 nested arrays",
            judge(&icu, "[".repeat(10_000).as_bytes()),
        ),
        ("bytes that are not UTF-8", judge(&icu, b"{\"\xff\": 1}")),
        ("a body of 10 MB", refused(Code::BodyTooLarge)),
        ("a body that stops coming", refused(Code::BodyTimeout)),
        (
            "`text/plain`, or a compressed body",
            refused(Code::UnsupportedMediaType),
        ),
        (
            "a model that is not served, to a caller with `*`",
            refused(Code::UnknownModel),
        ),
        (
            "any model that the caller was not granted, served or not",
            refused(Code::ModelNotPermitted),
        ),
        (
            "a version that is not served",
            refused(Code::UnknownVersion),
        ),
        (
            "`GET` where `POST` is meant",
            refused(Code::MethodNotAllowed),
        ),
    ]
}

fn written() -> String {
    let faulty = Body::icu()
        .with("heart_rate", "NaN")
        .with("creatinine", r#"{"value": 1.4, "unit": "mmol/mol"}"#)
        .without("glucose");
    let mut text = INTRODUCTION.to_owned();
    text += REJECTED;
    text += &example(&judge(&specimens::icu(), &faulty.bytes()));
    text += REFUSED;
    text += &example(&Disposition::Refused(Code::Overloaded.into()));
    text += "\n## Codes\n";
    let (public, reasons): (Vec<Code>, Vec<Code>) =
        Code::ALL.iter().partition(|code| code.public() == **code);
    text += &table(public.into_iter());
    text += TOKENS;
    text += &table(reasons.into_iter());
    text += REVIEW;
    text += &table(
        Code::ALL
            .iter()
            .copied()
            .filter(|c| c.outcome() == Outcome::Review),
    );
    let body = Body::icu()
        .with("temperature", "43.4")
        .with("mean_bp", "130");
    text += &example(&judge(&specimens::icu(), &body.bytes()));
    text += HANDSHAKE;
    text += "\n## Odd inputs\n\n| sent | HTTP | disposition | codes |\n|---|---|---|---|\n";
    for (sent, disposition) in odd_inputs() {
        let codes: Vec<String> = disposition
            .codes()
            .iter()
            .map(|c| format!("`{}`", c.as_str()))
            .collect();
        writeln!(
            text,
            "| {sent} | {} | `{}` | {} |",
            disposition.status(),
            disposition.outcome().as_str(),
            codes.join(", ")
        )
        .unwrap();
    }
    text
}

#[test]
#[expect(
    clippy::disallowed_methods,
    reason = "asks whether to rewrite a file of the repository"
)]
fn the_document_is_the_table() {
    let written = written();
    if std::env::var_os("VITALGATE_BLESS").is_some() {
        std::fs::create_dir_all(Path::new(FILE).parent().unwrap()).unwrap();
        std::fs::write(FILE, &written).unwrap();
    }
    let found = std::fs::read_to_string(FILE).unwrap_or_default();
    assert!(
        found == written,
        "docs/errors.md is out of date: VITALGATE_BLESS=1 rewrites it"
    );
}

#[test]
fn a_code_is_one_name_for_one_thing() {
    let names: HashSet<&str> = Code::ALL.iter().map(|c| c.as_str()).collect();
    assert_eq!(names.len(), Code::ALL.len());
    let titles: HashSet<&str> = Code::ALL.iter().map(|c| c.title()).collect();
    assert_eq!(titles.len(), Code::ALL.len());
    for code in Code::ALL {
        let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
        assert!(code.as_str().chars().all(plain));
        assert!(!code.title().ends_with('.') && code.remedy().ends_with('.'));
        assert!(!code.title().contains('|') && !code.remedy().contains('|'));
        let fits = match code.outcome() {
            Outcome::Review => code.status() == 200,
            Outcome::Rejected => matches!(code.status(), 400 | 422),
            Outcome::Refused => matches!(code.status(), 0 | 400..=599),
            Outcome::Predicted | Outcome::Answered | Outcome::Announced => false,
        };
        assert!(fits, "{code:?}");
    }
}

#[test]
fn a_problem_document_has_its_members() {
    for code in Code::ALL.iter().filter(|c| c.outcome() == Outcome::Refused) {
        let refusal = Refusal::from(*code);
        assert_eq!(
            refusal.retry_after.is_some(),
            matches!(code.status(), 429 | 503)
        );
        let document = document(&Disposition::Refused(refusal));
        let public = code.public();
        assert_eq!(document["code"], public.as_str());
        assert_eq!(document["status"], code.status());
        assert_eq!(document["disposition"], "refused");
        assert_eq!(document["title"], public.title());
        let kind = document["type"].as_str().unwrap();
        assert!(kind.starts_with("urn:vitalgate:problem:") && !kind.contains('_'));
    }
}

#[test]
fn odd_inputs_never_become_predictions_or_server_errors() {
    for (sent, disposition) in odd_inputs() {
        assert!((200..500).contains(&disposition.status()), "{sent}");
        assert!(!disposition.codes().is_empty(), "{sent}");
    }
}

#[test]
fn a_rejection_is_unreadable_before_it_is_unprocessable() {
    let status = |body: &[u8]| judge(&specimens::icu(), body).status();
    assert_eq!(status(b"{\"observations\": {\"age\": \"x\"}}"), 422);
    assert_eq!(status(b"{\"observations\": {\"age\": \"x\"}"), 400);
}
