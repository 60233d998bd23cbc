//! Which parts of the address space are free, and which of these hold memory.

use std::collections::BTreeMap;

use super::system::{self, HUGE_PAGE};

/// Blocks are multiples of this, and lie at multiples of it: at most a sixteenth more than asked for.
pub(super) const UNIT: usize = 64 << 10;
/// Address space that is mapped at a time. It takes no memory until it is used.
const SEGMENT: usize = 1 << 30;
/// Memory that may be kept, as a multiple of what lives, and bytes that may be kept whatever lives: a training step's
/// activations and gradients are about as large as the weights each.
const KEPT_SHARE: usize = 2;
const KEPT_ALWAYS: usize = 256 << 20;

/// The size of the block that holds `size` bytes: what is asked for and what is given back agree on it.
pub(super) const fn rounded(size: usize) -> usize {
    size.next_multiple_of(UNIT)
}

/// A part of the address space that nobody uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Free {
    size: usize,
    /// Whether it may hold memory: what is not warm is zeros, and takes none.
    warm: bool,
}

/// A block that was taken.
pub(super) struct Block {
    pub(super) address: usize,
    /// Whether it is known to be zero.
    pub(super) zero: bool,
}

/// Free address space by address, no two neighbours of one warmth, and how much lives.
pub(super) struct Pool {
    free: BTreeMap<usize, Free>,
    /// Bytes of warm free space.
    kept: usize,
    live: usize,
    most: usize,
}

impl Pool {
    pub(super) const fn new() -> Self {
        Self {
            free: BTreeMap::new(),
            kept: 0,
            live: 0,
            most: 0,
        }
    }

    /// The smallest free space that is large enough, warm if there is any; none when the system has none.
    pub(super) fn take(&mut self, size: usize) -> Option<Block> {
        let size = rounded(size);
        let at = match self.fit(size, true) {
            Some(at) => at,
            None => {
                self.shrink(self.most.saturating_sub(self.live + size));
                match self.fit(size, false) {
                    Some(at) => at,
                    None => self.grow(size)?,
                }
            }
        };
        let found = self.remove(at);
        if found.size > size {
            let rest = Free {
                size: found.size - size,
                ..found
            };
            self.insert(at + size, rest);
        }
        self.live += size;
        self.most = self.most.max(self.live);
        Some(Block {
            address: at,
            zero: !found.warm,
        })
    }

    /// Takes a block back.
    pub(super) fn give(&mut self, address: usize, size: usize) {
        let size = rounded(size);
        self.live -= size;
        self.insert(address, Free { size, warm: true });
        self.shrink((KEPT_SHARE * self.live).max(KEPT_ALWAYS));
    }

    fn fit(&self, size: usize, warm: bool) -> Option<usize> {
        let fitting = self.free.iter().filter(|(_, f)| f.warm == warm && f.size >= size);
        fitting.min_by_key(|(_, f)| f.size).map(|(&at, _)| at)
    }

    /// Maps more address space.
    fn grow(&mut self, size: usize) -> Option<usize> {
        let segment = size.next_multiple_of(HUGE_PAGE).max(SEGMENT);
        // Where address space is limited, as much as is needed.
        let (address, size) = match system::map(segment) {
            Some(address) => (address, segment),
            None => (system::map(size)?, size),
        };
        Some(self.insert(address, Free { size, warm: false }))
    }

    fn remove(&mut self, at: usize) -> Free {
        let found = self.free.remove(&at).expect("free space begins here");
        if found.warm {
            self.kept -= found.size;
        }
        found
    }

    /// Adds free space, joined with its neighbours; where the whole begins.
    fn insert(&mut self, mut at: usize, mut free: Free) -> usize {
        if let Some((&before, &other)) = self.free.range(..at).next_back()
            && before + other.size == at
            && other.warm == free.warm
        {
            self.remove(before);
            free.size += other.size;
            at = before;
        }
        if let Some(&other) = self.free.get(&(at + free.size))
            && other.warm == free.warm
        {
            self.remove(at + free.size);
            free.size += other.size;
        }
        if free.warm {
            self.kept += free.size;
        }
        self.free.insert(at, free);
        at
    }

    /// Gives memory back to the system, whole huge pages of it from the largest spaces, until at most `limit` bytes are
    /// kept, no space has a whole one, or the system refuses.
    fn shrink(&mut self, limit: usize) {
        while self.kept > limit {
            let inside = |at: usize, f: &Free| {
                let (from, to) = (at.next_multiple_of(HUGE_PAGE), (at + f.size) / HUGE_PAGE * HUGE_PAGE);
                (to > from).then_some((to - from, at, to))
            };
            let warm = self.free.iter().filter(|(_, f)| f.warm);
            let Some((whole, at, to)) = warm.filter_map(|(&at, f)| inside(at, f)).max() else {
                return;
            };
            let size = (self.kept - limit).next_multiple_of(HUGE_PAGE).min(whole);
            let from = to - size;
            // SAFETY: the range is free, hence mapped and unused.
            if !unsafe { system::release(from, size) } {
                return;
            }
            let end = at + self.remove(at).size;
            for (start, end, warm) in [(at, from, true), (to, end, true), (from, to, false)] {
                if end > start {
                    self.insert(
                        start,
                        Free {
                            size: end - start,
                            warm,
                        },
                    );
                }
            }
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    const MIB: usize = 1 << 20;

    fn taken(pool: &mut Pool, size: usize) -> (usize, bool) {
        let block = pool.take(size).unwrap();
        (block.address, block.zero)
    }

    #[test]
    fn blocks_hold_what_is_asked_for_and_little_more() {
        for size in (MIB..8 * MIB).step_by(4097) {
            let block = rounded(size);
            assert!(block >= size && block - size <= size / 16 && rounded(block) == block);
        }
    }

    #[test]
    fn memory_that_was_given_serves_requests_of_other_sizes() {
        let mut pool = Pool::new();
        let blocks: Vec<(usize, bool)> = (0..6).map(|_| taken(&mut pool, 10 * MIB)).collect();
        assert!(blocks.iter().all(|&(_, zero)| zero));
        // Neighbours join, in whatever order they come back.
        for i in [1, 3, 2] {
            pool.give(blocks[i].0, 10 * MIB);
        }
        assert_eq!(taken(&mut pool, 30 * MIB), (blocks[1].0, false));
        pool.give(blocks[1].0, 30 * MIB);
        assert_eq!(taken(&mut pool, 7 * MIB), (blocks[1].0, false));
        assert_eq!(taken(&mut pool, 23 * MIB), (blocks[1].0 + 7 * MIB, false));
        // The smallest space that is large enough.
        pool.give(blocks[5].0, 10 * MIB);
        pool.give(blocks[1].0, 7 * MIB);
        assert_eq!(taken(&mut pool, 6 * MIB).0, blocks[1].0);
    }

    #[test]
    fn what_is_kept_never_makes_the_process_larger() {
        let mut pool = Pool::new();
        let first: Vec<usize> = (0..40).map(|_| taken(&mut pool, 20 * MIB).0).collect();
        let most = pool.live;
        // Every other block: no space is large enough for what follows.
        for &block in first.iter().step_by(2) {
            pool.give(block, 20 * MIB);
        }
        assert_eq!(pool.kept, 20 * 20 * MIB);
        for _ in 0..8 {
            let (_, zero) = taken(&mut pool, 50 * MIB);
            assert!(zero && pool.live + pool.kept <= most, "{} + {}", pool.live, pool.kept);
        }
        assert_eq!(pool.kept, 0);
    }

    #[test]
    fn an_idle_process_keeps_little() {
        let mut pool = Pool::new();
        let blocks: Vec<usize> = (0..30).map(|_| taken(&mut pool, 50 * MIB).0).collect();
        for &block in &blocks {
            pool.give(block, 50 * MIB);
        }
        assert_eq!((pool.live, pool.kept), (0, KEPT_ALWAYS));
        let space: usize = pool.free.values().map(|f| f.size).sum();
        assert_eq!(space % SEGMENT, 0, "nothing is lost");
    }

    #[test]
    fn what_was_released_is_zero() {
        let mut pool = Pool::new();
        let (block, _) = taken(&mut pool, 600 * MIB);
        // SAFETY: the block is ours.
        unsafe { (block as *mut u8).write_bytes(9, 600 * MIB) };
        pool.give(block, 600 * MIB);
        let (again, zero) = taken(&mut pool, 300 * MIB);
        assert!(zero);
        // SAFETY: as above.
        let bytes = unsafe { std::slice::from_raw_parts(again as *const u8, 300 * MIB) };
        assert!(bytes.chunks(4096).all(|page| page[0] == 0));
    }
}
