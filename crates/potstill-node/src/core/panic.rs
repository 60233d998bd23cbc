//! Panics as errors: a fault in one operation must not take Node down.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook};
use std::sync::{Mutex, Once, PoisonError};

use super::error::{OpError, Result};

/// Where the last panic of any thread happened. A panic of a worker thread reaches the engine's thread without it.
static LAST_PLACE: Mutex<Option<String>> = Mutex::new(None);
static HOOK: Once = Once::new();

/// Runs `body`; a panic becomes an error that names its place in the source.
pub fn catching<T>(body: impl FnOnce() -> Result<T>) -> Result<T> {
    // The standard hook would print to stderr, which belongs to the command line.
    HOOK.call_once(|| {
        set_hook(Box::new(|info| {
            let place = info.location().map(ToString::to_string);
            *LAST_PLACE.lock().unwrap_or_else(PoisonError::into_inner) = place;
        }));
    });
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let place = LAST_PLACE.lock().unwrap_or_else(PoisonError::into_inner).take();
        let what = format!("panic: {}", message(payload.as_ref()));
        Err(match place {
            Some(place) => OpError::bug(format!("{what} ({place})")),
            None => OpError::bug(what),
        })
    })
}

fn message(payload: &(dyn Any + Send)) -> &str {
    if let Some(text) = payload.downcast_ref::<&str>() {
        text
    } else {
        payload
            .downcast_ref::<String>()
            .map_or("without a message", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_with_its_place() {
        let error = catching::<()>(|| panic!("number {}", 7)).unwrap_err();
        assert!(
            error.what.contains("number 7") && error.what.contains("panic.rs"),
            "{error}"
        );
        assert_eq!(catching(|| Ok(3)), Ok(3));
    }
}
