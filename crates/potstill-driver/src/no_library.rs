//! Where CUDA's libraries do not exist.

use std::ffi::{CStr, c_void};

/// A library that cannot be opened here.
pub(crate) enum Library {}

impl Library {
    pub(crate) fn open(_file: &str) -> Result<Self, String> {
        Err("CUDA's libraries are used on Linux only".to_owned())
    }

    pub(crate) fn symbol(&self, _name: &CStr) -> Option<*mut c_void> {
        match *self {}
    }

    pub(crate) fn keep(self) {
        match self {}
    }
}
