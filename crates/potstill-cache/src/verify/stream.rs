//! Reading a shard once, from front to end, in pieces: hashed, its header parsed, its records handed on.

use potstill_io::{Header, HeaderError, header_length};

use crate::digest::Digest32;
use crate::source::{Source, SourceError};

/// Bytes read at a time: small enough to stay in the CPU's cache until they are hashed and looked at; in WASM larger, for
/// the way from JavaScript.
const PIECE: usize = if cfg!(target_arch = "wasm32") { 4 << 20 } else { 1 << 20 };
/// Bytes of the length field.
const LENGTH_FIELD: u64 = 8;

/// Why a shard has no header.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ShardProblem {
    #[error(transparent)]
    Source(#[from] SourceError),
    #[error("not a sound safetensors file: {0}")]
    Header(#[from] HeaderError),
}

/// A file's header and length.
pub(crate) fn read_header<S: Source + ?Sized>(source: &S, path: &str) -> Result<(Header, u64), ShardProblem> {
    let size = source.size(path)?;
    if size < LENGTH_FIELD {
        return Err(HeaderError::TooShort { length: size }.into());
    }
    let mut first = [0; LENGTH_FIELD as usize];
    source.read(path, 0, &mut first)?;
    let mut json = vec![0; header_length(first, size)? as usize];
    source.read(path, LENGTH_FIELD, &mut json)?;
    let data = size - LENGTH_FIELD - json.len() as u64;
    Ok((Header::parse(&json, data)?, size))
}

/// BLAKE3 of a file.
#[cfg(feature = "fs")]
pub(crate) fn hash_shard<S: Source + ?Sized>(source: &S, path: &str, size: u64) -> Result<Digest32, SourceError> {
    let mut hasher = blake3::Hasher::new();
    pieces(source, path, 0, size, &mut |piece| {
        hasher.update(piece);
    })?;
    Ok(Digest32(hasher.finalize().into()))
}

fn pieces<S: Source + ?Sized>(
    source: &S,
    path: &str,
    start: u64,
    end: u64,
    sink: &mut dyn FnMut(&[u8]),
) -> Result<(), SourceError> {
    let mut buffer = vec![0; PIECE.min((end - start) as usize)];
    let mut at = start;
    while at < end {
        let take = buffer.len().min((end - at) as usize);
        source.read(path, at, &mut buffer[..take])?;
        sink(&buffer[..take]);
        at += take as u64;
    }
    Ok(())
}

/// What streaming a shard gave.
pub(crate) struct Streamed {
    pub size: u64,
    pub blake3: Digest32,
    pub header: Result<Header, HeaderError>,
}

/// Reads a shard. `inspect` looks at the header and says how many bytes a record of each tensor has (in the order of the
/// data; 0: not to be handed on); `record(tensor, index, bytes)` then gets the records in the order of the file.
pub(crate) fn stream_shard<S: Source + ?Sized>(
    source: &S,
    path: &str,
    inspect: impl FnOnce(&Header) -> Vec<u64>,
    mut record: impl FnMut(usize, u64, &[u8]),
) -> Result<Streamed, SourceError> {
    let size = source.size(path)?;
    let mut hasher = blake3::Hasher::new();
    let mut at = 0;
    let header = (|| {
        if size < LENGTH_FIELD {
            return Ok(Err(HeaderError::TooShort { length: size }));
        }
        let mut first = [0; LENGTH_FIELD as usize];
        source.read(path, 0, &mut first)?;
        hasher.update(&first);
        at = LENGTH_FIELD;
        let length = match header_length(first, size) {
            Ok(length) => length,
            Err(error) => return Ok(Err(error)),
        };
        let mut json = vec![0; length as usize];
        source.read(path, at, &mut json)?;
        hasher.update(&json);
        at += length;
        Ok(Header::parse(&json, size - at))
    })()?;
    let mut cutter = Cutter::default();
    if let Ok(header) = &header {
        let sizes = inspect(header);
        cutter.tensors = header
            .tensors()
            .iter()
            .zip(sizes)
            .map(|(t, record)| (t.bytes(), record))
            .collect();
    }
    pieces(source, path, at, size, &mut |piece| {
        hasher.update(piece);
        cutter.feed(piece, &mut record);
    })?;
    Ok(Streamed {
        size,
        blake3: Digest32(hasher.finalize().into()),
        header,
    })
}

/// Cuts the data section into records.
#[derive(Default)]
struct Cutter {
    /// Bytes of each tensor and of a record of it.
    tensors: Vec<(u64, u64)>,
    tensor: usize,
    /// Bytes of the current tensor that have passed.
    passed: u64,
    /// Beginning of a record that lies across two pieces.
    pending: Vec<u8>,
}

impl Cutter {
    fn feed(&mut self, mut piece: &[u8], record: &mut impl FnMut(usize, u64, &[u8])) {
        while let Some(&(bytes, record_bytes)) = self.tensors.get(self.tensor) {
            let left = bytes - self.passed;
            if left == 0 {
                self.tensor += 1;
                self.passed = 0;
                continue;
            }
            if piece.is_empty() {
                return;
            }
            if record_bytes == 0 {
                let take = left.min(piece.len() as u64) as usize;
                self.passed += take as u64;
                piece = &piece[take..];
                continue;
            }
            let index = self.passed / record_bytes;
            let missing = (record_bytes - self.pending.len() as u64).min(left - self.pending.len() as u64);
            let take = missing.min(piece.len() as u64) as usize;
            let (head, rest) = piece.split_at(take);
            piece = rest;
            if (take as u64) < missing {
                self.pending.extend_from_slice(head);
                return;
            }
            if self.pending.is_empty() {
                record(self.tensor, index, head);
                self.passed += take as u64;
            } else {
                self.pending.extend_from_slice(head);
                record(self.tensor, index, &self.pending);
                self.passed += self.pending.len() as u64;
                self.pending.clear();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_out_whole_whatever_the_pieces() {
        let data: Vec<u8> = (0..30).collect();
        for size in 1..=30 {
            let mut cutter = Cutter {
                tensors: vec![(12, 4), (0, 3), (6, 0), (12, 6)],
                ..Cutter::default()
            };
            let mut seen = Vec::new();
            for piece in data.chunks(size) {
                cutter.feed(piece, &mut |tensor, index, bytes: &[u8]| {
                    seen.push((tensor, index, bytes.to_vec()))
                });
            }
            let want: Vec<(usize, u64, Vec<u8>)> = vec![
                (0, 0, (0..4).collect()),
                (0, 1, (4..8).collect()),
                (0, 2, (8..12).collect()),
                (3, 0, (18..24).collect()),
                (3, 1, (24..30).collect()),
            ];
            assert_eq!(seen, want, "pieces of {size}");
        }
    }
}
