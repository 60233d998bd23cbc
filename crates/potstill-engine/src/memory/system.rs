//! Address space from the system.

/// Size of a huge page on x86-64.
pub(super) const HUGE_PAGE: usize = 2 << 20;

/// Address space at a multiple of the huge page's size: zeros, which take memory where they are first written.
#[cfg(target_os = "linux")]
pub(super) fn map(size: usize) -> Option<usize> {
    let whole = size.checked_add(HUGE_PAGE)?;
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
        libc::madvise(address as *mut libc::c_void, size, libc::MADV_HUGEPAGE);
        Some(address)
    }
}

/// Gives memory back, and leaves zeros; where the system refuses (pages that are locked, for one), everything is as it was,
/// and the result is false.
///
/// # Safety
/// The range is mapped by [`map`], and nobody uses it.
#[cfg(target_os = "linux")]
pub(super) unsafe fn release(address: usize, size: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { libc::madvise(address as *mut libc::c_void, size, libc::MADV_DONTNEED) == 0 }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn map(_size: usize) -> Option<usize> {
    None
}

#[cfg(not(target_os = "linux"))]
pub(super) unsafe fn release(_address: usize, _size: usize) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_does_not_take_back_is_not_called_released() {
        let address = map(HUGE_PAGE).unwrap();
        // SAFETY: the range is ours, and unlocked below.
        unsafe {
            (address as *mut u8).write(7);
            assert_eq!(libc::mlock(address as *const libc::c_void, 4096), 0);
            assert!(!release(address, HUGE_PAGE));
            assert_eq!((address as *const u8).read(), 7);
            libc::munlock(address as *const libc::c_void, 4096);
            assert!(release(address, HUGE_PAGE));
            assert_eq!((address as *const u8).read(), 0);
            libc::munmap(address as *mut libc::c_void, HUGE_PAGE);
        }
    }
}
