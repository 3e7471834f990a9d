//! Reads a network's graph before ONNX Runtime does, and refuses what has no place in one.
//!
//! The messages below declare only the fields of `onnx.proto` that are judged here. Protobuf skips
//! the rest, weights included, so reading costs little. Both parsers merge repeated fields alike;
//! the one known way to show them different models, the `.ort` container, is refused.

use std::collections::{BTreeMap, BTreeSet};

use prost::Message;

const MAX_BYTES: usize = 64 << 20;
const MAX_NODES: usize = 10_000;
const MAX_DEPTH: usize = 8;
const DOMAINS: [&str; 3] = ["", "ai.onnx", "ai.onnx.ml"];

/// Why a graph is refused, whoever signed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// More than 64 MiB.
    #[error("the ONNX file has {0} bytes, more than {MAX_BYTES}")]
    TooLarge(usize),
    /// Not an ONNX protobuf.
    #[error("not a readable ONNX model: {0}")]
    Malformed(String),
    /// ONNX Runtime's own file format, whose content cannot be inspected.
    #[error("the file is in the ORT format; only ONNX is accepted")]
    OrtFormat,
    /// The file holds no graph.
    #[error("the ONNX file has no graph")]
    NoGraph,
    /// The file carries graphs for training.
    #[error("the ONNX file contains training graphs")]
    Training,
    /// The file defines operators of its own.
    #[error("the ONNX file defines functions of its own")]
    Functions,
    /// Weights outside the signed file.
    #[error("tensor {0:?} keeps its data in another file")]
    ExternalData(String),
    /// An operator from a domain other than ONNX and ONNX-ML.
    #[error(
        "operator {op:?} is from the domain {domain:?}; only ONNX and ONNX-ML operators are run"
    )]
    Domain {
        /// The operator's type.
        op: String,
        /// Its domain.
        domain: String,
    },
    /// The operator's name is none: ONNX names are C identifiers.
    #[error("{0:?} is not the name of an operator")]
    Operator(String),
    /// Two versions of one operator set: readers may take either.
    #[error("the operator set of the domain {0:?} is imported twice")]
    OpsetTwice(String),
    /// More than 10,000 nodes, subgraphs included.
    #[error("the graph has more than {MAX_NODES} nodes")]
    TooManyNodes,
    /// Subgraphs nested more than 8 deep.
    #[error("subgraphs are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

/// What a network consists of, for people who decide about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GraphSummary {
    /// Version of the ONNX format.
    pub ir_version: i64,
    /// The program that wrote the file, with its version; empty when it does not say.
    pub producer: String,
    /// Operator set versions by domain; the ONNX domain is `""`.
    pub opsets: BTreeMap<String, i64>,
    /// How many nodes of each operator, subgraphs included; ONNX-ML operators as `ai.onnx.ml.Op`.
    pub node_counts: BTreeMap<String, usize>,
    /// Inputs that the caller supplies.
    pub inputs: Vec<TensorSummary>,
    /// Outputs.
    pub outputs: Vec<TensorSummary>,
}

/// A declared input or output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorSummary {
    /// Its name.
    pub name: String,
    /// Element type and shape, for instance `float32[N, 30]`.
    pub shape: String,
}

/// Reads the ONNX file `onnx` and refuses external data, foreign operators, model-local functions,
/// training graphs and anything too large.
pub fn inspect(onnx: &[u8]) -> Result<GraphSummary, GraphError> {
    if onnx.len() > MAX_BYTES {
        return Err(GraphError::TooLarge(onnx.len()));
    }
    // ONNX Runtime tells its own format by this mark, which can be hidden in a valid protobuf.
    if onnx.get(4..8) == Some(b"ORTM") {
        return Err(GraphError::OrtFormat);
    }
    let model =
        ModelProto::decode(onnx).map_err(|error| GraphError::Malformed(error.to_string()))?;
    if !model.functions.is_empty() {
        return Err(GraphError::Functions);
    }
    if !model.training_info.is_empty() {
        return Err(GraphError::Training);
    }
    let graph = model.graph.ok_or(GraphError::NoGraph)?;
    let mut counts = NodeCounts::default();
    counts.add(&graph, 0)?;

    let mut opsets = BTreeMap::new();
    for set in model.opset_import {
        // Two names of one domain.
        let domain = match set.domain.as_str() {
            "ai.onnx" => String::new(),
            _ => set.domain,
        };
        if opsets.insert(domain.clone(), set.version).is_some() {
            return Err(GraphError::OpsetTwice(domain));
        }
    }

    // Old exporters list the weights as inputs too.
    let weights: BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let supplied = graph
        .input
        .iter()
        .filter(|input| !weights.contains(input.name.as_str()));
    Ok(GraphSummary {
        ir_version: model.ir_version,
        producer: [&model.producer_name, &model.producer_version]
            .map(|part| String::from_utf8_lossy(part))
            .join(" ")
            .trim()
            .to_owned(),
        opsets,
        node_counts: counts.by_operator,
        inputs: supplied.map(ValueInfoProto::summary).collect(),
        outputs: graph.output.iter().map(ValueInfoProto::summary).collect(),
    })
}

fn is_identifier(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
    name.chars().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit()) && !name.is_empty()
}

#[derive(Default)]
struct NodeCounts {
    total: usize,
    by_operator: BTreeMap<String, usize>,
}

impl NodeCounts {
    fn add(&mut self, graph: &GraphProto, depth: usize) -> Result<(), GraphError> {
        if depth > MAX_DEPTH {
            return Err(GraphError::TooDeep);
        }
        graph.initializer.iter().try_for_each(TensorProto::check)?;
        graph
            .sparse_initializer
            .iter()
            .try_for_each(SparseTensorProto::check)?;
        for node in &graph.node {
            self.total += 1;
            if self.total > MAX_NODES {
                return Err(GraphError::TooManyNodes);
            }
            if !DOMAINS.contains(&node.domain.as_str()) {
                return Err(GraphError::Domain {
                    op: node.op_type.clone(),
                    domain: node.domain.clone(),
                });
            }
            if !is_identifier(&node.op_type) {
                return Err(GraphError::Operator(node.op_type.clone()));
            }
            let name = match node.domain.as_str() {
                "ai.onnx.ml" => format!("ai.onnx.ml.{}", node.op_type),
                _ => node.op_type.clone(),
            };
            *self.by_operator.entry(name).or_default() += 1;
            for attribute in &node.attribute {
                attribute
                    .t
                    .iter()
                    .chain(&attribute.tensors)
                    .try_for_each(TensorProto::check)?;
                let sparse = attribute
                    .sparse_tensor
                    .iter()
                    .chain(&attribute.sparse_tensors);
                sparse.into_iter().try_for_each(SparseTensorProto::check)?;
                for subgraph in attribute.g.iter().chain(&attribute.graphs) {
                    self.add(subgraph, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(int64, tag = "1")]
    ir_version: i64,
    // Bytes: ONNX Runtime takes text that is not UTF-8 too.
    #[prost(bytes = "vec", tag = "2")]
    producer_name: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    producer_version: Vec<u8>,
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "20")]
    training_info: Vec<Presence>,
    #[prost(message, repeated, tag = "25")]
    functions: Vec<Presence>,
}

/// Any message, of which only its being there matters.
#[derive(Clone, PartialEq, Message)]
struct Presence {}

#[derive(Clone, PartialEq, Message)]
struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

#[derive(Clone, PartialEq, Message)]
struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeProto>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "15")]
    sparse_initializer: Vec<SparseTensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeProto {
    #[prost(string, tag = "4")]
    op_type: String,
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeProto>,
    #[prost(string, tag = "7")]
    domain: String,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeProto {
    #[prost(message, optional, tag = "5")]
    t: Option<TensorProto>,
    #[prost(message, optional, tag = "6")]
    g: Option<GraphProto>,
    #[prost(message, repeated, tag = "10")]
    tensors: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    graphs: Vec<GraphProto>,
    #[prost(message, optional, tag = "22")]
    sparse_tensor: Option<SparseTensorProto>,
    #[prost(message, repeated, tag = "23")]
    sparse_tensors: Vec<SparseTensorProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(string, tag = "8")]
    name: String,
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Presence>,
    #[prost(int32, tag = "14")]
    data_location: i32,
}

impl TensorProto {
    fn check(&self) -> Result<(), GraphError> {
        if self.data_location != 0 || !self.external_data.is_empty() {
            return Err(GraphError::ExternalData(self.name.clone()));
        }
        Ok(())
    }
}

#[derive(Clone, PartialEq, Message)]
struct SparseTensorProto {
    #[prost(message, optional, tag = "1")]
    values: Option<TensorProto>,
    #[prost(message, optional, tag = "2")]
    indices: Option<TensorProto>,
}

impl SparseTensorProto {
    fn check(&self) -> Result<(), GraphError> {
        self.values
            .iter()
            .chain(&self.indices)
            .try_for_each(TensorProto::check)
    }
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfoProto {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    r#type: Option<TypeProto>,
}

impl ValueInfoProto {
    fn summary(&self) -> TensorSummary {
        let tensor = self
            .r#type
            .as_ref()
            .and_then(|declared| declared.tensor_type.as_ref());
        let shape = tensor.map_or_else(|| "not a tensor".to_owned(), TensorTypeProto::text);
        TensorSummary {
            name: self.name.clone(),
            shape,
        }
    }
}

#[derive(Clone, PartialEq, Message)]
struct TypeProto {
    #[prost(message, optional, tag = "1")]
    tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    elem_type: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShapeProto>,
}

impl TensorTypeProto {
    fn text(&self) -> String {
        let element = match self.elem_type {
            1 => "float32".to_owned(),
            6 => "int32".to_owned(),
            7 => "int64".to_owned(),
            8 => "string".to_owned(),
            9 => "bool".to_owned(),
            10 => "float16".to_owned(),
            11 => "float64".to_owned(),
            other => format!("type {other}"),
        };
        let Some(shape) = &self.shape else {
            return element;
        };
        let dims = shape
            .dim
            .iter()
            .map(|dim| match (dim.value, dim.param.as_deref()) {
                (Some(fixed), _) => fixed.to_string(),
                (None, Some(symbol)) if !symbol.is_empty() => symbol.to_owned(),
                (None, _) => "?".to_owned(),
            });
        format!("{element}[{}]", dims.collect::<Vec<_>>().join(", "))
    }
}

#[derive(Clone, PartialEq, Message)]
struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
struct DimensionProto {
    #[prost(int64, optional, tag = "1")]
    value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    param: Option<String>,
}
