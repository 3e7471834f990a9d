//! Writes `bom.cdx.json`.

use serde_json::{Map, Value, json};
use vitalgate::{bundle::model::ModelSpec, inference::TensorSummary};

use super::{
    APPROVED_BY, MODIFIED_BY, opset_name,
    provenance::{DESCRIBED_DATA, Provenance, TrainingData},
};
use crate::cli::bundle::networks::Network;

/// The bill of materials: what the graphs consist of, and what is known of where they come from.
/// No time and no random number, so that building twice gives the same bytes.
pub(in crate::cli::bundle) fn make(
    spec: &ModelSpec,
    networks: &[Network],
    provenance: &Provenance,
    data: &[TrainingData],
) -> String {
    let version = spec.version.to_string();
    let whole = format!("model:{}@{version}", spec.name);
    let reference = |network: &Network| format!("member:{}", network.name);
    let described = provenance.described_data().filter(|_| data.is_empty());
    let mut data_references: Vec<_> = data.iter().map(TrainingData::reference).collect();
    data_references.extend(described.iter().map(|_| DESCRIBED_DATA.to_owned()));
    let mut components: Vec<Value> = networks
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
    components.extend(data.iter().map(|set| set.component(provenance)));
    components.extend(described);
    let members: Vec<String> = networks.iter().map(reference).collect();
    let made_of: Vec<_> = members.iter().chain(&data_references).collect();
    let mut dependencies = vec![json!({"ref": whole, "dependsOn": made_of})];
    dependencies.extend(
        members
            .iter()
            .map(|member| json!({"ref": member, "dependsOn": data_references})),
    );
    let mut tools = vec![json!({
        "type": "application",
        "name": "vitalgate",
        "version": env!("CARGO_PKG_VERSION"),
    })];
    tools.extend(
        provenance
            .tools
            .iter()
            .map(|tool| json!({"type": "application", "name": tool.name, "version": tool.version})),
    );
    let people = |names: &[String]| -> Vec<Value> {
        names.iter().map(|name| json!({"name": name})).collect()
    };
    let mut metadata = json!({
        "tools": {"components": tools},
        "component": {
            "type": "machine-learning-model",
            "bom-ref": whole,
            "name": spec.name,
            "version": version,
            "description": spec.intended_use,
            "modelCard": card(spec, provenance, &data_references),
            "properties": signers(provenance),
        },
    });
    if !provenance.trained_by.is_empty()
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.insert("authors".to_owned(), people(&provenance.trained_by).into());
    }
    let bom = json!({
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": metadata,
        "components": components,
        "dependencies": dependencies,
    });
    format!("{bom:#}\n")
}

fn card(spec: &ModelSpec, provenance: &Provenance, data: &[String]) -> Value {
    let mut parameters = Map::new();
    parameters.insert(
        "task".to_owned(),
        format!("probability of {}", spec.outcome.name).into(),
    );
    if let Some(architecture) = &provenance.architecture {
        parameters.insert("modelArchitecture".to_owned(), architecture.clone().into());
    }
    let datasets: Vec<_> = data.iter().map(|set| json!({"ref": set})).collect();
    if !datasets.is_empty() {
        parameters.insert("datasets".to_owned(), datasets.into());
    }
    let mut considerations = Map::new();
    for (name, words) in [
        ("users", &provenance.users),
        ("useCases", &provenance.use_cases),
        ("technicalLimitations", &provenance.limits),
    ] {
        if !words.is_empty() {
            considerations.insert(name.to_owned(), words.clone().into());
        }
    }
    let metrics: Vec<_> = provenance
        .metrics
        .iter()
        .map(|metric| {
            let mut written = json!({"type": metric.kind, "value": metric.value});
            if let Some(written) = written.as_object_mut() {
                if let Some(slice) = &metric.slice {
                    written.insert("slice".to_owned(), slice.clone().into());
                }
                if let Some((low, high)) = &metric.interval {
                    let interval = json!({"lowerBound": low, "upperBound": high});
                    written.insert("confidenceInterval".to_owned(), interval);
                }
            }
            written
        })
        .collect();
    json!({
        "modelParameters": parameters,
        "quantitativeAnalysis": {"performanceMetrics": metrics},
        "considerations": considerations,
    })
}

fn signers(provenance: &Provenance) -> Vec<Value> {
    [
        (MODIFIED_BY, &provenance.modified_by),
        (APPROVED_BY, &provenance.approved_by),
    ]
    .into_iter()
    .flat_map(|(name, people)| {
        people
            .iter()
            .map(move |person| json!({"name": name, "value": person}))
    })
    .collect()
}

fn formats(tensors: &[TensorSummary]) -> Vec<Value> {
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
    if !graph.producer.is_empty() {
        list.push(property("onnx:producer".to_owned(), graph.producer.clone()));
    }
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

/// Whether a bill of materials made elsewhere is one, and is of these networks.
pub(in crate::cli::bundle) fn check(bytes: &[u8], networks: &[Network]) -> Result<(), String> {
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
