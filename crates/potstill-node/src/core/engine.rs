//! One thread per device, and the queue of what it is to do.

use napi::Env;
use napi::bindgen_prelude::{Object, ToNapiValue};
use napi_derive::napi;
use rayon::ThreadPoolBuilder;

use super::device::open_device;
use super::error::{OpError, Result};
use super::outcome::promise;
use super::panic::catching;
use super::queue::{Commands, Queue, queue};
use super::state::State;

/// Stack of the engine's thread and its workers: graphs of thousands of operations, with room to spare.
const STACK: usize = 64 << 20;

/// The number of a handle.
pub type Id = u64;

/// A handle's number as JavaScript passes it: a whole number below 2⁵³.
pub fn id(number: f64) -> Id {
    number as Id
}

/// A device's thread. Operations are enqueued in the order of the calls and run one after another; each uses up to
/// `threads` threads itself. When the object is collected, the thread ends after what is enqueued.
#[napi]
pub struct Engine {
    queue: Queue,
    threads: usize,
}

#[napi]
impl Engine {
    /// Starts the thread of a device, `cpu` or `cuda:N`. `opened` tells when it cannot be opened; what makes tensors or
    /// loads models then fails with the same error.
    #[napi(constructor, catch_unwind)]
    pub fn new(threads: u32, device: String) -> napi::Result<Self> {
        Self::start(threads as usize, device).map_err(|error| napi::Error::from_reason(error.to_string()))
    }

    /// Waits until the device is open, or tells why it could not be.
    #[napi(ts_return_type = "Promise<Outcome<undefined>>", catch_unwind)]
    pub fn opened<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.query(env, "engine", |state| state.device().map(|_| ()))
    }

    /// Threads that an operation may use.
    #[napi(getter)]
    pub fn threads(&self) -> u32 {
        self.threads as u32
    }

    /// Forgets handles. What they stood for is freed once no graph holds on to it.
    #[napi(catch_unwind)]
    pub fn release(&self, handles: Vec<f64>) {
        self.queue.release(handles.into_iter().map(id).collect());
    }

    /// Number of handles that are filled, once everything enqueued before has run.
    #[napi(ts_return_type = "Promise<Outcome<number>>", catch_unwind)]
    pub fn live_handles<'env>(&self, env: &'env Env) -> napi::Result<Object<'env>> {
        self.query(env, "liveHandles", |state| Ok(state.live() as u32))
    }
}

impl Engine {
    fn start(threads: usize, device: String) -> Result<Self> {
        let (queue, commands) = queue();
        // The engine's thread is one of the pool's, so that parallel operations split their work without a hand-over.
        let pool = ThreadPoolBuilder::new()
            .num_threads(threads)
            .stack_size(STACK)
            .thread_name(|i| format!("potstill-engine-{i}"))
            .build()
            .map_err(|error| OpError::machine("ERR_THREADS", format!("cannot start {threads} threads: {error}")))?;
        pool.spawn(move || run(&device, commands));
        Ok(Self { queue, threads })
    }

    fn enqueue(&self, command: impl FnOnce(&mut State) + Send + 'static) {
        self.queue.send(command);
    }

    /// Enqueues an operation that fills the handle `out`. `name` is the place of its errors, unless they know better.
    pub fn submit<T: 'static>(
        &self,
        out: f64,
        name: &'static str,
        body: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) {
        let out = id(out);
        self.enqueue(move |state| {
            let result = catching(|| body(state)).map_err(|error| error.at(name));
            state.put(out, result);
        });
    }

    /// [`Engine::submit`] for an operation that fills a handle and, when `second` is given, another of another type.
    pub fn submit_pair<A: 'static, B: 'static>(
        &self,
        first: f64,
        second: Option<f64>,
        name: &'static str,
        body: impl FnOnce(&mut State) -> Result<(A, B)> + Send + 'static,
    ) {
        self.submit_several(&[first], second, name, move |state| {
            let (a, b) = body(state)?;
            Ok((vec![a], b))
        });
    }

    /// [`Engine::submit_pair`] with several handles of the first type.
    pub fn submit_several<A: 'static, B: 'static>(
        &self,
        first: &[f64],
        second: Option<f64>,
        name: &'static str,
        body: impl FnOnce(&mut State) -> Result<(Vec<A>, B)> + Send + 'static,
    ) {
        let (first, second) = (first.iter().copied().map(id).collect::<Vec<_>>(), second.map(id));
        self.enqueue(move |state| {
            let result = catching(|| body(state)).map_err(|error| error.at(name));
            let (objects, other) = match result {
                Ok((objects, other)) => (objects.into_iter().map(Ok).collect(), Ok(other)),
                Err(error) => (first.iter().map(|_| Err(error.clone())).collect::<Vec<_>>(), Err(error)),
            };
            for (out, object) in first.into_iter().zip(objects) {
                state.put(out, object);
            }
            if let Some(second) = second {
                state.put(second, other);
            }
        });
    }

    /// Enqueues an operation that fills several handles, all of them with the error if it fails.
    pub fn submit_many<T: 'static>(
        &self,
        outs: &[f64],
        name: &'static str,
        body: impl FnOnce(&mut State) -> Result<Vec<T>> + Send + 'static,
    ) {
        let outs: Vec<Id> = outs.iter().copied().map(id).collect();
        self.enqueue(move |state| match catching(|| body(state)) {
            Ok(objects) => outs
                .iter()
                .zip(objects)
                .for_each(|(&out, object)| state.put(out, Ok(object))),
            Err(error) => {
                let error = error.at(name);
                outs.iter().for_each(|&out| state.put::<T>(out, Err(error.clone())));
            }
        });
    }

    /// Enqueues an operation that changes something: the next read reports its failure. What it returns fills `outs`.
    /// While an earlier failure is unreported it does not run, and `outs` are filled with that failure.
    pub fn effect<T: 'static>(
        &self,
        outs: &[f64],
        name: &'static str,
        body: impl FnOnce(&mut State) -> Result<Vec<T>> + Send + 'static,
    ) {
        let outs: Vec<Id> = outs.iter().copied().map(id).collect();
        self.enqueue(move |state| {
            match state.effect(|state| catching(|| body(state)).map_err(|error| error.at(name))) {
                Ok(objects) => outs
                    .iter()
                    .zip(objects)
                    .for_each(|(&out, object)| state.put(out, Ok(object))),
                Err(error) => outs.iter().for_each(|&out| state.put::<T>(out, Err(error.clone()))),
            }
        });
    }

    /// A promise of what `body` finds once everything enqueued before has run. The first unreported failure of an
    /// [`Engine::effect`] takes its place.
    pub fn query<'env, T: ToNapiValue + Send + 'static>(
        &self,
        env: &'env Env,
        name: &'static str,
        body: impl FnOnce(&mut State) -> Result<T> + Send + 'static,
    ) -> napi::Result<Object<'env>> {
        let (promise, settle) = promise(env)?;
        self.enqueue(move |state| {
            let result = state.report().and_then(|()| catching(|| body(state)));
            settle(result.map_err(|error| error.at(name)));
        });
        Ok(promise)
    }
}

fn run(device: &str, commands: Commands) {
    // Opened here: CUDA's contexts belong to threads.
    commands.run(&mut State::new(
        catching(|| open_device(device)).map_err(|error| error.at(device)),
    ));
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::*;

    /// What a handle holds once everything enqueued before has run.
    fn value(engine: &Engine, handle: Id) -> Result<u32> {
        let (send, receive) = sync_channel(1);
        engine.enqueue(move |state| send.send(state.get::<u32>(handle).map(|v| *v)).unwrap());
        receive.recv().unwrap()
    }

    #[test]
    fn operations_run_in_order_and_on_a_deep_stack() {
        fn deep(n: u32) -> u32 {
            let block = std::hint::black_box([n; 256]);
            if n == 0 { 0 } else { deep(n - 1) + block[0] - (n - 1) }
        }
        let engine = Engine::start(2, "cpu".to_owned()).unwrap();
        engine.submit(1., "deep", |_| Ok(deep(20_000)));
        engine.submit(2., "next", |state| Ok(*state.get::<u32>(1)? + 1));
        assert_eq!(value(&engine, 2), Ok(20_001));
    }

    #[test]
    fn a_panic_poisons_its_handle_and_the_engine_goes_on() {
        let engine = Engine::start(1, "cpu".to_owned()).unwrap();
        engine.submit::<u32>(1., "broken", |_| panic!("out of luck"));
        engine.submit(2., "whole", |_| Ok(2u32));
        let error = value(&engine, 1).unwrap_err();
        assert!(error.what.contains("out of luck"), "{error}");
        assert_eq!(error.place.as_deref(), Some("broken"));
        assert_eq!(value(&engine, 2), Ok(2));
    }

    #[test]
    fn a_panic_of_a_worker_thread_is_caught_too() {
        let engine = Engine::start(2, "cpu".to_owned()).unwrap();
        engine.submit::<u32>(1., "broken", |_| {
            rayon::join(|| (), || panic!("in a worker"));
            Ok(1)
        });
        assert!(value(&engine, 1).unwrap_err().what.contains("in a worker"));
    }
}
