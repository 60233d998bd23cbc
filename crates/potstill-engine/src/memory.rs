//! An allocator for activations.
//!
//! Operations make large tensors and drop them within milliseconds. The system gives such memory back at once and then
//! has to clear fresh pages for the next operation, which costs a tenth of a forward pass. [`Recycler`] keeps dropped
//! blocks for the next request of their size class, and asks for huge pages. What it keeps never makes the process larger
//! than it has been with live blocks alone: before that, kept blocks are given back.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes from which a block is recycled: smaller ones are the system's business.
const LARGE: usize = 1 << 20;
/// Size of a huge page on x86-64, and the alignment of blocks.
const HUGE_PAGE: usize = 2 << 20;
/// Size classes per power of two: a block is at most an eighth larger than asked for.
const CLASSES: usize = 8;
/// Blocks that are kept at most.
const SLOTS: usize = 128;
/// Share of the live bytes that may be kept, as a divisor, and bytes that may be kept whatever lives.
const KEPT_SHARE: usize = 4;
const KEPT_ALWAYS: usize = 256 << 20;

/// The global allocator of programs that compute: `#[global_allocator] static MEMORY: Recycler = Recycler;`
///
/// Requests below 1 MiB, and all on systems other than Linux, go to the system's allocator.
pub struct Recycler;

/// A block that nobody uses.
#[derive(Clone, Copy)]
struct Block {
    address: usize,
    size: usize,
}

/// What is kept, oldest first, and how much lives.
struct Pool {
    blocks: [Block; SLOTS],
    count: usize,
    kept: usize,
    live: usize,
    most: usize,
}

static POOL: Mutex<Pool> = Mutex::new(Pool {
    blocks: [Block { address: 0, size: 0 }; SLOTS],
    count: 0,
    kept: 0,
    live: 0,
    most: 0,
});

fn pool() -> MutexGuard<'static, Pool> {
    POOL.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The size of the block that holds `size` bytes: what is asked for and what is given back agree on it.
const fn class(size: usize) -> usize {
    let step = (1 << (usize::BITS - 1 - size.leading_zeros())) / CLASSES;
    size.next_multiple_of(step)
}

impl Pool {
    /// The newest kept block of a size: its contents are the likeliest to be in a cache.
    fn take(&mut self, size: usize) -> Option<usize> {
        let at = (0..self.count).rev().find(|&i| self.blocks[i].size == size)?;
        let address = self.blocks[at].address;
        self.remove(at);
        Some(address)
    }

    fn remove(&mut self, at: usize) {
        self.kept -= self.blocks[at].size;
        self.blocks.copy_within(at + 1..self.count, at);
        self.count -= 1;
    }

    /// Gives the oldest kept blocks back until at most `limit` bytes are kept.
    fn shrink(&mut self, limit: usize) {
        while self.kept > limit && self.count > 0 {
            let Block { address, size } = self.blocks[0];
            self.remove(0);
            // SAFETY: the block was mapped with this size, and nobody uses it.
            unsafe { system::unmap(address, size) };
        }
    }

    fn give(&mut self, address: usize, size: usize) {
        self.live -= size;
        if self.count == SLOTS {
            self.shrink(self.kept - self.blocks[0].size);
        }
        self.blocks[self.count] = Block { address, size };
        self.count += 1;
        self.kept += size;
        self.shrink((self.live / KEPT_SHARE).max(KEPT_ALWAYS));
    }
}

/// A block for `layout`, and whether it is known to be zero.
fn allocate(layout: Layout) -> (*mut u8, bool) {
    let size = class(layout.size());
    let mut pool = pool();
    let recycled = pool.take(size);
    if recycled.is_none() {
        let room = pool.most.saturating_sub(pool.live + size);
        pool.shrink(room);
    }
    let Some(address) = recycled.or_else(|| system::map(size)) else {
        return (std::ptr::null_mut(), false);
    };
    pool.live += size;
    pool.most = pool.most.max(pool.live);
    (address as *mut u8, recycled.is_none())
}

/// Whether a request is for a block of the pool.
const fn pooled(layout: &Layout) -> bool {
    cfg!(target_os = "linux") && layout.size() >= LARGE && layout.align() <= HUGE_PAGE
}

// SAFETY: blocks of the pool are mapped with at least the size asked for, aligned to a huge page, and belong to one owner
// from `alloc` to `dealloc`; all others are the system allocator's. Nothing here allocates or unwinds.
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
            return pool().give(block as usize, class(layout.size()));
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
            (true, true) if class(layout.size()) == class(size) => block,
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

#[cfg(target_os = "linux")]
mod system {
    use super::HUGE_PAGE;

    /// Zeroed memory at a multiple of the huge page's size. What fills huge pages is backed by them where the system has
    /// them; the rest is not, so that a block takes no more memory than is used of it.
    pub(super) fn map(size: usize) -> Option<usize> {
        let whole = size + HUGE_PAGE;
        // SAFETY: a new anonymous mapping; what lies before and behind the aligned part is unmapped again.
        unsafe {
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
            let start = libc::mmap(
                std::ptr::null_mut(),
                whole,
                libc::PROT_READ | libc::PROT_WRITE,
                flags,
                -1,
                0,
            );
            if start == libc::MAP_FAILED {
                return None;
            }
            let start = start as usize;
            let address = start.next_multiple_of(HUGE_PAGE);
            for (from, to) in [(start, address), (address + size, start + whole)] {
                if to > from {
                    libc::munmap(from as *mut libc::c_void, to - from);
                }
            }
            // Without huge pages it is slower, no more.
            libc::madvise(
                address as *mut libc::c_void,
                size / HUGE_PAGE * HUGE_PAGE,
                libc::MADV_HUGEPAGE,
            );
            Some(address)
        }
    }

    /// # Safety
    /// `address` is from [`map`] with this size, and nobody uses it.
    pub(super) unsafe fn unmap(address: usize, size: usize) {
        // SAFETY: the caller's promise.
        unsafe { libc::munmap(address as *mut libc::c_void, size) };
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub(super) fn map(_size: usize) -> Option<usize> {
        None
    }

    pub(super) unsafe fn unmap(_address: usize, _size: usize) {}
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn classes_hold_what_is_asked_for_and_little_more() {
        for size in (LARGE..8 * LARGE).step_by(4097) {
            let class = class(size);
            assert!(class >= size && class - size <= size / CLASSES && super::class(class) == class);
        }
    }

    #[test]
    fn blocks_are_aligned_whole_and_zero_when_asked() {
        let layout = Layout::from_size_align(3 * LARGE + 17, 64).unwrap();
        // SAFETY: every block is used within its size and given back once.
        unsafe {
            for _ in 0..3 {
                let block = Recycler.alloc(layout);
                assert_eq!(block as usize % HUGE_PAGE, 0);
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
