//! Prompts of any length as sequences of the length that a text encoder takes.

use std::sync::Arc;

/// A group of at least so many tokens may be broken between two sequences; a shorter one moves to the next as a whole.
const LARGE_GROUP: usize = 8;

/// What stands at a place of a sequence.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    /// A token of the vocabulary.
    Id(u32),
    /// The embedding itself, as wide as the encoder.
    Vector(Arc<[f32]>),
}

/// A token and its weight.
pub(super) type Weighted = (Token, f64);

/// The ends of every sequence.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) pad: u32,
    /// Length of a sequence, with its start and end.
    pub(super) length: usize,
}

impl Frame {
    /// A sequence without words.
    pub(super) fn empty(&self) -> Vec<Weighted> {
        self.close(vec![(Token::Id(self.start), 1.)])
    }

    /// Sequences of the groups' tokens, at least one; only an empty one where there is no room for words.
    pub(super) fn chunks(&self, groups: Vec<Vec<Weighted>>) -> Vec<Vec<Weighted>> {
        let open = || vec![(Token::Id(self.start), 1.)];
        // All but the end token.
        let room = self.length - 1;
        if room < 2 {
            return vec![self.empty()];
        }
        let mut chunks = Vec::new();
        let mut chunk = open();
        for mut group in groups {
            // What no sequence holds as a whole must be broken as well.
            let is_large = group.len() >= LARGE_GROUP.min(room);
            while chunk.len() + group.len() > room {
                if is_large {
                    chunk.extend(group.drain(..room - chunk.len()));
                }
                chunks.push(self.close(std::mem::replace(&mut chunk, open())));
            }
            chunk.extend(group);
        }
        chunks.push(self.close(chunk));
        chunks
    }

    /// Ends and pads a sequence.
    fn close(&self, mut chunk: Vec<Weighted>) -> Vec<Weighted> {
        chunk.push((Token::Id(self.end), 1.));
        chunk.resize(self.length, (Token::Id(self.pad), 1.));
        chunk
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Frame = Frame {
        start: 100,
        end: 101,
        pad: 102,
        length: 12,
    };

    fn chunked(sizes: &[usize]) -> Vec<Vec<u32>> {
        chunked_by(&FRAME, sizes)
    }

    fn chunked_by(frame: &Frame, sizes: &[usize]) -> Vec<Vec<u32>> {
        let mut next = 0;
        let groups = sizes
            .iter()
            .map(|&size| {
                let ids = (next..next + size as u32).map(|id| (Token::Id(id), 1.));
                next += size as u32;
                ids.collect()
            })
            .collect();
        let id = |(token, _): &Weighted| match token {
            Token::Id(id) => *id,
            Token::Vector(_) => unreachable!("there is none"),
        };
        frame
            .chunks(groups)
            .iter()
            .map(|chunk| chunk.iter().map(id).collect())
            .collect()
    }

    #[test]
    fn short_prompts_are_one_padded_sequence() {
        assert_eq!(
            chunked(&[]),
            [[100, 101, 102, 102, 102, 102, 102, 102, 102, 102, 102, 102]]
        );
        assert_eq!(chunked(&[3]), [[100, 0, 1, 2, 101, 102, 102, 102, 102, 102, 102, 102]]);
        assert_eq!(chunked(&[10]), [[100, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 101]]);
    }

    #[test]
    fn large_groups_are_broken_and_small_ones_moved() {
        assert_eq!(
            chunked(&[11]),
            [
                [100, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 101],
                [100, 10, 101, 102, 102, 102, 102, 102, 102, 102, 102, 102]
            ]
        );
        assert_eq!(
            chunked(&[7, 4]),
            [
                [100, 0, 1, 2, 3, 4, 5, 6, 101, 102, 102, 102],
                [100, 7, 8, 9, 10, 101, 102, 102, 102, 102, 102, 102]
            ]
        );
        assert_eq!(chunked(&[35]).len(), 4);
    }
    #[test]
    fn sequences_shorter_than_a_small_group_break_it() {
        let frame = Frame { length: 5, ..FRAME };
        assert_eq!(chunked_by(&frame, &[3]), [[100, 0, 1, 2, 101]]);
        assert_eq!(chunked_by(&frame, &[2, 4]), [[100, 0, 1, 2, 101], [100, 3, 4, 5, 101]]);
        assert_eq!(chunked_by(&Frame { length: 2, ..FRAME }, &[3, 9]), [[100, 101]]);
    }
}
