//! The audit log's writer alone: records of usual size, handed over as they are, accepted in
//! batches of whatever is queued. 4,096 are in flight in mode `written`; in mode `synced` 64, as
//! many as there might be callers, beside the fsync of the same disk.
//!
//! `cargo bench --features null-audit --bench audit`; the log is below `target/`.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot start must stop"
)]

use std::{
    collections::VecDeque,
    fs::{self, File},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vitalgate::{
    audit::{AuditLog, Settings, SigningKey},
    config::AuditMode,
};

const RECORD: &[u8] = br#"{"time":"2026-11-23T23:54:50.908276Z","id":"29b7f31427f2532405f6514c5d351ea5","principal":"clinician","authentication":"mtls","source":"127.0.0.1:58418","action":"predict","model":"icu-mortality","version":1,"digest":"sha256:ade04efdb2147a1d3b6f5934f54d2eb09875d689afe36f5ca53fe495b938911c","disposition":"predicted","status":200,"codes":[],"features":[],"input":"5d0f3b8a7c6e4d2190a8b7c6d5e4f3a2","patient":"0a1b2c3d4e5f60718293a4b5c6d7e8f9","stages_us":{"authenticate":9,"authorize":5,"admit":10,"receive":22,"parse":88,"ranges":4,"consistency":9,"clear":1,"infer":160,"agree":2,"harden":3}}"#;

/// Below `target/`, on the disk of the repository.
fn directory() -> tempfile::TempDir {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("target");
    tempfile::tempdir_in(target).unwrap()
}

fn settings(directory: &Path, mode: AuditMode) -> Settings {
    let key: PathBuf = directory.join("audit.key");
    fs::write(&key, SigningKey::generate().unwrap().0.as_bytes()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    Settings {
        directory: directory.join("log"),
        mode,
        segment_bytes: 256 << 20,
        origin: "bench.example/log".to_owned(),
        key: SigningKey::load(&key).unwrap(),
        shipper: None,
    }
}

/// Hands over so many records, with so many unanswered at most.
fn submit(log: &AuditLog, records: u64, in_flight: usize) {
    let mut waiting = VecDeque::with_capacity(in_flight);
    for _ in 0..records {
        if waiting.len() >= in_flight {
            let oldest: tokio::sync::oneshot::Receiver<bool> = waiting.pop_front().unwrap();
            assert!(oldest.blocking_recv().unwrap());
        }
        waiting.push_back(log.submit(RECORD.to_vec()).unwrap());
    }
    for rest in waiting {
        assert!(rest.blocking_recv().unwrap());
    }
}

fn writer(c: &mut Criterion) {
    let mut group = c.benchmark_group("audit writer");
    group.sample_size(20);
    for (name, mode, records, in_flight) in [
        ("written", AuditMode::Written, 50_000, 4096),
        ("synced, 64 in flight", AuditMode::Synced, 2_000, 64),
        ("synced, 1 in flight", AuditMode::Synced, 20, 1),
    ] {
        let directory = directory();
        let (log, thread) = AuditLog::open(settings(directory.path(), mode)).unwrap();
        group.throughput(Throughput::Elements(records));
        group.bench_function(name, |b| b.iter(|| submit(&log, records, in_flight)));
        drop(log);
        thread.join().unwrap();
    }
    let directory = directory();
    let mut file = File::create(directory.path().join("probe")).unwrap();
    group.throughput(Throughput::Elements(1));
    group.bench_function("fsync of this disk, one record", |b| {
        b.iter(|| {
            file.write_all(RECORD).unwrap();
            file.sync_data().unwrap();
        });
    });
    group.finish();
}

criterion_group!(benches, writer);
criterion_main!(benches);
