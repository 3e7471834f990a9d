//! What was freed is looked at by way of the kernel: it belongs to nobody any more.

use std::{
    alloc::{GlobalAlloc, Layout},
    fs::File,
    hint::black_box,
    os::unix::fs::FileExt,
};

use super::*;

const CANARY: u8 = 0xc3;

/// How many canary bytes of the block at `address` are left. The allocator keeps its lists in the
/// first bytes of a free block.
fn left_at(address: usize, size: usize) -> usize {
    let mut bytes = vec![0u8; size];
    let memory = File::open("/proc/self/mem").unwrap();
    // Given back to the kernel altogether: nothing is left.
    if memory.read_exact_at(&mut bytes, address as u64).is_err() {
        return 0;
    }
    bytes.iter().skip(32).filter(|b| **b == CANARY).count()
}

#[test]
fn the_executable_s_free_is_everybody_s() {
    let outcome = is_wiped();
    assert!(outcome.done, "{}", outcome.detail);
}

#[test]
fn what_rust_frees_is_wiped() {
    for size in [40, 100, 1000, 5000, 100_000, 1 << 20] {
        let block = black_box(vec![CANARY; size]);
        let address = block.as_ptr().addr();
        assert_eq!(left_at(address, size), size - 32, "the look sees it");
        drop(block);
        assert_eq!(left_at(address, size), 0, "{size} bytes");
    }
}

#[test]
fn what_a_growing_vector_leaves_behind_is_wiped() {
    let mut vector = vec![CANARY; 1000];
    let mut left = Vec::new();
    for _ in 0..12 {
        let (address, size) = (vector.as_ptr().addr(), vector.capacity());
        vector.reserve(size);
        if vector.as_ptr().addr() != address {
            left.push(left_at(address, size));
        }
        vector.resize(vector.capacity(), CANARY);
    }
    assert!(left.len() > 3, "it moved");
    assert_eq!(left.iter().sum::<usize>(), 0, "{left:?}");
}

#[test]
fn what_a_shrinking_vector_gives_up_is_wiped() {
    let mut vector = vec![CANARY; 4096];
    vector.truncate(1024);
    let (address, size) = (vector.as_ptr().addr(), 4096);
    vector.shrink_to_fit();
    assert_eq!(vector, [CANARY; 1024]);
    let kept = if vector.as_ptr().addr() == address {
        1024 - 32
    } else {
        0
    };
    assert_eq!(left_at(address, size), kept);
}

#[test]
fn what_c_frees_is_wiped() {
    // SAFETY: each block is written within its size, and freed once.
    unsafe {
        let block = libc::malloc(500);
        libc::memset(block, i32::from(CANARY), 500);
        let address = block.addr();
        libc::free(block);
        assert_eq!(left_at(address, 500), 0, "malloc");

        let block = libc::calloc(5, 100);
        libc::memset(block, i32::from(CANARY), 500);
        let address = block.addr();
        let moved = libc::reallocarray(block, 1000, 100);
        assert_ne!(moved.addr(), address);
        assert_eq!(
            *moved.cast::<u8>().add(499),
            CANARY,
            "the content came along"
        );
        assert_eq!(left_at(address, 500), 0, "reallocarray");
        libc::free(moved);

        let mut block = std::ptr::null_mut();
        assert_eq!(libc::posix_memalign(&raw mut block, 256, 500), 0);
        libc::memset(block, i32::from(CANARY), 500);
        let address = block.addr();
        libc::free(block);
        assert_eq!(left_at(address, 500), 0, "posix_memalign");

        let block = libc::strdup(c"\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3\xc3".as_ptr());
        let address = block.addr();
        assert_eq!(libc::realloc(block.cast(), 0), std::ptr::null_mut());
        assert_eq!(left_at(address, 44), 0, "strdup, realloc to nothing");
        libc::free(std::ptr::null_mut());
        let fresh = libc::realloc(std::ptr::null_mut(), 16);
        assert!(!fresh.is_null());
        libc::free(fresh);
    }
}

#[test]
fn a_realloc_that_cannot_succeed_leaves_the_block_alone() {
    // SAFETY: the block is written within its size and freed once; the failed call frees nothing.
    unsafe {
        let block = libc::malloc(100);
        libc::memset(block, i32::from(CANARY), 100);
        assert!(libc::realloc(black_box(block), isize::MAX as usize).is_null());
        assert_eq!(*block.cast::<u8>().add(99), CANARY);
        libc::free(block);
    }
}

#[test]
fn without_interposition_what_rust_frees_is_wiped_by_the_allocator() {
    let layout = Layout::from_size_align(1000, 8).unwrap();
    // SAFETY: the block is written within its layout and freed with it, once.
    let (address, moved) = unsafe {
        let block = Wiping.alloc(layout);
        block.write_bytes(CANARY, 1000);
        let grown = Wiping.realloc(block, layout, 9000);
        assert_eq!(*grown.add(999), CANARY);
        Wiping.dealloc(grown, Layout::from_size_align(9000, 8).unwrap());
        (block.addr(), grown.addr())
    };
    assert_eq!((left_at(address, 1000), left_at(moved, 1000)), (0, 0));
    // SAFETY: as above.
    unsafe {
        let block = Wiping.alloc_zeroed(layout);
        assert_eq!(*block.add(999), 0);
        Wiping.dealloc(block, layout);
    }
}

#[test]
fn heap_and_stacks_are_left_out_of_dumps() {
    let outcome = exclude_from_dumps();
    assert!(outcome.done, "{}", outcome.detail);
    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let (on_heap, on_stack) = (Box::new(0u8), 0u8);
    for address in [(&raw const *on_heap).addr(), (&raw const on_stack).addr()] {
        let mapping =
            |line: &str| private_writable(line).is_some_and(|(s, e)| (s..e).contains(&address));
        let mut lines = smaps.lines().skip_while(|line| !mapping(line));
        let flags = lines.find(|line| line.starts_with("VmFlags:")).unwrap();
        assert!(flags.split(' ').any(|flag| flag == "dd"), "{flags}");
    }
}

#[test]
fn mappings_of_files_are_left_alone() {
    assert_eq!(
        private_writable("1000-3000 rw-p 00000000 00:00 0    [heap]"),
        Some((0x1000, 0x3000))
    );
    assert_eq!(
        private_writable("1000-3000 rw-p 00000000 00:00 0"),
        Some((0x1000, 0x3000))
    );
    assert_eq!(
        private_writable("1000-3000 rw-p 00000000 08:01 5  /lib/x.so"),
        None
    );
    assert_eq!(private_writable("1000-3000 r--p 00000000 00:00 0"), None);
    assert_eq!(private_writable("1000-3000 rw-s 00000000 00:00 0"), None);
}
