//! potstill's own normals: Philox4x32-10 words through Box–Muller in f64.
//!
//! Key: the 64-bit seed, low word first. Counter: (block low, block high, stream, 0). The four words (a, b, c, d) of block
//! i make values 4i … 4i+3: with u1 = (a + 1)·2⁻³² and u2 = b·2⁻³², r = √(−2 ln u1), values 4i and 4i+1 are r·cos 2πu2 and
//! r·sin 2πu2; c and d make the other two. Everything in f64 from correctly rounded operations, rounded to f32 once.
//! Against exact arithmetic the f32 result is the nearest one but for about one value in 10⁸; the largest value is 6.66.

use crate::elementary::{ln, sin_cos_of_u32_turn, u32_to_f64};
#[cfg(target_arch = "x86_64")]
use crate::wide::has_avx512;

const MULTIPLIERS: [u32; 2] = [0xd251_1f53, 0xcd9e_8d57];
const KEY_STEPS: [u32; 2] = [0x9e37_79b9, 0xbb67_ae85];
const ROUNDS: usize = 10;
const TWO_POW_M32: f64 = 1.0 / 4_294_967_296.0;

/// Blocks generated together: enough lanes for any SIMD width, small enough to stay in registers and L1.
const BATCH: usize = 32;
/// Normals per block.
const WORDS: usize = 4;

/// What a sequence of one seed is for. Streams of one seed are independent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// The noise added to a latent.
    Noise = 0,
    /// The timestep of a draw.
    Timestep = 1,
    /// The sample of the VAE's posterior.
    VaeSample = 2,
}

/// One block of Philox4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", 2011).
#[must_use]
#[inline]
pub fn philox4x32_10(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let mut lanes = counter.map(|word| [word]);
    rounds(&mut lanes, key);
    lanes.map(|[word]| word)
}

#[inline(always)]
fn rounds<const N: usize>(lanes: &mut [[u32; N]; 4], mut key: [u32; 2]) {
    let [w0, w1, w2, w3] = lanes;
    for _ in 0..ROUNDS {
        for i in 0..N {
            let first = u64::from(w0[i]) * u64::from(MULTIPLIERS[0]);
            let second = u64::from(w2[i]) * u64::from(MULTIPLIERS[1]);
            w0[i] = (second >> 32) as u32 ^ w1[i] ^ key[0];
            w1[i] = second as u32;
            w2[i] = (first >> 32) as u32 ^ w3[i] ^ key[1];
            w3[i] = first as u32;
        }
        key[0] = key[0].wrapping_add(KEY_STEPS[0]);
        key[1] = key[1].wrapping_add(KEY_STEPS[1]);
    }
}

/// The normals and words of one (seed, stream): any part of the sequence can be had without the rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhiloxNormals {
    key: [u32; 2],
    stream: u32,
}

impl PhiloxNormals {
    /// Normals of a block.
    pub const BLOCK: usize = WORDS;

    /// The sequence of a seed and stream.
    #[must_use]
    pub fn new(seed: u64, stream: Stream) -> Self {
        Self {
            key: [seed as u32, (seed >> 32) as u32],
            stream: stream as u32,
        }
    }

    /// The four words of a block.
    #[must_use]
    pub fn words(&self, block: u64) -> [u32; 4] {
        philox4x32_10([block as u32, (block >> 32) as u32, self.stream, 0], self.key)
    }

    /// The first `out.len()` normals of the sequence.
    pub fn fill(&self, out: &mut [f32]) {
        self.fill_from(0, out);
    }

    /// The normals `4·first_block …` of the sequence.
    pub fn fill_from(&self, first_block: u64, out: &mut [f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            if has_avx512() {
                // SAFETY: the CPU has just said that it has the features.
                return unsafe { self.fill_avx512(first_block, out) };
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the CPU has just said that it has the feature.
                return unsafe { self.fill_avx2(first_block, out) };
            }
        }
        self.fill_portable(first_block, out);
    }

    /// The same code with wider registers: without `fma` and without contraction the bits cannot differ.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn fill_avx2(&self, first_block: u64, out: &mut [f32]) {
        self.fill_portable(first_block, out);
    }

    /// As [`Self::fill_avx2`], wider still.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl")]
    fn fill_avx512(&self, first_block: u64, out: &mut [f32]) {
        self.fill_portable(first_block, out);
    }

    #[inline(always)]
    fn fill_portable(&self, first_block: u64, out: &mut [f32]) {
        let mut block = first_block;
        let mut batch = [[0f32; WORDS]; BATCH];
        for chunk in out.chunks_mut(BATCH * WORDS) {
            self.batch(block, &mut batch);
            chunk.copy_from_slice(&batch.as_flattened()[..chunk.len()]);
            block = block.wrapping_add(BATCH as u64);
        }
    }

    #[inline(always)]
    fn batch(&self, first_block: u64, out: &mut [[f32; WORDS]; BATCH]) {
        let mut lanes = [[0u32; BATCH], [0; BATCH], [self.stream; BATCH], [0; BATCH]];
        let [low, high, ..] = &mut lanes;
        for (i, (low, high)) in low.iter_mut().zip(high).enumerate() {
            let block = first_block.wrapping_add(i as u64);
            *low = block as u32;
            *high = (block >> 32) as u32;
        }
        rounds(&mut lanes, self.key);
        for pair in 0..2 {
            let (mut cos, mut sin) = ([0f32; BATCH], [0f32; BATCH]);
            for i in 0..BATCH {
                let radius = (-2.0 * ln((u32_to_f64(lanes[2 * pair][i]) + 1.0) * TWO_POW_M32)).sqrt();
                let (s, c) = sin_cos_of_u32_turn(lanes[2 * pair + 1][i]);
                cos[i] = (radius * c) as f32;
                sin[i] = (radius * s) as f32;
            }
            for i in 0..BATCH {
                out[i][2 * pair] = cos[i];
                out[i][2 * pair + 1] = sin[i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn random123_known_answers() {
        // kat_vectors of the Random123 distribution: philox4x32, 10 rounds.
        assert_eq!(
            philox4x32_10([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32_10([u32::MAX; 4], [u32::MAX; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn a_part_equals_the_whole_and_lengths_do_not_matter() {
        let normals = PhiloxNormals::new(0x0123_4567_89ab_cdef, Stream::Noise);
        let mut whole = vec![0f32; 1_003];
        normals.fill(&mut whole);
        for (first, length) in [(0u64, 1usize), (1, 3), (7, 130), (32, 400), (100, 603)] {
            let mut part = vec![0f32; length];
            normals.fill_from(first, &mut part);
            assert_eq!(part, whole[4 * first as usize..4 * first as usize + length]);
        }
    }

    #[test]
    fn values_follow_their_definition() {
        let normals = PhiloxNormals::new(77, Stream::VaeSample);
        let mut out = vec![0f32; 4 * 50_000];
        normals.fill(&mut out);
        let mut different = 0;
        for (i, values) in out.chunks_exact(4).enumerate() {
            let words = normals.words(i as u64);
            for pair in 0..2 {
                let u1 = (f64::from(words[2 * pair]) + 1.0) / 4_294_967_296.0;
                let u2 = f64::from(words[2 * pair + 1]) / 4_294_967_296.0;
                let radius = (-2.0 * u1.ln()).sqrt();
                let (sin, cos) = (std::f64::consts::TAU * u2).sin_cos();
                for (got, want) in [(values[2 * pair], radius * cos), (values[2 * pair + 1], radius * sin)] {
                    assert!((f64::from(got) - want).abs() < 5e-7);
                    different += usize::from(got != want as f32);
                }
            }
        }
        // The library's own last bit decides at most a vanishing number of roundings.
        assert!(different <= 2, "{different}");
    }

    #[test]
    fn wide_and_narrow_code_give_the_same_bits() {
        let normals = PhiloxNormals::new(5, Stream::Noise);
        let (mut a, mut b) = (vec![0f32; 4_096], vec![0f32; 4_096]);
        normals.fill(&mut a);
        normals.fill_portable(0, &mut b);
        assert!(a.iter().zip(&b).all(|(x, y)| x.to_bits() == y.to_bits()));
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            // SAFETY: the CPU has just said that it has the feature.
            unsafe { normals.fill_avx2(0, &mut b) };
            assert!(a.iter().zip(&b).all(|(x, y)| x.to_bits() == y.to_bits()));
        }
    }

    #[test]
    fn moments_are_those_of_a_normal_distribution() {
        let mut out = vec![0f32; 1 << 22];
        PhiloxNormals::new(2024, Stream::Noise).fill(&mut out);
        let n = out.len() as f64;
        let moment = |p: i32| out.iter().map(|&x| f64::from(x).powi(p)).sum::<f64>() / n;
        let four_sigma = 4.0 / n.sqrt();
        assert!(moment(1).abs() < four_sigma);
        assert!((moment(2) - 1.0).abs() < 2f64.sqrt() * four_sigma);
        assert!(moment(3).abs() < 15f64.sqrt() * four_sigma);
        assert!((moment(4) - 3.0).abs() < 96f64.sqrt() * four_sigma);
        let neighbours = out.windows(2).map(|w| f64::from(w[0]) * f64::from(w[1])).sum::<f64>() / n;
        assert!(neighbours.abs() < four_sigma);
        let within = out.iter().filter(|x| x.abs() < 1.0).count() as f64 / n;
        assert!((within - 0.682_689_492).abs() < 4.0 * (0.6827f64 * 0.3173 / n).sqrt());
    }
}
