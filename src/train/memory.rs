//! How much memory the process uses.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator with a count of live bytes and their peak; `main` makes it the global one.
#[derive(Debug, Clone, Copy, Default)]
pub struct CountingAllocator;

fn grow(bytes: usize) {
    let now = ALLOCATED.fetch_add(bytes, Relaxed) + bytes;
    // Small blocks cannot move the peak by much; leaving them out keeps this line off the hot path.
    if bytes >= 4096 {
        PEAK.fetch_max(now, Relaxed);
    }
}

#[expect(unsafe_code, reason = "GlobalAlloc is an unsafe trait")]
// SAFETY: every call is handed to `System` unchanged; the counters are atomics and allocate nothing.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is System's.
        let pointer = unsafe { System.alloc(layout) };
        if !pointer.is_null() {
            grow(layout.size());
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise is System's.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if !pointer.is_null() {
            grow(layout.size());
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Relaxed);
        // SAFETY: the caller's promise is System's.
        unsafe { System.dealloc(pointer, layout) };
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise is System's.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        if !moved.is_null() {
            ALLOCATED.fetch_sub(layout.size(), Relaxed);
            grow(size);
        }
        moved
    }
}

/// Live bytes now; 0 when [`CountingAllocator`] is not the global allocator.
pub(super) fn allocated() -> u64 {
    ALLOCATED.load(Relaxed) as u64
}

/// Most live bytes since [`reset_peak`].
pub(super) fn peak() -> u64 {
    PEAK.load(Relaxed).max(ALLOCATED.load(Relaxed)) as u64
}

/// Starts a new peak from what lives now.
pub(super) fn reset_peak() {
    PEAK.store(ALLOCATED.load(Relaxed), Relaxed);
}

/// Resident bytes of the process; 0 where `/proc` does not say.
pub(super) fn resident() -> u64 {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else {
        return 0;
    };
    status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|kib| kib.parse::<u64>().ok())
        .map_or(0, |kib| kib * 1024)
}
