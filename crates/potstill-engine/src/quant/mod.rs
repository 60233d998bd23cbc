//! Matrices in fewer bits than a half float: how values are coded and decoded. Everything here is a function of slices; files
//! and their keys are the business of who reads and writes them.

pub mod fp8;
pub mod int8;
pub mod nf4;
mod packed;

pub use packed::{Format, Packed};

/// How far decoded values are from what was coded: sums that can be added up over tensors.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct CodingError {
    /// Σ (decoded − value)².
    pub squares: f64,
    /// Σ value².
    pub norm: f64,
}

impl CodingError {
    /// Of two slices of one length.
    pub fn between(values: &[f32], decoded: &[f32]) -> Self {
        let squares = values
            .iter()
            .zip(decoded)
            .map(|(&v, &d)| (f64::from(d) - f64::from(v)).powi(2));
        Self {
            squares: squares.sum(),
            norm: values.iter().map(|&v| f64::from(v).powi(2)).sum(),
        }
    }

    /// Both together.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            squares: self.squares + other.squares,
            norm: self.norm + other.norm,
        }
    }

    /// ‖decoded − values‖ / ‖values‖ (Frobenius); 0 for zeros.
    pub fn relative(self) -> f64 {
        match self.norm > 0. {
            true => (self.squares / self.norm).sqrt(),
            false => 0.,
        }
    }
}
