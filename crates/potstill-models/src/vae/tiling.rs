//! Large pictures through a VAE in overlapping tiles, so that memory grows with the tile and not with the picture.
//!
//! Tiles of one size are spread evenly over each axis. Where tiles overlap, each counts with a weight that falls linearly
//! towards its edge, and the weights at every place sum to one: there is no seam. What differs from the whole picture is
//! what a tile cannot see, its normalisation and attention being its own.

use candle_core::{DType, Tensor};
use potstill_engine::{Value, ops};

use super::Vae;
use crate::error::{ModelError, Result};

/// Tiles, in latents along each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tiling {
    /// Side of a tile; a picture that fits into one is not tiled.
    pub tile: usize,
    /// Least overlap of neighbours.
    pub overlap: usize,
}

impl Default for Tiling {
    /// 512 pixels with a quarter's overlap, as diffusers has it.
    fn default() -> Self {
        Self { tile: 64, overlap: 16 }
    }
}

/// Where a tile lies on an axis, and its weight at each of its places in what it becomes.
#[derive(Debug, Clone, PartialEq)]
struct Span {
    start: usize,
    weights: Vec<f64>,
}

impl Tiling {
    fn check(&self) -> Result<()> {
        match 0 < self.overlap && 2 * self.overlap <= self.tile {
            true => Ok(()),
            false => {
                let reason = format!(
                    "of {} latents cannot overlap by {}: 1 to half of the tile",
                    self.tile, self.overlap
                );
                Err(ModelError::input("tile", reason))
            }
        }
    }

    /// The tiles of an axis of `total` latents; every latent becomes `scale` places.
    fn spans(&self, total: usize, scale: usize) -> Vec<Span> {
        let tile = self.tile.min(total);
        let count = match total > tile {
            true => (total - self.overlap).div_ceil(tile - self.overlap),
            false => 1,
        };
        let start = |i: usize| match count {
            1 => 0,
            _ => (i * (total - tile) + (count - 1) / 2) / (count - 1),
        };
        // Rises from the overlap's beginning to its end; 1 where there is no neighbour.
        let ramp = |place: usize, overlap: usize| ((place as f64 + 0.5) / overlap as f64).min(1.);
        let mut spans: Vec<Span> = (0..count)
            .map(|i| {
                let places = tile * scale;
                let before = (i > 0).then(|| (start(i - 1) + tile - start(i)) * scale);
                let after = (i + 1 < count).then(|| (start(i) + tile - start(i + 1)) * scale);
                let weight = |place: usize| {
                    before.map_or(1., |overlap| ramp(place, overlap))
                        * after.map_or(1., |overlap| ramp(places - 1 - place, overlap))
                };
                Span {
                    start: start(i),
                    weights: (0..places).map(weight).collect(),
                }
            })
            .collect();
        let mut sums = vec![0.; total * scale];
        for span in &spans {
            for (sum, weight) in sums[span.start * scale..].iter_mut().zip(&span.weights) {
                *sum += weight;
            }
        }
        for span in &mut spans {
            for (weight, sum) in span.weights.iter_mut().zip(&sums[span.start * scale..]) {
                *weight /= sum;
            }
        }
        spans
    }
}

impl Vae {
    /// [`Vae::decode`] by tiles. What fits into one tile is decoded as a whole, to the same bits.
    ///
    /// # Errors
    /// When the tiles overlap by nothing or by more than half of their side.
    pub fn decode_tiled(&self, latents: &Tensor, tiling: Tiling) -> Result<Tensor> {
        tiling.check()?;
        let &[batch, _, height, width] = latents.dims() else {
            return Ok(self.decode(&Value::constant(latents.clone()))?.tensor().clone());
        };
        let scale = self.config().downscale();
        let (rows, columns) = (tiling.spans(height, scale), tiling.spans(width, scale));
        let mut sum = Sum::new(batch, self.config().out_channels, height * scale, width * scale);
        let tile = (tiling.tile.min(height), tiling.tile.min(width));
        for row in &rows {
            for column in &columns {
                let part = latents.narrow(2, row.start, tile.0)?.narrow(3, column.start, tile.1)?;
                let decoded = self.decode(&Value::constant(part.contiguous()?))?;
                if rows.len() * columns.len() == 1 {
                    return Ok(decoded.tensor().clone());
                }
                sum.add(
                    decoded.tensor(),
                    (row.start * scale, &row.weights),
                    (column.start * scale, &column.weights),
                )?;
            }
        }
        sum.finish(latents)
    }

    /// The mode of [`Vae::encode`] by tiles: scaled latents, `[B, latent_channels, H/8, W/8]`.
    ///
    /// # Errors
    /// As [`Vae::encode`] and [`Vae::decode_tiled`].
    pub fn encode_mode_tiled(&self, pixels: &Tensor, tiling: Tiling) -> Result<Tensor> {
        tiling.check()?;
        let scale = self.config().downscale();
        let &[batch, _, height, width] = pixels.dims() else {
            return self.encode_mode(pixels);
        };
        let (height, width) = (height / scale, width / scale);
        let (rows, columns) = (tiling.spans(height, 1), tiling.spans(width, 1));
        if rows.len() * columns.len() == 1 || pixels.dims()[2..] != [height * scale, width * scale] {
            return self.encode_mode(pixels); // which refuses sides that are no multiples of the scale
        }
        let mut sum = Sum::new(batch, self.config().latent_channels, height, width);
        let tile = (tiling.tile.min(height) * scale, tiling.tile.min(width) * scale);
        for row in &rows {
            for column in &columns {
                let part = pixels.narrow(2, row.start * scale, tile.0)?;
                let part = part.narrow(3, column.start * scale, tile.1)?.contiguous()?;
                let encoded = self.encode_mode(&part)?;
                sum.add(&encoded, (row.start, &row.weights), (column.start, &column.weights))?;
            }
        }
        sum.finish(pixels)
    }
}

/// A picture as the weighted sum of its tiles.
struct Sum {
    shape: [usize; 4],
    values: Vec<f32>,
}

impl Sum {
    fn new(batch: usize, channels: usize, height: usize, width: usize) -> Self {
        Self {
            shape: [batch, channels, height, width],
            values: vec![0.; batch * channels * height * width],
        }
    }

    fn add(&mut self, tile: &Tensor, (top, rows): (usize, &[f64]), (left, columns): (usize, &[f64])) -> Result<()> {
        let values: Vec<f32> = tile.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?;
        let [_, _, height, width] = self.shape;
        for (plane, tile) in values.chunks(rows.len() * columns.len()).enumerate() {
            for (y, (line, row)) in tile.chunks(columns.len()).zip(rows).enumerate() {
                let at = (plane * height + top + y) * width + left;
                for ((sum, value), column) in self.values[at..at + columns.len()].iter_mut().zip(line).zip(columns) {
                    *sum += (row * column) as f32 * value;
                }
            }
        }
        Ok(())
    }

    fn finish(self, like: &Tensor) -> Result<Tensor> {
        let sum = Value::constant(Tensor::from_vec(self.values, &self.shape, like.device())?);
        Ok(ops::cast(&sum, like.dtype())?.tensor().clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_tiles_cover_everything() {
        let tiling = Tiling { tile: 8, overlap: 2 };
        for total in 1..60 {
            for scale in [1, 8] {
                let spans = tiling.spans(total, scale);
                let mut sums = vec![0f64; total * scale];
                for span in &spans {
                    assert!(span.weights.iter().all(|weight| *weight > 0. && *weight <= 1.));
                    for (i, weight) in span.weights.iter().enumerate() {
                        sums[span.start * scale + i] += weight;
                    }
                }
                assert!(sums.iter().all(|sum| (sum - 1.).abs() < 1e-12), "{total}");
                for pair in spans.windows(2) {
                    assert!(
                        pair[0].start + tiling.tile >= pair[1].start + tiling.overlap,
                        "{total}: {pair:?}"
                    );
                }
                assert_eq!(spans.len() == 1, total <= 8);
            }
        }
    }

    #[test]
    fn weights_change_slowly() {
        let spans = Tiling { tile: 16, overlap: 4 }.spans(40, 8);
        let steepest = spans
            .iter()
            .flat_map(|span| span.weights.windows(2).map(|pair| (pair[1] - pair[0]).abs()))
            .fold(0., f64::max);
        assert!(steepest <= 1. / (4. * 8.) + 1e-9, "{steepest}");
    }

    #[test]
    fn impossible_overlaps_are_refused() {
        assert!(Tiling { tile: 8, overlap: 0 }.check().is_err());
        assert!(Tiling { tile: 8, overlap: 5 }.check().is_err());
        assert!(Tiling::default().check().is_ok());
    }
}
