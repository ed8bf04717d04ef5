//! An allocator that remembers the largest single allocation, so that a test can say what a hostile file made us ask for.
#![allow(unsafe_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static LARGEST: Cell<usize> = const { Cell::new(0) };
}

fn note(size: usize) {
    // A thread that is being torn down has no cell any more, and nobody asks about it.
    LARGEST
        .try_with(|largest| largest.set(largest.get().max(size)))
        .ok();
}

struct Watching;

#[global_allocator]
static WATCHING: Watching = Watching;

// SAFETY: every call goes to the system's allocator with the arguments it came with; noting its size in a
// constant-initialised thread-local does not allocate.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are System's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        // SAFETY: the caller's promises are System's.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are System's.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        // SAFETY: the caller's promises are System's.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `work` and returns the size in bytes of the largest single allocation that this thread made in it.
pub(crate) fn largest_in(work: impl FnOnce()) -> usize {
    LARGEST.set(0);
    work();
    LARGEST.get()
}
