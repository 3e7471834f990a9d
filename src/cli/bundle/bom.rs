//! `bom.cdx.json`: the bundle's bill of materials, CycloneDX 1.6.

use serde_json::{Value, json};
use vitalgate::bundle::model::ModelSpec;

use super::networks::Network;

/// What can be said without knowing where the networks come from: names, hashes, and what the
/// graphs consist of. No time and no random number, so that building twice gives the same bytes.
pub(super) fn minimal(spec: &ModelSpec, networks: &[Network]) -> String {
    let version = spec.version.to_string();
    let whole = format!("model:{}@{version}", spec.name);
    let reference = |network: &Network| format!("member:{}", network.name);
    let components: Vec<Value> = networks
        .iter()
        .map(|network| {
            json!({
                "type": "machine-learning-model",
                "bom-ref": reference(network),
                "name": network.file,
                "version": version,
                "hashes": [{"alg": "SHA-256", "content": network.sha256}],
                "modelCard": {"modelParameters": {
                    "inputs": formats(&network.graph.inputs),
                    "outputs": formats(&network.graph.outputs),
                }},
                "properties": properties(network),
            })
        })
        .collect();
    let references: Vec<String> = networks.iter().map(reference).collect();
    let mut dependencies = vec![json!({"ref": whole, "dependsOn": references})];
    dependencies.extend(references.iter().map(|member| json!({"ref": member})));
    let bom = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "tools": {"components": [{
                "type": "application",
                "name": "vitalgate",
                "version": env!("CARGO_PKG_VERSION"),
            }]},
            "component": {
                "type": "machine-learning-model",
                "bom-ref": whole,
                "name": spec.name,
                "version": version,
                "description": spec.intended_use,
                "modelCard": {"modelParameters": {
                    "task": format!("probability of {}", spec.outcome.name),
                }},
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    format!("{bom:#}\n")
}

fn formats(tensors: &[vitalgate::inference::TensorSummary]) -> Vec<Value> {
    tensors
        .iter()
        .map(|tensor| json!({"format": format!("{}: {}", tensor.name, tensor.shape)}))
        .collect()
}

fn properties(network: &Network) -> Vec<Value> {
    let graph = &network.graph;
    let property =
        |name: String, value: String| json!({"name": format!("vitalgate:{name}"), "value": value});
    let mut list = vec![property(
        "onnx:ir_version".to_owned(),
        graph.ir_version.to_string(),
    )];
    list.extend(graph.opsets.iter().map(|(domain, version)| {
        property(
            format!("onnx:opset:{}", opset_name(domain)),
            version.to_string(),
        )
    }));
    list.extend(
        graph
            .node_counts
            .iter()
            .map(|(operator, count)| property(format!("onnx:nodes:{operator}"), count.to_string())),
    );
    list
}

/// The ONNX domain is written as an empty string in the file.
pub(super) fn opset_name(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}

/// Whether a bill of materials made elsewhere is one, and is of these networks.
pub(super) fn check(bytes: &[u8], networks: &[Network]) -> Result<(), String> {
    let bom: Value = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if bom.get("bomFormat").and_then(Value::as_str) != Some("CycloneDX") {
        return Err("not a CycloneDX document in JSON".to_owned());
    }
    let components = bom
        .get("components")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    for component in components {
        let named = |network: &&Network| {
            component.get("name").and_then(Value::as_str) == Some(network.file.as_str())
        };
        let Some(network) = networks.iter().find(named) else {
            continue;
        };
        let hashes = component.get("hashes").and_then(Value::as_array);
        for hash in hashes.into_iter().flatten() {
            let text = |field: &str| hash.get(field).and_then(Value::as_str);
            let other = text("content")
                .is_some_and(|content| !content.eq_ignore_ascii_case(&network.sha256));
            if text("alg") == Some("SHA-256") && other {
                return Err(format!("its SHA-256 of {} is another file's", network.file));
            }
        }
    }
    Ok(())
}

/// A measured performance that a bill of materials reports.
#[derive(Debug, serde::Serialize)]
pub(super) struct Metric {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) value: String,
    pub(super) slice: Option<String>,
    pub(super) interval: Option<(String, String)>,
}

/// The metrics of the model as a whole, as far as they can be read.
pub(super) fn metrics(bytes: &[u8]) -> Vec<Metric> {
    let bom: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let list = bom
        .pointer("/metadata/component/modelCard/quantitativeAnalysis/performanceMetrics")
        .and_then(Value::as_array);
    let text = |value: &Value, pointer: &str| {
        value
            .pointer(pointer)
            .and_then(Value::as_str)
            .map(str::to_owned)
    };
    list.into_iter()
        .flatten()
        .filter_map(|metric| {
            let bound = |name: &str| text(metric, &format!("/confidenceInterval/{name}"));
            Some(Metric {
                kind: text(metric, "/type")?,
                value: text(metric, "/value")?,
                slice: text(metric, "/slice"),
                interval: bound("lowerBound").zip(bound("upperBound")),
            })
        })
        .collect()
}
