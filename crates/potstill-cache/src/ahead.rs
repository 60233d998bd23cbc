//! Reading ahead: records that will be wanted soon are read by other threads while the caller computes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::CacheError;
use crate::reader::{Batch, CacheReader, Rows};

/// Threads that read: a batch has a few fields of a few components, and a disk or a network answers several at once.
const READERS: usize = 4;
/// Requests that are kept until they are taken; beyond, the oldest is forgotten and is read when it is taken. Several
/// batches of many teachers: requests that nobody takes (a run that ends, an update that fails) hold no more memory.
const MOST_REQUESTS: usize = 64;

/// Reads rows ahead of their use. What [`ReadAhead::take`] gives is what [`CacheReader::rows`] gives, errors included,
/// whether or not it was asked for before: asking ahead changes the time alone.
pub struct ReadAhead {
    shared: Arc<Shared>,
    waited: AtomicU64,
}

struct Shared {
    reader: CacheReader,
    queue: Mutex<Queue>,
    /// Something was asked for, or the end has come: for the readers.
    asked: Condvar,
    /// A request was read: for those who wait for it.
    done: Condvar,
}

#[derive(Default)]
struct Queue {
    /// In the order in which they were asked for.
    requests: VecDeque<Request>,
    /// Number of the next request.
    next: u64,
    /// Reader threads that run.
    readers: usize,
    ended: bool,
}

struct Request {
    number: u64,
    rows: Rows,
    state: State,
}

enum State {
    Waiting,
    Reading,
    Done(Result<Batch, CacheError>),
}

impl ReadAhead {
    /// Starts no thread before something is asked for.
    #[must_use]
    pub fn new(reader: CacheReader) -> Self {
        Self {
            shared: Arc::new(Shared {
                reader,
                queue: Mutex::default(),
                asked: Condvar::new(),
                done: Condvar::new(),
            }),
            waited: AtomicU64::new(0),
        }
    }

    /// The cache.
    #[must_use]
    pub fn reader(&self) -> &CacheReader {
        &self.shared.reader
    }

    /// Begins to read rows that will be taken, and returns at once. What was asked for already is not read twice.
    pub fn ask(&self, rows: Rows) {
        let mut queue = self.shared.lock();
        if queue.requests.iter().any(|request| request.rows == rows) {
            return;
        }
        if queue.requests.len() == MOST_REQUESTS {
            queue.requests.pop_front();
        }
        let number = queue.next;
        queue.next += 1;
        queue.requests.push_back(Request {
            number,
            rows,
            state: State::Waiting,
        });
        if queue.readers < READERS {
            let shared = Arc::clone(&self.shared);
            let reader = thread::Builder::new().name("potstill-read-ahead".to_owned());
            // Without a thread the rows are read when they are taken.
            if reader.spawn(move || shared.serve()).is_ok() {
                queue.readers += 1;
            }
        }
        self.shared.asked.notify_one();
    }

    /// The rows: those that were read ahead, or else read here and now.
    ///
    /// # Errors
    /// As [`CacheReader::rows`].
    pub fn take(&self, rows: &Rows) -> Result<Batch, CacheError> {
        let begun = Instant::now();
        let taken = self.shared.take(rows);
        let waited = u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.waited.fetch_add(waited, Ordering::Relaxed);
        taken
    }

    /// Time that the callers of [`ReadAhead::take`] have spent in it altogether.
    #[must_use]
    pub fn waited(&self) -> Duration {
        Duration::from_nanos(self.waited.load(Ordering::Relaxed))
    }
}

impl Drop for ReadAhead {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        queue.ended = true;
        queue.requests.clear();
        self.shared.asked.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // Nothing that can panic runs while the lock is held.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, rows: &Rows) -> Result<Batch, CacheError> {
        let mut queue = self.lock();
        while let Some(at) = queue.requests.iter().position(|request| request.rows == *rows) {
            if matches!(queue.requests[at].state, State::Reading) {
                queue = self.done.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            match queue.requests.remove(at).map(|request| request.state) {
                Some(State::Done(batch)) => return batch,
                // All readers are at other rows: there is nothing to wait for.
                _ => break,
            }
        }
        drop(queue);
        self.reader.rows(rows)
    }

    /// A reader thread: reads what waits, in the order in which it was asked for.
    fn serve(&self) {
        let mut queue = self.lock();
        loop {
            if queue.ended {
                return;
            }
            let waiting = |request: &&mut Request| matches!(request.state, State::Waiting);
            let Some(request) = queue.requests.iter_mut().find(waiting) else {
                queue = self.asked.wait(queue).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            request.state = State::Reading;
            let (number, rows) = (request.number, request.rows.clone());
            drop(queue);
            let mut reading = Reading {
                shared: self,
                number,
                result: None,
            };
            reading.result = Some(self.reader.rows(&rows));
            drop(reading);
            queue = self.lock();
        }
    }
}

/// Rows that are being read. Its end tells those who wait, whatever the end is: after a panic they read for themselves.
struct Reading<'a> {
    shared: &'a Shared,
    number: u64,
    result: Option<Result<Batch, CacheError>>,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut queue = self.shared.lock();
        if let Some(at) = queue.requests.iter().position(|request| request.number == self.number) {
            match self.result.take() {
                Some(result) => queue.requests[at].state = State::Done(result),
                None => {
                    queue.requests.remove(at);
                }
            }
        }
        if thread::panicking() {
            queue.readers -= 1;
        }
        self.shared.done.notify_all();
    }
}
