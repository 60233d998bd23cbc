//! The best product of few ranks for a matrix of any size.

use potstill_noise::TorchGenerator;

use crate::error::Result;
use crate::matrix::{Matrix, Svd, qr, svd};
use crate::product::times_transposed;

/// Ranks that the iteration carries beside those that are asked for: the more, the faster it converges.
const SPARE: usize = 8;
/// The iteration ends when a step adds less than this share of the squared norm that it has captured.
const CONVERGED: f64 = 1e-10;
/// Where singular values around the last rank are almost equal it converges slowly, and it matters as little which of them
/// are kept.
const MOST_STEPS: usize = 100;
/// Any will do: the start is drawn at random so that no direction is missing from it.
const SEED: u64 = 0;

/// The largest `rank` singular values, largest first, and their vectors, by iterating a subspace until it captures no
/// more. The same bits every time.
///
/// # Errors
/// When the arithmetic fails.
pub(crate) fn truncated_svd(a: &Matrix, rank: usize) -> Result<Svd> {
    let least = a.rows.min(a.columns);
    let rank = rank.min(least);
    let width = (rank + SPARE).min(least);
    let transpose = a.transposed();
    let mut start = Matrix::zeros(a.columns, width);
    TorchGenerator::new(SEED).randn_f64(&mut start.values);
    // What a subspace captures of A: left·(Aᵀ·left)ᵀ.
    let capture = |right: &Matrix| -> Result<Svd> {
        let (left, _) = qr(&times_transposed(a, &right.transposed())?);
        let (next, r) = qr(&times_transposed(&transpose, &left.transposed())?);
        let small = svd(&r.transposed());
        Ok(Svd {
            u: left.times(&small.u),
            v: next.times(&small.v),
            s: small.s,
        })
    };
    let energy = |found: &Svd| found.s[..rank].iter().map(|s| s * s).sum::<f64>();
    let mut found = capture(&qr(&start).0)?;
    for _ in 0..MOST_STEPS {
        let next = capture(&found.v)?;
        let (before, now) = (energy(&found), energy(&next));
        found = next;
        if now - before <= CONVERGED * now {
            break;
        }
    }
    Ok(Svd {
        u: found.u.first_columns(rank),
        v: found.v.first_columns(rank),
        s: found.s[..rank].to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(rows: usize, columns: usize, seed: f64) -> Matrix {
        let values = (0..rows * columns).map(|i| (0.7 * i as f64 * seed + seed).sin());
        Matrix {
            rows,
            columns,
            values: values.collect(),
        }
    }

    /// A matrix of random values: no singular value stands out.
    fn noise(rows: usize, columns: usize) -> Matrix {
        let mut matrix = Matrix::zeros(rows, columns);
        TorchGenerator::new(7).randn_f64(&mut matrix.values);
        matrix
    }

    fn product(found: &Svd) -> Matrix {
        let mut scaled = found.u.clone();
        for row in scaled.values.chunks_mut(found.s.len()) {
            row.iter_mut().zip(&found.s).for_each(|(x, s)| *x *= s);
        }
        scaled.times(&found.v.transposed())
    }

    fn distance(a: &Matrix, b: &Matrix) -> f64 {
        let squares = a.values.iter().zip(&b.values).map(|(x, y)| (x - y) * (x - y));
        squares.sum::<f64>().sqrt()
    }

    #[test]
    fn what_has_few_ranks_is_found_whole() {
        for (rows, columns, rank) in [(40, 90, 3), (90, 40, 5), (64, 64, 1)] {
            let a = wave(rows, rank, 1.3).times(&wave(rank, columns, 2.1));
            let found = truncated_svd(&a, rank).unwrap();
            assert!(distance(&product(&found), &a) < 1e-10 * a.norm());
            assert_eq!(found.s.len(), rank);
        }
    }

    #[test]
    fn no_other_product_is_closer() {
        for (rows, columns) in [(60, 150), (150, 60), (30, 12)] {
            let a = noise(rows, columns);
            let exact = svd(&if rows < columns { a.transposed() } else { a.clone() });
            for rank in [1, 4, 11] {
                let found = truncated_svd(&a, rank).unwrap();
                let best: f64 = exact.s[rank..].iter().map(|s| s * s).sum::<f64>().sqrt();
                let lost = distance(&product(&found), &a);
                assert!(
                    (lost - best).abs() < 1e-6 * best,
                    "{rows}×{columns}, rank {rank}: {lost} {best}"
                );
                let captured: f64 = found.s.iter().map(|s| s * s).sum();
                assert!((captured + lost * lost - a.norm().powi(2)).abs() < 1e-8 * a.norm().powi(2));
            }
        }
    }

    #[test]
    fn more_ranks_than_there_are_give_all_and_nothing_gives_nothing() {
        let a = noise(5, 9);
        let found = truncated_svd(&a, 64).unwrap();
        assert_eq!(found.s.len(), 5);
        assert!(distance(&product(&found), &a) < 1e-10);
        let none = truncated_svd(&Matrix::zeros(20, 30), 2).unwrap();
        assert!(none.s.iter().all(|s| *s == 0.) && product(&none).norm() == 0.);
    }
}
