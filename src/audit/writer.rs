//! The writer: the one thread that owns the files, the chain and the tree.
//!
//! A record is accepted once it is written (`written`) or once an fsync that began after its
//! write has returned (`synced`). Whatever waits goes into one batch; nothing waits for company.
//! A write or fsync that fails closes the segment: the next batch goes into a new one, whose
//! first record names the last one before it.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, RecvTimeoutError};
use tokio::sync::oneshot;

use super::{
    Head, OpenError, Settings,
    chain::{Chain, Hash, parse_line},
    files::{Directory, Live},
    journal::Snapshot,
    keys::SigningKey,
    merkle::Tree,
    note::Checkpoint,
    ship::{Shipper, Spool},
    verify::{self, Trusted, Verified},
};
use crate::{
    clock,
    config::AuditMode,
    telemetry::catalogue::{AUDIT_COMMIT, AUDIT_FAILURES},
};

/// In mode `written`, dirty data is synced to disk this often.
const SYNC_INTERVAL: Duration = Duration::from_millis(100);
/// While there are new records, they are signed this often. Also how often a broken log is tried.
const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(1);
/// Records in one batch at most.
const BATCH: usize = 1024;
/// Bytes that number and chain add to a record, about.
const LINK: usize = 100;

/// A record on its way to the log.
pub(super) struct Entry {
    pub(super) body: Vec<u8>,
    pub(super) accepted: oneshot::Sender<bool>,
}

pub(super) struct Writer {
    entries: Receiver<Entry>,
    healthy: Arc<AtomicBool>,
    head: Arc<Mutex<Head>>,
    mode: AuditMode,
    segment_bytes: u64,
    origin: String,
    key: SigningKey,
    spool: Option<Spool>,
    directory: Directory,
    live: Live,
    /// Whether the live segment may be appended to.
    open: bool,
    /// Whether there may be data that is written and not synced.
    dirty: bool,
    chain: Chain,
    tree: Tree,
    /// Records that the last checkpoint covers.
    checkpointed: Option<u64>,
    last_sync: Instant,
    last_checkpoint: Instant,
}

impl Writer {
    /// Opens the log where it ended. Its records are read once, for the chain and the tree; a log
    /// that contradicts itself is refused.
    pub(super) fn open(
        settings: Settings,
        entries: Receiver<Entry>,
        healthy: Arc<AtomicBool>,
        head: Arc<Mutex<Head>>,
    ) -> Result<Self, OpenError> {
        let Settings {
            directory,
            mode,
            segment_bytes,
            origin,
            key,
            shipper,
        } = settings;
        let failed = |source| OpenError::Io {
            path: directory.clone(),
            source,
        };
        let locked = Directory::open(&directory).map_err(failed)?;
        let live = locked.live().map_err(failed)?;
        let found = read_back(&directory, &origin)?;
        let now = clock::monotonic();
        let torn = !found.report.torn.is_empty() || found.torn_checkpoint;
        let proven = (found.report.checkpoints > 0).then_some(found.report.proven);
        let mut writer = Self {
            entries,
            healthy,
            head,
            mode,
            segment_bytes,
            origin,
            key,
            spool: shipper.map(Shipper::start).transpose().map_err(failed)?,
            directory: locked,
            live,
            open: true,
            dirty: false,
            chain: found.chain,
            tree: found.tree,
            checkpointed: proven,
            last_sync: now,
            last_checkpoint: now,
        };
        // Half a line is evidence, so it stays; what follows must not become part of it.
        if torn && !writer.live.is_blank() {
            tracing::warn!("audit log: its end is torn; continuing in a new segment");
            writer.open = false;
            writer.reopen().map_err(failed)?;
        }
        writer.dirty = true;
        writer.checkpoint().map_err(failed)?;
        writer.publish(None);
        Ok(writer)
    }

    pub(super) fn run(mut self) {
        let (mut batch, mut lines, mut leaves) = (Vec::new(), Vec::new(), Vec::new());
        let duration = AUDIT_COMMIT.with([]);
        loop {
            match self.entries.recv_timeout(SYNC_INTERVAL) {
                Ok(entry) => {
                    batch.push(entry);
                    batch.extend(self.entries.try_iter().take(BATCH - 1));
                    let started = clock::monotonic();
                    let committed = self.commit(&batch, &mut lines, &mut leaves);
                    duration.record(started.elapsed());
                    let accepted = committed.is_ok();
                    self.judged(committed);
                    for Entry {
                        accepted: reply, ..
                    } in batch.drain(..)
                    {
                        // A caller that hung up has its record all the same.
                        let _: Result<(), bool> = reply.send(accepted);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.keep_up();
        }
        let last = self.checkpoint();
        self.judged(last);
    }

    /// Writes a batch as the mode asks, whole or not at all.
    fn commit(
        &mut self,
        batch: &[Entry],
        lines: &mut Vec<u8>,
        leaves: &mut Vec<Hash>,
    ) -> io::Result<()> {
        #[cfg(feature = "null-audit")]
        if self.mode == AuditMode::Null {
            return Ok(());
        }
        let incoming: usize = batch.iter().map(|entry| entry.body.len() + LINK).sum();
        self.make_ready(u64::try_from(incoming).unwrap_or(u64::MAX))?;
        lines.clear();
        leaves.clear();
        let mut chain = self.chain;
        for entry in batch {
            leaves.push(chain.append(&entry.body, lines));
        }
        let before = self.live.length();
        self.live.append(lines)?;
        match self.mode {
            AuditMode::Written => self.dirty = true,
            AuditMode::Synced => self
                .live
                .sync()
                .inspect_err(|_| self.live.cut_back(before))?,
            #[cfg(feature = "null-audit")]
            AuditMode::Null => {}
        }
        self.chain = chain;
        for leaf in leaves.drain(..) {
            self.tree.push(leaf);
        }
        self.publish(None);
        Ok(())
    }

    /// Makes sure that the live segment can take so many bytes: it is ours, open, not too large.
    fn make_ready(&mut self, incoming: u64) -> io::Result<()> {
        if self.open && !self.live.is_undisturbed() {
            tracing::error!(
                "audit log: it was moved, deleted or changed from outside; continuing in a new \
                 segment. `vitalgate audit verify` will say what is missing"
            );
            self.open = false;
        }
        let length = self.live.length();
        if self.open && length > 0 && length.saturating_add(incoming) > self.segment_bytes {
            // Signed to its end before it is closed.
            self.checkpoint()?;
            self.open = false;
        }
        if !self.open {
            self.reopen()?;
        }
        Ok(())
    }

    /// Goes on in a new segment, which begins with a checkpoint of all before it: the closed one
    /// may have ended without.
    fn reopen(&mut self) -> io::Result<()> {
        if !self.live.is_blank() {
            self.close()?;
        }
        self.checkpoint()?;
        self.open = true;
        Ok(())
    }

    /// Closes the segment and opens a new one behind it.
    fn close(&mut self) -> io::Result<()> {
        // Lines that could not be taken back are records all the same: the chain goes on behind
        // them, though their callers were told that they were not accepted.
        let surplus = self.live.surplus()?;
        for line in surplus.split_inclusive(|&b| b == b'\n') {
            let Some(line) = line.strip_suffix(b"\n") else {
                break;
            };
            if parse_line(line) != Some((self.chain.next, self.chain.head)) {
                break;
            }
            let leaf = self.chain.follow(line);
            self.tree.push(leaf);
        }
        if let Err(error) = self.live.sync() {
            tracing::error!(%error, "audit log: the end of a closed segment may not be on disk");
        }
        self.directory.seal(&self.live)?;
        self.live = self.directory.live()?;
        if self.live.length() > 0 {
            return Err(io::Error::other("somebody else writes this log"));
        }
        self.dirty = true;
        tracing::info!(seq = self.chain.next, "audit log: a new segment begins");
        Ok(())
    }

    /// What is due by time.
    fn keep_up(&mut self) {
        if !self.is_healthy() {
            // Without requests nothing else would find out that writing works again.
            if self.last_checkpoint.elapsed() >= CHECKPOINT_INTERVAL {
                self.last_checkpoint = clock::monotonic();
                if self.directory.takes_files() && (self.open || self.reopen().is_ok()) {
                    self.judged(Ok(()));
                }
            }
            return;
        }
        if self.last_checkpoint.elapsed() >= CHECKPOINT_INTERVAL {
            self.last_checkpoint = clock::monotonic();
            let done = self.checkpoint();
            self.judged(done);
        } else if self.dirty && self.last_sync.elapsed() >= SYNC_INTERVAL {
            let done = self.sync();
            self.judged(done);
        }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.live.sync()?;
            self.dirty = false;
        }
        self.last_sync = clock::monotonic();
        Ok(())
    }

    /// Signs what there is, once it is on disk, unless it was; and when its checkpoints are gone.
    fn checkpoint(&mut self) -> io::Result<()> {
        if !self.live.checkpoints_are_undisturbed()? {
            tracing::error!(
                "audit log: its file of checkpoints was moved, deleted or changed from outside; \
                 all records are signed again in a new one"
            );
            self.directory.renew_checkpoints(&mut self.live)?;
            self.checkpointed = None;
        }
        self.sync()?;
        let size = self.tree.size();
        if self.checkpointed == Some(size) {
            return Ok(());
        }
        let checkpoint = Checkpoint {
            origin: self.origin.clone(),
            size,
            root: self.tree.root(),
        };
        let note = checkpoint
            .sign(&self.key)
            .ok_or_else(|| io::Error::other("the checkpoint could not be signed"))?;
        self.live.append_checkpoint(&note)?;
        self.checkpointed = Some(size);
        if let Some(spool) = &mut self.spool {
            spool.put(note.clone());
        }
        self.publish(Some(note));
        Ok(())
    }

    fn publish(&self, checkpoint: Option<String>) {
        let mut head = self.head.lock().unwrap_or_else(PoisonError::into_inner);
        head.records = self.chain.next;
        head.hash = self.chain.head;
        head.proven = self.checkpointed.unwrap_or(0);
        if checkpoint.is_some() {
            head.checkpoint = checkpoint;
            head.checkpoint_time = Some(clock::since_epoch());
        }
    }

    fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    /// Notes whether the log takes records; says so when that changes.
    fn judged(&mut self, result: io::Result<()>) {
        let was = self.healthy.swap(result.is_ok(), Ordering::Relaxed);
        match result {
            Ok(()) if !was => tracing::info!("audit log: it takes records again"),
            Ok(()) => {}
            Err(error) => {
                AUDIT_FAILURES.with([]).increment(1);
                self.open = false;
                if was {
                    tracing::error!(%error, "audit log: it takes no records; answers are withheld");
                }
            }
        }
    }
}

/// Where the log in `directory` ends. Its signatures are the business of those who verify it.
fn read_back(directory: &Path, origin: &str) -> Result<Verified, OpenError> {
    let failed = |source| OpenError::Io {
        path: directory.to_owned(),
        source,
    };
    let snapshot = Snapshot::take(directory).map_err(failed)?;
    let mut found = verify::verify(snapshot, &Trusted::default(), |_| {}).map_err(failed)?;
    // A log that was never written to has no checkpoint yet.
    if found.report.records == 0 {
        found
            .report
            .findings
            .retain(|f| f.kind != super::Kind::NoCheckpoint);
    }
    if let Some(first) = found.report.findings.first() {
        return Err(OpenError::Broken {
            path: directory.to_owned(),
            finding: format!("{} line {}: {}", first.file, first.line, first.detail),
        });
    }
    match &found.report.origin {
        Some(named) if named != origin => Err(OpenError::Origin {
            path: directory.to_owned(),
            named: named.clone(),
            origin: origin.to_owned(),
        }),
        _ => Ok(found),
    }
}
