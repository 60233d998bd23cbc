//! The threads that kernels run on.

use std::cell::RefCell;

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{EngineError, Result};

thread_local! {
    static POOL: RefCell<Option<ThreadPool>> = const { RefCell::new(None) };
}

/// Gives this thread a pool of its own, of which it is a member, for the kernels that it calls from here on.
///
/// Without it kernels run on rayon's global pool, and each of them hands its work over and sleeps until it is done: for
/// small tensors that costs more than the work. A device's engine thread calls this once. The number of threads is
/// rayon's default (`RAYON_NUM_THREADS`, else the processors); results do not depend on it. A second call does nothing.
pub fn join_pool() -> Result<()> {
    POOL.with(|pool| {
        let mut pool = pool.borrow_mut();
        if pool.is_none() && rayon::current_thread_index().is_none() {
            let built = ThreadPoolBuilder::new()
                .use_current_thread()
                .thread_name(|i| format!("potstill-{i}"))
                .build();
            *pool = Some(built.map_err(|e| EngineError::state("join_pool", format!("no threads: {e}")))?);
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{random, values};
    use crate::{Value, ops};

    #[test]
    fn a_member_computes_the_same() {
        let (x, w) = (
            Value::constant(random(&[300, 200], 1)),
            Value::constant(random(&[100, 200], 2)),
        );
        let product = move || values(ops::linear(&x, &w, None).unwrap().tensor());
        let outside = product();
        let inside = std::thread::spawn(move || {
            join_pool().unwrap();
            join_pool().unwrap();
            assert!(rayon::current_thread_index().is_some());
            product()
        });
        assert!(inside.join().unwrap() == outside);
    }
}
