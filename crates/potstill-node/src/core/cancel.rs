//! Cancelling a job that has begun.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use napi_derive::napi;

use super::error::{OpError, Result};

/// Tells a running job to end at its next safe place. Made by JavaScript from an `AbortSignal`.
#[napi]
#[derive(Clone, Default)]
pub struct CancelToken {
    flag: Arc<AtomicBool>,
}

#[napi]
impl CancelToken {
    /// A token that is not cancelled.
    #[napi(constructor)]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every job that holds the token to end.
    #[napi]
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
    }
}

impl CancelToken {
    /// An error once the token was cancelled: long jobs call it between pieces of work.
    pub fn check(&self) -> Result<()> {
        match self.flag.load(Ordering::Relaxed) {
            true => Err(OpError::interrupted()),
            false => Ok(()),
        }
    }
}
