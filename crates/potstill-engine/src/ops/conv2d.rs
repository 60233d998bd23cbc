//! Two-dimensional convolution.

use candle_core::Tensor;
use half::bf16;

use super::weighted::Weighted;
use crate::cpu::{self, ConvShape, dispatch};
use crate::cuda::Gpu;
use crate::error::{EngineError, Result, ensure_shape};
use crate::profile::{Pass, span};
use crate::value::Value;

const OP: &str = "conv2d";

/// Geometry of a convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conv2d {
    /// Distance between neighbouring windows, in both directions.
    pub stride: usize,
    /// Rows and columns of zeros: top, bottom, left, right.
    pub padding: [usize; 4],
}

impl Default for Conv2d {
    fn default() -> Self {
        Self {
            stride: 1,
            padding: [0; 4],
        }
    }
}

/// x `[B, H, W, I]` with w `[O, kh, kw, I]` and bias `[O]`; the result is `[B, H', W', O]`. An f32 x with a frozen bf16 w (and
/// f32 bias) is multiplied in bf16 with f32 sums.
pub fn conv2d(x: &Value, w: &Value, b: Option<&Value>, geometry: &Conv2d) -> Result<Value> {
    let _span = span(OP, Pass::Forward, x.dims());
    let shape = shape_of(x.dims(), w.dims(), geometry)?;
    let weighted = Weighted { op: OP, x, w, b };
    weighted.check_bias()?;
    let dims = [shape.batch, shape.out_h, shape.out_w, shape.outputs];
    let in_bf16 = weighted.is_bf16()?;
    let y = match (Gpu::of(x.tensor()), in_bf16) {
        (Some(gpu), _) => gpu.conv(&shape, weighted.factors(), weighted.bias()),
        (None, true) => weighted.forward::<f32, bf16>(&dims, |x, w, b| cpu::bf16::conv_forward(&shape, x, w, b)),
        (None, false) => dispatch!(OP, x.tensor().dtype(), T => {
            weighted.forward::<T, T>(&dims, |x, w, b| cpu::conv_forward(&shape, x, w, b))
        }),
    }?;
    Ok(Value::from_op(OP, y, &weighted.inputs(), || {
        let saved = weighted.save();
        move |grad: Tensor| {
            if let Some(gpu) = Gpu::of(&grad) {
                return saved.backward_on(
                    &gpu,
                    &grad,
                    |factors, _| gpu.conv_backward_data(&shape, factors),
                    |factors, _| gpu.conv_backward_filter(&shape, factors),
                );
            }
            if in_bf16 {
                return saved.backward_frozen(&grad, |grad, w| cpu::bf16::conv_backward_data(&shape, grad, w));
            }
            dispatch!(OP, grad.dtype(), T => saved.backward::<T>(
                &grad,
                |grad, w| cpu::conv_backward_data(&shape, grad, w),
                |grad, x| cpu::conv_backward_filter(&shape, grad, x),
            ))
        }
    }))
}

fn shape_of(x: &[usize], w: &[usize], geometry: &Conv2d) -> Result<ConvShape> {
    let (&[batch, in_h, in_w, inputs], &[outputs, kernel_h, kernel_w, depth]) = (x, w) else {
        return Err(EngineError::shape(
            OP,
            format!("x {x:?} must be [B, H, W, I] and w {w:?} [O, kh, kw, I]"),
        ));
    };
    ensure_shape!(
        inputs == depth,
        OP,
        "x {x:?} has {inputs} channels, w {w:?} takes {depth}"
    );
    let [top, bottom, left, right] = geometry.padding;
    let size = |length: usize, before: usize, after: usize, kernel: usize| {
        let span = length.checked_add(before)?.checked_add(after)?.checked_sub(kernel)?;
        (kernel > 0 && geometry.stride > 0).then(|| span / geometry.stride + 1)
    };
    let (Some(out_h), Some(out_w)) = (size(in_h, top, bottom, kernel_h), size(in_w, left, right, kernel_w)) else {
        return Err(EngineError::shape(
            OP,
            format!("x {x:?}, w {w:?} and {geometry:?} leave no output"),
        ));
    };
    let stride = geometry.stride;
    Ok(ConvShape {
        batch,
        in_h,
        in_w,
        inputs,
        outputs,
        kernel_h,
        kernel_w,
        stride,
        top,
        left,
        out_h,
        out_w,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn geometries() -> Vec<(usize, usize, Conv2d)> {
        vec![
            (
                3,
                3,
                Conv2d {
                    stride: 1,
                    padding: [1; 4],
                },
            ),
            (1, 1, Conv2d::default()),
            (
                3,
                3,
                Conv2d {
                    stride: 2,
                    padding: [1; 4],
                },
            ),
            (
                3,
                3,
                Conv2d {
                    stride: 2,
                    padding: [0, 1, 0, 1],
                },
            ),
            (
                2,
                4,
                Conv2d {
                    stride: 3,
                    padding: [2, 0, 1, 3],
                },
            ),
            (
                1,
                1,
                Conv2d {
                    stride: 2,
                    padding: [0; 4],
                },
            ),
        ]
    }

    #[test]
    fn gradients() {
        for (kh, kw, geometry) in geometries() {
            let inputs = [random(&[2, 5, 4, 3], 1), random(&[2, kh, kw, 3], 2), random(&[2], 3)];
            check(&inputs, |v| conv2d(&v[0], &v[1], Some(&v[2]), &geometry));
            check(&inputs[..2], |v| conv2d(&v[0], &v[1], None, &geometry));
        }
    }

    #[test]
    fn tiles_agree() {
        for (kh, kw, geometry) in geometries() {
            let most = (20, 18, 16, 256); // several shares of Winograd's tiles, and of its outputs
            for (h, w, i, o) in [(9, 11, 20, 33), (2, 2, 130, 70), (17, 16, 4, 64), (16, 33, 64, 4), most] {
                let inputs = [random(&[3, h, w, i], 1), random(&[o, kh, kw, i], 2), random(&[o], 3)];
                agree(&inputs, |v| conv2d(&v[0], &v[1], Some(&v[2]), &geometry));
            }
        }
    }

    #[test]
    fn is_the_sum_over_the_window() {
        // A 2×2 image under a 2×2 window of ones, padded at the bottom and on the right.
        let x = Value::constant(Tensor::from_slice(&[1f32, 2., 3., 4.], (1, 2, 2, 1), &crate::Device::Cpu).unwrap());
        let w = Value::constant(Tensor::ones((1, 2, 2, 1), crate::DType::F32, &crate::Device::Cpu).unwrap());
        let y = conv2d(
            &x,
            &w,
            None,
            &Conv2d {
                stride: 1,
                padding: [0, 1, 0, 1],
            },
        )
        .unwrap();
        assert_eq!(
            y.tensor().flatten_all().unwrap().to_vec1::<f32>().unwrap(),
            [10., 6., 7., 4.]
        );
    }

    #[test]
    fn names_shapes_that_do_not_fit() {
        let x = constant(&[1, 4, 4, 3]);
        let same = Conv2d::default();
        assert!(
            conv2d(&x, &constant(&[2, 3, 3, 4]), None, &same)
                .unwrap_err()
                .to_string()
                .contains("channels")
        );
        assert!(
            conv2d(&x, &constant(&[2, 5, 5, 3]), None, &same)
                .unwrap_err()
                .to_string()
                .contains("no output")
        );
        assert!(conv2d(&x, &constant(&[2, 3, 3, 3]), None, &Conv2d { stride: 0, ..same }).is_err());
        assert!(conv2d(&x, &constant(&[2, 3, 3, 3]), Some(&constant(&[3])), &same).is_err());
        assert!(conv2d(&constant(&[4, 4, 3]), &constant(&[2, 3, 3, 3]), None, &same).is_err());
    }
}
