//! What an engine's thread is to do, and the handles that it is to forget on the way.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::engine::Id;
use super::panic::catching;
use super::state::State;

/// Something that an engine's thread does.
pub type Command = Box<dyn FnOnce(&mut State) + Send>;

/// How long the thread looks for a command before it waits for one. Waking a thread costs the sender some 10 µs and the
/// thread some 50 (measured): while JavaScript enqueues one small command after another, neither is to be paid for each.
const LOOKING: Duration = Duration::from_micros(200);

/// How long the thread waits for a command before it sleeps. Waking a sleeping thread takes longer than most commands, so
/// handles that are released meanwhile wait for the next command, or for this to pass.
const IDLE: Duration = Duration::from_millis(50);

/// Handles that nobody needs once as many commands have run as had been sent before.
struct Released {
    after: u64,
    handles: Vec<Id>,
}

#[derive(Default)]
struct Shared {
    released: Mutex<Vec<Released>>,
    asleep: AtomicBool,
}

/// The end of JavaScript's thread.
pub struct Queue {
    commands: Sender<Command>,
    sent: AtomicU64,
    shared: Arc<Shared>,
}

/// The end of the engine's thread.
pub struct Commands {
    commands: Receiver<Command>,
    ran: u64,
    shared: Arc<Shared>,
}

/// A queue's two ends.
pub fn queue() -> (Queue, Commands) {
    let (send, receive) = channel();
    let shared = Arc::new(Shared::default());
    let queue = Queue {
        commands: send,
        sent: AtomicU64::new(0),
        shared: Arc::clone(&shared),
    };
    let commands = Commands {
        commands: receive,
        ran: 0,
        shared,
    };
    (queue, commands)
}

impl Queue {
    /// Enqueues a command.
    pub fn send(&self, command: impl FnOnce(&mut State) + Send + 'static) {
        self.sent.fetch_add(1, Ordering::SeqCst);
        // The thread ends only with this sender, and panics do not end it.
        self.commands
            .send(Box::new(command))
            .expect("the engine's thread is alive");
    }

    /// Lets handles be forgotten once what was enqueued before has run, and before what is enqueued later does.
    pub fn release(&self, handles: Vec<Id>) {
        let after = self.sent.load(Ordering::SeqCst);
        lock(&self.shared).push(Released { after, handles });
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.send(|_| ());
        }
    }
}

impl Commands {
    /// Runs commands until the other end is dropped.
    pub fn run(mut self, state: &mut State) {
        while let Some(command) = self.next(state) {
            self.forget(state);
            // Commands catch what they run; this is for what they do around it, such as dropping a graph.
            let _ = catching(|| {
                command(state);
                Ok(())
            });
            self.ran += 1;
        }
    }

    fn next(&self, state: &mut State) -> Option<Command> {
        let begun = Instant::now();
        while begun.elapsed() < LOOKING {
            match self.commands.try_recv() {
                Ok(command) => return Some(command),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => thread::yield_now(),
            }
        }
        match self.commands.recv_timeout(IDLE) {
            Ok(command) => Some(command),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                self.shared.asleep.store(true, Ordering::SeqCst);
                // Of what was released before this could be seen nothing else will tell.
                self.forget(state);
                let command = self.commands.recv().ok();
                self.shared.asleep.store(false, Ordering::SeqCst);
                command
            }
        }
    }

    /// Forgets the handles whose time has come.
    fn forget(&self, state: &mut State) {
        let due: Vec<Released> = {
            let mut released = lock(&self.shared);
            let count = released.partition_point(|entry| entry.after <= self.ran);
            released.drain(..count).collect()
        };
        for Released { handles, .. } in due {
            // Dropping what they stood for may do anything.
            let _ = catching(|| {
                state.release(&handles);
                Ok(())
            });
        }
    }
}

/// The list has no state between two of its values that a panic could leave it in.
fn lock(shared: &Shared) -> std::sync::MutexGuard<'_, Vec<Released>> {
    shared.released.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::sync_channel;

    use super::super::device::open_device;
    use super::*;

    /// An engine's thread.
    fn start() -> Queue {
        let (queue, commands) = queue();
        thread::spawn(move || commands.run(&mut State::new(open_device("cpu"))));
        queue
    }

    /// How many handles are filled once everything enqueued before has run.
    fn live(queue: &Queue) -> usize {
        let (send, receive) = sync_channel(1);
        queue.send(move |state| send.send(state.live()).unwrap());
        receive.recv().unwrap()
    }

    #[test]
    fn a_handle_is_forgotten_after_what_was_enqueued_before_and_before_what_comes_later() {
        let queue = start();
        let (go, wait) = sync_channel::<()>(0);
        queue.send(move |_| wait.recv().unwrap());
        queue.send(|state| state.put(1, Ok(7u32)));
        let (send, receive) = sync_channel(1);
        queue.send(move |state| send.send(state.get::<u32>(1).map(|v| *v)).unwrap());
        queue.release(vec![1]);
        go.send(()).unwrap();
        assert_eq!(receive.recv().unwrap(), Ok(7));
        assert_eq!(live(&queue), 0);
    }

    /// Whether it is dropped.
    struct Dropped(std::sync::mpsc::SyncSender<()>);

    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.send(()).unwrap();
        }
    }

    #[test]
    fn what_is_released_is_freed_without_another_command() {
        let queue = start();
        // Once while the thread waits for a command, once while it sleeps.
        for pause in [Duration::ZERO, 4 * IDLE] {
            let (send, receive) = sync_channel(1);
            queue.send(move |state| state.put(1, Ok(Dropped(send))));
            thread::sleep(pause);
            queue.release(vec![1]);
            receive.recv_timeout(100 * IDLE).unwrap();
        }
    }
}
