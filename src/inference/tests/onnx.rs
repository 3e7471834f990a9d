//! Writes small ONNX files, field by field, so that each test shows the graph it is about.

/// A protobuf message under construction.
#[derive(Clone, Default)]
pub(super) struct Proto(pub(super) Vec<u8>);

impl Proto {
    pub(super) fn int(mut self, tag: u64, value: u64) -> Self {
        self.varint(tag << 3);
        self.varint(value);
        self
    }

    pub(super) fn bytes(mut self, tag: u64, value: &[u8]) -> Self {
        self.varint(tag << 3 | 2);
        self.varint(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    pub(super) fn text(self, tag: u64, value: &str) -> Self {
        self.bytes(tag, value.as_bytes())
    }

    pub(super) fn put(self, tag: u64, message: &Self) -> Self {
        self.bytes(tag, &message.0)
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

pub(super) const FLOAT: u64 = 1;
pub(super) const INT64: u64 = 7;
pub(super) const DOUBLE: u64 = 11;

/// `0` in `dims` is the free dimension N.
pub(super) fn value(name: &str, element: u64, dims: &[u64]) -> Proto {
    let shape = dims.iter().fold(Proto::default(), |shape, &dim| {
        let dim = match dim {
            0 => Proto::default().text(2, "N"),
            fixed => Proto::default().int(1, fixed),
        };
        shape.put(1, &dim)
    });
    let tensor = Proto::default().int(1, element).put(2, &shape);
    Proto::default()
        .text(1, name)
        .put(2, &Proto::default().put(1, &tensor))
}

pub(super) fn node(op: &str, inputs: &[&str], output: &str, attributes: &[(&str, u64)]) -> Proto {
    let node = inputs
        .iter()
        .fold(Proto::default(), |node, input| node.text(1, input));
    attributes
        .iter()
        .fold(node.text(2, output).text(4, op), |node, &(name, number)| {
            node.put(5, &Proto::default().text(1, name).int(3, number).int(20, 2))
        })
}

pub(super) fn floats(name: &str, dims: &[u64], data: &[f32]) -> Proto {
    let raw: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, FLOAT, dims, &raw)
}

pub(super) fn ints(name: &str, dims: &[u64], data: &[i64]) -> Proto {
    let raw: Vec<u8> = data.iter().flat_map(|value| value.to_le_bytes()).collect();
    tensor(name, INT64, dims, &raw)
}

fn tensor(name: &str, element: u64, dims: &[u64], raw: &[u8]) -> Proto {
    let tensor = dims
        .iter()
        .fold(Proto::default(), |tensor, &dim| tensor.int(1, dim));
    tensor.int(2, element).text(8, name).bytes(9, raw)
}

pub(super) fn graph(nodes: &[Proto], weights: &[Proto], input: &Proto, output: &Proto) -> Proto {
    let graph = nodes
        .iter()
        .fold(Proto::default(), |graph, node| graph.put(1, node));
    let graph = weights
        .iter()
        .fold(graph.text(2, "test"), |graph, weight| graph.put(5, weight));
    graph.put(11, input).put(12, output)
}

pub(super) fn model(graph: &Proto) -> Proto {
    Proto::default()
        .int(1, 8)
        .put(7, graph)
        .put(8, &Proto::default().text(1, "").int(2, 17))
}

/// float32 [N, 2] → float32 [N, 1]: sigmoid(table[features[0]] + sqrt(features[1])).
///
/// A first feature that is not a row of the table makes the whole run fail; a negative second one
/// makes its own row NaN.
pub(super) fn faulty() -> Vec<u8> {
    let nodes = [
        node("Gather", &["features", "zero"], "code", &[("axis", 1)]),
        node("Cast", &["code"], "index", &[("to", INT64)]),
        node("Gather", &["table", "index"], "base", &[("axis", 0)]),
        node("Gather", &["features", "one"], "x", &[("axis", 1)]),
        node("Sqrt", &["x"], "root", &[]),
        node("Add", &["base", "root"], "sum", &[]),
        node("Sigmoid", &["sum"], "flat", &[]),
        node("Unsqueeze", &["flat", "axes"], "probability", &[]),
    ];
    let weights = [
        ints("zero", &[], &[0]),
        ints("one", &[], &[1]),
        ints("axes", &[1], &[1]),
        floats("table", &[3], &TABLE),
    ];
    let input = value("features", FLOAT, &[0, 2]);
    model(&graph(
        &nodes,
        &weights,
        &input,
        &value("probability", FLOAT, &[0, 1]),
    ))
    .0
}

pub(super) const TABLE: [f32; 3] = [-2.0, -1.0, 0.5];

/// What [`faulty`] computes.
pub(super) fn faulty_answer(inputs: &[f32]) -> f32 {
    1.0 / (1.0 + (-TABLE[inputs[0] as usize] - inputs[1].sqrt()).exp())
}

/// float32 [N, 2] → float32 [N]: sigmoid(features[0] + features[1]).
pub(super) fn sum() -> Vec<u8> {
    model(&sum_graph(
        &value("features", FLOAT, &[0, 2]),
        &value("probability", FLOAT, &[0]),
    ))
    .0
}

pub(super) fn sum_graph(input: &Proto, output: &Proto) -> Proto {
    let nodes = [
        node(
            "ReduceSum",
            &["features", "axes"],
            "total",
            &[("keepdims", 0)],
        ),
        node("Sigmoid", &["total"], "probability", &[]),
    ];
    graph(&nodes, &[ints("axes", &[1], &[1])], input, output)
}
