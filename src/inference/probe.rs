//! Everything a network computes on its way to the answer. For the residue self-test, which
//! looks for these numbers in the server's memory; never used to serve.

use ort::{session::Session, value::TensorRef};
use prost::Message;

use super::{
    runtime::{Runtime, one_line},
    session::{Execution, RunFailed, SessionError, builder, cpu},
};

/// A network whose intermediate tensors are outputs too.
pub(crate) struct Probe {
    session: Session,
    features: usize,
}

impl Probe {
    /// Makes a session for the ONNX file `onnx`, of `features` inputs, on the CPU.
    pub(crate) fn load(
        runtime: &Runtime,
        onnx: &[u8],
        features: usize,
    ) -> Result<Self, SessionError> {
        let refused = |error: ort::Error| SessionError::Load(one_line(error.message()));
        let graph = Model::decode(onnx)
            .map_err(|error| SessionError::Load(error.to_string()))?
            .graph
            .unwrap_or_default();
        let declared: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
        let inner = graph.node.iter().flat_map(|node| &node.output);
        let output = inner
            .filter(|name| !name.is_empty() && !declared.contains(&name.as_str()))
            .map(|name| ValueInfo { name: name.clone() })
            .collect();
        // Protobuf merges a message field that occurs twice: the outputs are added to the graph.
        let mut probed = onnx.to_vec();
        let node = Vec::new();
        let more = Model {
            graph: Some(Graph { node, output }),
        };
        more.encode(&mut probed)
            .map_err(|error| SessionError::Load(error.to_string()))?;
        let session = builder(runtime, Execution::Cpu, &[cpu()])
            .and_then(|mut builder| builder.commit_from_memory(&probed))
            .map_err(refused)?;
        Ok(Self { session, features })
    }

    /// Every float tensor that the network computes for one row, by name.
    pub(crate) fn run(&mut self, inputs: &[f32]) -> Result<Vec<(String, Vec<f32>)>, RunFailed> {
        if inputs.len() != self.features {
            return Err(RunFailed);
        }
        let tensor =
            TensorRef::from_array_view(([1, self.features], inputs)).map_err(|_| RunFailed)?;
        let outputs = self
            .session
            .run(ort::inputs![tensor])
            .map_err(|_| RunFailed)?;
        let tensors = outputs.iter().filter_map(|(name, value)| {
            // Labels and the like are no floats.
            let (_, floats) = value.try_extract_tensor::<f32>().ok()?;
            Some((name.to_owned(), floats.to_vec()))
        });
        Ok(tensors.collect())
    }
}

#[derive(Clone, PartialEq, Message)]
struct Model {
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
}

#[derive(Clone, PartialEq, Message)]
struct Graph {
    #[prost(message, repeated, tag = "1")]
    node: Vec<Node>,
    #[prost(message, repeated, tag = "12")]
    output: Vec<ValueInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, repeated, tag = "2")]
    output: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ValueInfo {
    #[prost(string, tag = "1")]
    name: String,
}
