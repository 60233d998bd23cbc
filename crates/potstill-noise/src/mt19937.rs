//! The Mersenne Twister MT19937, seeded and tempered as torch's `mt19937` engine does.

const N: usize = 624;
const M: usize = 397;
/// Distance from a word to the one of the *new* state that it needs, `N − M`.
const LAG: usize = N - M;
const MATRIX_A: u32 = 0x9908_b0df;
const UPPER_MASK: u32 = 0x8000_0000;
const LOWER_MASK: u32 = 0x7fff_ffff;

/// A 32-bit Mersenne Twister.
#[derive(Clone)]
pub struct Mt19937 {
    state: [u32; N],
    next: usize,
}

impl Mt19937 {
    /// Seeds with `init_genrand`. Torch keeps a 64-bit seed but uses its low 32 bits only, so seeds 2³²+42 and 42 agree.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let mut state = [0u32; N];
        state[0] = seed as u32;
        for i in 1..N {
            let previous = state[i - 1];
            state[i] = (previous ^ (previous >> 30))
                .wrapping_mul(1_812_433_253)
                .wrapping_add(i as u32);
        }
        Self { state, next: N }
    }

    /// The next 32 bits.
    #[inline]
    pub fn next_u32(&mut self) -> u32 {
        if self.next == N {
            self.twist();
        }
        let word = self.state[self.next];
        self.next += 1;
        temper(word)
    }

    /// The next 64 bits: torch takes the first draw as the high word.
    #[inline]
    pub fn next_u64(&mut self) -> u64 {
        let high = u64::from(self.next_u32());
        high << 32 | u64::from(self.next_u32())
    }

    /// Gives the next draws in pieces as long as the state allows to `sink(range of draws, tempered words)`.
    #[inline(always)]
    pub(crate) fn fill(&mut self, count: usize, mut sink: impl FnMut(usize, &[u32])) {
        let mut done = 0;
        let mut words = [0u32; N];
        while done < count {
            if self.next == N {
                self.twist();
            }
            let take = (N - self.next).min(count - done);
            for (word, &raw) in words[..take].iter_mut().zip(&self.state[self.next..self.next + take]) {
                *word = temper(raw);
            }
            sink(done, &words[..take]);
            self.next += take;
            done += take;
        }
    }

    /// Makes the next 624 words, each of old ones behind it and one that is old or new. What a vector of words needs is read before
    /// it is written, so that each loop becomes SIMD.
    #[inline(always)]
    fn twist(&mut self) {
        let state = &mut self.state;
        for i in 0..LAG {
            state[i] = state[i + M] ^ mix(state[i], state[i + 1]);
        }
        for i in LAG..N - 1 {
            state[i] = state[i - LAG] ^ mix(state[i], state[i + 1]);
        }
        state[N - 1] = state[M - 1] ^ mix(state[N - 1], state[0]);
        self.next = 0;
    }
}

#[inline(always)]
fn mix(a: u32, b: u32) -> u32 {
    let y = (a & UPPER_MASK) | (b & LOWER_MASK);
    (y >> 1) ^ (0u32.wrapping_sub(y & 1) & MATRIX_A)
}

#[inline(always)]
fn temper(mut y: u32) -> u32 {
    y ^= y >> 11;
    y ^= (y << 7) & 0x9d2c_5680;
    y ^= (y << 15) & 0xefc6_0000;
    y ^ (y >> 18)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_outputs_of_seed_5489() {
        // The first outputs and the 10,000th of the default seed, as the C++ standard fixes them for std::mt19937.
        let mut mt = Mt19937::new(5489);
        assert_eq!(mt.next_u32(), 3_499_211_612);
        assert_eq!(mt.next_u32(), 581_869_302);
        for _ in 2..9_999 {
            mt.next_u32();
        }
        assert_eq!(mt.next_u32(), 4_123_659_995);
    }

    #[test]
    fn filling_equals_drawing_one_by_one() {
        let (mut a, mut b) = (Mt19937::new(7), Mt19937::new(7));
        a.next_u32();
        b.next_u32();
        let mut filled = vec![0; 2_000];
        a.fill(2_000, |at, words| filled[at..at + words.len()].copy_from_slice(words));
        assert!(filled.iter().all(|&w| w == b.next_u32()));
        assert_eq!(a.next_u64(), b.next_u64());
    }
}
