//! An allocator for activations and gradients.
//!
//! Operations make large tensors and drop them within milliseconds, and a training step makes gigabytes that it drops at
//! its end. The system gives such memory back at once and then has to clear fresh pages for the next operation, which
//! costs a tenth of a forward pass and more of a training step. [`Recycler`] keeps what is dropped for the next requests,
//! whatever their sizes, and asks for huge pages.

mod pool;
mod system;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, MutexGuard, PoisonError};

use pool::{Pool, UNIT, rounded};

/// Bytes from which a block is recycled: smaller ones are the system's business.
const LARGE: usize = 1 << 20;

/// The global allocator of programs that compute: `#[global_allocator] static MEMORY: Recycler = Recycler;`
///
/// Requests below 1 MiB, and all on systems other than Linux, go to the system's allocator. What is kept never makes the
/// process larger than it has been with live blocks alone.
pub struct Recycler;

static POOL: Mutex<Pool> = Mutex::new(Pool::new());

/// The pool's own bookkeeping is small: while it is locked, nothing asks it for a block.
fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A block for `layout`, and whether it is known to be zero.
fn allocate(layout: Layout) -> (*mut u8, bool) {
    match pool().take(layout.size()) {
        Some(block) => (block.address as *mut u8, block.zero),
        None => (std::ptr::null_mut(), false),
    }
}

/// Whether a request is for a block of the pool.
const fn pooled(layout: &Layout) -> bool {
    cfg!(target_os = "linux") && layout.size() >= LARGE && layout.align() <= UNIT
}

// SAFETY: blocks of the pool lie in mapped memory, are at least as long as asked for, aligned to a unit, and belong to one
// owner from `alloc` to `dealloc`; all others are the system allocator's. Nothing here unwinds.
unsafe impl GlobalAlloc for Recycler {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if pooled(&layout) {
            return allocate(layout).0;
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if !pooled(&layout) {
            // SAFETY: the caller's promise.
            return unsafe { System.alloc_zeroed(layout) };
        }
        let (block, zero) = allocate(layout);
        if !zero && !block.is_null() {
            // SAFETY: the block is at least as long.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if pooled(&layout) {
            return pool().give(block as usize, layout.size());
        }
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller promises that `size` fits the alignment.
        let wanted = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (pooled(&layout), pooled(&wanted)) {
            // SAFETY: the caller's promise.
            (false, false) => unsafe { System.realloc(block, layout, size) },
            (true, true) if rounded(layout.size()) == rounded(size) => block,
            // SAFETY: the new block is as long as what is copied; the old one is the caller's.
            _ => unsafe {
                let to = self.alloc(wanted);
                if !to.is_null() {
                    block.copy_to_nonoverlapping(to, layout.size().min(size));
                    self.dealloc(block, layout);
                }
                to
            },
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_aligned_whole_and_zero_when_asked() {
        let layout = Layout::from_size_align(3 * LARGE + 17, 64).unwrap();
        // SAFETY: every block is used within its size and given back once.
        unsafe {
            for _ in 0..3 {
                let block = Recycler.alloc(layout);
                assert_eq!(block as usize % UNIT, 0);
                block.write_bytes(7, layout.size());
                Recycler.dealloc(block, layout);
                let zeroed = Recycler.alloc_zeroed(layout);
                let bytes = std::slice::from_raw_parts(zeroed, layout.size());
                assert!(bytes.iter().all(|&b| b == 0));
                Recycler.dealloc(zeroed, layout);
            }
        }
    }

    #[test]
    fn growing_and_shrinking_keep_the_contents() {
        let small = Layout::from_size_align(1000, 8).unwrap();
        // SAFETY: as above.
        unsafe {
            let mut block = Recycler.alloc(small);
            block.write_bytes(5, 1000);
            let mut layout = small;
            for size in [2 * LARGE, 2 * LARGE + 1, 20 * LARGE, LARGE, 500] {
                block = Recycler.realloc(block, layout, size);
                layout = Layout::from_size_align(size, 8).unwrap();
                assert!(std::slice::from_raw_parts(block, 500).iter().all(|&b| b == 5));
            }
            Recycler.dealloc(block, layout);
        }
    }
}
