//! Operations of fixed sizes, for benchmarks.

use std::time::Instant;

use napi::Env;
use napi::bindgen_prelude::{Float32Array, Object};
use napi_derive::napi;
use potstill_engine::Workload;

use crate::core::{Engine, Result, values};

/// What an operation computes, and how long it took.
#[napi(object)]
pub struct TimedWorkload {
    /// Its output.
    pub values: Float32Array,
    /// Of each time that it was run.
    pub seconds: Vec<f64>,
    /// Floating-point operations of its matrix products.
    pub flops: f64,
}

/// The operations that there are.
#[napi]
pub fn workloads() -> Vec<&'static str> {
    Workload::names()
}

#[napi]
impl Engine {
    /// Runs an operation on its fixed inputs so many times.
    #[napi(ts_return_type = "Promise<Outcome<TimedWorkload>>", catch_unwind)]
    pub fn run_workload<'env>(&self, env: &'env Env, name: String, times: u32) -> napi::Result<Object<'env>> {
        self.query(env, "workload", move |_| {
            let workload = Workload::of(&name)?;
            let seconds = (0..times).map(|_| {
                let start = Instant::now();
                workload.run()?;
                Ok(start.elapsed().as_secs_f64())
            });
            Ok(TimedWorkload {
                seconds: seconds.collect::<Result<_>>()?,
                values: Float32Array::new(values(&workload.run()?)?),
                flops: workload.flops(),
            })
        })
    }
}
