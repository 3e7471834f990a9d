//! The scan has teeth: it finds something as soon as one measure is left out. Needs a build with
//! the feature `phi-teeth`, which no server for patients is.
#![cfg(test)]

use std::process::Command;

use serde_json::Value;

/// Runs the self-test without the named measures; its exit code and report.
fn selftest_without(measures: &str) -> (Option<i32>, Value) {
    let output = Command::new(env!("CARGO_BIN_EXE_vitalgate"))
        .args(["selftest", "phi", "--json", "--requests", "400"])
        .env("VITALGATE_PHI_OFF", measures)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let report = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {said}"));
    (output.status.code(), report)
}

/// Leaving `measure` out leaves traces, `trace` among them.
fn bites(measure: &str, trace: &str) {
    let (code, report) = selftest_without(measure);
    println!("without {measure}: {}", report["traces"]);
    assert_eq!(code, Some(1), "without {measure}");
    assert!(
        report["traces"][trace].as_u64() > Some(0),
        "without {measure}: {}",
        report["traces"]
    );
}

#[test]
fn with_all_measures_there_is_nothing() {
    let (code, report) = selftest_without("");
    assert_eq!(report["hits"], Value::Array(Vec::new()));
    assert_eq!(code, Some(0));
}

#[test]
fn heap_blocks_not_wiped_when_freed() {
    bites("heap", "identifier");
}

#[test]
fn stacks_not_wiped() {
    // Numbers on their way through arithmetic; which ones, the compiler decides. There are few, and
    // what runs later on a thread may cover them: one run of several has to find some.
    let mut found = 0;
    for _ in 0..5 {
        let (_, report) = selftest_without("stack");
        println!("without stack: {}", report["traces"]);
        found = report["hits"].as_array().unwrap().len();
        if found > 0 {
            break;
        }
    }
    assert!(found > 0);
}

#[test]
fn tls_read_buffers_not_wiped() {
    bites("read-buffer", "decimal");
}

#[test]
fn http_parsers_not_dropped() {
    bites("recycling", "identifier");
}

#[test]
fn an_arena_in_onnx_runtime() {
    bites("arena", "activation_f32");
}

#[test]
fn batch_buffers_not_wiped() {
    bites("batch", "input_f32");
}
