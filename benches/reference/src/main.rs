//! What vitalgate's speed is compared with: a handler such as one writes by hand. TLS, axum, a
//! serde struct and one ONNX Runtime session behind a mutex, as ONNX Runtime sets it up; it
//! authenticates nobody, screens nothing and records nothing. With `--intra-threads 1` it is as
//! fast as such a handler gets where requests are many and networks small. Serves the network of one member of `icu-mortality` on loopback.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Error, anyhow};
use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
use clap::Parser;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use ort::{session::Session, value::TensorRef};
use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// Address to listen at.
    #[arg(long)]
    listen: SocketAddr,
    /// The server's certificate chain, PEM.
    #[arg(long)]
    cert: PathBuf,
    /// The certificate's key, PEM.
    #[arg(long)]
    key: PathBuf,
    /// The network, ONNX.
    #[arg(long)]
    network: PathBuf,
    /// ONNX Runtime's library.
    #[arg(
        long,
        default_value = "target/onnxruntime/lib/libonnxruntime.so.1.31.1"
    )]
    library: PathBuf,
    /// Threads that ONNX Runtime computes one run with; its own default without.
    #[arg(long)]
    intra_threads: Option<usize>,
}

#[derive(Deserialize)]
struct Request {
    observations: Observations,
}

/// The features of `icu-mortality`, in the order of its networks' input.
#[derive(Deserialize)]
struct Observations {
    age: f32,
    male: bool,
    heart_rate: f32,
    systolic_bp: f32,
    diastolic_bp: f32,
    mean_bp: f32,
    temperature: f32,
    gcs: f32,
    mechanical_ventilation: bool,
    urine_24h: f32,
    bun: f32,
    creatinine: f32,
    sodium: f32,
    potassium: f32,
    bicarbonate: f32,
    glucose: f32,
    wbc: f32,
    hematocrit: f32,
    platelets: f32,
    magnesium: f32,
}

impl Observations {
    fn row(&self) -> [f32; 20] {
        [
            self.age,
            f32::from(u8::from(self.male)),
            self.heart_rate,
            self.systolic_bp,
            self.diastolic_bp,
            self.mean_bp,
            self.temperature,
            self.gcs,
            f32::from(u8::from(self.mechanical_ventilation)),
            self.urine_24h,
            self.bun,
            self.creatinine,
            self.sodium,
            self.potassium,
            self.bicarbonate,
            self.glucose,
            self.wbc,
            self.hematocrit,
            self.platelets,
            self.magnesium,
        ]
    }
}

#[derive(Serialize)]
struct Answer {
    outcome: &'static str,
    probability: f32,
}

async fn predict(
    State(session): State<Arc<Mutex<Session>>>,
    Json(request): Json<Request>,
) -> Result<Json<Answer>, StatusCode> {
    let row = request.observations.row();
    let mut session = session.lock().unwrap_or_else(PoisonError::into_inner);
    let probability = run(&mut session, &row).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok(Json(Answer {
        outcome: "in-hospital death",
        probability,
    }))
}

fn run(session: &mut Session, row: &[f32]) -> Result<f32, Error> {
    let input = TensorRef::from_array_view(([1, row.len()], row))?;
    let outputs = session.run(ort::inputs![input])?;
    let (_, output) = outputs.iter().next().context("no output")?;
    let (_, values) = output.try_extract_tensor::<f32>()?;
    values.first().copied().context("an empty output")
}

fn main() -> Result<(), Error> {
    let arguments = Arguments::parse();
    if !arguments.listen.ip().is_loopback() {
        return Err(anyhow!("this server is for measurements on one machine"));
    }
    let environment = ort::init_from(&arguments.library)?.build()?;
    let mut builder = Session::builder(&environment)?;
    if let Some(threads) = arguments.intra_threads {
        builder = builder
            .with_intra_threads(threads)
            .map_err(|error| anyhow!("{error}"))?;
    }
    let session = builder.commit_from_file(&arguments.network)?;
    let app = Router::new()
        .route("/predict", post(predict))
        .with_state(Arc::new(Mutex::new(session)));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(&arguments, app))
}

async fn serve(arguments: &Arguments, app: Router) -> Result<(), Error> {
    let chain = CertificateDer::pem_file_iter(&arguments.cert)?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file(&arguments.key)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind(arguments.listen).await?;
    loop {
        let (socket, _) = listener.accept().await?;
        let (acceptor, app) = (acceptor.clone(), app.clone());
        tokio::spawn(async move {
            socket.set_nodelay(true)?;
            let stream = acceptor.accept(socket).await?;
            let service = TowerToHyperService::new(app);
            let served = Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service)
                .await;
            served.map_err(|error| anyhow!("{error}"))
        });
    }
}
