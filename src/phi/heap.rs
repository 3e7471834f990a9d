//! The heap, wiped: all unsafe code of this program.
//!
//! It belongs to the executable (`main.rs` declares it) and not to the library, because it works
//! by symbol interposition: the dynamic linker looks a symbol up in the executable first, so the
//! `free` and `realloc` defined here are those of every shared library too: Rust's `System`
//! allocator, ONNX Runtime's C++ heap (opened at run time) and aws-lc all give blocks back
//! through them. glibc supports this (manual, "Replacing malloc"), and calls these two through
//! the linker itself: `reallocarray` and C++ `operator delete` end up here. What allocates
//! (`malloc`, `calloc`, `posix_memalign`, `aligned_alloc`) leaves nothing behind and stays
//! glibc's. The blocks are glibc's own, so nobody can tell the difference.
//!
//! Without glibc there is no such interposition; [`Wiping`] then wipes what Rust frees, and
//! nothing wipes what ONNX Runtime frees. The build says so.
#![expect(unsafe_code, reason = "wiping blocks as they are freed, in one place")]

use std::ffi::c_void;

use rustix::mm::{Advice, madvise};
use vitalgate::phi::process::Outcome;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) use interposed::is_wiped;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod interposed {
    use std::{ffi::c_void, ptr};

    use vitalgate::phi::{
        measures::{Measure, in_force},
        process::Outcome,
    };

    unsafe extern "C" {
        fn __libc_free(block: *mut c_void);
        fn __libc_malloc(size: usize) -> *mut c_void;
        fn __libc_realloc(block: *mut c_void, size: usize) -> *mut c_void;
        fn malloc_usable_size(block: *mut c_void) -> usize;
    }

    /// Wipes a block and gives it back.
    ///
    /// # Safety
    /// As C's `free`: `block` is null, or was allocated by glibc and not freed since.
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn free(block: *mut c_void) {
        if block.is_null() {
            return;
        }
        // SAFETY: by the contract of `free`, `block` is live and nobody else uses it any more;
        // glibc lets a program write to all of `malloc_usable_size` bytes. The wipe is not a dead
        // store: `__libc_free` is opaque to the compiler and might read it.
        unsafe {
            if in_force(Measure::Heap) {
                ptr::write_bytes(block.cast::<u8>(), 0, malloc_usable_size(block));
            }
            __libc_free(block);
        }
    }

    /// Resizes a block without leaving a copy of its content behind.
    ///
    /// # Safety
    /// As C's `realloc`: `block` is null, or was allocated by glibc and not freed since.
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: these hold the contract of `realloc` themselves; glibc frees when `size` is 0.
        unsafe {
            if block.is_null() {
                return __libc_malloc(size);
            }
            if size == 0 {
                free(block);
                return ptr::null_mut();
            }
        }
        // SAFETY: `block` is live and the caller's alone, as in `free`.
        let old = unsafe { malloc_usable_size(block) };
        if size <= old {
            // SAFETY: `size..old` lies within the block's usable size, and the caller gives that
            // part up. glibc shrinks in place, or moves pages, so it leaves no copy.
            unsafe {
                if in_force(Measure::Heap) {
                    ptr::write_bytes(block.cast::<u8>().add(size), 0, old - size);
                }
                return __libc_realloc(block, size);
            }
        }
        // SAFETY: the new block is larger than `old` and does not overlap the live one; reading
        // all usable bytes of the old one is allowed. When there is no memory the old block stays
        // as it was, as the contract demands.
        unsafe {
            let moved = __libc_malloc(size);
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block.cast::<u8>(), moved.cast::<u8>(), old);
                free(block);
            }
            moved
        }
    }

    /// Whether the dynamic linker gives everybody the two functions above.
    pub(crate) fn is_wiped() -> Outcome {
        let everybodys = |name: &std::ffi::CStr| {
            // SAFETY: the name ends in NUL; looking a symbol up has no other precondition.
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.addr()
        };
        let ours = [
            everybodys(c"free") == free as *const () as usize,
            everybodys(c"realloc") == realloc as *const () as usize,
        ];
        if ours == [true; 2] {
            Outcome::done("free and realloc of the whole process")
        } else {
            Outcome::not_done("the linker did not export free and realloc of the executable")
        }
    }
}

/// Says what is not covered where there is no interposition.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn is_wiped() -> Outcome {
    Outcome::not_done("what Rust frees is wiped; what ONNX Runtime frees is NOT: not glibc")
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
#[global_allocator]
static ALLOCATOR: Wiping = Wiping;

/// Rust's heap, wiped when freed, where `free` cannot be interposed.
#[cfg(any(test, not(all(target_os = "linux", target_env = "gnu"))))]
struct Wiping;

// SAFETY: all memory is `System`'s, asked for and given back with the layout of the caller. Not
// forwarding `realloc` is the point: the default copies into a new block and calls `dealloc`.
#[cfg(any(test, not(all(target_os = "linux", target_env = "gnu"))))]
unsafe impl std::alloc::GlobalAlloc for Wiping {
    unsafe fn alloc(&self, layout: std::alloc::Layout) -> *mut u8 {
        // SAFETY: the caller holds the contract of `alloc`.
        unsafe { std::alloc::System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: std::alloc::Layout) -> *mut u8 {
        // SAFETY: the caller holds the contract of `alloc_zeroed`.
        unsafe { std::alloc::System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: std::alloc::Layout) {
        // SAFETY: the block is live, the caller's alone, and as large as its layout says. The
        // volatile writes of `zeroize` are not optimised away.
        unsafe {
            zeroize::Zeroize::zeroize(std::slice::from_raw_parts_mut(block, layout.size()));
            std::alloc::System.dealloc(block, layout);
        }
    }
}

/// Has the kernel leave all private writable memory there is now (heap, stacks) out of core dumps.
/// What is mapped later is not covered; a process that is not dumpable has no dump but root's.
pub(crate) fn exclude_from_dumps() -> Outcome {
    let maps = match std::fs::read_to_string("/proc/self/maps") {
        Ok(maps) => maps,
        Err(error) => return Outcome::not_done(error.to_string()),
    };
    let (mut excluded, mut failed) = (0, 0);
    for (start, end) in maps.lines().filter_map(private_writable) {
        let address = std::ptr::without_provenance_mut::<c_void>(start);
        // SAFETY: this advice changes neither content nor access of the pages, only whether a
        // dump has them. If a mapping went meanwhile the call fails or concerns another one of
        // this process, which then is left out as well.
        match unsafe { madvise(address, end - start, Advice::LinuxDontDump) } {
            Ok(()) => excluded += end - start,
            Err(_) => failed += 1,
        }
    }
    match failed {
        0 => Outcome::done(format!("{} KiB left out of dumps", excluded / 1024)),
        _ => Outcome::not_done(format!("{failed} mappings could not be left out of dumps")),
    }
}

/// The bounds of a mapping that is private, writable and no file's (proc(5), `/proc/PID/maps`).
fn private_writable(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (bounds, access) = (fields.next()?, fields.next()?);
    let name = fields.nth(3).unwrap_or_default();
    if !(access.starts_with("rw") && access.ends_with('p')) || name.starts_with('/') {
        return None;
    }
    let (start, end) = bounds.split_once('-')?;
    let parse = |hex| usize::from_str_radix(hex, 16).ok();
    Some((parse(start)?, parse(end)?))
}

#[cfg(test)]
#[path = "heap/tests.rs"]
mod tests;
