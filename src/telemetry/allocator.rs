//! The system's allocator with a count of bytes, so that a trainer can state the peak of a step.
//!
//! The binary makes [`Counting`] its global allocator. Counters are relaxed: they are exact when read between steps, and a peak within a
//! step misses at most what other threads allocated in the same nanoseconds.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

/// Allocations below this do not raise the peak by themselves: tensors are larger, and the counter is shared by all threads.
const SMALL: usize = 4096;

/// The system's allocator, counting.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counting;

fn add(bytes: usize) {
    let now = ALLOCATED.fetch_add(bytes, Relaxed) + bytes;
    if bytes >= SMALL {
        PEAK.fetch_max(now, Relaxed);
    }
}

fn sub(bytes: usize) {
    ALLOCATED.fetch_sub(bytes, Relaxed);
}

#[expect(unsafe_code, reason = "an allocator is unsafe by nature")]
// SAFETY: every call is handed to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc`.
        let pointer = unsafe { System.alloc(layout) };
        if !pointer.is_null() {
            add(layout.size());
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `alloc_zeroed`.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if !pointer.is_null() {
            add(layout.size());
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller keeps the contract of `dealloc`.
        unsafe { System.dealloc(pointer, layout) };
        sub(layout.size());
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `realloc`.
        let new = unsafe { System.realloc(pointer, layout, size) };
        if !new.is_null() {
            match size.checked_sub(layout.size()) {
                Some(more) => add(more),
                None => sub(layout.size() - size),
            }
        }
        new
    }
}

/// Bytes allocated now; 0 unless [`Counting`] is the global allocator.
pub fn allocated() -> u64 {
    ALLOCATED.load(Relaxed) as u64
}

/// The most bytes that were allocated at once since [`reset_peak`].
pub fn peak() -> u64 {
    PEAK.load(Relaxed).max(ALLOCATED.load(Relaxed)) as u64
}

/// Starts a new peak from the bytes allocated now.
pub fn reset_peak() {
    PEAK.store(ALLOCATED.load(Relaxed), Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_counted_up_and_down_and_the_peak_stays() {
        // Not the global allocator of this test: only this thread counts.
        let layout = Layout::from_size_align(1 << 20, 64).expect("a plain layout");
        let before = allocated();
        reset_peak();
        #[expect(unsafe_code, reason = "the allocator is called as the runtime would")]
        // SAFETY: the pointer comes from the allocator that frees it, with the layout it was last given.
        unsafe {
            let pointer = Counting.alloc_zeroed(layout);
            assert!(!pointer.is_null());
            let pointer = Counting.realloc(pointer, layout, 3 << 20);
            assert_eq!(allocated() - before, 3 << 20);
            let layout = Layout::from_size_align(3 << 20, 64).expect("a plain layout");
            Counting.dealloc(pointer, layout);
        }
        assert_eq!(allocated(), before);
        assert_eq!(peak() - before, 3 << 20);
        reset_peak();
        assert_eq!(peak(), before);
    }
}
