//! The Node addon: conversions, handles, one engine thread per device.
//!
//! * `core`: what every operation needs and no model knows: the engine's thread and queue, the table of handles, errors
//!   as values, cancellation, jobs beside the engine.
//! * `api`: what JavaScript calls. Each function converts its arguments, enqueues, and returns; the arithmetic is in
//!   `potstill-engine` and `potstill-models`.
//!
//! JavaScript chooses the number of a handle before the operation that fills it has run, so that operations return at
//! once. An operation that fails fills its handle with the error, which whoever reads it gets.

// napi's macros register nothing in a test build, so what only JavaScript calls looks unused there.
#![cfg_attr(test, allow(dead_code))]

mod api;
mod core;

/// Activations come and go by the gigabyte.
#[global_allocator]
static MEMORY: potstill_engine::Recycler = potstill_engine::Recycler;
