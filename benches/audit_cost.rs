//! What the audit log costs a whole server: predictions over mutual TLS in a closed loop, from
//! this process to the real one, with nothing recorded, in mode `written` and in mode `synced`,
//! in turns. The caller shares the machine with the server.
//!
//! `cargo bench --features null-audit --bench audit_cost [-- CALLERS SECONDS ROUNDS]`
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark prints its figures, and stops when it cannot start"
)]

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustls::{ClientConfig, RootCertStore, crypto::aws_lc_rs};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use vitalgate::clock;

const BINARY: &str = env!("CARGO_BIN_EXE_vitalgate");
const PATIENT: &str = include_str!("../models/icu-mortality/examples/predicted.json");
const MODES: [&str; 3] = ["null", "written", "synced"];

struct Server {
    child: Child,
    address: SocketAddr,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The keys, certificates and bundles of `dev`, made once.
fn state() -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    let state = tempfile::tempdir_in(target).unwrap();
    let any = "127.0.0.1:0";
    let mut child = Command::new(BINARY)
        .args(["dev", "--listen", any, "--health", any, "--state"])
        .arg(state.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.map_while(Result::ok).any(|line| line == "ready"));
    child.kill().unwrap();
    child.wait().unwrap();
    state
}

fn start(state: &Path, mode: &str) -> Server {
    let text = fs::read_to_string(state.join("vitalgate.toml")).unwrap();
    let log = format!("directory = \"log-{mode}\"");
    let text = text
        .replace("directory = \"audit\"", &log)
        .replace("mode = \"written\"", &format!("mode = \"{mode}\""));
    let config = state.join(format!("{mode}.toml"));
    fs::write(&config, text).unwrap();
    let mut child = Command::new(BINARY)
        .arg("serve")
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let serving = lines
        .by_ref()
        .map_while(Result::ok)
        .find(|line| line.contains("\"message\":\"serving\""))
        .unwrap_or_else(|| panic!("the server did not start in mode {mode}"));
    // What it still says must not fill the pipe.
    std::thread::spawn(move || lines.for_each(drop));
    let fields: serde_json::Value = serde_json::from_str(&serving).unwrap();
    let address = fields
        .pointer("/fields/data")
        .and_then(serde_json::Value::as_str);
    let address = address.unwrap().parse().unwrap();
    Server { child, address }
}

fn client(state: &Path) -> TlsConnector {
    let mut roots = RootCertStore::empty();
    let root = CertificateDer::from_pem_file(state.join("ca.pem")).unwrap();
    roots.add(root).unwrap();
    let file =
        |extension: &str| -> PathBuf { state.join(format!("clients/evaluator.{extension}")) };
    let chain = vec![CertificateDer::from_pem_file(file("pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(file("key")).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .unwrap();
    TlsConnector::from(Arc::new(config))
}

/// One prediction; how long it took.
async fn ask(stream: &mut TlsStream<TcpStream>, request: &[u8], buffer: &mut Vec<u8>) -> Duration {
    let start = clock::monotonic();
    stream.write_all(request).await.unwrap();
    buffer.clear();
    loop {
        assert!(
            stream.read_buf(buffer).await.unwrap() > 0,
            "the connection broke off"
        );
        let Some(head) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else {
            continue;
        };
        let text = String::from_utf8_lossy(buffer.get(..head).unwrap()).to_lowercase();
        assert!(text.starts_with("http/1.1 200"), "{text}");
        let length = text.split("content-length: ").nth(1).unwrap();
        let length: usize = length.lines().next().unwrap().trim().parse().unwrap();
        if buffer.len() >= head + 4 + length {
            return start.elapsed();
        }
    }
}

/// Requests a second, and the median and 99th percentile of their times.
async fn load(
    server: &Server,
    client: &TlsConnector,
    callers: usize,
    time: Duration,
) -> (f64, Duration, Duration) {
    let length = PATIENT.len();
    let request: Arc<[u8]> = format!(
        "POST /v1/models/icu-mortality/predict HTTP/1.1\r\nHost: bench\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{PATIENT}"
    )
    .into_bytes()
    .into();
    let (counting, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicBool::new(false)),
    );
    let mut tasks = Vec::new();
    for _ in 0..callers {
        let tcp = TcpStream::connect(server.address).await.unwrap();
        tcp.set_nodelay(true).unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        let mut stream = client.connect(name, tcp).await.unwrap();
        let (request, counting, done) = (request.clone(), counting.clone(), done.clone());
        tasks.push(tokio::spawn(async move {
            let (mut buffer, mut times) = (Vec::with_capacity(4096), Vec::new());
            while !done.load(Ordering::Relaxed) {
                let took = ask(&mut stream, &request, &mut buffer).await;
                if counting.load(Ordering::Relaxed) {
                    times.push(took);
                }
            }
            times
        }));
    }
    // Warm up before anything counts.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let start: Instant = clock::monotonic();
    counting.store(true, Ordering::Relaxed);
    tokio::time::sleep(time).await;
    done.store(true, Ordering::Relaxed);
    let elapsed = start.elapsed();
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.unwrap());
    }
    times.sort_unstable();
    let rank = |percent: usize| {
        times
            .get(times.len() * percent / 100)
            .copied()
            .unwrap_or_default()
    };
    #[expect(clippy::cast_precision_loss, reason = "a count of requests")]
    let rate = times.len() as f64 / elapsed.as_secs_f64();
    (rate, rank(50), rank(99))
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let numbers: Vec<u64> = std::env::args().filter_map(|a| a.parse().ok()).collect();
    let number = |at: usize, default: u64| numbers.get(at).copied().unwrap_or(default);
    let (callers, seconds, rounds) = (number(0, 64), number(1, 8), number(2, 5));
    let callers = usize::try_from(callers).unwrap();
    let state = state();
    let client = client(state.path());
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut rates = [(); MODES.len()].map(|()| Vec::new());
    println!("{callers} callers, {seconds} s each, {rounds} rounds");
    for round in 1..=rounds {
        for (mode, rates) in MODES.iter().zip(&mut rates) {
            let server = start(state.path(), mode);
            let time = Duration::from_secs(seconds);
            let (rate, p50, p99) = runtime.block_on(load(&server, &client, callers, time));
            println!("round {round} {mode:>8}: {rate:8.0} requests/s, p50 {p50:?}, p99 {p99:?}");
            rates.push(rate);
        }
    }
    let medians = rates.each_mut().map(|r| median(r));
    let [null, ..] = medians;
    for (mode, rate) in MODES.iter().zip(medians) {
        let cost = 100.0 * (1.0 - rate / null);
        println!("median   {mode:>8}: {rate:8.0} requests/s, costs {cost:.1}%");
    }
}
