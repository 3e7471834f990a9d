//! Makes the executable's allocator everybody's (`src/phi/heap.rs`), and says at build time where
//! that cannot be.

#![expect(
    clippy::disallowed_methods,
    reason = "cargo talks to build scripts that way"
)]

/// What a program that replaces glibc's allocator has to define (manual, "Replacing malloc").
const ALLOCATOR: [&str; 11] = [
    "malloc",
    "calloc",
    "aligned_alloc",
    "memalign",
    "valloc",
    "pvalloc",
    "posix_memalign",
    "malloc_usable_size",
    "free",
    "realloc",
    "reallocarray",
];

fn main() {
    println!("cargo::rerun-if-changed=src/build.rs");
    let target = |name: &str| std::env::var(format!("CARGO_CFG_{name}")).unwrap_or_default();
    if target("TARGET_OS") == "linux" && target("TARGET_ENV") == "gnu" {
        for symbol in ALLOCATOR {
            println!("cargo::rustc-link-arg-bins=-Wl,--export-dynamic-symbol={symbol}");
        }
    } else {
        println!(
            "cargo::warning=not glibc: heap blocks that ONNX Runtime and the TLS library free are \
             NOT wiped; only those that Rust frees are. Patient data may be left in memory."
        );
    }
}
