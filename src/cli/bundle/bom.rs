//! `bom.cdx.json`: the bundle's bill of materials, `CycloneDX` 1.6, as it is read. What it says is its
//! maker's account; a signature says whose.

use serde::Serialize;
use serde_json::Value;

#[cfg(feature = "tools")]
pub(super) mod making;
#[cfg(feature = "tools")]
pub(super) mod provenance;

/// Properties that say who changed and who approved; `CycloneDX` has no words for them.
const MODIFIED_BY: &str = "vitalgate:modified_by";
const APPROVED_BY: &str = "vitalgate:approved_by";

/// The ONNX domain is written as an empty string in the file.
pub(super) fn opset_name(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
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

/// Where the model comes from and what it is for, as far as the bill of materials says.
#[derive(Debug, Default, Serialize)]
pub(super) struct Origin {
    pub(super) trained_by: Vec<String>,
    pub(super) modified_by: Vec<String>,
    pub(super) approved_by: Vec<String>,
    pub(super) data: Vec<DataSet>,
    pub(super) tools: Vec<String>,
    pub(super) users: Vec<String>,
    pub(super) use_cases: Vec<String>,
    pub(super) limits: Vec<String>,
}

/// Data the model was made with.
#[derive(Debug, Serialize)]
pub(super) struct DataSet {
    pub(super) name: String,
    pub(super) version: Option<String>,
    pub(super) sha256: Option<String>,
    pub(super) description: Option<String>,
}

/// The model's origin, as far as it can be read.
pub(super) fn origin(bytes: &[u8]) -> Origin {
    let bom: Value = serde_json::from_slice(bytes).unwrap_or_default();
    let considerations = "/metadata/component/modelCard/considerations";
    let people = [
        names(&bom, "/metadata/authors"),
        names(&bom, "/metadata/component/authors"),
    ];
    Origin {
        trained_by: people.concat(),
        modified_by: stated(&bom, MODIFIED_BY),
        approved_by: stated(&bom, APPROVED_BY),
        data: list(&bom, "/components")
            .filter(|component| text(component, "/type").as_deref() == Some("data"))
            .filter_map(data_set)
            .collect(),
        tools: list(&bom, "/metadata/tools/components")
            .filter_map(|tool| {
                let name = text(tool, "/name")?;
                Some(match text(tool, "/version") {
                    Some(version) => format!("{name} {version}"),
                    None => name,
                })
            })
            .collect(),
        users: words(&bom, &format!("{considerations}/users")),
        use_cases: words(&bom, &format!("{considerations}/useCases")),
        limits: words(&bom, &format!("{considerations}/technicalLimitations")),
    }
}

fn data_set(component: &Value) -> Option<DataSet> {
    let sha256 = list(component, "/hashes")
        .find(|hash| text(hash, "/alg").as_deref() == Some("SHA-256"))
        .and_then(|hash| text(hash, "/content"));
    Some(DataSet {
        name: text(component, "/name")?,
        version: text(component, "/version"),
        sha256,
        description: text(component, "/data/0/description"),
    })
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    let found = value.pointer(pointer).and_then(Value::as_array);
    found.into_iter().flatten()
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .map(str::to_owned)
}

fn words(value: &Value, pointer: &str) -> Vec<String> {
    list(value, pointer)
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect()
}

fn names(value: &Value, pointer: &str) -> Vec<String> {
    list(value, pointer)
        .filter_map(|person| text(person, "/name"))
        .collect()
}

fn stated(bom: &Value, name: &str) -> Vec<String> {
    list(bom, "/metadata/component/properties")
        .filter(|property| text(property, "/name").as_deref() == Some(name))
        .filter_map(|property| text(property, "/value"))
        .collect()
}
