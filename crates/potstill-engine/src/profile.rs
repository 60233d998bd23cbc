//! Where time goes: calls, seconds and arithmetic of every operation on every shape, while somebody asks for them.
//!
//! Off, an operation pays for one relaxed load. What is measured is the thread that calls the operations (their kernels
//! return when all threads are done), so one profile at a time means something.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Which way an operation ran.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pass {
    /// From inputs to outputs, whether for the first time or recomputed.
    Forward,
    /// From the gradient of the output to those of the inputs.
    Backward,
}

/// One operation on one shape.
#[derive(Clone, Debug)]
pub struct ProfileRow {
    /// The operation's name.
    pub op: &'static str,
    /// Which way it ran.
    pub pass: Pass,
    /// Shape of its first input, backward of the output's gradient.
    pub dims: Vec<usize>,
    /// How often.
    pub calls: u64,
    /// Time in it, without operations that it ran itself.
    pub seconds: f64,
    /// Floating-point operations of its matrix products: an addition and a multiplication count as two. A product that
    /// takes a short cut counts as the product it stands for.
    pub flops: u64,
}

type Key = (&'static str, Pass, Vec<usize>);
#[derive(Default)]
struct Sums {
    calls: u64,
    time: Duration,
    flops: u64,
}

static ON: AtomicBool = AtomicBool::new(false);
static FLOPS: AtomicU64 = AtomicU64::new(0);
static TABLE: Mutex<BTreeMap<Key, Sums>> = Mutex::new(BTreeMap::new());

thread_local! {
    /// Time and arithmetic of the spans within the one that is open.
    static WITHIN: Cell<(Duration, u64)> = const { Cell::new((Duration::ZERO, 0)) };
}

fn table() -> std::sync::MutexGuard<'static, BTreeMap<Key, Sums>> {
    TABLE.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// Begins a profile, empty.
pub fn start_profile() {
    table().clear();
    ON.store(true, Ordering::Relaxed);
}

/// Ends the profile: all rows, those that took longest first.
pub fn take_profile() -> Vec<ProfileRow> {
    ON.store(false, Ordering::Relaxed);
    let mut rows: Vec<ProfileRow> = std::mem::take(&mut *table())
        .into_iter()
        .map(|((op, pass, dims), sums)| ProfileRow {
            op,
            pass,
            dims,
            calls: sums.calls,
            seconds: sums.time.as_secs_f64(),
            flops: sums.flops,
        })
        .collect();
    rows.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    rows
}

/// Notes the arithmetic of a matrix product.
pub(crate) fn count_flops(flops: usize) {
    if ON.load(Ordering::Relaxed) {
        FLOPS.fetch_add(flops as u64, Ordering::Relaxed);
    }
}

/// An operation that runs; it is over when this is dropped.
pub(crate) struct Span {
    key: Key,
    begun: Instant,
    flops: u64,
    outside: (Duration, u64),
}

/// Begins an operation. `None`, and free, unless there is a profile.
pub(crate) fn span(op: &'static str, pass: Pass, dims: &[usize]) -> Option<Span> {
    if !ON.load(Ordering::Relaxed) {
        return None;
    }
    Some(Span {
        key: (op, pass, dims.to_vec()),
        begun: Instant::now(),
        flops: FLOPS.load(Ordering::Relaxed),
        outside: WITHIN.replace((Duration::ZERO, 0)),
    })
}

impl Drop for Span {
    fn drop(&mut self) {
        let time = self.begun.elapsed();
        let flops = FLOPS.load(Ordering::Relaxed) - self.flops;
        let within = WITHIN.replace((self.outside.0 + time, self.outside.1 + flops));
        let mut table = table();
        let key = (self.key.0, self.key.1, std::mem::take(&mut self.key.2));
        let sums = table.entry(key).or_default();
        sums.calls += 1;
        sums.time += time.saturating_sub(within.0);
        sums.flops += flops.saturating_sub(within.1);
    }
}
