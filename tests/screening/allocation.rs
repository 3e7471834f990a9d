//! Nothing is allocated for a row.
#![expect(unsafe_code, reason = "an allocator that counts")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use vitalgate::{
    bundle::model::ModelSpec,
    screening::{Scratch, Screen},
};

thread_local! {
    static ALLOCATIONS: Cell<usize> = const { Cell::new(0) };
}

struct Counting;

// Safety: every call is passed on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(block, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn rows_are_judged_without_allocating() {
    for model in ["icu-mortality", "breast-cancer"] {
        let bundle = super::fitting::models().join(model).join("bundle");
        let read = |name: &str| std::fs::read(bundle.join(name)).unwrap();
        let spec = ModelSpec::parse(&read("model.json")).unwrap();
        let screen = Screen::parse(&read("reference.json"), &spec)
            .unwrap()
            .unwrap();
        let mut values: Vec<f64> = spec.known_answers[0]
            .inputs
            .iter()
            .map(|v| f64::from(*v))
            .collect();
        let mut scratch = Scratch::default();
        // The first row makes room for all that follow.
        screen.judge(values.iter().copied(), &mut scratch);
        let before = ALLOCATIONS.with(Cell::get);
        for missing in 0..values.len() {
            screen.judge(values.iter().copied(), &mut scratch);
            scratch.wipe();
            values[missing] = f64::NAN;
        }
        assert_eq!(ALLOCATIONS.with(Cell::get), before, "{model}");
    }
}
