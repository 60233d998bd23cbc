//! Blocks of objects, fetched once and ahead of their use: files are read from front to end in small pieces, and a request for
//! each would take longer than its bytes.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};

use crate::bucket::{Bucket, Listed, runtime};
use crate::error::S3Error;

/// Bytes of a block: a request's own time is little beside that of its bytes.
pub(crate) const BLOCK: u64 = 4 << 20;
/// Blocks that are kept: for every thread that reads the one that it is in and the one after it, and no more than 256 MiB.
const MAX_BLOCKS: usize = 64;

type Fetch = Shared<BoxFuture<'static, Result<Bytes, S3Error>>>;

/// A block of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    path: String,
    index: u64,
}

/// Those that were asked for last.
#[derive(Default)]
pub(crate) struct Blocks {
    /// The one that was asked for longest ago first.
    held: Mutex<VecDeque<(Key, Fetch)>>,
}

impl Blocks {
    /// A block of a file, as it comes; the one after it is fetched as well.
    pub fn get(&self, bucket: &Bucket, path: &str, file: &Listed, index: u64) -> Fetch {
        let block = self.fetch(bucket, path, file, index);
        if (index + 1) * BLOCK < file.bytes {
            // It comes by itself.
            drop(self.fetch(bucket, path, file, index + 1));
        }
        block
    }

    fn fetch(&self, bucket: &Bucket, path: &str, file: &Listed, index: u64) -> Fetch {
        let key = Key {
            path: path.to_owned(),
            index,
        };
        // Nothing that can panic runs while the lock is held.
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = held.iter().position(|(other, _)| *other == key)
            && let Some(found) = held.remove(at)
        {
            let block = found.1.clone();
            held.push_back(found);
            return block;
        }
        let (bucket, path, file) = (bucket.clone(), path.to_owned(), file.clone());
        let range = index * BLOCK..file.bytes.min((index + 1) * BLOCK);
        let block = async move { bucket.read(&path, range, Some(&file)).await }
            .boxed()
            .shared();
        runtime().spawn(block.clone());
        if held.len() == MAX_BLOCKS {
            held.pop_front();
        }
        held.push_back((key, block.clone()));
        block
    }
}
