//! Vectors of numbers, and the choice of the instruction set at run time.
//!
//! A kernel is written once, generic over [`Simd`], and compiled for every instruction set: the bodies are inlined into
//! functions that enable it. Results are the same to the bit within one class, not across classes.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)]
mod choice;
pub(crate) mod math;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pairs;
mod portable;
#[cfg(target_arch = "wasm32")]
mod wasm;

use std::sync::atomic::{AtomicU8, Ordering};

#[cfg(test)]
pub(crate) use choice::Choice;
pub use pairs::bf16_kernel_class;
pub(crate) use pairs::{PairKernel, Pairs, run_pairs};
pub(crate) use portable::Portable;

use super::Real;

/// Vectors of one instruction set and one number type. All methods require that the set is present.
pub(crate) trait Simd: Copy + 'static {
    type T: Real;
    type V: Copy;
    /// Numbers in a vector.
    const LANES: usize;
    /// Rows of a matrix product's register tile, largest first; the last is 1. The tile is two vectors wide.
    const ROWS: &'static [usize];

    unsafe fn splat(x: Self::T) -> Self::V;
    unsafe fn load(from: *const Self::T) -> Self::V;
    unsafe fn store(to: *mut Self::T, v: Self::V);
    /// The first `count` numbers, then zeros.
    unsafe fn load_some(from: *const Self::T, count: usize) -> Self::V;
    unsafe fn store_some(to: *mut Self::T, v: Self::V, count: usize);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    /// `a·b + c`, rounded once where the instruction set can.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `if a > b { a } else { b }`: b when either is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// `if a < b { a } else { b }`: b when either is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn exp(v: Self::V) -> Self::V;
    unsafe fn erf(v: Self::V) -> Self::V;
    /// The sum of the lanes.
    unsafe fn total(v: Self::V) -> Self::T;
    /// The greatest of the lanes.
    unsafe fn greatest(v: Self::V) -> Self::T;
}

/// The vector at `from`, or the `left` numbers that remain of a row, then zeros.
#[inline(always)]
pub(crate) unsafe fn load<S: Simd>(from: *const S::T, left: usize) -> S::V {
    unsafe {
        if left >= S::LANES {
            S::load(from)
        } else {
            S::load_some(from, left)
        }
    }
}

/// Stores a vector, or the `left` numbers that remain of a row.
#[inline(always)]
pub(crate) unsafe fn store<S: Simd>(to: *mut S::T, v: S::V, left: usize) {
    unsafe {
        if left >= S::LANES {
            S::store(to, v)
        } else {
            S::store_some(to, v, left)
        }
    }
}

/// `1 / (1 + e⁻ˣ)`.
#[inline(always)]
pub(crate) unsafe fn sigmoid<S: Simd>(x: S::V) -> S::V {
    unsafe {
        let one = S::splat(S::T::ONE);
        S::div(one, S::add(one, S::exp(S::sub(S::splat(S::T::ZERO), x))))
    }
}

/// What the f32 polynomials need beyond arithmetic.
pub(crate) trait Bits: Simd<T = f32> {
    /// The nearest integer, as a float.
    unsafe fn round(v: Self::V) -> Self::V;
    /// `v · 2ⁿ` for integral n in -160 ..= 160, with gradual underflow and overflow to infinity.
    unsafe fn scale(v: Self::V, n: Self::V) -> Self::V;
    unsafe fn abs(v: Self::V) -> Self::V;
    /// The magnitude of `v` with the sign of `sign`.
    unsafe fn copysign(v: Self::V, sign: Self::V) -> Self::V;
    /// `if a < b { x } else { y }`.
    unsafe fn select_less(a: Self::V, b: Self::V, x: Self::V, y: Self::V) -> Self::V;
}

/// A computation that is compiled for every instruction set. `run` must be `#[inline(always)]`.
pub(crate) trait Kernel<T> {
    type Output;

    /// # Safety
    /// The instruction set of `S` is present.
    unsafe fn run<S: Simd<T = T>>(self) -> Self::Output;
}

/// An instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Class {
    Portable = 1,
    #[cfg(target_arch = "x86_64")]
    Avx2 = 2,
    #[cfg(target_arch = "x86_64")]
    Avx512 = 3,
    #[cfg(target_arch = "aarch64")]
    Neon = 4,
    #[cfg(target_arch = "wasm32")]
    Wasm = 5,
}

/// The class in use; 0 until it is first asked for.
static CLASS: AtomicU8 = AtomicU8::new(0);

impl Class {
    /// What this processor has, best last.
    pub(crate) fn available() -> Vec<Class> {
        #[cfg_attr(
            not(any(target_arch = "x86_64", target_arch = "aarch64", target_arch = "wasm32")),
            allow(unused_mut)
        )]
        let mut classes = vec![Class::Portable];
        #[cfg(target_arch = "aarch64")]
        classes.push(Class::Neon);
        #[cfg(target_arch = "wasm32")]
        classes.push(Class::Wasm);
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                classes.push(Class::Avx2);
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512bw")
                {
                    classes.push(Class::Avx512);
                }
            }
        }
        classes
    }

    /// The class in use, which is settled by this.
    #[inline]
    pub(crate) fn current() -> Class {
        #[cfg(test)]
        if let Some(class) = choice::class() {
            return class;
        }
        Self::settled().unwrap_or_else(Self::choose)
    }

    /// The class in use, or the one that would be; settles nothing.
    fn expected() -> Class {
        #[cfg(test)]
        if let Some(class) = choice::class() {
            return class;
        }
        Self::settled().unwrap_or_else(Self::best)
    }

    #[inline]
    fn settled() -> Option<Class> {
        match CLASS.load(Ordering::Relaxed) {
            1 => Some(Class::Portable),
            #[cfg(target_arch = "x86_64")]
            2 => Some(Class::Avx2),
            #[cfg(target_arch = "x86_64")]
            3 => Some(Class::Avx512),
            #[cfg(target_arch = "aarch64")]
            4 => Some(Class::Neon),
            #[cfg(target_arch = "wasm32")]
            5 => Some(Class::Wasm),
            _ => None,
        }
    }

    fn best() -> Class {
        Self::available().pop().unwrap_or(Class::Portable)
    }

    #[cold]
    fn choose() -> Class {
        let best = Self::best();
        best.settle();
        // Another thread may have been first, with another class.
        Self::settled().unwrap_or(best)
    }

    /// Uses this class from here on, in all threads, unless one is in use already; whether it is this one.
    fn settle(self) -> bool {
        match CLASS.compare_exchange(0, self as u8, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => true,
            Err(settled) => settled == self as u8,
        }
    }

    fn name(self) -> &'static str {
        match self {
            #[cfg(target_arch = "x86_64")]
            Class::Portable => "sse",
            #[cfg(not(target_arch = "x86_64"))]
            Class::Portable => "portable",
            #[cfg(target_arch = "x86_64")]
            Class::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Class::Avx512 => "avx512",
            #[cfg(target_arch = "aarch64")]
            Class::Neon => "neon",
            #[cfg(target_arch = "wasm32")]
            Class::Wasm => "wasm",
        }
    }
}

/// The instruction set that the kernels of this process use: `sse`, `avx2`, `avx512`, `neon`, `wasm` or `portable`.
/// Results agree to the bit within one class, and between `sse` and `wasm`, neither of which has a fused multiply-add.
pub fn kernel_class() -> &'static str {
    Class::expected().name()
}

/// The names of the classes that this processor has, best last.
pub fn kernel_classes() -> Vec<&'static str> {
    Class::available().into_iter().map(Class::name).collect()
}

/// Uses a class of [`kernel_classes`] in all threads; false when there is none of this name, or another is in use. The
/// first kernel that runs settles the class for good: what one class packs, another would misread.
pub fn use_kernels(name: &str) -> bool {
    let class = Class::available().into_iter().find(|class| class.name() == name);
    class.is_some_and(Class::settle)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")]
unsafe fn on_avx512<K: Kernel<f32>>(kernel: K) -> K::Output {
    // SAFETY: the features are enabled here; that they are present is the caller's promise.
    unsafe { kernel.run::<avx512::Avx512<false>>() }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
unsafe fn on_avx2<K: Kernel<f32>>(kernel: K) -> K::Output {
    // SAFETY: as above.
    unsafe { kernel.run::<avx2::Avx2>() }
}

/// Runs a kernel with the instruction set in use.
#[inline(always)]
pub(crate) fn run_f32<K: Kernel<f32>>(kernel: K) -> K::Output {
    match Class::current() {
        // SAFETY: a class is only chosen when its features are present.
        #[cfg(target_arch = "x86_64")]
        Class::Avx512 => unsafe { on_avx512(kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Class::Avx2 => unsafe { on_avx2(kernel) },
        // SAFETY: every aarch64 has NEON.
        #[cfg(target_arch = "aarch64")]
        Class::Neon => unsafe { kernel.run::<neon::Neon>() },
        // SAFETY: the module is compiled for 128-bit vectors throughout.
        #[cfg(target_arch = "wasm32")]
        Class::Wasm => unsafe { kernel.run::<wasm::Wasm>() },
        // SAFETY: needs nothing beyond the baseline.
        Class::Portable => unsafe { kernel.run::<Portable<f32, 4>>() },
    }
}

/// Runs a kernel in f64: the reference, without special instructions.
#[inline(always)]
pub(crate) fn run_f64<K: Kernel<f64>>(kernel: K) -> K::Output {
    // SAFETY: needs nothing beyond the baseline.
    unsafe { kernel.run::<Portable<f64, 2>>() }
}
