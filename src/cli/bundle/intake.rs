//! What a reviewer should ask about before a network from elsewhere is approved.
//!
//! What the server refuses outright (external data, foreign operators, functions, training
//! graphs, too many nodes or bytes) is refused by [`vitalgate::inference::inspect`]. What is here
//! would be served: it may have its reason, and somebody should know it.

use super::{bom::opset_name, networks::Network};
use vitalgate::error_chain::printable;

/// The newest operator sets that ONNX Runtime 1.31 was released for.
const NEWEST: [(&str, i64); 2] = [("ai.onnx", 26), ("ai.onnx.ml", 5)];
/// Older sets have operators that since changed their meaning.
const OLDEST: i64 = 7;
const MANY_NODES: usize = 1_000;
const MANY_BYTES: usize = 16 << 20;
/// Which way is taken, and how often, then depends on the values: so does the time it takes.
const CONTROL_FLOW: [&str; 4] = ["If", "Loop", "Scan", "SequenceMap"];
/// The same patient gets another answer each time.
const RANDOM: [&str; 6] = [
    "Bernoulli",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];
/// Text has no place between measurements and a probability.
const TEXT: [&str; 6] = [
    "RegexFullMatch",
    "StringConcat",
    "StringNormalizer",
    "StringSplit",
    "TfIdfVectorizer",
    "ai.onnx.ml.CategoryMapper",
];

/// Each unusual thing about the networks, in a line.
pub(super) fn warnings(networks: &[Network]) -> Vec<String> {
    networks
        .iter()
        .flat_map(|network| {
            unusual(network)
                .into_iter()
                .map(|words| format!("{}: {words}", printable(&network.file)))
        })
        .collect()
}

fn unusual(network: &Network) -> Vec<String> {
    let graph = &network.graph;
    let mut found = Vec::new();
    for (operators, why) in [
        (
            &CONTROL_FLOW[..],
            "control flow: its time depends on the values",
        ),
        (&RANDOM[..], "random: the same patient gets other answers"),
        (&TEXT[..], "text processing, which measurements do not need"),
    ] {
        for operator in operators {
            if let Some(count) = graph.node_counts.get(*operator) {
                found.push(format!("{count} nodes {operator}: {why}"));
            }
        }
    }
    for (domain, version) in &graph.opsets {
        let domain = opset_name(domain);
        match NEWEST.iter().find(|(known, _)| *known == domain) {
            None => found.push(format!(
                "imports the operator set {} {version}, and uses none of it",
                printable(domain)
            )),
            Some((_, newest)) if version > newest => found.push(format!(
                "operator set {domain} {version} is newer than {newest}, which ONNX Runtime knows"
            )),
            Some(_) if domain == "ai.onnx" && *version < OLDEST => found.push(format!(
                "operator set {domain} {version} is older than {OLDEST}"
            )),
            Some(_) => {}
        }
    }
    if graph.producer.is_empty() {
        found.push("does not say what program wrote it".to_owned());
    }
    let nodes: usize = graph.node_counts.values().sum();
    if nodes > MANY_NODES {
        found.push(format!("{nodes} nodes; more than {MANY_NODES} is unusual"));
    }
    if network.bytes > MANY_BYTES {
        found.push(format!(
            "{} bytes; more than {MANY_BYTES} is unusual",
            network.bytes
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use vitalgate::inference::GraphSummary;

    use super::*;

    fn network(change: impl FnOnce(&mut Network)) -> Vec<String> {
        let mut network = Network {
            name: "a".to_owned(),
            file: "members/a.onnx".to_owned(),
            bytes: 9,
            sha256: String::new(),
            graph: GraphSummary {
                ir_version: 8,
                producer: "trainer 1".to_owned(),
                opsets: [(String::new(), 17), ("ai.onnx.ml".to_owned(), 3)].into(),
                node_counts: [("Gemm".to_owned(), 3)].into(),
                inputs: Vec::new(),
                outputs: Vec::new(),
            },
        };
        change(&mut network);
        warnings(&[network])
    }

    #[test]
    fn each_unusual_thing_is_named_and_nothing_else() {
        assert_eq!(network(|_| ()), Vec::<String>::new());
        let node = |operator: &str, count| {
            let operator = operator.to_owned();
            network(move |n| n.graph.node_counts.extend([(operator, count)]))
        };
        let opset = |domain: &str, version| {
            let domain = domain.to_owned();
            network(move |n| n.graph.opsets.extend([(domain, version)]))
        };
        for (found, word) in [
            (node("Loop", 2), "2 nodes Loop: control flow"),
            (node("RandomNormal", 1), "random"),
            (node("StringNormalizer", 1), "text"),
            (node("Gemm", 1_001), "1001 nodes"),
            (opset("", 27), "newer than 26"),
            (opset("", 6), "older than 7"),
            (opset("com.vendor", 1), "com.vendor 1"),
            (network(|n| n.bytes = 17 << 20), "bytes"),
            (network(|n| n.graph.producer.clear()), "what program"),
        ] {
            assert!(
                matches!(found.as_slice(), [one] if one.contains(word)),
                "{word}: {found:?}"
            );
        }
    }
}
