//! Memory with an end: whoever asks for more at once than any honest input needs is caught in the act,
//! with the stack that asked. libFuzzer's own limit needs a sanitizer that stable Rust does not have.

use std::alloc::{GlobalAlloc, Layout, System};

/// Most bytes of one allocation. The fuzzer's own tables are C++ and do not count.
const MOST: usize = 96 << 20;

/// The system's allocator, up to [`MOST`].
pub struct Capped;

#[cold]
fn too_much(size: usize) -> ! {
    // The panic itself allocates, far less than that.
    panic!("an allocation of {size} bytes, more than {MOST}");
}

// SAFETY: every call goes to the system's allocator unchanged, or does not return at all.
unsafe impl GlobalAlloc for Capped {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST {
            too_much(layout.size());
        }
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST {
            too_much(layout.size());
        }
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if size > MOST {
            too_much(size);
        }
        // SAFETY: the caller keeps the contract of this very function.
        unsafe { System.realloc(at, layout, size) }
    }
}
