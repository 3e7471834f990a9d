//! Cost of the distribution screen for one patient of 20 features, beside what it protects: a raw
//! run of each of the model's networks in ONNX Runtime, batch of one, on the same thread.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start must stop"
)]

use std::{hint::black_box, path::Path};

use criterion::{Criterion, criterion_group, criterion_main};
use ort::{session::Session, value::TensorRef};
use vitalgate::{
    bundle::model::ModelSpec,
    inference::{PINNED_SHA256, Runtime, find_library},
    screening::{Scratch, Screen},
};

fn screening(c: &mut Criterion) {
    let bundle = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/icu-mortality/bundle");
    let read = |name: &str| std::fs::read(bundle.join(name)).unwrap();
    let spec = ModelSpec::parse(&read("model.json")).unwrap();
    let screen = Screen::parse(&read("reference.json"), &spec)
        .unwrap()
        .unwrap();
    // The known answers in turn, so that no branch is learnt by heart.
    let rows: Vec<Vec<f64>> = spec
        .known_answers
        .iter()
        .map(|known| known.inputs.iter().map(|v| f64::from(*v)).collect())
        .collect();
    let lacking: Vec<Vec<f64>> = rows
        .iter()
        .map(|row| {
            let mut row = row.clone();
            if let Some(last) = row.last_mut() {
                *last = f64::NAN;
            }
            row
        })
        .collect();
    let mut scratch = Scratch::default();
    for (name, rows) in [
        ("screen a row", rows),
        ("screen a row, one value missing", lacking),
    ] {
        let mut next = rows.iter().cycle();
        c.bench_function(name, |b| {
            b.iter(|| {
                let row = black_box(next.next().unwrap());
                let judgement = screen.judge(row.iter().copied(), &mut scratch);
                scratch.wipe();
                judgement
            });
        });
    }

    let runtime = Runtime::load(&find_library(None).unwrap(), PINNED_SHA256).unwrap();
    for member in &spec.members {
        let mut session = Session::builder(runtime.environment())
            .and_then(|builder| {
                Ok(builder
                    .with_intra_threads(1)?
                    .with_intra_op_spinning(false)?)
            })
            .and_then(|mut builder| builder.commit_from_memory(&read(&member.file)))
            .unwrap();
        let mut next = spec.known_answers.iter().cycle();
        c.bench_function(&format!("ONNX Runtime, {}", member.name), |b| {
            b.iter(|| {
                let inputs = black_box(next.next().unwrap()).inputs.as_slice();
                let tensor = TensorRef::from_array_view(([1, inputs.len()], inputs)).unwrap();
                let outputs = session.run(ort::inputs![tensor]).unwrap();
                let (_, output) = outputs.iter().next().unwrap();
                output.try_extract_tensor::<f32>().unwrap().1.to_vec()
            });
        });
    }
}

criterion_group!(benches, screening);
criterion_main!(benches);
