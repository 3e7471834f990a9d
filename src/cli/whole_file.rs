//! What is signed or to be signed is on disk as a whole, or not at all.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::anyhow;

use super::Failure;

/// Writes a file beside its place and moves it there, so that no reader sees half of one.
pub(crate) fn write_whole(path: &Path, text: &str) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::Environment(anyhow!("{}: {error}", path.display()));
    let Some(name) = path.file_name() else {
        return Err(Failure::usage(anyhow!(
            "{}: does not name a file",
            path.display()
        )));
    };
    let name = format!(".{}.{}", name.to_string_lossy(), std::process::id());
    let staged: PathBuf = path.with_file_name(name);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&staged)
        .map_err(failed)?;
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&staged, path));
    if written.is_err() {
        drop(fs::remove_file(&staged));
    }
    written.map_err(failed)
}
