//! Scaled dot-product attention.

use rayon::prelude::*;

use super::Real;
use super::storage::{Out, Pointer};

/// Sizes of an attention; heads lie side by side in the last dimension.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AttentionShape {
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) queries: usize,
    pub(crate) keys: usize,
    pub(crate) width: usize,
    pub(crate) scale: f64,
    pub(crate) causal: bool,
}

impl AttentionShape {
    fn stride(&self) -> usize {
        self.heads * self.width
    }
}

/// softmax(scale·q·kᵀ) of a head, `[queries, keys]`.
unsafe fn probabilities<T: Real>(s: &AttentionShape, q: *const T, k: *const T) -> Vec<T> {
    let c = s.stride();
    let mut p = vec![T::ZERO; s.queries * s.keys];
    unsafe {
        gemm(
            (s.queries, s.keys, s.width),
            T::of(s.scale),
            Mat {
                data: q,
                row: c,
                col: 1,
            },
            Mat {
                data: k,
                row: 1,
                col: c,
            },
            p.as_mut_ptr(),
            s.keys,
            false,
        );
    }
    for (i, row) in p.chunks_mut(s.keys).enumerate() {
        let seen = if s.causal { (i + 1).min(s.keys) } else { s.keys };
        let top = row[..seen].iter().fold(row[0], |m, &v| Real::max(m, v));
        let mut sum = T::ZERO;
        for (j, v) in row.iter_mut().enumerate() {
            *v = if j < seen { (*v - top).exp() } else { T::ZERO };
            sum += *v;
        }
        for v in row {
            *v = *v / sum;
        }
    }
    p
}

/// The output `[B, queries, heads·width]`.
pub(crate) fn attention_forward<T: Real>(s: &AttentionShape, q: &[T], k: &[T], v: &[T]) -> Vec<T> {
    let c = s.stride();
    let mut out = Out::new(q.len());
    let y = out.pointer();
    (0..s.batch * s.heads).into_par_iter().for_each(|i| {
        let (image, head) = (i / s.heads, i % s.heads);
        let (queries, keys) = (
            image * s.queries * c + head * s.width,
            image * s.keys * c + head * s.width,
        );
        // SAFETY: each task writes its own head, all of it.
        unsafe {
            let p = probabilities(s, q[queries..].as_ptr(), k[keys..].as_ptr());
            gemm(
                (s.queries, s.width, s.keys),
                T::ONE,
                Mat::rows(&p, s.keys),
                Mat::rows(&v[keys..], c),
                y.at(queries),
                c,
                false,
            );
        }
    });
    // SAFETY: the heads cover the output.
    unsafe { out.into_vec() }
}

/// The gradients by q, k and v.
pub(crate) fn attention_backward<T: Real>(
    s: &AttentionShape,
    q: &[T],
    k: &[T],
    v: &[T],
    grad: &[T],
) -> (Vec<T>, Vec<T>, Vec<T>) {
    let c = s.stride();
    let (mut dq, mut dk, mut dv) = (Out::new(q.len()), Out::new(k.len()), Out::new(v.len()));
    let (pq, pk, pv): (Pointer<T>, Pointer<T>, Pointer<T>) = (dq.pointer(), dk.pointer(), dv.pointer());
    (0..s.batch * s.heads).into_par_iter().for_each(|i| {
        let (image, head) = (i / s.heads, i % s.heads);
        let (queries, keys) = (
            image * s.queries * c + head * s.width,
            image * s.keys * c + head * s.width,
        );
        let (n, m, d) = (s.queries, s.keys, s.width);
        // SAFETY: each task writes its own heads, all of them.
        unsafe {
            let p = probabilities(s, q[queries..].as_ptr(), k[keys..].as_ptr());
            gemm(
                (m, d, n),
                T::ONE,
                Mat::rows(&p, m).t(),
                Mat::rows(&grad[queries..], c),
                pv.at(keys),
                c,
                false,
            );
            let mut ds = vec![T::ZERO; n * m];
            gemm(
                (n, m, d),
                T::ONE,
                Mat::rows(&grad[queries..], c),
                Mat::rows(&v[keys..], c).t(),
                ds.as_mut_ptr(),
                m,
                false,
            );
            for (ds, p) in ds.chunks_mut(m).zip(p.chunks(m)) {
                let dot: T = ds.iter().zip(p).map(|(&a, &b)| a * b).sum();
                for (ds, &p) in ds.iter_mut().zip(p) {
                    *ds = p * (*ds - dot) * T::of(s.scale);
                }
            }
            gemm(
                (n, d, m),
                T::ONE,
                Mat::rows(&ds, m),
                Mat::rows(&k[keys..], c),
                pq.at(queries),
                c,
                false,
            );
            gemm(
                (m, d, n),
                T::ONE,
                Mat::rows(&ds, m).t(),
                Mat::rows(&q[queries..], c),
                pk.at(keys),
                c,
                false,
            );
        }
    });
    // SAFETY: the heads cover the outputs.
    unsafe { (dq.into_vec(), dk.into_vec(), dv.into_vec()) }
}

#[derive(Clone, Copy)]
struct Mat<T> {
    data: *const T,
    row: usize,
    col: usize,
}

impl<T> Mat<T> {
    fn rows(data: &[T], stride: usize) -> Self {
        Self {
            data: data.as_ptr(),
            row: stride,
            col: 1,
        }
    }

    fn t(self) -> Self {
        Self {
            data: self.data,
            row: self.col,
            col: self.row,
        }
    }
}

unsafe fn gemm<T: Real>(
    (m, n, k): (usize, usize, usize),
    alpha: T,
    a: Mat<T>,
    b: Mat<T>,
    c: *mut T,
    stride: usize,
    add: bool,
) {
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            c,
            1,
            stride as isize,
            add,
            a.data,
            a.col as isize,
            a.row as isize,
            b.data,
            b.col as isize,
            b.row as isize,
            T::ONE,
            alpha,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}
