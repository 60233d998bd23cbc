//! Products of bf16 against f64 on the rounded operands, in every class and with one, two and three threads.

use half::bf16;

use super::super::attention::{AttentionGrad, AttentionShape};
use super::super::conv::ConvShape;
use super::super::simd::Choice;
use super::super::winograd::{plane, turned_plane};
use super::*;

/// Half of the distance between an f32 and the next, relative.
const F32: f64 = 1. / (1u64 << 24) as f64;
/// The same of bf16.
const BF16: f64 = 1. / 256.;

fn numbers(count: usize, seed: u64) -> Vec<f32> {
    let values: Vec<f64> = crate::testing::random(&[count], seed).to_vec1().unwrap();
    values.iter().map(|&v| v as f32).collect()
}

fn weights(count: usize, seed: u64) -> Vec<bf16> {
    numbers(count, seed).into_iter().map(bf16::from_f32).collect()
}

fn rounded(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&v| bf16::from_f32(v).to_f64()).collect()
}

fn widened(w: &[bf16]) -> Vec<f64> {
    w.iter().map(|w| w.to_f64()).collect()
}

/// A value and how far f32 sums may be from it.
#[derive(Clone, Copy, Default)]
struct Bounded {
    value: f64,
    /// Sum of the products' magnitudes.
    size: f64,
    terms: usize,
    /// What is allowed beside the sums.
    extra: f64,
}

impl Bounded {
    fn add(&mut self, a: f64, b: f64) {
        self.value += a * b;
        self.size += (a * b).abs();
        self.terms += 1;
    }

    /// A sum of n terms, each rounded when it is added and once more within a unit, in any order.
    fn allowed(&self) -> f64 {
        2. * (self.terms + 2) as f64 * F32 * self.size + self.extra + 1e-30
    }
}

/// Runs `f` in every class with different numbers of threads: always within the bounds, and the same bits.
fn check(wanted: &[Bounded], f: impl Fn() -> Vec<f32> + Sync) {
    for choice in Choice::all_for_pairs() {
        let class = choice.pairs();
        let mut first: Option<Vec<f32>> = None;
        for threads in 1..=3 {
            let found = choice.on(threads, &f);
            assert_eq!(found.len(), wanted.len());
            for (i, (&found, wanted)) in found.iter().zip(wanted).enumerate() {
                let off = (f64::from(found) - wanted.value).abs();
                let allowed = wanted.allowed();
                assert!(
                    off <= allowed,
                    "{class}: {i}: {found}, not {} ± {allowed}",
                    wanted.value
                );
            }
            match &first {
                None => first = Some(found),
                Some(first) => assert!(*first == found, "{class}: {threads} threads give other bits than one"),
            }
        }
    }
}

#[test]
fn linear_layers() {
    for (m, n, k) in [
        (1, 37, 64),
        (5, 33, 7),
        (77, 48, 130),
        (350, 70, 1300),
        (2, 16, 1),
        (3, 4, 0),
    ] {
        let (x, w, b) = (numbers(m * k, 1), weights(n * k, 2), numbers(n, 3));
        let (xs, ws) = (rounded(&x), widened(&w));
        let at = |i: usize, j: usize| {
            let mut sum = Bounded::default();
            sum.add(f64::from(b[j]), 1.);
            (0..k).for_each(|l| sum.add(xs[i * k + l], ws[j * k + l]));
            sum
        };
        let wanted: Vec<Bounded> = (0..m * n).map(|i| at(i / n, i % n)).collect();
        check(&wanted, || linear_forward((m, n, k), &x, &w, Some(&b)));
        let grad = numbers(m * n, 4);
        let grads = rounded(&grad);
        let at = |i: usize, l: usize| {
            let mut sum = Bounded::default();
            (0..n).for_each(|j| sum.add(grads[i * n + j], ws[j * k + l]));
            sum
        };
        let wanted: Vec<Bounded> = (0..m * k).map(|i| at(i / k, i % k)).collect();
        check(&wanted, || linear_backward_input((m, n, k), &grad, &w));
    }
}

fn shapes() -> Vec<ConvShape> {
    let shape = |(batch, in_h, in_w, inputs, outputs), (kernel, stride, before, after)| ConvShape {
        batch,
        in_h,
        in_w,
        inputs,
        outputs,
        kernel_h: kernel,
        kernel_w: kernel,
        stride,
        top: before,
        left: before,
        out_h: (in_h + before + after - kernel) / stride + 1,
        out_w: (in_w + before + after - kernel) / stride + 1,
    };
    vec![
        shape((2, 9, 11, 20, 33), (3, 1, 1, 1)),
        shape((1, 8, 7, 5, 17), (3, 2, 1, 1)),
        shape((1, 8, 8, 6, 18), (3, 2, 0, 1)),
        shape((2, 5, 6, 33, 40), (1, 1, 0, 0)),
        shape((1, 16, 16, 4, 64), (3, 1, 1, 1)),
        shape((1, 12, 12, 64, 4), (3, 1, 1, 1)),
    ]
}

/// For each output, the places (x, w) of its products: `f(output, x, w)`.
fn windows(s: &ConvShape, mut f: impl FnMut(usize, usize, usize)) {
    for image in 0..s.batch {
        for (oy, ox) in (0..s.out_h).flat_map(|y| (0..s.out_w).map(move |x| (y, x))) {
            for (ky, kx) in (0..s.kernel_h).flat_map(|y| (0..s.kernel_w).map(move |x| (y, x))) {
                let (Some(iy), Some(ix)) = (s.under(oy, ky, s.top, s.in_h), s.under(ox, kx, s.left, s.in_w)) else {
                    continue;
                };
                for o in 0..s.outputs {
                    for i in 0..s.inputs {
                        f(
                            ((image * s.out_h + oy) * s.out_w + ox) * s.outputs + o,
                            ((image * s.in_h + iy) * s.in_w + ix) * s.inputs + i,
                            ((o * s.kernel_h + ky) * s.kernel_w + kx) * s.inputs + i,
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn convolutions() {
    for s in shapes() {
        let (x, w) = (
            numbers(s.batch * s.in_h * s.in_w * s.inputs, 1),
            weights(s.outputs * s.taps() * s.inputs, 2),
        );
        let (b, grad) = (numbers(s.outputs, 3), numbers(s.pixels() * s.outputs, 4));
        let (xs, ws, grads) = (rounded(&x), widened(&w), rounded(&grad));
        let mut y = vec![Bounded::default(); grad.len()];
        let mut dx = vec![Bounded::default(); x.len()];
        (0..y.len()).for_each(|i| y[i].add(f64::from(b[i % s.outputs]), 1.));
        windows(&s, |o, i, k| {
            y[o].add(xs[i], ws[k]);
            dx[i].add(grads[o], ws[k]);
        });
        check(&y, || conv::direct_forward(&s, &x, &w, Some(&b)));
        check(&dx, || conv::direct_backward_data(&s, &grad, &w));
    }
}

/// Sums of magnitudes over the points of `|rows|·|x|·|rows|ᵀ`.
fn spread<const N: usize>(rows: &[[f64; N]; 4], values: impl Fn(usize, usize) -> f64) -> [f64; 16] {
    std::array::from_fn(|p| {
        let (a, b) = (rows[p / 4], rows[p % 4]);
        let pairs = (0..N).flat_map(|i| (0..N).map(move |j| (i, j)));
        pairs.map(|(i, j)| a[i].abs() * b[j].abs() * values(i, j)).sum()
    })
}

/// Winograd's way multiplies points that are rounded to bf16, so its bound is that of the rounded points: for each output
/// the sum over the points that fold into it, and over the channels, of the magnitudes of both factors.
#[test]
fn convolutions_by_winograd() {
    const PIXELS: [[f64; 4]; 4] = [
        [1., 0., -1., 0.],
        [0., 1., 1., 0.],
        [0., -1., 1., 0.],
        [0., 1., 0., -1.],
    ];
    const TAPS: [[f64; 3]; 4] = [[1., 0., 0.], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0., 0., 1.]];
    const FOLD: [[f64; 4]; 2] = [[1., 1., 1., 0.], [0., 1., -1., -1.]];
    for (batch, size, inputs, outputs) in [(1, 16, 32, 48), (2, 13, 17, 35), (1, 24, 40, 16)] {
        let s = ConvShape {
            batch,
            in_h: size,
            in_w: size,
            inputs,
            outputs,
            kernel_h: 3,
            kernel_w: 3,
            stride: 1,
            top: 1,
            left: 1,
            out_h: size,
            out_w: size,
        };
        let (x, w) = (
            numbers(batch * size * size * inputs, 1),
            weights(outputs * 9 * inputs, 2),
        );
        let (b, grad) = (numbers(outputs, 3), numbers(s.pixels() * outputs, 4));
        let ws = widened(&w);
        // The same for both ways: (from channels, to channels, the factor from a to b at a tap of the window).
        let bounds =
            |x: &[f32], from: usize, to: usize, weight: &dyn Fn(usize, usize, usize) -> f64, b: Option<&[f32]>| {
                let pixel = |image: usize, y: isize, at: isize, c: usize| {
                    let inside = |v: isize| (0..size as isize).contains(&v);
                    match inside(y) && inside(at) {
                        true => f64::from(x[((image * size + y as usize) * size + at as usize) * from + c]),
                        false => 0.,
                    }
                };
                let mut wanted = vec![Bounded::default(); batch * size * size * to];
                let windows: Vec<[f64; 16]> = (0..from * to)
                    .map(|i| spread(&TAPS, |y, x| weight(i % from, i / from, y * 3 + x).abs()))
                    .collect();
                for (image, oy, ox) in
                    (0..batch).flat_map(|i| (0..size).flat_map(move |y| (0..size).map(move |x| (i, y, x))))
                {
                    let (ty, tx) = (oy / 2 * 2, ox / 2 * 2);
                    let patches: Vec<[f64; 16]> = (0..from)
                        .map(|c| {
                            spread(&PIXELS, |y, x| {
                                pixel(image, (ty + y) as isize - 1, (tx + x) as isize - 1, c).abs()
                            })
                        })
                        .collect();
                    for o in 0..to {
                        let sum = &mut wanted[((image * size + oy) * size + ox) * to + o];
                        sum.add(b.map_or(0., |b| f64::from(b[o])), 1.);
                        for (c, patch) in patches.iter().enumerate() {
                            for tap in 0..9 {
                                let (y, x) = ((oy + tap / 3) as isize - 1, (ox + tap % 3) as isize - 1);
                                sum.value += pixel(image, y, x, c) * weight(c, o, tap);
                            }
                            for p in 0..16 {
                                let fold = FOLD[oy - ty][p / 4].abs() * FOLD[ox - tx][p % 4].abs();
                                let product = fold * patch[p] * windows[o * from + c][p];
                                // Both factors are rounded once, after sums in f32.
                                sum.extra += product * (2. * BF16 + BF16 * BF16);
                                sum.size += product;
                            }
                        }
                        sum.terms = from + 32;
                    }
                }
                wanted
            };
        let wanted = bounds(
            &x,
            inputs,
            outputs,
            &|i, o, tap| ws[(o * 9 + tap) * inputs + i],
            Some(&b),
        );
        check(&wanted, || {
            winograd::forward_on(&plane(&s).unwrap(), &s, &x, &w, Some(&b))
        });
        let wanted = bounds(
            &grad,
            outputs,
            inputs,
            &|o, i, tap| ws[(o * 9 + 8 - tap) * inputs + i],
            None,
        );
        check(&wanted, || {
            winograd::backward_on(&turned_plane(&s).unwrap(), &s, &grad, &w)
        });
    }
}

#[test]
fn attention() {
    for (batch, heads, queries, keys, width, causal) in [
        (2, 2, 30, 77, 40, false),
        (1, 3, 500, 64, 16, false),
        (1, 1, 40, 41, 5, true),
        (1, 2, 70, 1, 8, false),
        (1, 1, 33, 700, 64, false),
    ] {
        let s = AttentionShape {
            batch,
            heads,
            queries,
            keys,
            width,
            scale: 0.7,
            causal,
        };
        let c = heads * width;
        let (q, k, v) = (
            numbers(batch * queries * c, 1),
            numbers(batch * keys * c, 2),
            numbers(batch * keys * c, 3),
        );
        let (qs, ks, vs) = (rounded(&q), rounded(&k), rounded(&v));
        let mut wanted = vec![Bounded::default(); q.len()];
        for (image, head, query) in
            (0..batch).flat_map(|i| (0..heads).flat_map(move |h| (0..queries).map(move |q| (i, h, q))))
        {
            let (at, seen) = ((image * queries + query) * c + head * width, s.seen(query));
            let key = |j: usize| (image * keys + j) * c + head * width;
            let scores: Vec<f64> = (0..seen)
                .map(|j| (0..width).map(|d| qs[at + d] * ks[key(j) + d]).sum::<f64>() * s.scale)
                .collect();
            let top = scores.iter().copied().fold(f64::MIN, f64::max);
            let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            for d in 0..width {
                let out = &mut wanted[at + d];
                for (j, score) in scores.iter().enumerate() {
                    out.add((score - top).exp() / sum, vs[key(j) + d]);
                }
                // Probabilities are rounded; before that, they have the errors of their scores (of at most some units),
                // and of the short exponential.
                out.extra = out.size * (BF16 + 2. * (16. * width as f64 * F32 + 6e-5));
            }
        }
        check(&wanted, || attention_forward(&s, &q, &k, &v).0);
    }
}

#[test]
fn gradients_of_attention() {
    for (batch, heads, queries, keys, width, causal) in [
        (2, 2, 30, 77, 40, false),
        (1, 1, 61, 530, 16, false),
        (1, 1, 40, 41, 5, true),
        (1, 2, 3, 1, 8, false),
    ] {
        let s = AttentionShape {
            batch,
            heads,
            queries,
            keys,
            width,
            scale: 0.7,
            causal,
        };
        let c = heads * width;
        let (q, grad) = (numbers(batch * queries * c, 1), numbers(batch * queries * c, 4));
        let (k, v) = (numbers(batch * keys * c, 2), numbers(batch * keys * c, 3));
        let [qs, ks, vs, gs] = [&q, &k, &v, &grad].map(|x| rounded(x));
        let mut output = vec![0f32; q.len()];
        let mut log_sums = vec![0f32; batch * heads * queries];
        let mut wanted = [&q, &k, &v].map(|x| vec![Bounded::default(); x.len()]);
        for (image, head, query) in
            (0..batch).flat_map(|i| (0..heads).flat_map(move |h| (0..queries).map(move |q| (i, h, q))))
        {
            let (at, seen) = ((image * queries + query) * c + head * width, s.seen(query));
            let key = |j: usize| (image * keys + j) * c + head * width;
            let dot =
                |a: &[f64], i: usize, b: &[f64], j: usize| -> f64 { (0..width).map(|d| a[i + d] * b[j + d]).sum() };
            let scores: Vec<f64> = (0..seen).map(|j| dot(&qs, at, &ks, key(j)) * s.scale).collect();
            let log_sum = scores.iter().map(|s| s.exp()).sum::<f64>().ln();
            log_sums[(image * heads + head) * queries + query] = log_sum as f32;
            let p: Vec<f64> = scores.iter().map(|s| (s - log_sum).exp()).collect();
            for d in 0..width {
                output[at + d] = (0..seen).map(|j| p[j] * vs[key(j) + d]).sum::<f64>() as f32;
            }
            // The kernel takes the gradient as it is for this sum, and rounded for its products.
            let total: f64 = (0..width)
                .map(|d| f64::from(grad[at + d]) * f64::from(output[at + d]))
                .sum();
            for j in 0..seen {
                let by_p = dot(&gs, at, &vs, key(j));
                let ds = p[j] * (by_p - total) * s.scale;
                // Errors of the exponential and of the sums that it is taken of.
                let short = 6e-5 + 32. * width as f64 * F32;
                let ds_off = ds.abs() * BF16 + 2. * p[j] * s.scale * (by_p.abs() + total.abs() + 1.) * short;
                for d in 0..width {
                    for (of, i, (a, off), b) in [
                        (0, at, (ds, ds_off), ks[key(j) + d]),
                        (1, key(j), (ds, ds_off), qs[at + d]),
                        (2, key(j), (p[j], p[j] * (BF16 + 2. * short)), gs[at + d]),
                    ] {
                        wanted[of][i + d].add(a, b);
                        wanted[of][i + d].extra += off * b.abs();
                    }
                }
            }
        }
        for (of, wanted) in wanted.iter().enumerate() {
            check(wanted, || {
                let given = AttentionGrad {
                    q: &q,
                    k: &k,
                    v: &v,
                    output: &output,
                    log_sums: &log_sums,
                    grad: &grad,
                    needs: [0, 1, 2].map(|i| i == of),
                };
                let mut found = attention_backward(&s, &given);
                assert_eq!(found.iter().filter(|g| g.is_some()).count(), 1);
                found[of].take().expect("what was asked for")
            });
        }
    }
}

#[test]
fn what_is_no_number_stays_none() {
    let in_class = |class| {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut x = numbers(4 * 32, 1);
            x[2 * 32 + 5] = bad;
            let y = linear_forward((4, 20, 32), &x, &weights(20 * 32, 2), None);
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_finite(), i / 20 != 2, "{class} {bad} {i}");
            }
            let mut w = weights(20 * 32, 2);
            w[3 * 32 + 31] = bf16::from_f32(bad);
            let y = linear_forward((4, 20, 32), &numbers(4 * 32, 1), &w, None);
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_finite(), i % 20 != 3, "{class} {bad} {i}");
            }
            let s = AttentionShape {
                batch: 1,
                heads: 1,
                queries: 4,
                keys: 33,
                width: 32,
                scale: 1.,
                causal: false,
            };
            let k = numbers(33 * 32, 5);
            let y = attention_forward(&s, &x, &k, &k).0;
            for (i, y) in y.iter().enumerate() {
                assert_eq!(y.is_finite(), i / 32 != 2, "{class} {bad} {i}");
            }
        }
    };
    for choice in Choice::all_for_pairs() {
        choice.on(2, || in_class(choice.pairs()));
    }
}
