//! Running tasks on all threads when there is enough to do.

use rayon::prelude::*;

/// Elements below which memory-bound work stays on one thread.
const SMALL: usize = 16 * 1024;

/// Runs `task(0) … task(tasks - 1)`, which together touch `elements` elements. Tasks write disjoint parts.
pub(crate) fn each_task(tasks: usize, elements: usize, task: impl Fn(usize) + Sync + Send) {
    if elements <= SMALL {
        (0..tasks).for_each(task);
    } else {
        let together = (SMALL / (elements / tasks.max(1)).max(1)).max(1);
        (0..tasks).into_par_iter().with_min_len(together).for_each(task);
    }
}
