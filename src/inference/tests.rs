//! With the real ONNX Runtime, which `make` fetches into `target/onnxruntime/lib/`.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "tests"
)]

mod in_place;
mod onnx;
mod refused;

use std::io;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use self::onnx::{FLOAT, faulty, faulty_answer, value};
use super::*;

fn runtime() -> Runtime {
    let library = find_library(None).unwrap_or_else(|error| panic!("{error}"));
    Runtime::load(&library, PINNED_SHA256).unwrap()
}

#[derive(Debug)]
struct Row {
    inputs: Vec<f32>,
    outputs: Vec<MemberOutput>,
}

impl Row {
    fn new(inputs: &[f32]) -> Self {
        Self {
            inputs: inputs.to_vec(),
            outputs: Vec::new(),
        }
    }
}

impl Scored for Row {
    fn inputs(&self) -> &[f32] {
        &self.inputs
    }

    fn set_output(&mut self, member: usize, row: usize, output: MemberOutput) {
        let rows = self.inputs.len() / 2;
        assert_eq!(
            member * rows + row,
            self.outputs.len(),
            "each member answers once, in order"
        );
        assert_ne!(
            self.inputs,
            [2.0, 99.0],
            "a row that makes the worker panic"
        );
        self.outputs.push(output);
    }
}

fn member(onnx: Vec<u8>) -> MemberSpec {
    MemberSpec {
        name: "net".into(),
        input: "features".into(),
        output: "probability".into(),
        onnx,
    }
}

fn known(inputs: [f32; 2], outputs: &[f32]) -> KnownAnswer {
    let name = "typical".into();
    KnownAnswer {
        name,
        inputs: inputs.into(),
        outputs: outputs.into(),
        tolerance: 1e-6,
    }
}

/// A model of one member that must give `answer` for (0, 0.25).
fn spec(onnx: Vec<u8>, answer: f32) -> EngineSpec {
    EngineSpec {
        model: "test".into(),
        features: NonZeroUsize::new(2).unwrap(),
        members: vec![member(onnx)],
        known_answers: vec![known([0.0, 0.25], &[answer])],
        execution: Execution::Cpu,
        limits: Limits::default(),
        after_run: || (),
        batch_rows: metrics::Histogram::noop(),
        batch_duration: metrics::Histogram::noop(),
    }
}

fn faulty_spec() -> EngineSpec {
    spec(faulty(), faulty_answer(&[0.0, 0.25]))
}

fn refusal(spec: &EngineSpec) -> String {
    Engine::<Row>::start(&runtime(), spec)
        .unwrap_err()
        .to_string()
}

/// Holds a worker in its `after_run`, so that the rows sent meanwhile make one batch.
struct Gate {
    shut: AtomicBool,
    batches: AtomicUsize,
}

impl Gate {
    const fn new() -> Self {
        Self {
            shut: AtomicBool::new(true),
            batches: AtomicUsize::new(0),
        }
    }

    fn pass(&self) {
        self.batches.fetch_add(1, Ordering::SeqCst);
        while self.shut.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

type Scoring = tokio::task::JoinHandle<Result<Box<Row>, ScoreError>>;

fn send(engine: &Arc<Engine<Row>>, inputs: &[f32]) -> Scoring {
    let (engine, row) = (Arc::clone(engine), Box::new(Row::new(inputs)));
    tokio::spawn(async move { engine.score(row).await })
}

async fn until(mut holds: impl FnMut() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Sends `rows` while the worker is held, so that they run together, and returns their outputs.
async fn batch(
    engine: &Arc<Engine<Row>>,
    gate: &Gate,
    rows: &[[f32; 2]],
) -> Vec<Vec<MemberOutput>> {
    let first = send(engine, &[0.0, 0.25]);
    until(|| gate.batches.load(Ordering::SeqCst) == 1).await;
    let waiting: Vec<Scoring> = rows.iter().map(|row| send(engine, row)).collect();
    until(|| engine.queued_rows() == rows.len()).await;
    gate.shut.store(false, Ordering::SeqCst);
    first.await.unwrap().unwrap();
    let mut outputs = Vec::new();
    for row in waiting {
        outputs.push(row.await.unwrap().unwrap().outputs);
    }
    outputs
}

#[tokio::test]
async fn a_batch_gives_what_its_rows_give_alone() {
    static GATE: Gate = Gate::new();
    let mut spec = faulty_spec();
    spec.members.push(member(onnx::sum()));
    spec.known_answers[0]
        .outputs
        .push(1.0 / (1.0 + (-0.25_f32).exp()));
    spec.after_run = || GATE.pass();
    let engine = Arc::new(Engine::start(&runtime(), &spec).unwrap());
    assert_eq!(engine.provider().name(), "CPUExecutionProvider");

    let rows: Vec<[f32; 2]> = (0..32).map(|i| [(i % 3) as f32, i as f32 / 10.0]).collect();
    let together = batch(&engine, &GATE, &rows).await;
    assert_eq!(
        GATE.batches.load(Ordering::SeqCst),
        2,
        "the 32 rows made one batch"
    );
    for (row, together) in rows.iter().zip(together) {
        let alone = send(&engine, row).await.unwrap().unwrap().outputs;
        assert_eq!(alone, together);
        let MemberOutput::Probability(found) = together[0] else {
            panic!("{together:?}")
        };
        assert!((found - faulty_answer(row)).abs() < 1e-6);
    }
}

#[tokio::test]
async fn a_failing_row_and_a_nan_row_leave_their_batch_mates_right() {
    static GATE: Gate = Gate::new();
    let mut spec = faulty_spec();
    spec.after_run = || GATE.pass();
    let engine = Arc::new(Engine::start(&runtime(), &spec).unwrap());
    let mut rows: Vec<[f32; 2]> = (0..32).map(|i| [(i % 3) as f32, i as f32 / 10.0]).collect();
    rows[7] = [7.0, 1.0]; // no such row of the table: the run fails
    rows[20] = [1.0, -1.0]; // NaN
    let outputs = batch(&engine, &GATE, &rows).await;
    assert_eq!(GATE.batches.load(Ordering::SeqCst), 2);
    for (index, (row, output)) in rows.iter().zip(outputs).enumerate() {
        match (index, output[0]) {
            (7, output) => assert_eq!(output, MemberOutput::Failed),
            (20, output) => assert_eq!(output, MemberOutput::Invalid),
            (_, MemberOutput::Probability(p)) => assert!((p - faulty_answer(row)).abs() < 1e-6),
            (_, output) => panic!("row {index}: {output:?}"),
        }
    }
    assert!(engine.is_alive());
}

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_failing_row_leaves_no_value_in_the_log() {
    let log = Captured::default();
    let writer = log.clone();
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();
    let engine = Arc::new(Engine::start(&runtime(), &faulty_spec()).unwrap());
    let outputs = send(&engine, &[987_654.0, 1.0])
        .await
        .unwrap()
        .unwrap()
        .outputs;
    assert_eq!(outputs, [MemberOutput::Failed]);
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(
        log.contains("CPUExecutionProvider"),
        "loading is logged: {log}"
    );
    assert!(!log.contains("987654") && !log.contains("idx"), "{log}");
}

#[tokio::test]
async fn a_network_that_answers_with_fewer_rows_never_shifts_answers() {
    static GATE: Gate = Gate::new();
    // Leaves out rows whose first feature is negative, though it declares one output a row.
    let nodes = [
        onnx::node("Gather", &["features", "zero"], "x", &[("axis", 1)]),
        onnx::node("GreaterOrEqual", &["x", "least"], "kept", &[]),
        onnx::node("Sigmoid", &["x"], "all", &[]),
        onnx::node("Compress", &["all", "kept"], "probability", &[("axis", 0)]),
    ];
    let weights = [
        onnx::ints("zero", &[], &[0]),
        onnx::floats("least", &[], &[0.0]),
    ];
    let (input, output) = (
        value("features", FLOAT, &[0, 2]),
        value("probability", FLOAT, &[0]),
    );
    let model = onnx::model(&onnx::graph(&nodes, &weights, &input, &output));
    let mut spec = spec(model.0, 0.5);
    spec.after_run = || GATE.pass();
    let engine = Arc::new(Engine::start(&runtime(), &spec).unwrap());
    let rows = [[0.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [0.5, 1.0]];
    let outputs = batch(&engine, &GATE, &rows).await;
    assert_eq!(outputs[1], [MemberOutput::Failed]);
    for kept in [0, 2, 3] {
        let MemberOutput::Probability(p) = outputs[kept][0] else {
            panic!("{outputs:?}")
        };
        assert!((p - 1.0 / (1.0 + (-rows[kept][0]).exp())).abs() < 1e-6);
    }
}

#[tokio::test]
async fn a_full_queue_turns_away_and_an_abandoned_row_is_not_run() {
    static GATE: Gate = Gate::new();
    let mut spec = faulty_spec();
    spec.limits.queue_rows = NonZeroUsize::new(2).unwrap();
    spec.after_run = || GATE.pass();
    let engine = Arc::new(Engine::start(&runtime(), &spec).unwrap());
    let first = send(&engine, &[0.0, 0.25]);
    until(|| GATE.batches.load(Ordering::SeqCst) == 1).await;
    // This one would make the worker panic.
    let abandoned = send(&engine, &[2.0, 99.0]);
    let second = send(&engine, &[1.0, 0.25]);
    until(|| engine.queued_rows() == 2).await;
    let refused = engine
        .score(Box::new(Row::new(&[1.0, 1.0])))
        .await
        .unwrap_err();
    assert_eq!(refused, ScoreError::QueueFull);
    abandoned.abort();
    assert!(abandoned.await.unwrap_err().is_cancelled());
    GATE.shut.store(false, Ordering::SeqCst);
    first.await.unwrap().unwrap();
    second.await.unwrap().unwrap();
    assert!(engine.is_alive());
    let width = engine.score(Box::new(Row::new(&[1.0]))).await.unwrap_err();
    assert_eq!(
        width,
        ScoreError::Width {
            expected: 2,
            found: 1
        }
    );
}

#[tokio::test]
async fn a_panic_stops_the_engine_but_neither_the_process_nor_its_callers() {
    static GATE: Gate = Gate::new();
    let mut spec = faulty_spec();
    spec.limits.max_batch = NonZeroUsize::new(2).unwrap();
    spec.after_run = || GATE.pass();
    let engine = Arc::new(Engine::start(&runtime(), &spec).unwrap());
    let first = send(&engine, &[0.0, 0.25]);
    until(|| GATE.batches.load(Ordering::SeqCst) == 1).await;
    // The last two are still in the queue when the worker panics.
    let waiting = [[2.0, 99.0], [1.0, 1.0], [1.0, 2.0], [1.0, 3.0]].map(|row| send(&engine, &row));
    until(|| engine.queued_rows() == 4).await;
    GATE.shut.store(false, Ordering::SeqCst);
    first.await.unwrap().unwrap();
    for row in waiting {
        assert_eq!(row.await.unwrap().unwrap_err(), ScoreError::Stopped);
    }
    assert!(!engine.is_alive());
    assert_eq!(
        engine
            .score(Box::new(Row::new(&[1.0, 1.0])))
            .await
            .unwrap_err(),
        ScoreError::Stopped
    );
}

#[tokio::test]
async fn several_threads_share_the_queue() {
    let mut spec = faulty_spec();
    spec.limits.threads = NonZeroUsize::new(3).unwrap();
    let engine = Arc::new(Engine::start(&runtime(), &spec).unwrap());
    let rows: Vec<[f32; 2]> = (0..500)
        .map(|i| [(i % 3) as f32, i as f32 / 100.0])
        .collect();
    let sent: Vec<Scoring> = rows.iter().map(|row| send(&engine, row)).collect();
    for (row, sent) in rows.iter().zip(sent) {
        let outputs = sent.await.unwrap().unwrap().outputs;
        let MemberOutput::Probability(p) = outputs[0] else {
            panic!("{outputs:?}")
        };
        assert!((p - faulty_answer(row)).abs() < 1e-6);
    }
}

#[test]
fn one_runtime_per_process() {
    runtime();
    let again = runtime();
    assert!(Engine::<Row>::start(&again, &faulty_spec()).is_ok());
    let other = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(other.path(), "not a library").unwrap();
    let hash = "f6bb034ecdd65239971cf2fbc49cb6ecef0dc0a192e40c2884e68e3346503e69";
    let error = Runtime::load(other.path(), hash).unwrap_err();
    assert!(
        matches!(error, RuntimeError::AlreadyLoaded { .. }),
        "{error}"
    );
    let missing = Runtime::load(Path::new("/nowhere/lib.so"), hash).unwrap_err();
    assert!(missing.to_string().contains("/nowhere/lib.so"));
}
