//! What is refused before it may serve.

use super::onnx::{self, DOUBLE, FLOAT, INT64, Proto, faulty, value};
use super::*;

#[test]
fn a_tensor_that_is_not_as_declared_is_refused() {
    let mut spec = faulty_spec();
    spec.members[0].input = "x".into();
    let error = refusal(&spec);
    assert!(
        error.ends_with(r#"the network has no input "x"; it has "features""#),
        "{error}"
    );
    spec = faulty_spec();
    spec.members[0].output = "logit".into();
    let error = refusal(&spec);
    assert!(
        error.ends_with(r#"the network has no output "logit"; it has "probability""#),
        "{error}"
    );

    let features = |dims: &[u64]| value("features", FLOAT, dims);
    let probability = |dims: &[u64]| value("probability", FLOAT, dims);
    let cases = [
        (
            features(&[0, 3]),
            probability(&[0]),
            "must be f32[N, 2], but is f32[N, 3]",
        ),
        (
            features(&[1, 2]),
            probability(&[1]),
            "must be f32[N, 2], but is f32[1, 2]",
        ),
        (
            value("features", DOUBLE, &[0, 2]),
            value("probability", DOUBLE, &[0]),
            r#"input "features" must be f32[N, 2], but is f64[N, 2]"#,
        ),
    ];
    for (input, output, expected) in cases {
        let model = onnx::model(&onnx::sum_graph(&input, &output));
        let error = refusal(&super::spec(model.0, 0.5));
        assert!(error.contains(expected), "{error}");
    }

    let identity = [onnx::node("Identity", &["features"], "probability", &[])];
    let model = onnx::model(&onnx::graph(
        &identity,
        &[],
        &features(&[0, 2]),
        &probability(&[0, 2]),
    ));
    let error = refusal(&super::spec(model.0, 0.5));
    let expected = r#"output "probability" must be f32[N, 1] or f32[N], but is f32[N, 2]"#;
    assert!(error.contains(expected), "{error}");

    let cast = [onnx::node(
        "Cast",
        &["features"],
        "probability",
        &[("to", INT64)],
    )];
    let output = value("probability", INT64, &[0, 2]);
    let model = onnx::model(&onnx::graph(&cast, &[], &features(&[0, 2]), &output));
    let error = refusal(&super::spec(model.0, 0.5));
    assert!(error.contains("but is i64[N, 2]"), "{error}");
}

#[test]
fn a_wrong_known_answer_is_refused() {
    let error = refusal(&spec(faulty(), 0.9));
    assert!(
        error.contains(r#"known answer "typical" in a batch of 1 on CPU"#),
        "{error}"
    );
    let mut none = faulty_spec();
    none.known_answers.clear();
    assert!(refusal(&none).contains("no known answers"));
    let mut misfit = faulty_spec();
    misfit.known_answers[0].inputs.push(1.0);
    assert!(refusal(&misfit).contains("must have 2 inputs"));
    let mut fails = faulty_spec();
    fails.known_answers[0].inputs[0] = 7.0;
    let error = refusal(&fails);
    assert!(error.contains("fails on known answers"), "{error}");
}

#[test]
fn a_network_that_mixes_patients_is_refused() {
    // Each answer is relative to the batch's mean; alone, every row gets one half.
    let nodes = [
        onnx::node("Gather", &["features", "zero"], "x", &[("axis", 1)]),
        onnx::node("ReduceMean", &["x"], "mean", &[("keepdims", 1)]),
        onnx::node("Sub", &["x", "mean"], "relative", &[]),
        onnx::node("Sigmoid", &["relative"], "probability", &[]),
    ];
    let (input, output) = (
        value("features", FLOAT, &[0, 2]),
        value("probability", FLOAT, &[0]),
    );
    let graph = onnx::graph(&nodes, &[onnx::ints("zero", &[], &[0])], &input, &output);
    let mut spec = spec(onnx::model(&graph).0, 0.5);
    spec.known_answers.push(known([2.0, 0.0], &[0.5]));
    let error = refusal(&spec);
    assert!(error.contains("in a batch of 32"), "{error}");
}

#[test]
fn cuda_without_a_gpu_is_an_error_and_never_the_cpu() {
    let mut spec = faulty_spec();
    spec.execution = Execution::Cuda;
    let error = Engine::<Row>::start(&runtime(), &spec).unwrap_err();
    assert!(error.is_environment());
    let text = error.to_string();
    assert!(
        text.contains(r#"execution = "cuda""#) && !text.contains('\n'),
        "{text}"
    );
}

#[test]
fn a_summary_names_what_the_graph_consists_of() {
    let summary = inspect(&faulty()).unwrap();
    assert_eq!((summary.ir_version, summary.opsets[""]), (8, 17));
    assert_eq!(summary.node_counts["Gather"], 3);
    assert_eq!(summary.inputs[0].shape, "float32[N, 2]");
    assert_eq!(summary.outputs[0].name, "probability");
}

#[test]
fn a_graph_with_anything_from_elsewhere_is_refused() {
    let (input, output) = (
        value("features", FLOAT, &[0, 2]),
        value("probability", FLOAT, &[0]),
    );
    let with = |nodes: &[Proto], weights: &[Proto]| {
        inspect(&onnx::model(&onnx::graph(nodes, weights, &input, &output)).0).unwrap_err()
    };
    let entry = Proto::default().text(1, "location").text(2, "/etc/shadow");
    let outside = Proto::default()
        .int(1, 1)
        .text(8, "w")
        .put(13, &entry)
        .int(14, 1);
    let external = GraphError::ExternalData("w".into());
    let identity = onnx::node("Identity", &["features"], "probability", &[]);
    assert_eq!(with(&[], std::slice::from_ref(&outside)), external);
    let attribute = Proto::default()
        .text(1, "value")
        .put(5, &outside)
        .int(20, 4);
    let constant = onnx::node("Constant", &[], "w", &[]).put(5, &attribute);
    assert_eq!(with(std::slice::from_ref(&constant), &[]), external);
    // In the branch of an If.
    let branch = |inner: &Proto| {
        let graph = Proto::default().put(1, inner);
        onnx::node("If", &["c"], "w", &[]).put(5, &Proto::default().put(6, &graph).int(20, 5))
    };
    assert_eq!(with(&[branch(&constant)], &[]), external);
    let foreign = identity.clone().text(7, "com.microsoft");
    assert!(matches!(
        with(&[branch(&foreign)], &[]),
        GraphError::Domain { .. }
    ));
    let nested = (0..9).fold(identity.clone(), |inner, _| branch(&inner));
    assert_eq!(with(&[nested], &[]), GraphError::TooDeep);
    assert_eq!(with(&vec![identity; 10_001], &[]), GraphError::TooManyNodes);

    let good = faulty();
    let extended = |field: &Proto| inspect(&[&good[..], &field.0].concat()).unwrap_err();
    assert_eq!(
        extended(&Proto::default().bytes(25, b"")),
        GraphError::Functions
    );
    assert_eq!(
        extended(&Proto::default().bytes(20, b"")),
        GraphError::Training
    );
    // The same domain, by either name, with another version.
    for domain in ["", "ai.onnx"] {
        let again = Proto::default().put(8, &Proto::default().text(1, domain).int(2, 26));
        assert_eq!(extended(&again), GraphError::OpsetTwice(String::new()));
    }
    for name in ["", "Identity\u{1b}[2K", "1d", "Identity Relu"] {
        let node = onnx::node(name, &["features"], "probability", &[]);
        assert_eq!(with(&[node], &[]), GraphError::Operator(name.into()));
    }
    assert_eq!(inspect(b""), Err(GraphError::NoGraph));
    assert!(matches!(
        inspect(&good[..good.len() - 3]),
        Err(GraphError::Malformed(_))
    ));
    // A valid protobuf (ir_version, then a producer name) that bears ONNX Runtime's own mark.
    let disguised = Proto::default().int(1, 8).text(2, "ORTM is my name");
    assert_eq!(
        inspect(&[&disguised.0, &good[..]].concat()),
        Err(GraphError::OrtFormat)
    );
    assert!(matches!(
        inspect(&vec![0; (64 << 20) + 1]),
        Err(GraphError::TooLarge(_))
    ));
}
