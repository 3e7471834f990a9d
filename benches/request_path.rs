//! Cost of the stages in memory, on a demo patient: what screening adds to inference.
//!
//! `score` is the round trip to the model's thread and back, both members, a batch of one.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start must stop"
)]

use std::{collections::BTreeMap, hint::black_box, path::Path};

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use vitalgate::{
    bundle::{engine_spec, model::ModelSpec},
    clinical, consensus,
    inference::{Engine, Execution, PINNED_SHA256, Runtime, find_library},
    review, schema,
    screening::{self, Screen},
    stability,
};

const MODEL: &[u8] = include_bytes!("../models/icu-mortality/bundle/model.json");
const PATIENT: &[u8] = include_bytes!("../models/icu-mortality/examples/predicted.json");

fn request_path(c: &mut Criterion) {
    let spec = ModelSpec::parse(MODEL).unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/icu-mortality/bundle");
    let mut files: BTreeMap<String, Vec<u8>> = spec
        .members
        .iter()
        .map(|m| {
            (
                m.file.clone(),
                std::fs::read(directory.join(&m.file)).unwrap(),
            )
        })
        .collect();
    let engine_spec = engine_spec(&directory, &spec, &mut files, Execution::Cpu).unwrap();
    let runtime = Runtime::load(&find_library(None).unwrap(), PINNED_SHA256).unwrap();
    let engine = Engine::start(&runtime, &engine_spec).unwrap();
    let tokio = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();

    let parse = || schema::parse(&spec, black_box(PATIENT)).unwrap();
    let screen = |observed| {
        let plausible = clinical::check_ranges(observed).unwrap();
        let consistent = clinical::check_consistency(plausible).unwrap();
        review::clear(screening::check_distribution(None, consistent)).unwrap()
    };
    c.bench_function("parse", |b| b.iter(parse));
    c.bench_function("ranges, consistency, clear", |b| {
        b.iter_batched(parse, screen, BatchSize::SmallInput);
    });
    c.bench_function("score", |b| {
        b.iter_batched(
            || screen(parse()),
            |cleared| tokio.block_on(consensus::score(&engine, cleared)).unwrap(),
            BatchSize::SmallInput,
        );
    });
    // With this reach every pattern is tried on every prediction.
    let reference = std::fs::read(directory.join("reference.json")).unwrap();
    let mut reference: serde_json::Value = serde_json::from_slice(&reference).unwrap();
    let pushes = reference.pointer_mut("/stability/pushes").unwrap();
    for push in pushes.as_array_mut().unwrap() {
        *push.pointer_mut("/up").unwrap() = 10.into();
    }
    let fitted = Screen::parse(reference.to_string().as_bytes(), &spec);
    let fitted = fitted.unwrap().unwrap();
    let consensus = || {
        let scores = tokio.block_on(consensus::score(&engine, screen(parse())));
        consensus::agree(None, scores.unwrap()).unwrap()
    };
    c.bench_function("stability, when run", |b| {
        b.iter_batched(
            consensus,
            |consensus| {
                let looked = stability::check_stability(&engine, Some(&fitted), consensus);
                tokio.block_on(looked).unwrap()
            },
            BatchSize::SmallInput,
        );
    });
}

criterion_group!(benches, request_path);
criterion_main!(benches);
