//! Small dense matrices in f64: what resizing and merging compute with before they round once.

/// A row-major matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub columns: usize,
    /// Row after row.
    pub values: Vec<f64>,
}

impl Matrix {
    /// A matrix of zeros.
    #[must_use]
    pub fn zeros(rows: usize, columns: usize) -> Self {
        Self {
            rows,
            columns,
            values: vec![0.0; rows * columns],
        }
    }

    /// Ones on the diagonal.
    #[must_use]
    pub fn identity(size: usize) -> Self {
        let mut out = Self::zeros(size, size);
        (0..size).for_each(|i| out.values[i * size + i] = 1.0);
        out
    }

    /// From f32 values, row after row.
    ///
    /// # Panics
    /// When there are not `rows × columns` of them.
    #[must_use]
    pub fn from_f32(rows: usize, columns: usize, values: &[f32]) -> Self {
        assert_eq!(values.len(), rows * columns, "a matrix of {rows} by {columns}");
        Self {
            rows,
            columns,
            values: values.iter().map(|&v| f64::from(v)).collect(),
        }
    }

    /// Rounded to f32.
    #[must_use]
    pub fn to_f32(&self) -> Vec<f32> {
        self.values.iter().map(|&v| v as f32).collect()
    }

    /// One row.
    #[must_use]
    pub fn row(&self, i: usize) -> &[f64] {
        &self.values[i * self.columns..(i + 1) * self.columns]
    }

    fn row_mut(&mut self, i: usize) -> &mut [f64] {
        &mut self.values[i * self.columns..(i + 1) * self.columns]
    }

    /// The transpose.
    #[must_use]
    pub fn transposed(&self) -> Self {
        let mut out = Self::zeros(self.columns, self.rows);
        for i in 0..self.rows {
            for (j, &value) in self.row(i).iter().enumerate() {
                out.values[j * self.rows + i] = value;
            }
        }
        out
    }

    /// The product.
    ///
    /// # Panics
    /// When the inner sizes differ.
    #[must_use]
    pub fn times(&self, other: &Self) -> Self {
        assert_eq!(self.columns, other.rows, "inner sizes of a product");
        let mut out = Self::zeros(self.rows, other.columns);
        for i in 0..self.rows {
            let target = &mut out.values[i * other.columns..(i + 1) * other.columns];
            for (k, &a) in self.row(i).iter().enumerate() {
                for (t, &b) in target.iter_mut().zip(other.row(k)) {
                    *t += a * b;
                }
            }
        }
        out
    }

    /// Every value times a factor.
    #[must_use]
    pub fn scaled(mut self, factor: f64) -> Self {
        self.values.iter_mut().for_each(|v| *v *= factor);
        self
    }

    /// The Frobenius norm.
    #[must_use]
    pub fn norm(&self) -> f64 {
        self.values.iter().map(|v| v * v).sum::<f64>().sqrt()
    }

    /// The first columns.
    #[must_use]
    pub fn first_columns(&self, count: usize) -> Self {
        let values = (0..self.rows).flat_map(|i| self.row(i)[..count].iter().copied());
        Self {
            rows: self.rows,
            columns: count,
            values: values.collect(),
        }
    }

    /// The columns of both, side by side.
    ///
    /// # Panics
    /// When the numbers of rows differ.
    #[must_use]
    pub fn beside(&self, other: &Self) -> Self {
        assert_eq!(self.rows, other.rows, "rows of matrices side by side");
        let values = (0..self.rows).flat_map(|i| self.row(i).iter().chain(other.row(i)).copied());
        Self {
            rows: self.rows,
            columns: self.columns + other.columns,
            values: values.collect(),
        }
    }

    /// The rows of both, one above the other.
    ///
    /// # Panics
    /// When the numbers of columns differ.
    #[must_use]
    pub fn above(&self, other: &Self) -> Self {
        assert_eq!(self.columns, other.columns, "columns of matrices above each other");
        Self {
            rows: self.rows + other.rows,
            columns: self.columns,
            values: self.values.iter().chain(&other.values).copied().collect(),
        }
    }
}

/// `A = Q·R` with orthonormal columns in Q (zero columns where A's depend on earlier ones) and R upper triangular, by
/// Gram–Schmidt done twice, which is as orthogonal as the arithmetic.
#[must_use]
pub fn qr(a: &Matrix) -> (Matrix, Matrix) {
    /// A column whose remainder is this small beside itself is a combination of the earlier ones.
    const DEPENDENT: f64 = 1e-13;
    let mut q = a.transposed(); // columns as rows
    let mut r = Matrix::zeros(a.columns, a.columns);
    for j in 0..a.columns {
        let length = dot(q.row(j), q.row(j)).sqrt();
        for _ in 0..2 {
            for i in 0..j {
                let along = dot(q.row(i), q.row(j));
                r.values[i * a.columns + j] += along;
                let (done, rest) = q.values.split_at_mut(j * a.rows);
                for (x, y) in rest[..a.rows].iter_mut().zip(&done[i * a.rows..(i + 1) * a.rows]) {
                    *x -= along * y;
                }
            }
        }
        let left = dot(q.row(j), q.row(j)).sqrt();
        let inverse = if left > DEPENDENT * length { 1.0 / left } else { 0.0 };
        r.values[j * a.columns + j] = if inverse > 0.0 { left } else { 0.0 };
        q.row_mut(j).iter_mut().for_each(|x| *x *= inverse);
    }
    (q.transposed(), r)
}

/// Singular values, largest first, with `A = U·diag(S)·Vᵀ`.
#[derive(Debug, Clone)]
pub struct Svd {
    /// Left vectors as columns; zero where the value is zero.
    pub u: Matrix,
    /// The values.
    pub s: Vec<f64>,
    /// Right vectors as columns.
    pub v: Matrix,
}

/// The singular value decomposition by one-sided Jacobi rotations: exact to rounding, meant for small matrices.
#[must_use]
pub fn svd(a: &Matrix) -> Svd {
    /// Columns this orthogonal count as such.
    const ORTHOGONAL: f64 = 1e-15;
    /// Convergence is quadratic: six to ten sweeps do.
    const MOST_SWEEPS: usize = 60;
    let n = a.columns;
    let mut columns = a.transposed();
    let mut v = Matrix::identity(n); // right vectors as rows
    for _ in 0..MOST_SWEEPS {
        let mut rotated = false;
        for p in 0..n {
            for q in p + 1..n {
                let (pp, qq, pq) = (
                    dot(columns.row(p), columns.row(p)),
                    dot(columns.row(q), columns.row(q)),
                    dot(columns.row(p), columns.row(q)),
                );
                if pq == 0.0 || pq.abs() <= ORTHOGONAL * (pp * qq).sqrt() {
                    continue;
                }
                rotated = true;
                let zeta = (qq - pp) / (2.0 * pq);
                let t = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let c = 1.0 / (1.0 + t * t).sqrt();
                rotate(&mut columns, p, q, c, c * t);
                rotate(&mut v, p, q, c, c * t);
            }
        }
        if !rotated {
            break;
        }
    }
    let lengths: Vec<f64> = (0..n).map(|j| dot(columns.row(j), columns.row(j)).sqrt()).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| lengths[j].total_cmp(&lengths[i]));
    let mut u = Matrix::zeros(n, a.rows);
    let mut right = Matrix::zeros(n, n);
    for (to, &from) in order.iter().enumerate() {
        let inverse = if lengths[from] > 0.0 { 1.0 / lengths[from] } else { 0.0 };
        for (x, y) in u.row_mut(to).iter_mut().zip(columns.row(from)) {
            *x = y * inverse;
        }
        right.row_mut(to).copy_from_slice(v.row(from));
    }
    Svd {
        u: u.transposed(),
        s: order.iter().map(|&i| lengths[i]).collect(),
        v: right.transposed(),
    }
}

fn rotate(m: &mut Matrix, p: usize, q: usize, c: f64, s: f64) {
    let (first, second) = m.values.split_at_mut(q * m.columns);
    let p = &mut first[p * m.columns..(p + 1) * m.columns];
    for (x, y) in p.iter_mut().zip(&mut second[..m.columns]) {
        (*x, *y) = (c * *x - s * *y, s * *x + c * *y);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wavy(rows: usize, columns: usize, seed: f64) -> Matrix {
        let values = (0..rows * columns).map(|i| (seed + 1.7 * i as f64 * (1.0 + i as f64 / 9.0)).sin());
        Matrix {
            rows,
            columns,
            values: values.collect(),
        }
    }

    fn close(a: &Matrix, b: &Matrix) {
        assert_eq!((a.rows, a.columns), (b.rows, b.columns));
        let worst = a
            .values
            .iter()
            .zip(&b.values)
            .map(|(x, y)| (x - y).abs())
            .fold(0.0, f64::max);
        assert!(worst < 1e-12, "{worst}");
    }

    #[test]
    fn qr_gives_the_matrix_back_also_when_columns_depend() {
        let a = wavy(11, 4, 0.3);
        let dependent = a.beside(&a.first_columns(2).scaled(-3.0)).beside(&Matrix::zeros(11, 1));
        for m in [a, dependent] {
            let (q, r) = qr(&m);
            close(&q.times(&r), &m);
            let gram = q.transposed().times(&q);
            for i in 0..gram.rows {
                for j in 0..gram.columns {
                    let value = gram.row(i)[j];
                    let unit = value.abs() < 1e-12 || (i == j && (value - 1.0).abs() < 1e-12);
                    assert!(unit, "{i} {j} {value}");
                }
            }
        }
    }

    #[test]
    fn svd_gives_the_matrix_back_with_falling_values() {
        for m in [
            wavy(6, 6, 0.1),
            wavy(9, 4, 0.2),
            wavy(5, 3, 0.4).times(&wavy(3, 5, 0.5)),
        ] {
            let Svd { mut u, s, v } = svd(&m);
            assert!(s.windows(2).all(|w| w[0] >= w[1]));
            for i in 0..u.rows {
                u.row_mut(i).iter_mut().zip(&s).for_each(|(x, s)| *x *= s);
            }
            close(&u.times(&v.transposed()), &m);
        }
        let diagonal = Matrix {
            rows: 2,
            columns: 2,
            values: vec![0.0, -3.0, 2.0, 0.0],
        };
        assert_eq!(svd(&diagonal).s, [3.0, 2.0]);
    }
}
