//! Fewer ranks: the best approximation of every layer's change, by the singular values of its product.

use serde_json::json;

use super::GoOn;
use crate::adapter::Adapter;
use crate::error::{AdapterError, Result};
use crate::matrix::{Matrix, Svd, qr, svd};
use crate::module::Module;

/// How many ranks to keep.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Resize {
    /// At most so many; none for as many as the energy asks for.
    pub rank: Option<usize>,
    /// As few as keep this share of the squared Frobenius norm, above 0 and up to 1; none for as many as the rank allows.
    pub energy: Option<f64>,
}

/// What a layer lost.
#[derive(Debug, Clone, PartialEq)]
pub struct Resized {
    /// The layer's name with its component.
    pub name: String,
    /// Rank before.
    pub from: usize,
    /// Rank after.
    pub to: usize,
    /// Frobenius norm of what was left out over that of the whole; 0 for a change that is zero.
    pub lost: f64,
}

/// Replaces every LoRA by the best one of fewer ranks. Exact: QR of both factors, then the SVD of a matrix as small as
/// the rank (Eckart–Young). The singular values are shared evenly by up and down, and the scale becomes 1.
///
/// # Errors
/// When neither or an impossible rank or energy is asked for, for modules that are no plain LoRA, and those of `go_on`.
pub fn resize(adapter: &mut Adapter, how: Resize, go_on: GoOn<'_>) -> Result<Vec<Resized>> {
    how.check()?;
    let mut report = Vec::new();
    for (name, module) in &mut adapter.modules {
        if module.update.is_some() {
            go_on()?;
            report.push(resize_module(name, module, how)?);
        }
    }
    adapter.note("resize", json!({ "rank": how.rank, "energy": how.energy }));
    Ok(report)
}

fn resize_module(name: &str, module: &mut Module, how: Resize) -> Result<Resized> {
    let from = module.rank().unwrap_or(0);
    let (up, down) = no_wider(module.factors()?);
    let (up_q, up_r) = qr(&up);
    let (down_q, down_r) = qr(&down.transposed());
    let Svd { u, s, v } = svd(&up_r.times(&down_r.transposed()));
    let found = Svd {
        u: up_q.times(&u),
        v: down_q.times(&v),
        s,
    };
    Ok(Resized {
        from,
        ..keep(name, module, found, 0.0, how)
    })
}

/// Gives a module the first of the singular values of its change, as many as are asked for, and says what is lost. They
/// are shared evenly by up and down; `beyond` is the squared norm of the change behind these singular values.
pub(super) fn keep(name: &str, module: &mut Module, Svd { u, s, v }: Svd, beyond: f64, how: Resize) -> Resized {
    let whole = energy(&s) + beyond;
    let rank = kept(&s, whole, how);
    let root = |m: Matrix| {
        let mut m = m.first_columns(rank);
        for row in m.values.chunks_mut(rank) {
            row.iter_mut().zip(&s).for_each(|(x, s)| *x *= s.sqrt());
        }
        m
    };
    module.set_factors(&root(u), &root(v).transposed());
    let lost = energy(&s[rank..]) + beyond;
    Resized {
        name: name.to_string(),
        from: s.len(),
        to: rank,
        lost: if whole > 0.0 { (lost / whole).sqrt() } else { 0.0 },
    }
}

pub(super) fn energy(values: &[f64]) -> f64 {
    values.iter().map(|s| s * s).sum()
}

impl Resize {
    /// # Errors
    /// When neither or an impossible rank or energy is asked for.
    pub(super) fn check(self) -> Result<()> {
        let valid = match self {
            Self {
                rank: None,
                energy: None,
            }
            | Self { rank: Some(0), .. } => false,
            Self {
                energy: Some(energy), ..
            } => energy > 0.0 && energy <= 1.0,
            Self { .. } => true,
        };
        match valid {
            true => Ok(()),
            false => Err(AdapterError::input(
                "rank",
                "needs a rank of at least 1, an energy above 0 and up to 1, or both",
            )),
        }
    }
}

/// The same product of factors with no more ranks than the smaller side has, so that what follows stays as small as the
/// layer whatever rank a file states.
fn no_wider((up, down): (Matrix, Matrix)) -> (Matrix, Matrix) {
    let (rank, rows, columns) = (up.columns, up.rows, down.columns);
    match rank > rows.min(columns) {
        false => (up, down),
        true if rows <= columns => (Matrix::identity(rows), up.times(&down)),
        true => (up.times(&down), Matrix::identity(columns)),
    }
}

/// The number of singular values to keep; one at least, for a LoRA has a rank.
fn kept(s: &[f64], whole: f64, how: Resize) -> usize {
    let most = how.rank.unwrap_or(s.len()).min(s.len());
    let Some(energy) = how.energy else { return most };
    let mut sum = 0.0;
    let enough = s.iter().position(|s| {
        sum += s * s;
        sum >= energy * whole
    });
    enough.map_or(s.len(), |i| i + 1).min(most).max(1)
}
