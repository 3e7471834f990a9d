//! A real OpenTelemetry collector: PyPI's rotel, behind OpenSSL's TLS.

use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::{Site, free_port, wait_until};

/// A collector that tells everything it takes; ended when dropped.
pub(crate) struct Collector {
    children: [Child; 2],
    directory: PathBuf,
}

/// A span as the collector tells it.
#[derive(Debug, Default)]
pub(crate) struct Span {
    pub(crate) trace: String,
    pub(crate) parent: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) kind: String,
    pub(crate) start: u64,
    pub(crate) end: u64,
    /// As it writes them: `name: Str(value)`.
    pub(crate) attributes: Vec<String>,
}

impl Collector {
    /// Starts one and has the site send its spans there, with a client certificate. Nothing when
    /// it is not installed, and says so.
    pub(crate) fn start(site: &mut Site) -> Option<Self> {
        let found = installed();
        if found.is_none() {
            println!("skipped: rotel is not installed; `make test` installs it from PyPI");
        }
        let rotel = found?;
        let directory = site.path().to_owned();
        let [port, http, grpc] = [(); 3].map(|()| free_port());
        let told = fs::File::create(directory.join("collector.log")).unwrap();
        let collector = Command::new(rotel)
            .arg("start")
            .args(["--otlp-http-endpoint", &format!("127.0.0.1:{http}")])
            .args(["--otlp-grpc-endpoint", &format!("127.0.0.1:{grpc}")])
            .args(["--exporter", "blackhole", "--debug-log", "traces"])
            .args(["--debug-log-verbosity", "detailed"])
            .args(["--pid-file", "rotel.pid", "--log-file", "rotel.log"])
            .current_dir(&directory)
            .stdout(told)
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/otlp_front.py");
        let front = Command::new("python3")
            .arg(script)
            .arg(port.to_string())
            .args(["server.pem", "server.key", "ca.pem", "exported"])
            .arg(http.to_string())
            .current_dir(&directory)
            .spawn()
            .unwrap();
        wait_until("the collector", || {
            [port, http]
                .iter()
                .all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok())
        });
        site.write_identity(&directory, "clinician");
        let section = format!(
            "[telemetry.otlp]\nto = \"https://127.0.0.1:{port}/v1/traces\"\nca = \"ca.pem\"\n\
             certificate = \"clinician.pem\"\nkey = \"clinician.key\"\n\n"
        );
        site.config.push_str(&section);
        Some(Self {
            children: [collector, front],
            directory,
        })
    }

    /// Everything that was sent to it, as it came.
    pub(crate) fn exported(&self) -> Vec<u8> {
        fs::read(self.directory.join("exported")).unwrap_or_default()
    }

    /// What it told of it.
    pub(crate) fn told(&self) -> String {
        fs::read_to_string(self.directory.join("collector.log")).unwrap()
    }

    /// The spans that it told of.
    pub(crate) fn spans(&self) -> Vec<Span> {
        let mut spans: Vec<Span> = Vec::new();
        for line in self.told().lines().map(str::trim) {
            if line.starts_with("Span #") {
                spans.push(Span::default());
            }
            let Some(span) = spans.last_mut() else {
                continue;
            };
            if let Some(attribute) = line.strip_prefix("-> ") {
                span.attributes.push(attribute.to_owned());
            }
            let Some((name, value)) = line.split_once(':') else {
                continue;
            };
            let value = value.trim();
            match name.trim() {
                "Trace ID" => value.clone_into(&mut span.trace),
                "Parent ID" => value.clone_into(&mut span.parent),
                "ID" => value.clone_into(&mut span.id),
                "Name" => value.clone_into(&mut span.name),
                "Kind" => value.clone_into(&mut span.kind),
                "Start time" => span.start = value.parse().unwrap(),
                "End time" => span.end = value.parse().unwrap(),
                _ => {}
            }
        }
        spans
    }
}

fn installed() -> Option<PathBuf> {
    let libraries = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/test-venv/lib");
    let versions = fs::read_dir(libraries).ok()?;
    let programs = versions.map(|of| {
        let of = of.unwrap().path();
        of.join("site-packages/rotel/rotel-agent")
    });
    programs.into_iter().find(|program| program.exists())
}

impl Drop for Collector {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}
