//! Shared libraries opened at run time.

use std::ffi::{CStr, CString, c_void};

/// An open library; closed when dropped.
pub(crate) struct Library(*mut c_void);

impl Library {
    /// Opens a library by path, or by name in the loader's places, with its symbols visible to later ones.
    pub(crate) fn open(file: &str) -> Result<Self, String> {
        let name = CString::new(file).map_err(|_| format!("{file:?} is no name of a file"))?;
        // SAFETY: a C string; running the library's initialisers is what was asked for.
        let handle = unsafe { libc::dlopen(name.as_ptr(), libc::RTLD_NOW | libc::RTLD_GLOBAL) };
        if handle.is_null() {
            Err(last_error())
        } else {
            Ok(Self(handle))
        }
    }

    /// The address of a function; `None` when the library has none of that name.
    pub(crate) fn symbol(&self, name: &CStr) -> Option<*mut c_void> {
        // SAFETY: an open handle and a C string.
        let address = unsafe { libc::dlsym(self.0, name.as_ptr()) };
        (!address.is_null()).then_some(address)
    }

    /// Leaves it open until the process ends.
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Drop for Library {
    fn drop(&mut self) {
        // SAFETY: opened once, closed once.
        unsafe { libc::dlclose(self.0) };
    }
}

fn last_error() -> String {
    // SAFETY: dlerror gives a C string of this thread, or null.
    let text = unsafe { libc::dlerror() };
    if text.is_null() {
        return "the loader gave no reason".to_owned();
    }
    // SAFETY: not null, and valid until the next call of the loader on this thread.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}
