//! Finds, checks and loads the ONNX Runtime shared library.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::digest;
use ort::environment::Environment;
use ort::logging::{LogLevel, LoggerFunction};

use crate::named_file;

/// The ONNX Runtime version this server is built and tested with.
pub const VERSION: &str = "1.31.1";

/// SHA-256 of the pinned CPU library, `libonnxruntime.so.1.31.1` of the `PyPI` wheel.
pub const PINNED_SHA256: &str = "fc44112fbe06d7d689c57e11d3862031f64711007e4ee020f8eed5185fd2c1d3";

const LIBRARY: &str = "libonnxruntime.so.1.31.1";

/// The library could not be found, trusted or loaded. All of these are faults of the environment.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No library in any of the places that are searched.
    #[error("{LIBRARY} was not found; looked at {}; `make` fetches it", list(.searched))]
    NotFound {
        /// Every path that was tried, in order.
        searched: Vec<PathBuf>,
    },
    /// The library file could not be read.
    #[error("cannot read the ONNX Runtime library {}", path.display())]
    Read {
        /// The library file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not the library that was pinned, so it was not loaded.
    #[error("{} is not the expected ONNX Runtime library: its SHA-256 is {found}, expected {expected}", path.display())]
    WrongHash {
        /// The library file.
        path: PathBuf,
        /// The pinned hash, or the one the configuration names.
        expected: String,
        /// The hash of the file.
        found: String,
    },
    /// The dynamic loader or ONNX Runtime itself refused.
    #[error("cannot load ONNX Runtime from {}: {detail}", path.display())]
    Load {
        /// The library file.
        path: PathBuf,
        /// What the loader said.
        detail: String,
    },
    /// A process holds one ONNX Runtime for its whole life.
    #[error("ONNX Runtime with SHA-256 {loaded} is already loaded, cannot also load {asked}")]
    AlreadyLoaded {
        /// The library in use.
        loaded: String,
        /// The one asked for.
        asked: String,
    },
}

/// The loaded, hash-checked ONNX Runtime. Cheap to clone; the library stays loaded until exit.
#[derive(Debug, Clone)]
pub struct Runtime {
    environment: Environment,
}

struct Loaded {
    sha256: String,
    runtime: Option<Runtime>,
    // Open until exit: glibc recognises an already loaded library by its path, and this file's
    // path is its descriptor number, which must not come to mean another file.
    _file: File,
}

static LOADED: Mutex<Option<Loaded>> = Mutex::new(None);

impl Runtime {
    /// Loads the library at `path` if its SHA-256 is `sha256` (64 hexadecimal digits).
    ///
    /// On Linux the very file that was hashed is loaded, through its descriptor, so swapping the
    /// path in between gains nothing. (Writing into the file itself would; it must be writable by
    /// nobody the server does not trust.) CUDA builds load by path, because ONNX Runtime looks for
    /// its CUDA library beside its own path. Loading the same library again returns the same
    /// runtime.
    pub fn load(path: &Path, sha256: &str) -> Result<Self, RuntimeError> {
        let read = |source| RuntimeError::Read {
            path: path.to_path_buf(),
            source,
        };
        let mut file = named_file::open(path).map_err(read)?;
        let found = hash(&mut file).map_err(read)?;
        if !found.eq_ignore_ascii_case(sha256) {
            return Err(RuntimeError::WrongHash {
                path: path.to_path_buf(),
                expected: sha256.to_ascii_lowercase(),
                found,
            });
        }

        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(loaded) = loaded.as_ref() {
            return match &loaded.runtime {
                Some(runtime) if loaded.sha256 == found => Ok(runtime.clone()),
                _ => Err(RuntimeError::AlreadyLoaded {
                    loaded: loaded.sha256.clone(),
                    asked: found,
                }),
            };
        }
        let refused = |detail: String| RuntimeError::Load {
            path: path.to_path_buf(),
            detail: one_line(&detail),
        };
        let builder =
            ort::init_from(loadable(path, &file)).map_err(|error| refused(error.to_string()))?;
        // From here on the library is in the process, whether or not its environment comes up.
        let loaded = loaded.insert(Loaded {
            sha256: found,
            runtime: None,
            _file: file,
        });
        let environment = builder
            .with_name("vitalgate")
            .with_telemetry(false)
            .with_logger(silent_logger())
            .build()
            .map_err(|error| refused(error.to_string()))?;
        environment.set_log_level(LogLevel::Fatal);
        Ok(loaded.runtime.insert(Self { environment }).clone())
    }

    /// The environment that sessions are made in.
    pub fn environment(&self) -> &Environment {
        &self.environment
    }
}

/// The library to load: the configured path, else `ORT_DYLIB_PATH`, else beside the executable,
/// else where `make` puts it under `target/`. A path that was named but does not exist is an
/// error; it is never passed over for the next one.
#[expect(
    clippy::disallowed_methods,
    reason = "ONNX Runtime's own variable is the one exception"
)]
pub fn find_library(config: Option<&Path>) -> Result<PathBuf, RuntimeError> {
    let executable = std::env::current_exe().unwrap_or_default();
    let folder = executable.parent().unwrap_or(Path::new(""));
    first_existing(candidates(
        config,
        std::env::var_os("ORT_DYLIB_PATH"),
        folder,
    ))
}

fn candidates(config: Option<&Path>, variable: Option<OsString>, folder: &Path) -> Vec<PathBuf> {
    if let Some(path) = config {
        return vec![path.to_path_buf()];
    }
    if let Some(path) = variable.filter(|path| !path.is_empty()) {
        return vec![path.into()];
    }
    let fetched = Path::new("onnxruntime/lib").join(LIBRARY);
    let mut paths = vec![folder.join(LIBRARY)];
    // target/release/vitalgate, then target/release/deps/<test>.
    paths.extend(
        folder
            .ancestors()
            .skip(1)
            .take(2)
            .map(|above| above.join(&fetched)),
    );
    paths
}

fn first_existing(searched: Vec<PathBuf>) -> Result<PathBuf, RuntimeError> {
    match searched.iter().find(|path| path.is_file()) {
        Some(path) => Ok(path.clone()),
        None => Err(RuntimeError::NotFound { searched }),
    }
}

fn list(paths: &[PathBuf]) -> String {
    paths
        .iter()
        .map(|path| path.display().to_string())
        .collect::<Vec<_>>()
        .join(", ")
}

fn hash(file: &mut File) -> io::Result<String> {
    let mut context = digest::Context::new(&digest::SHA256);
    let mut block = vec![0; 1 << 20];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(hex::encode(context.finish())),
            n => context.update(block.get(..n).unwrap_or_default()),
        }
    }
}

#[cfg(all(target_os = "linux", not(feature = "cuda")))]
fn loadable(_path: &Path, file: &File) -> PathBuf {
    use std::os::fd::AsRawFd;
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(not(all(target_os = "linux", not(feature = "cuda"))))]
fn loadable(path: &Path, _file: &File) -> PathBuf {
    // ort resolves a relative path against the executable's folder first; we hashed this one.
    std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf())
}

/// ONNX Runtime quotes tensor values in its messages ("indices element out of data bounds,
/// idx=7"), and those are a patient's. Only the place in its source code is passed on; what went
/// wrong while loading a model reaches us through the returned error as well.
fn silent_logger() -> LoggerFunction {
    Arc::new(
        |_level: LogLevel, _category: &str, _id: &str, location: &str, _message: &str| {
            tracing::debug!(target: "onnxruntime", location, "ONNX Runtime reported a problem");
        },
    )
}

/// The first line of a message from ONNX Runtime, which may go on with a stack trace, bounded.
pub(super) fn one_line(message: &str) -> String {
    message
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(400)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_path_is_never_passed_over() {
        let named = candidates(
            Some(Path::new("/a")),
            Some("/b".into()),
            Path::new("/t/release"),
        );
        assert_eq!(named, [Path::new("/a")]);
        assert_eq!(
            candidates(None, Some("/b".into()), Path::new("/t")),
            [Path::new("/b")]
        );
        let error = first_existing(named).unwrap_err().to_string();
        assert!(
            error.contains("looked at /a;") && error.contains("make"),
            "{error}"
        );
    }

    #[test]
    fn the_fetched_library_is_found_from_the_binary_and_from_tests() {
        let target = tempfile::tempdir().unwrap();
        let library = target.path().join("onnxruntime/lib").join(LIBRARY);
        std::fs::create_dir_all(library.parent().unwrap()).unwrap();
        std::fs::write(&library, "").unwrap();
        for folder in ["release", "release/deps"] {
            let paths = candidates(None, Some("".into()), &target.path().join(folder));
            assert_eq!(first_existing(paths).unwrap(), library);
        }
    }

    #[test]
    fn another_library_is_refused_before_it_is_loaded() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "not a library").unwrap();
        let error = Runtime::load(file.path(), PINNED_SHA256).unwrap_err();
        assert!(matches!(error, RuntimeError::WrongHash { .. }));
        assert!(error.to_string().contains(PINNED_SHA256), "{error}");
        assert!(error.to_string().contains("f6bb034"), "{error}");
    }
}
