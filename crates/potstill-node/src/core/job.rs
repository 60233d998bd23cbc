//! Long work that needs no engine: it runs on a thread of its own, beside the engine and off libuv's pool.

use napi::Env;
use napi::bindgen_prelude::{Object, ToNapiValue};

use super::error::{OpError, Result};
use super::outcome::promise;
use super::panic::catching;

/// Stack of a job's thread: parsers and image decoders recurse little.
const STACK: usize = 8 << 20;

/// Runs `body` on a new thread; the promise is of an [`super::Outcome`]. A panic becomes an error.
pub fn run_job<'env, T: ToNapiValue + Send + 'static>(
    env: &'env Env,
    name: &'static str,
    body: impl FnOnce() -> Result<T> + Send + 'static,
) -> napi::Result<Object<'env>> {
    let (promise, settle) = promise(env)?;
    let thread = std::thread::Builder::new()
        .name(format!("potstill-{name}"))
        .stack_size(STACK);
    thread
        .spawn(move || settle(catching(body).map_err(|error| error.at(name))))
        .map_err(|error| {
            napi::Error::from_reason(OpError::bug(format!("cannot start a thread: {error}")).to_string())
        })?;
    Ok(promise)
}
