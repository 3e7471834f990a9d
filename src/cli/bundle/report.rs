//! What `inspect` found, as text and as JSON.

use serde_json::{Map, Value, json};
use vitalgate::bundle::model::RawModel;

use crate::cli::table::table;

use super::{
    bom::{DataSet, Origin, opset_name},
    card::{FEATURE_COLUMNS, bands, feature_row, policy, violation},
    inspect::{Findings, SignatureFound},
    networks::Network,
};
use vitalgate::error_chain::printable;

pub(super) fn json(findings: &Findings) -> Value {
    let files: Map<String, Value> = findings
        .files
        .iter()
        .map(|(name, bytes)| (name.clone(), json!(bytes)))
        .collect();
    json!({
        "bundle": findings.bundle,
        "digest": format!("sha256:{}", findings.digest),
        "servable": findings.problem.is_none(),
        "problem": findings.problem,
        "files": files,
        "signatures": findings.signatures,
        "model": findings.model_json,
        "members": findings.networks.iter().map(member_json).collect::<Vec<_>>(),
        "known_answers_run": findings.ran,
        "metrics": findings.metrics,
        "origin": findings.origin,
        "warnings": findings.warnings,
    })
}

fn member_json(network: &Network) -> Value {
    let tensors = |list: &[vitalgate::inference::TensorSummary]| -> Map<String, Value> {
        list.iter()
            .map(|tensor| (tensor.name.clone(), json!(tensor.shape)))
            .collect()
    };
    let opsets: Map<String, Value> = network
        .graph
        .opsets
        .iter()
        .map(|(domain, version)| (opset_name(domain).to_owned(), json!(version)))
        .collect();
    json!({
        "name": network.name,
        "file": network.file,
        "bytes": network.bytes,
        "sha256": network.sha256,
        "ir_version": network.graph.ir_version,
        "producer": network.graph.producer,
        "opsets": opsets,
        "nodes": network.graph.node_counts,
        "inputs": tensors(&network.graph.inputs),
        "outputs": tensors(&network.graph.outputs),
    })
}

pub(super) fn text(findings: &Findings, key_given: bool) -> String {
    let mut lines = Vec::new();
    if let Some(model) = &findings.model {
        lines.push(format!("{}, version {}", model.name, model.version));
        lines.push(printable(&model.title));
        lines.push(String::new());
        lines.push(format!("Intended use: {}", printable(&model.intended_use)));
        lines.push(String::new());
    }
    lines.push(format!("bundle  {}", printable(&findings.bundle)));
    lines.push(format!("digest  sha256:{}", findings.digest));
    for (name, bytes) in &findings.files {
        lines.push(format!("file    {} ({bytes} bytes)", printable(name)));
    }
    signature_lines(&findings.signatures, key_given, &mut lines);
    origin_lines(&findings.origin, &mut lines);
    if let Some(model) = &findings.model {
        network_lines(&findings.networks, &mut lines);
        if !findings.warnings.is_empty() {
            lines.push(String::new());
            lines.push("Unusual: ask why before you approve".to_owned());
            lines.extend(findings.warnings.iter().map(|words| format!("  {words}")));
        }
        model_lines(model, findings.ran, &mut lines);
    }
    if !findings.metrics.is_empty() {
        lines.push(String::new());
        lines.push("Metrics, as bom.cdx.json states them".to_owned());
    }
    let metrics: Vec<[String; 4]> = findings
        .metrics
        .iter()
        .map(|metric| {
            let interval = metric.interval.as_ref();
            [
                printable(&metric.kind),
                printable(&metric.value),
                interval.map_or_else(String::new, |(low, high)| {
                    format!("[{}, {}]", printable(low), printable(high))
                }),
                metric.slice.as_deref().map_or_else(String::new, printable),
            ]
        })
        .collect();
    lines.extend(table(&metrics));
    lines.join("\n")
}

fn signature_lines(signatures: &[SignatureFound], key_given: bool, lines: &mut Vec<String>) {
    lines.push(String::new());
    lines.push(
        match (signatures.is_empty(), key_given) {
            (true, _) => "Signatures: none beside the bundle",
            (false, true) => "Signatures, checked against the key given",
            (false, false) => "Signatures, NOT verified (no --key given); anybody can claim a key",
        }
        .to_owned(),
    );
    for signature in signatures {
        let verdict = match (signature.verified, &signature.reason) {
            (None, _) => "not verified".to_owned(),
            (Some(true), _) => "verified".to_owned(),
            (Some(false), reason) => {
                format!("does not hold: {}", reason.as_deref().unwrap_or_default())
            }
        };
        lines.push(format!(
            "  {}  claims {}: {verdict}",
            signature.file, signature.claims
        ));
    }
}

/// Who made it, of what, for whom, and where it must not be trusted.
fn origin_lines(origin: &Origin, lines: &mut Vec<String>) {
    lines.push(String::new());
    lines.push("Origin, as bom.cdx.json states it".to_owned());
    let mut say = |label: &str, words: &[String]| {
        if words.is_empty() {
            lines.push(format!("  {label:13}not stated"));
        }
        for (index, line) in words.iter().enumerate() {
            let label = if index == 0 { label } else { "" };
            lines.push(format!("  {label:13}{}", printable(line)));
        }
    };
    say("trained by", &origin.trained_by);
    say("modified by", &origin.modified_by);
    say("approved by", &origin.approved_by);
    let data: Vec<_> = origin.data.iter().flat_map(data_lines).collect();
    say("data", &data);
    say("tools", &origin.tools);
    say("users", &origin.users);
    say("uses", &origin.use_cases);
    say("limits", &origin.limits);
}

fn data_lines(set: &DataSet) -> Vec<String> {
    let version = set.version.as_deref().unwrap_or_default();
    let mut lines = vec![format!("{} {version}", set.name).trim_end().to_owned()];
    lines.extend(set.sha256.iter().map(|digest| format!("  sha256 {digest}")));
    lines.extend(set.description.iter().map(|words| format!("  {words}")));
    lines
}

fn network_lines(networks: &[Network], lines: &mut Vec<String>) {
    lines.push(String::new());
    lines.push(format!("Members ({})", networks.len()));
    for network in networks {
        let graph = &network.graph;
        let opsets = graph
            .opsets
            .iter()
            .map(|(domain, version)| format!("{} {version}", opset_name(domain)));
        let nodes = graph
            .node_counts
            .iter()
            .map(|(operator, count)| format!("{operator} {count}"));
        let tensors = |list: &[vitalgate::inference::TensorSummary]| {
            join(list.iter().map(|t| format!("{} {}", t.name, t.shape)))
        };
        lines.push(format!(
            "  {}: {} ({} bytes, sha256 {})",
            network.name,
            printable(&network.file),
            network.bytes,
            network.sha256
        ));
        lines.push(format!(
            "    ONNX IR {}; opsets {}; written by {}",
            graph.ir_version,
            join(opsets),
            if graph.producer.is_empty() {
                "an unnamed program".to_owned()
            } else {
                printable(&graph.producer)
            }
        ));
        lines.push(format!("    nodes: {}", join(nodes)));
        lines.push(format!(
            "    in {}; out {}",
            tensors(&graph.inputs),
            tensors(&graph.outputs)
        ));
    }
}

fn model_lines(model: &RawModel, ran: bool, lines: &mut Vec<String>) {
    lines.push(String::new());
    lines.push(format!("Features ({})", model.features.len()));
    let mut rows = vec![FEATURE_COLUMNS.map(str::to_owned)];
    rows.extend(model.features.iter().map(feature_row));
    lines.extend(table(&rows));

    lines.push(String::new());
    lines.push(format!("Consistency rules ({})", model.consistency.len()));
    for rule in &model.consistency {
        lines.push(format!(
            "  {} ({}): {}",
            printable(&rule.id),
            violation(rule.on_violation),
            printable(&rule.rule)
        ));
        lines.push(format!("    {}", printable(&rule.message)));
    }

    lines.push(String::new());
    lines.push(format!(
        "Outcome        {}, to the nearest {}",
        printable(&model.outcome.name),
        model.output.precision
    ));
    lines.push(format!("Bands          {}", bands(&model.outcome)));
    if let Some(agreement) = model.agreement {
        lines.push(format!(
            "Agreement      members' logits differ by {} at most (alpha {})",
            agreement.max_logit_spread, agreement.alpha
        ));
    }
    lines.push(format!("Review         {}", policy(model.review.policy)));
    lines.push(format!(
        "Missing        more than {} imputed values go to review",
        model.review.max_missing
    ));
    lines.push(format!(
        "Known answers  {}, {}",
        model.known_answers.len(),
        if ran {
            "reproduced by every member on the CPU"
        } else {
            "not run (--run does; the server does at load)"
        }
    ));
}

fn join(words: impl Iterator<Item = String>) -> String {
    printable(&words.collect::<Vec<_>>().join(", "))
}
