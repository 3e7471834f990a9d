//! One member's network, ready to run on the provider that was asked for, and on no other.

use std::fmt;

use ort::ep::{CPU, ExecutionProviderDispatch};
use ort::logging::LogLevel;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, Session};
use ort::value::{Outlet, TensorElementType, TensorRef, ValueType};
use zeroize::Zeroize;

use super::runtime::{Runtime, one_line};
use crate::phi::measures::{Measure, in_force};

/// Where the configuration says that networks run. There is no fallback between the two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Execution {
    /// On the CPU.
    #[default]
    Cpu,
    /// On an NVIDIA GPU. Refuses to start without one.
    Cuda,
}

/// Where networks run, as known-answer inference has shown. It is reported in readiness, metrics
/// and audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provider {
    /// ONNX Runtime's CPU provider.
    Cpu,
    /// ONNX Runtime's CUDA provider.
    Cuda,
}

impl Provider {
    /// ONNX Runtime's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "CPUExecutionProvider",
            Self::Cuda => "CUDAExecutionProvider",
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a network could not be made ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// This program has no CUDA support.
    #[error("execution = \"cuda\" needs a program built with the feature `cuda`; this one is not")]
    CudaNotBuilt,
    /// The GPU, its driver or its libraries do not work, or cannot run all of the network.
    #[error("execution = \"cuda\" does not work here: {0}")]
    Cuda(String),
    /// ONNX Runtime refuses the network.
    #[error("ONNX Runtime refuses the network: {0}")]
    Load(String),
    /// The network wants something else than one input.
    #[error("the network takes {0} inputs, expected exactly one")]
    Inputs(usize),
    /// The network has no tensor of the declared name.
    #[error("the network has no {role} {name:?}; it has {}", found.join(", "))]
    Missing {
        /// "input" or "output".
        role: &'static str,
        /// The declared name.
        name: String,
        /// The names that exist.
        found: Vec<String>,
    },
    /// The tensor of the declared name is of another type or shape.
    #[error("{role} {name:?} must be {expected}, but is {found}")]
    Mismatch {
        /// "input" or "output".
        role: &'static str,
        /// The tensor's name.
        name: String,
        /// Type and shape required.
        expected: String,
        /// Type and shape found.
        found: String,
    },
}

impl SessionError {
    /// Whether the machine or the build is at fault rather than the model (exit code 3).
    pub fn is_environment(&self) -> bool {
        matches!(self, Self::CudaNotBuilt | Self::Cuda(_))
    }
}

/// A run gave no usable output. It says nothing more: ONNX Runtime's messages quote values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunFailed;

/// One member's network. Owned by one thread; [`Network::run`] needs it exclusively.
pub(super) struct Network {
    session: Session,
    options: RunOptions<HasSelectedOutputs>,
    features: usize,
}

impl Network {
    /// Makes a session for an inspected ONNX file, whose input must be float32 `[N, features]`
    /// and whose output float32 `[N, 1]` or `[N]`, N being free.
    pub(super) fn load(
        runtime: &Runtime,
        execution: Execution,
        onnx: &[u8],
        input: &str,
        output: &str,
        features: usize,
    ) -> Result<Self, SessionError> {
        let providers = providers(execution)?;
        let refused = |error: ort::Error| match execution {
            Execution::Cpu => SessionError::Load(one_line(error.message())),
            Execution::Cuda => SessionError::Cuda(one_line(error.message())),
        };
        let session = builder(runtime, execution, &providers)
            .and_then(|mut builder| builder.commit_from_memory(onnx))
            .map_err(refused)?;

        if session.inputs().len() != 1 {
            return Err(SessionError::Inputs(session.inputs().len()));
        }
        let features_dim = i64::try_from(features).unwrap_or(i64::MAX);
        check("input", input, session.inputs(), &[&[-1, features_dim]])?;
        check("output", output, session.outputs(), &[&[-1, 1], &[-1]])?;

        // Only what was declared is computed and fetched.
        let options = RunOptions::new()
            .map_err(refused)?
            .with_outputs(OutputSelector::no_default().with(output));
        Ok(Self {
            session,
            options,
            features,
        })
    }

    /// Runs over the rows packed in `inputs` (row-major, a whole number of rows) and gives `read`
    /// one output per row, in order.
    pub(super) fn run(
        &mut self,
        inputs: &[f32],
        read: impl FnOnce(&[f32]),
    ) -> Result<(), RunFailed> {
        let rows = inputs.len() / self.features;
        // ort builds the tensor from the shape and trusts it to fit the slice.
        if rows == 0 || rows * self.features != inputs.len() {
            return Err(RunFailed);
        }
        let tensor =
            TensorRef::from_array_view(([rows, self.features], inputs)).map_err(|_| RunFailed)?;
        let mut outputs = self
            .session
            .run_with_options(ort::inputs![tensor], &self.options)
            .map_err(|_| RunFailed)?;
        let (_, mut output) = outputs.iter_mut().next().ok_or(RunFailed)?;
        let (shape, values) = output
            .try_extract_tensor_mut::<f32>()
            .map_err(|_| RunFailed)?;
        // A graph may declare [N, 1] and still answer with fewer rows, or one for all of them.
        let leading = shape.first().and_then(|&dim| usize::try_from(dim).ok());
        if leading != Some(rows) || values.len() != rows {
            return Err(RunFailed);
        }
        read(values);
        values.zeroize();
        Ok(())
    }
}

fn providers(execution: Execution) -> Result<Vec<ExecutionProviderDispatch>, SessionError> {
    match execution {
        Execution::Cpu => Ok(vec![cpu()]),
        Execution::Cuda => Ok(vec![cuda()?, cpu()]),
    }
}

#[cfg(feature = "cuda")]
#[expect(clippy::unnecessary_wraps, reason = "an error without the feature")]
fn cuda() -> Result<ExecutionProviderDispatch, SessionError> {
    Ok(ort::ep::CUDA::default().build().error_on_failure())
}

#[cfg(not(feature = "cuda"))]
fn cuda() -> Result<ExecutionProviderDispatch, SessionError> {
    Err(SessionError::CudaNotBuilt)
}

/// The arena keeps freed blocks, and with them activations of earlier patients.
pub(super) fn cpu() -> ExecutionProviderDispatch {
    CPU::default()
        .with_arena_allocator(!in_force(Measure::Arena))
        .build()
        .error_on_failure()
}

pub(super) fn builder(
    runtime: &Runtime,
    execution: Execution,
    providers: &[ExecutionProviderDispatch],
) -> ort::Result<SessionBuilder> {
    let builder = Session::builder(runtime.environment())?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        .with_intra_op_spinning(false)?
        .with_inter_op_spinning(false)?
        // Patterns plan one block per shape and keep it between runs.
        .with_memory_pattern(!in_force(Measure::Arena))?
        .with_optimization_level(GraphOptimizationLevel::All)?
        // The inspected bytes are ONNX; never let their content choose another parser.
        .with_config_entry("session.load_model_format", "ONNX")?
        .with_log_level(LogLevel::Fatal)?
        .with_execution_providers(providers)?;
    match execution {
        Execution::Cpu => Ok(builder),
        // "CUDA is available" only means "compiled in"; a node left to the CPU is an error.
        Execution::Cuda => Ok(builder.with_disable_cpu_fallback()?),
    }
}

/// Finds the tensor `name` among `outlets` and demands float32 in one of `shapes` (-1: free).
fn check(
    role: &'static str,
    name: &str,
    outlets: &[Outlet],
    shapes: &[&[i64]],
) -> Result<(), SessionError> {
    let Some(outlet) = outlets.iter().find(|outlet| outlet.name() == name) else {
        let found = outlets
            .iter()
            .map(|outlet| format!("{:?}", outlet.name()))
            .collect();
        return Err(SessionError::Missing {
            role,
            name: name.to_owned(),
            found,
        });
    };
    let (fits, found) = match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => {
            let fits = *ty == TensorElementType::Float32 && shapes.contains(&&**shape);
            (fits, describe(*ty, shape))
        }
        ValueType::Sequence(_) => (false, "a sequence".to_owned()),
        ValueType::Map { .. } => (false, "a map".to_owned()),
        ValueType::Optional(_) => (false, "an optional value".to_owned()),
    };
    if fits {
        return Ok(());
    }
    let expected = shapes
        .iter()
        .map(|shape| describe(TensorElementType::Float32, shape));
    Err(SessionError::Mismatch {
        role,
        name: name.to_owned(),
        expected: expected.collect::<Vec<_>>().join(" or "),
        found,
    })
}

fn describe(element: TensorElementType, shape: &[i64]) -> String {
    let dims = shape.iter().map(|&dim| match dim {
        -1 => "N".to_owned(),
        fixed => fixed.to_string(),
    });
    format!("{element}[{}]", dims.collect::<Vec<_>>().join(", "))
}
