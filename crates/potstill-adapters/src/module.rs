//! What an adapter does to one layer, whoever wrote it.

use potstill_models::Site;

use crate::error::{AdapterError, Result};
use crate::matrix::Matrix;

/// A tensor of four or fewer dimensions, row-major.
#[derive(Debug, Clone, PartialEq)]
pub struct Array {
    /// Its shape.
    pub shape: Vec<usize>,
    /// Its values.
    pub values: Vec<f32>,
}

impl Array {
    /// As a matrix with the first dimension as rows and all others as columns.
    #[must_use]
    pub fn matrix(&self) -> Matrix {
        let rows = self.shape.first().copied().unwrap_or(1);
        Matrix::from_f32(rows, self.values.len() / rows.max(1), &self.values)
    }

    /// A matrix, rounded, in a shape of as many values.
    #[must_use]
    pub fn of(matrix: &Matrix, shape: &[usize]) -> Self {
        debug_assert_eq!(matrix.values.len(), shape.iter().product::<usize>());
        Self {
            shape: shape.to_vec(),
            values: matrix.to_f32(),
        }
    }
}

/// One side of a Kronecker product.
#[derive(Debug, Clone, PartialEq)]
pub enum Kronecker {
    /// The matrix itself.
    Whole(Array),
    /// `a·b`, `[n, rank]` and `[rank, m …]`.
    Factored {
        /// Left.
        a: Array,
        /// Right.
        b: Array,
    },
    /// Tucker form: core `[rank, rank, height, width]` between `a` `[rank, n]` and `b` `[rank, m]`.
    Tucker {
        /// Core.
        core: Array,
        /// Output side.
        a: Array,
        /// Input side.
        b: Array,
    },
}

/// The change of a layer's weight before its scale.
#[derive(Debug, Clone, PartialEq)]
pub enum Update {
    /// `up·down`, with a core `[rank, rank, height, width]` between them in Tucker form.
    Lora {
        /// `[out, rank]`.
        up: Array,
        /// `[rank, in …]`: with a core `[rank, in]`.
        down: Array,
        /// The core.
        mid: Option<Array>,
    },
    /// `first ⊙ second`, each a product as of LoKr's factored sides.
    Loha {
        /// First factor.
        first: Kronecker,
        /// Second factor.
        second: Kronecker,
    },
    /// `first ⊗ second`.
    Lokr {
        /// The small side.
        first: Kronecker,
        /// The large side.
        second: Kronecker,
    },
    /// The whole difference, in the weight's shape.
    Full(Array),
}

/// What an adapter does to one layer.
#[derive(Debug, Clone, PartialEq)]
pub struct Module {
    /// The layer.
    pub site: Site,
    /// The change of its weight; none when only the bias changes.
    pub update: Option<Update>,
    /// The update is multiplied by alpha / rank. rsLoRA's alpha / √rank is turned into this when read. Means nothing for
    /// an update without a rank.
    pub alpha: f64,
    /// DoRA's magnitude, one per output channel.
    pub magnitude: Option<Vec<f32>>,
    /// Change of the bias.
    pub bias: Option<Vec<f32>>,
}

impl Module {
    /// The rank that alpha is divided by; none for a full difference and for a LoKr of whole sides.
    #[must_use]
    pub fn rank(&self) -> Option<usize> {
        self.update.as_ref().and_then(Update::rank)
    }

    /// What the update is multiplied by.
    #[must_use]
    pub fn scale(&self) -> f64 {
        self.rank().map_or(1.0, |rank| self.alpha / rank as f64)
    }

    /// The name of the kind, as in reports: `lora`, `dora`, `loha`, `lokr`, `full`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match (&self.update, &self.magnitude) {
            (Some(Update::Lora { .. }), Some(_)) => "dora",
            (Some(Update::Lora { .. }), None) => "lora",
            (Some(Update::Loha { .. }), _) => "loha",
            (Some(Update::Lokr { .. }), _) => "lokr",
            (Some(Update::Full(_)) | None, _) => "full",
        }
    }

    /// The scaled change as `[out, in·height·width]`, without DoRA's magnitude; none when only the bias changes.
    #[must_use]
    pub fn delta(&self) -> Option<Matrix> {
        let raw = match self.update.as_ref()? {
            Update::Lora { up, down, mid } => up.matrix().times(&folded(down, mid.as_ref())),
            Update::Loha { first, second } => {
                let (mut product, second) = (first.dense().matrix(), second.dense().matrix());
                product.values.iter_mut().zip(&second.values).for_each(|(x, y)| *x *= y);
                product
            }
            Update::Lokr { first, second } => kronecker(&first.dense(), &second.dense()),
            Update::Full(difference) => difference.matrix(),
        };
        Some(raw.scaled(self.scale()))
    }

    /// `up` with the scale in it and `down` without a core, whose product is [`Module::delta`].
    ///
    /// # Errors
    /// For every other kind than a plain LoRA, naming the layer.
    pub fn factors(&self) -> Result<(Matrix, Matrix)> {
        let (up, down) = self.stored_factors()?;
        Ok((up.scaled(self.scale()), down))
    }

    /// [`Module::factors`] as they are stored, without the scale.
    fn stored_factors(&self) -> Result<(Matrix, Matrix)> {
        match (&self.update, &self.magnitude) {
            (Some(Update::Lora { up, down, mid }), None) => Ok((up.matrix(), folded(down, mid.as_ref()))),
            (_, Some(_)) => Err(AdapterError::input(
                &self.site.path,
                "a DoRA's change depends on the weight that it is applied to; use it as it is",
            )),
            _ => Err(AdapterError::input(
                &self.site.path,
                format!("is of the kind {}, and this can be done to a LoRA alone", self.kind()),
            )),
        }
    }

    /// [`Module::factors`] of `weight` times the change, with the factor shared evenly by both: in `up` alone a small one
    /// would leave it less than f16 can hold.
    ///
    /// # Errors
    /// As [`Module::factors`].
    pub fn shared_factors(&self, weight: f64) -> Result<(Matrix, Matrix)> {
        let (up, down) = self.stored_factors()?;
        let factor = self.scale() * weight;
        let root = factor.abs().sqrt();
        Ok((up.scaled(root * factor.signum()), down.scaled(root)))
    }

    /// `down` of a LoRA, with the core multiplied in: `[rank, in·height·width]`.
    pub(crate) fn down(down: &Array, core: Option<&Array>) -> Matrix {
        folded(down, core)
    }

    /// Replaces the update by a LoRA of `up·down` with scale 1.
    pub fn set_factors(&mut self, up: &Matrix, down: &Matrix) {
        let rank = up.columns;
        let mut shape = self.site.shape.clone();
        shape[0] = rank;
        self.alpha = rank as f64;
        self.update = Some(Update::Lora {
            up: Array::of(up, &[up.rows, rank]),
            down: Array::of(down, &shape),
            mid: None,
        });
    }

    /// Multiplies what the module does by a factor, once: alpha where there is a rank, else the values themselves.
    ///
    /// # Errors
    /// For a DoRA, whose effect is not proportional to anything in it.
    pub fn multiply(&mut self, factor: f64) -> Result<()> {
        if self.magnitude.is_some() {
            return Err(AdapterError::input(
                &self.site.path,
                "a DoRA has no factor that scales what it does; scale it where it is used",
            ));
        }
        let times = |values: &mut Vec<f32>| values.iter_mut().for_each(|v| *v = (f64::from(*v) * factor) as f32);
        match (self.rank(), &mut self.update) {
            (Some(_), _) => self.alpha *= factor,
            (None, Some(Update::Full(Array { values, .. })))
            | (
                None,
                Some(Update::Lokr {
                    first: Kronecker::Whole(Array { values, .. }),
                    ..
                }),
            ) => times(values),
            _ => {}
        }
        self.bias.iter_mut().for_each(times);
        Ok(())
    }
}

impl Update {
    fn rank(&self) -> Option<usize> {
        match self {
            Self::Lora { down, .. } => down.shape.first().copied(),
            Self::Loha { first, .. } => first.rank(),
            Self::Lokr { first, second } => second.rank().or_else(|| first.rank()),
            Self::Full(_) => None,
        }
    }
}

impl Kronecker {
    fn rank(&self) -> Option<usize> {
        match self {
            Self::Whole(_) => None,
            Self::Factored { b, .. } | Self::Tucker { b, .. } => b.shape.first().copied(),
        }
    }

    /// The product, in the shape that it has on its own.
    pub(crate) fn dense(&self) -> Array {
        match self {
            Self::Whole(whole) => whole.clone(),
            Self::Factored { a, b } => {
                let mut shape = b.shape.clone();
                shape[0] = a.shape[0];
                Array::of(&a.matrix().times(&b.matrix()), &shape)
            }
            Self::Tucker { core, a, b } => {
                let inner = folded(b, Some(core));
                let shape = [a.shape[1], b.shape[1], core.shape[2], core.shape[3]];
                Array::of(&a.matrix().transposed().times(&inner), &shape)
            }
        }
    }
}

/// `down` `[rank, in]` behind a core: `[rank, in·height·width]`.
fn folded(down: &Array, core: Option<&Array>) -> Matrix {
    let down_matrix = down.matrix();
    let Some(core) = core else { return down_matrix };
    let (rank, inner, taps) = (core.shape[0], core.shape[1], core.shape[2] * core.shape[3]);
    let inputs = down_matrix.columns;
    let mut out = Matrix::zeros(rank, inputs * taps);
    for i in 0..rank {
        for j in 0..inner {
            for (input, &value) in down_matrix.row(j).iter().enumerate() {
                for tap in 0..taps {
                    let weight = f64::from(core.values[(i * inner + j) * taps + tap]);
                    out.values[(i * inputs + input) * taps + tap] += weight * value;
                }
            }
        }
    }
    out
}

/// `a ⊗ b` as `[out, in·height·width]`: `a` `[o, i]`, `b` `[p, j]` or `[p, j, height, width]`.
fn kronecker(a: &Array, b: &Array) -> Matrix {
    let taps: usize = b.shape[2..].iter().product();
    let ([rows, columns], [inner_rows, inner_columns]) = ([a.shape[0], a.shape[1]], [b.shape[0], b.shape[1]]);
    let mut out = Matrix::zeros(rows * inner_rows, columns * inner_columns * taps);
    for o in 0..rows {
        for p in 0..inner_rows {
            for i in 0..columns {
                let factor = f64::from(a.values[o * columns + i]);
                let start = (o * inner_rows + p) * out.columns + i * inner_columns * taps;
                let source = &b.values[p * inner_columns * taps..(p + 1) * inner_columns * taps];
                for (x, &y) in out.values[start..].iter_mut().zip(source) {
                    *x = factor * f64::from(y);
                }
            }
        }
    }
    out
}
