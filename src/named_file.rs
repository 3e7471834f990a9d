//! Files that a configuration or a command line names.
//!
//! Whoever names a path may name, by mistake or not, a FIFO that nobody writes to or a device that
//! never ends. All such files are opened here: without waiting, regular ones only, and read up to
//! a limit.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rustix::fs::OFlags;

/// The largest file of keys, certificates, revocation lists or tokens, in bytes.
pub const LARGEST_CREDENTIAL: u64 = 16 << 20;

/// The largest file of patients' rows, in bytes.
pub const LARGEST_TABLE: u64 = 1 << 30;

/// Opens a regular file, or a link to one, to read it.
///
/// # Errors
/// What the operating system said, or that it is not a regular file.
pub fn open(path: &Path) -> io::Result<File> {
    // Opening a FIFO must not wait for a writer.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = File::options()
        .read(true)
        .custom_flags(nonblocking)
        .open(path)?;
    // Asked of the open file: the one that is read is the one that was judged.
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("not a regular file"))
    }
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// As [`open`]; or that it is larger, [`io::ErrorKind::FileTooLarge`].
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_opened(&open(path)?, limit)
}

/// Reads what is left of a file that [`open`] opened, at most `limit` bytes.
///
/// # Errors
/// As [`read`].
pub fn read_opened(file: &File, limit: u64) -> io::Result<Vec<u8>> {
    // Room for all of it at once: a vector that grows leaves copies of a secret behind.
    let expected = file.metadata()?.len().min(limit).saturating_add(1);
    let mut bytes = Vec::with_capacity(usize::try_from(expected).unwrap_or_default());
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let reason = format!("larger than {limit} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, reason));
    }
    Ok(bytes)
}

/// Reads a regular file of at most `limit` bytes of UTF-8.
///
/// # Errors
/// As [`read`]; or that it is not UTF-8, [`io::ErrorKind::InvalidData`].
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    String::from_utf8(read(path, limit)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn only_regular_files_of_the_size_allowed_are_read_and_nothing_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        mknodat(CWD, &fifo, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        for wrong in [&fifo, Path::new("/dev/zero"), directory.path()] {
            let reason = read(wrong, 8).unwrap_err().to_string();
            assert_eq!(reason, "not a regular file", "{}", wrong.display());
        }
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "8 octets").unwrap();
        symlink(&file, &link).unwrap();
        assert_eq!(read_text(&link, 8).unwrap(), "8 octets");
        let too_large = read(&file, 7).unwrap_err();
        assert_eq!(too_large.kind(), io::ErrorKind::FileTooLarge);
        fs::write(&file, [0xff]).unwrap();
        let not_text = read_text(&file, 8).unwrap_err();
        assert_eq!(not_text.kind(), io::ErrorKind::InvalidData);
    }
}
