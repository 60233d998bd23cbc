//! Pairs of bf16 in the lanes of f32 vectors, and products of them.
//!
//! A *unit* is 32 bits that hold two numbers, the first in the low half. Factors of bf16 products travel as units in
//! vectors of f32, which are copied and never calculated with. Where the processor multiplies pairs (AVX-512 BF16), it
//! does; elsewhere the halves are made f32 and multiplied as such, which gives the same up to the last bits of the sums.

use half::bf16;

use super::Bits;
use crate::cpu::gemm::{self, STEP};

/// The second number of a unit, which is its f32.
pub(super) const HIGH: u32 = 0xffff_0000;
/// Most lanes of any instruction set.
const MOST: usize = 16;

/// Vectors of units. All methods require that the instruction set is present.
pub(crate) trait Pairs: Bits {
    /// The first numbers, as f32.
    unsafe fn low(v: Self::V) -> Self::V;
    /// The second numbers, as f32.
    unsafe fn high(v: Self::V) -> Self::V;

    /// `sum + a₀·b₀ + a₁·b₁` in every lane, in f32. AVX-512 BF16 takes subnormal numbers for zero.
    #[inline(always)]
    unsafe fn dot(a: Self::V, b: Self::V, sum: Self::V) -> Self::V {
        unsafe {
            let sum = Self::fma(Self::low(a), Self::low(b), sum);
            Self::fma(Self::high(a), Self::high(b), sum)
        }
    }

    /// Units of the numbers of two vectors, rounded to the nearest bf16: lane i holds those of lanes i.
    #[inline(always)]
    unsafe fn pair(first: Self::V, second: Self::V) -> Self::V {
        unsafe {
            let (mut a, mut b) = ([0f32; MOST], [0f32; MOST]);
            Self::store(a.as_mut_ptr(), first);
            Self::store(b.as_mut_ptr(), second);
            for i in 0..Self::LANES {
                a[i] = unit(a[i], b[i]);
            }
            Self::load(a.as_ptr())
        }
    }

    /// Units of the numbers of two vectors one after the other, rounded: lane i holds the numbers 2i and 2i + 1.
    #[inline(always)]
    unsafe fn narrow(first: Self::V, second: Self::V) -> Self::V {
        unsafe {
            let mut numbers = [0f32; 2 * MOST];
            Self::store(numbers.as_mut_ptr(), first);
            Self::store(numbers.as_mut_ptr().add(Self::LANES), second);
            for i in 0..Self::LANES {
                numbers[i] = unit(numbers[2 * i], numbers[2 * i + 1]);
            }
            Self::load(numbers.as_ptr())
        }
    }

    /// Transposes a block of as many rows and columns of units as there are lanes.
    #[inline(always)]
    unsafe fn transpose(from: *const f32, from_stride: usize, to: *mut f32, to_stride: usize) {
        for i in (0..Self::LANES).step_by(STEP) {
            for j in (0..Self::LANES).step_by(STEP) {
                unsafe {
                    gemm::transpose(
                        from.add(i * from_stride + j),
                        from_stride,
                        to.add(j * to_stride + i),
                        to_stride,
                    )
                };
            }
        }
    }

    /// The bf16 at `from`, as many as there are lanes.
    #[inline(always)]
    unsafe fn widen(from: *const u16) -> Self::V {
        unsafe {
            let mut numbers = [0f32; MOST];
            for (i, to) in numbers[..Self::LANES].iter_mut().enumerate() {
                *to = f32::from_bits(u32::from(*from.add(i)) << 16);
            }
            Self::load(numbers.as_ptr())
        }
    }
}

/// Two numbers, rounded.
#[inline(always)]
fn unit(first: f32, second: f32) -> f32 {
    let bits = |x: f32| u32::from(bf16::from_f32(x).to_bits());
    f32::from_bits(bits(first) | bits(second) << 16)
}

/// A computation on units that is compiled for every instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait PairKernel {
    type Output;

    /// # Safety
    /// The instruction set of `S` is present.
    unsafe fn run<S: Pairs>(self) -> Self::Output;
}

/// Runs a kernel with the instruction set in use, and the extension for pairs where it is there.
#[inline(always)]
pub(crate) fn run_pairs<K: PairKernel>(kernel: K) -> K::Output {
    use super::{Class, Portable};
    match Class::current() {
        // SAFETY: a class is only chosen when its features are present.
        #[cfg(target_arch = "x86_64")]
        Class::Avx512 if multiplies() => unsafe { x86::on_avx512_bf16(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Class::Avx512 => unsafe { x86::on_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Class::Avx2 => unsafe { x86::on_avx2(kernel) },
        // SAFETY: every aarch64 has NEON.
        #[cfg(target_arch = "aarch64")]
        Class::Neon => unsafe { kernel.run::<super::neon::Neon>() },
        // SAFETY: the module is compiled for 128-bit vectors throughout.
        #[cfg(target_arch = "wasm32")]
        Class::Wasm => unsafe { kernel.run::<super::wasm::Wasm>() },
        // SAFETY: needs nothing beyond the baseline.
        Class::Portable => unsafe { kernel.run::<Portable<f32, 4>>() },
    }
}

/// Whether the processor multiplies pairs.
#[cfg(target_arch = "x86_64")]
fn multiplies() -> bool {
    #[cfg(test)]
    if super::choice::emulates() {
        return false;
    }
    is_x86_feature_detected!("avx512bf16")
}

/// The instruction set that products of bf16 use: `avx512-bf16`, which multiplies it natively, or the
/// [`kernel_class`](super::kernel_class) with `-bf16-emulated` behind it, which multiplies the same numbers as f32: about
/// as right, never faster than f32. Results agree to the bit within one class.
pub fn bf16_kernel_class() -> &'static str {
    use super::Class;
    match Class::expected() {
        #[cfg(target_arch = "x86_64")]
        Class::Avx512 if multiplies() => "avx512-bf16",
        #[cfg(target_arch = "x86_64")]
        Class::Avx512 => "avx512-bf16-emulated",
        #[cfg(target_arch = "x86_64")]
        Class::Avx2 => "avx2-bf16-emulated",
        #[cfg(target_arch = "x86_64")]
        Class::Portable => "sse-bf16-emulated",
        #[cfg(target_arch = "aarch64")]
        Class::Neon => "neon-bf16-emulated",
        #[cfg(target_arch = "wasm32")]
        Class::Wasm => "wasm-bf16-emulated",
        #[cfg(not(target_arch = "x86_64"))]
        Class::Portable => "portable-bf16-emulated",
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::super::{avx2::Avx2, avx512::Avx512};
    use super::PairKernel;

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx512bf16,avx2,fma")]
    pub(super) unsafe fn on_avx512_bf16<K: PairKernel>(kernel: K) -> K::Output {
        // SAFETY: the features are enabled here; that they are present is the caller's promise.
        unsafe { kernel.run::<Avx512<true>>() }
    }

    #[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]
    pub(super) unsafe fn on_avx512<K: PairKernel>(kernel: K) -> K::Output {
        // SAFETY: as above.
        unsafe { kernel.run::<Avx512<false>>() }
    }

    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn on_avx2<K: PairKernel>(kernel: K) -> K::Output {
        // SAFETY: as above.
        unsafe { kernel.run::<Avx2>() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Choice, load, store};
    use super::*;

    /// Rounds numbers both ways, multiplies the units, and takes the halves out again.
    struct Round<'a>(&'a [f32]);

    impl PairKernel for Round<'_> {
        type Output = [Vec<f32>; 4];

        #[inline(always)]
        unsafe fn run<S: Pairs>(self) -> Self::Output {
            let mut out = [const { Vec::new() }; 4];
            let mut numbers = [0f32; MOST];
            for chunk in self.0.chunks(S::LANES) {
                unsafe {
                    let v = load::<S>(chunk.as_ptr(), chunk.len());
                    let twice = S::add(v, v);
                    let units = S::pair(v, twice);
                    let squares = S::dot(units, S::pair(v, S::splat(1.)), S::splat(0.));
                    let apart = S::narrow(v, v);
                    for (out, v) in out
                        .iter_mut()
                        .zip([S::low(units), S::high(units), squares, S::low(apart)])
                    {
                        store::<S>(numbers.as_mut_ptr(), v, S::LANES);
                        out.extend(&numbers[..chunk.len()]);
                    }
                }
            }
            out
        }
    }

    #[test]
    fn rounds_to_nearest_even_and_keeps_what_is_no_number() {
        let mut xs = vec![
            0.,
            -0.,
            1.,
            -1.,
            1. + 1. / 256.,
            1. + 3. / 256.,
            3.389e38,
            f32::MAX,
            1e-30,
        ];
        xs.extend([f32::INFINITY, f32::NEG_INFINITY, f32::NAN]);
        xs.extend((0..4000u32).map(|i| f32::from_bits(0x3f00_0000 + i * 4099)));
        for choice in Choice::all_for_pairs() {
            let class = choice.pairs();
            let [low, high, dot, _] = choice.on(1, || run_pairs(Round(&xs)));
            for (i, &x) in xs.iter().enumerate() {
                let (a, b) = (bf16::from_f32(x).to_f32(), bf16::from_f32(x + x).to_f32());
                let same = |found: f32, wanted: f32| {
                    found.to_bits() == wanted.to_bits() || (found.is_nan() && wanted.is_nan())
                };
                assert!(
                    same(low[i], a) && same(high[i], b),
                    "{class}: {x} {} {}",
                    low[i],
                    high[i]
                );
                let wanted = a * a + b;
                let close = (dot[i] - wanted).abs() <= 2. * f32::EPSILON * (a * a).max(b.abs());
                assert!(close || same(dot[i], wanted), "{class}: {x}: {} for {wanted}", dot[i]);
            }
        }
    }

    #[test]
    fn widens_what_it_narrows() {
        struct Through<'a>(&'a [u16]);
        impl PairKernel for Through<'_> {
            type Output = Vec<u16>;

            #[inline(always)]
            unsafe fn run<S: Pairs>(self) -> Vec<u16> {
                let mut out = vec![0u16; self.0.len()];
                for i in (0..self.0.len()).step_by(2 * S::LANES) {
                    unsafe {
                        let from = self.0.as_ptr().add(i);
                        let units = S::narrow(S::widen(from), S::widen(from.add(S::LANES)));
                        S::store(out.as_mut_ptr().add(i).cast(), units);
                    }
                }
                out
            }
        }
        // All normal numbers; not whole vectors only when there are not as many as lanes.
        let words: Vec<u16> = (0x80..0x7f80).collect();
        let words = &words[..words.len() / 32 * 32];
        for choice in Choice::all_for_pairs() {
            assert!(
                choice.on(1, || run_pairs(Through(words))) == words,
                "{}",
                choice.pairs()
            );
        }
    }
}
