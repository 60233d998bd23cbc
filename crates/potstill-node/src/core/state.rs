//! The table of handles, owned by the engine's thread.

use std::any::Any;
use std::collections::HashMap;
use std::rc::Rc;

use potstill_engine::Device;

use super::engine::Id;
use super::error::{OpError, Result};

/// What a handle stands for, or why there is nothing.
type Slot = Result<Rc<dyn Any>>;

/// Everything that lives on the engine's thread.
pub struct State {
    device: Result<Device>,
    slots: HashMap<Id, Slot>,
    /// The first failure of an operation that changes something, until a read reports it.
    failure: Option<OpError>,
}

impl State {
    /// The state of a device's thread, or of one whose device could not be opened.
    pub fn new(device: Result<Device>) -> Self {
        Self {
            device,
            slots: HashMap::new(),
            failure: None,
        }
    }

    /// Where tensors are made. When it could not be opened, nothing is made anywhere else in its place.
    pub fn device(&self) -> Result<&Device> {
        self.device.as_ref().map_err(OpError::clone)
    }

    /// What a handle stands for. The error of the operation that should have filled it, if that failed.
    pub fn get<T: 'static>(&self, id: Id) -> Result<Rc<T>> {
        match self.slots.get(&id) {
            Some(Ok(object)) => Rc::clone(object)
                .downcast()
                .map_err(|_| OpError::bug(format!("handle {id} is no {}", std::any::type_name::<T>()))),
            Some(Err(error)) => Err(error.clone()),
            None => Err(OpError::bug(format!("handle {id} was disposed or never filled"))),
        }
    }

    /// Fills a handle.
    pub fn put<T: 'static>(&mut self, id: Id, result: Result<T>) {
        self.slots
            .insert(id, result.map(|object| Rc::new(object) as Rc<dyn Any>));
    }

    /// Empties a handle and gives back what it stood for, when nothing else holds on to it.
    pub fn take<T: 'static>(&mut self, id: Id) -> Result<T> {
        let object = self.get::<T>(id)?;
        self.slots.remove(&id);
        Rc::try_unwrap(object).map_err(|_| OpError::bug(format!("handle {id} is in use")))
    }

    /// Forgets handles; unknown ones are ignored.
    pub fn release(&mut self, ids: &[Id]) {
        for id in ids {
            self.slots.remove(id);
        }
    }

    /// Number of handles.
    pub fn live(&self) -> usize {
        self.slots.len()
    }

    /// Runs an operation that changes something. Once one has failed, the following fail with the same error without
    /// running, until a read has reported it: an optimizer must not step on half of the gradients.
    pub fn effect<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        run(self).inspect_err(|error| self.failure = Some(error.clone()))
    }

    /// Reports a failure once.
    pub fn report(&mut self) -> Result<()> {
        self.failure.take().map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_operation_poisons_what_is_made_of_it() {
        let mut state = State::new(Ok(Device::Cpu));
        state.put::<u32>(1, Err(OpError::input("ERR_TENSOR_SHAPE", "shapes differ").at("add")));
        let sum = state.get::<u32>(1).map(|one| *one + 1);
        state.put(2, sum);
        assert_eq!(state.get::<u32>(2).unwrap_err().place.as_deref(), Some("add"));
    }

    #[test]
    fn a_device_that_could_not_be_opened_is_not_replaced() {
        let state = State::new(Err(OpError::machine("ERR_CUDA_DEVICE", "no such device")));
        assert_eq!(state.device().unwrap_err().code, "ERR_CUDA_DEVICE");
    }

    #[test]
    fn handles_are_typed_and_gone_once_released() {
        let mut state = State::new(Ok(Device::Cpu));
        state.put(1, Ok("text"));
        assert!(state.get::<u32>(1).is_err());
        assert_eq!(state.take::<&str>(1), Ok("text"));
        assert!(state.get::<&str>(1).is_err());
        state.put(2, Ok(5u32));
        state.release(&[2, 3]);
        assert_eq!(state.live(), 0);
    }

    #[test]
    fn effects_stop_after_a_failure_until_it_is_reported() {
        let mut state = State::new(Ok(Device::Cpu));
        assert!(state.effect::<()>(|_| Err(OpError::bug("first"))).is_err());
        assert_eq!(
            state
                .effect::<()>(|_| unreachable!("must be skipped"))
                .unwrap_err()
                .what,
            "first"
        );
        assert_eq!(state.report().unwrap_err().what, "first");
        assert_eq!(state.effect(|_| Ok(7)), Ok(7));
        assert_eq!(state.report(), Ok(()));
    }
}
