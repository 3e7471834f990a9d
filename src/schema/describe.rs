//! The JSON Schema 2020-12 of a model's request, for integrators and their validators.

use serde_json::{Map, Value, json};

use super::{MAX_SUBJECT, claim::MAX_TOKEN};
use crate::{
    bundle::model::{Feature, Kind, Missing, ModelSpec},
    review::OverrideReason,
    units::MAX_UNIT_BYTES,
};

/// What `GET /v1/models/{m}/schema` answers.
///
/// A bare number is held to the possible range; a number with a unit is not, since the range
/// is stated in the declared unit.
pub fn request_schema(spec: &ModelSpec) -> Value {
    let features: Map<String, Value> = spec
        .features
        .iter()
        .map(|f| (f.name.clone(), observation(f)))
        .collect();
    let required: Vec<&str> = spec
        .features
        .iter()
        .filter(|f| f.missing == Missing::Reject)
        .map(|f| f.name.as_str())
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("{} version {}: request", spec.name, spec.version),
        "type": "object",
        "required": ["observations"],
        "additionalProperties": false,
        "properties": {
            "observations": {
                "type": "object",
                "required": required,
                "additionalProperties": false,
                "properties": features,
            },
            "context": {
                "type": "object",
                "additionalProperties": false,
                "properties": {
                    "encounter": {
                        "type": ["string", "null"],
                        "description": at_most(MAX_SUBJECT),
                    },
                    "patient": {
                        "type": ["string", "null"],
                        "description": at_most(MAX_SUBJECT),
                    },
                },
            },
            "review": {
                "type": ["object", "null"],
                "description": "overrides a review of the same input",
                "required": ["token", "reason_code"],
                "additionalProperties": false,
                "properties": {
                    "token": {"type": "string", "description": at_most(MAX_TOKEN)},
                    "reason_code": {"enum": OverrideReason::ALL.map(OverrideReason::as_str)},
                },
            },
        },
    })
}

/// JSON Schema's `maxLength` counts characters; the limits are in bytes.
fn at_most(bytes: usize) -> String {
    format!("at most {bytes} bytes of UTF-8")
}

fn observation(feature: &Feature) -> Value {
    let null = matches!(feature.missing, Missing::Impute(_));
    let mut bare = json!({
        "type": if feature.kind == Kind::Quantity { "number" } else { "integer" },
        "minimum": feature.possible.min,
        "maximum": feature.possible.max,
    });
    if feature.kind == Kind::Boolean {
        bare = json!({"enum": [true, false, 0, 1]});
    }
    let mut value_types = vec!["number"];
    if feature.kind == Kind::Boolean {
        value_types.push("boolean");
    }
    if null {
        value_types.push("null");
    }
    let with_unit = json!({
        "type": "object",
        "required": ["value"],
        "additionalProperties": false,
        "properties": {
            "value": {"type": value_types},
            "unit": {
                "type": "string",
                "description": at_most(MAX_UNIT_BYTES),
                "default": feature.unit,
            },
        },
    });
    let mut any = vec![bare, with_unit];
    if null {
        any.push(json!({"type": "null"}));
    }
    json!({"title": feature.title, "anyOf": any})
}
