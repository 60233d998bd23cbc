//! Where time goes.

use napi::Env;
use napi::bindgen_prelude::Object;
use napi_derive::napi;
use potstill_engine::{Pass, start_profile, take_profile};

use crate::core::Engine;

/// One operation on one shape, over a profile.
#[napi(object)]
pub struct ProfiledOperation {
    /// The operation's name.
    pub op: String,
    /// True on the way back from gradients.
    pub backward: bool,
    /// Shape of its first input; backward, of the output's gradient.
    pub shape: Vec<u32>,
    /// How often it ran.
    pub calls: f64,
    /// Time in it, without operations that it ran itself.
    pub seconds: f64,
    /// Floating-point operations of its matrix products.
    pub flops: f64,
}

#[napi]
impl Engine {
    /// Begins a profile: from here on operations are timed, those of all engines of the process.
    #[napi(catch_unwind)]
    pub fn start_profile(&self) {
        self.effect::<()>(&[], "startProfile", |_| {
            start_profile();
            Ok(Vec::new())
        });
    }

    /// Ends the profile once everything enqueued before has run: what took longest first.
    #[napi(ts_return_type = "Promise<Outcome<ProfiledOperation[]>>", catch_unwind)]
    pub fn take_profile<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.query(env, "takeProfile", |_| {
            let rows = take_profile().into_iter().map(|row| ProfiledOperation {
                op: row.op.to_owned(),
                backward: row.pass == Pass::Backward,
                shape: row.dims.iter().map(|&n| n as u32).collect(),
                calls: row.calls as f64,
                seconds: row.seconds,
                flops: row.flops as f64,
            });
            Ok(rows.collect::<Vec<_>>())
        })
    }
}
