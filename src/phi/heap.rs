//! The heap, wiped: all unsafe code of this program.
//!
//! It belongs to the executable (`main.rs` declares it) and not to the library, because it works
//! by symbol interposition: the dynamic linker looks a symbol up in the executable first, so the
//! allocator defined here is that of every shared library too: Rust's `System` allocator, ONNX
//! Runtime's C++ heap (opened at run time) and aws-lc all end here. glibc supports this (manual,
//! "Replacing malloc") when all of these functions are replaced together, as they are. Whatever
//! the C library itself allocates, and C++'s `operator new` and `delete`, come through them too.
//! The blocks are mimalloc's; `free` and `realloc` wipe them first.
//!
//! Without glibc there is no such interposition; [`Wiping`] then wipes what Rust frees, and
//! nothing wipes what ONNX Runtime frees. The build says so.
#![expect(unsafe_code, reason = "wiping blocks as they are freed, in one place")]

use std::ffi::c_void;

use rustix::mm::{Advice, madvise};
use vitalgate::phi::process::Outcome;

#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub(crate) use interposed::{is_wiped, keep_pages};

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod interposed {
    use std::{
        ffi::{CStr, c_int, c_void},
        ptr,
    };

    use libmimalloc_sys as mi;
    use vitalgate::phi::{
        measures::{Measure, in_force},
        process::Outcome,
    };

    /// What the kernel maps by, at least.
    const PAGE: usize = 4096;

    /// As C's. Nothing is demanded of the caller of this and the others that allocate.
    #[unsafe(no_mangle)]
    pub(super) extern "C" fn malloc(size: usize) -> *mut c_void {
        // SAFETY: allocating has no precondition.
        unsafe { mi::mi_malloc(size) }
    }

    #[unsafe(no_mangle)]
    pub(super) extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
        // SAFETY: as in `malloc`.
        unsafe { mi::mi_calloc(count, size) }
    }

    #[unsafe(no_mangle)]
    pub(super) extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
        // SAFETY: as in `malloc`; an alignment that is no power of two gives null.
        unsafe { mi::mi_malloc_aligned(size, alignment) }
    }

    #[unsafe(no_mangle)]
    pub(super) extern "C" fn memalign(alignment: usize, size: usize) -> *mut c_void {
        aligned_alloc(alignment, size)
    }

    #[unsafe(no_mangle)]
    pub(super) extern "C" fn valloc(size: usize) -> *mut c_void {
        aligned_alloc(PAGE, size)
    }

    #[unsafe(no_mangle)]
    pub(super) extern "C" fn pvalloc(size: usize) -> *mut c_void {
        size.checked_next_multiple_of(PAGE)
            .map_or(ptr::null_mut(), |pages| valloc(pages))
    }

    /// # Safety
    /// As C's `posix_memalign`: a pointer can be written to `block`.
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn posix_memalign(
        block: *mut *mut c_void,
        alignment: usize,
        size: usize,
    ) -> c_int {
        // SAFETY: the contract is the same.
        unsafe { mi::mi_posix_memalign(block, alignment, size) }
    }

    /// # Safety
    /// As glibc's `malloc_usable_size`: `block` is null, or was allocated here and not freed since.
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn malloc_usable_size(block: *mut c_void) -> usize {
        // SAFETY: the contract is the same.
        unsafe { mi::mi_usable_size(block) }
    }

    /// Wipes a block and gives it back.
    ///
    /// # Safety
    /// As C's `free`: `block` is null, or was allocated here and not freed since.
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn free(block: *mut c_void) {
        if block.is_null() {
            return;
        }
        // SAFETY: by the contract of `free`, `block` is live and nobody else uses it any more;
        // all of its usable size may be written to. The wipe is not a dead store: `mi_free` is
        // opaque to the compiler and might read it. `errno` is this thread's; glibc's `free` keeps
        // it (since 2.33), and its callers may count on that.
        unsafe {
            if in_force(Measure::Heap) {
                ptr::write_bytes(block.cast::<u8>(), 0, mi::mi_usable_size(block));
            }
            let errno = libc::__errno_location();
            let kept = *errno;
            mi::mi_free(block);
            *errno = kept;
        }
    }

    /// Resizes a block without leaving a copy of its content behind.
    ///
    /// # Safety
    /// As C's `realloc`: `block` is null, or was allocated here and not freed since.
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        if block.is_null() {
            return malloc(size);
        }
        // SAFETY: `block` is live and the caller's alone.
        let old = unsafe { mi::mi_usable_size(block) };
        if size == 0 {
            // SAFETY: the contract of `realloc` is that of `free` here.
            unsafe { free(block) };
            return ptr::null_mut();
        }
        // A block that would be mostly unused moves into a smaller one.
        if (old / 2..=old).contains(&size) {
            // SAFETY: `size..old` lies within the block's usable size, and the caller gives that
            // part up.
            unsafe {
                if in_force(Measure::Heap) {
                    ptr::write_bytes(block.cast::<u8>().add(size), 0, old - size);
                }
            }
            return block;
        }
        let moved = malloc(size);
        if !moved.is_null() {
            // SAFETY: the new block does not overlap the live one, and both are as large as what
            // is copied. When there is no memory the old block stays as it was, as the contract
            // demands.
            unsafe {
                ptr::copy_nonoverlapping(block.cast::<u8>(), moved.cast::<u8>(), old.min(size));
                free(block);
            }
        }
        moved
    }

    /// As glibc's.
    ///
    /// # Safety
    /// As for [`realloc`].
    #[unsafe(no_mangle)]
    pub(super) unsafe extern "C" fn reallocarray(
        block: *mut c_void,
        count: usize,
        size: usize,
    ) -> *mut c_void {
        match count.checked_mul(size) {
            // SAFETY: the contract is the same.
            Some(size) => unsafe { realloc(block, size) },
            None => ptr::null_mut(),
        }
    }

    /// mimalloc's `mi_option_purge_delay`, which the crate does not name (mimalloc.h).
    const PURGE_DELAY: mi::mi_option_t = 15;

    /// Spares the allocator its attempts to give pages back to the kernel, which refuses locked ones.
    pub(crate) fn keep_pages() {
        // SAFETY: setting an option has no precondition.
        unsafe { mi::mi_option_set(PURGE_DELAY, -1) }
    }

    /// Whether the dynamic linker gives everybody the functions above.
    pub(crate) fn is_wiped() -> Outcome {
        let ours: [(&CStr, usize); _] = [
            (c"malloc", malloc as *const () as usize),
            (c"calloc", calloc as *const () as usize),
            (c"aligned_alloc", aligned_alloc as *const () as usize),
            (c"memalign", memalign as *const () as usize),
            (c"valloc", valloc as *const () as usize),
            (c"pvalloc", pvalloc as *const () as usize),
            (c"posix_memalign", posix_memalign as *const () as usize),
            (
                c"malloc_usable_size",
                malloc_usable_size as *const () as usize,
            ),
            (c"free", free as *const () as usize),
            (c"realloc", realloc as *const () as usize),
            (c"reallocarray", reallocarray as *const () as usize),
        ];
        let everybodys = |name: &CStr| {
            // SAFETY: the name ends in NUL; looking a symbol up has no other precondition.
            unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) }.addr()
        };
        if ours
            .iter()
            .all(|(name, address)| everybodys(name) == *address)
        {
            Outcome::done("free and realloc of the whole process")
        } else {
            Outcome::not_done("the linker did not export the executable's allocator")
        }
    }
}

/// Says what is not covered where there is no interposition.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn is_wiped() -> Outcome {
    Outcome::not_done("what Rust frees is wiped; what ONNX Runtime frees is NOT: not glibc")
}

/// The system's allocator is left as it is.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub(crate) fn keep_pages() {}

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
