//! Sums over one prediction, the same bits on every machine.

/// Independent partial sums: a fixed number, so that the order of additions is fixed, and enough for any SIMD width.
const LANES: usize = 8;

/// Share of a target that nobody explains: a hundredth of its length. Without it nothing would be left of a prediction that
/// is right to the last bit.
const EXACT: f64 = 1e-4;

/// Second moments (about zero) of a prediction p, its target t and its noise e.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Moments {
    /// ⟨p, p⟩.
    pub pp: f64,
    /// ⟨p, t⟩.
    pub pt: f64,
    /// ⟨t, t⟩.
    pub tt: f64,
    /// ⟨p, e⟩.
    pub pe: f64,
}

impl Moments {
    /// Of slices of one length.
    pub fn of(p: &[f32], t: &[f32], e: &[f32]) -> Self {
        let mut products = Products::default();
        products.add(p, t);
        let moments = products.moments_of_noise();
        // Of ε predictions the target is the noise itself.
        if std::ptr::eq(t, e) {
            return moments;
        }
        Self {
            pe: dot(p, e),
            ..moments
        }
    }

    /// Slope of the regression of the target on the prediction. For a predictor that minimises the squared error it is 1
    /// at every timestep, whatever the prediction type; a prediction scaled by s has 1/s, a foreign one about 0.
    pub fn calibration(&self) -> f64 {
        if self.pp > 0.0 { self.pt / self.pp } else { 0.0 }
    }

    /// Correlation about zero with the target.
    pub fn correlation(&self) -> f64 {
        let scale = (self.pp * self.tt).sqrt();
        if scale > 0.0 { self.pt / scale } else { 0.0 }
    }

    /// By how much the prediction should be longer, in lengths of what it cannot explain at any length:
    /// (r − ‖p‖/‖t‖)/√(1 − r²). The mean is 0 for a calibrated predictor; scaled by s it is r·(1 − s)/√(1 − r²).
    pub fn shortfall(&self) -> f64 {
        if self.pp <= 0.0 || self.tt <= 0.0 {
            return 0.0;
        }
        let length = self.pp.sqrt();
        let along = self.pt / length;
        let left = (self.tt - along * along).max(0.0) + EXACT * self.tt;
        (along - length) / left.sqrt()
    }

    /// Share of the target that the prediction leaves unexplained: ‖t − p‖²/‖t‖².
    pub fn residual(&self) -> f64 {
        if self.tt > 0.0 {
            (self.tt - 2.0 * self.pt + self.pp).max(0.0) / self.tt
        } else {
            0.0
        }
    }

    /// ⟨p, e⟩/‖p‖: standard normal if the prediction knew nothing of this noise.
    pub fn ownership(&self) -> f64 {
        if self.pp > 0.0 { self.pe / self.pp.sqrt() } else { 0.0 }
    }
}

/// ⟨a, b⟩ in f64.
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f64 {
    let mut products = Products::default();
    products.add(a, b);
    products.pt.sum()
}

/// The products of a prediction and its target, of which each part is looked at once.
#[derive(Clone, Copy, Default)]
pub(crate) struct Products {
    pp: Sum,
    pt: Sum,
    tt: Sum,
}

/// One sum.
#[derive(Clone, Copy, Default)]
struct Sum {
    lanes: [f64; LANES],
    tail: f64,
}

impl Sum {
    fn sum(&self) -> f64 {
        self.lanes.iter().sum::<f64>() + self.tail
    }
}

impl Products {
    /// Adds the next part. All but the last have a multiple of [`LANES`] values, so that the parts do not change the sums.
    pub fn add(&mut self, p: &[f32], t: &[f32]) {
        #[cfg(target_arch = "x86_64")]
        {
            if std::arch::is_x86_feature_detected!("avx512f") {
                // SAFETY: the CPU has just said that it has the feature.
                return unsafe { self.add_avx512(p, t) };
            }
            if std::arch::is_x86_feature_detected!("avx2") {
                // SAFETY: the CPU has just said that it has the feature.
                return unsafe { self.add_avx2(p, t) };
            }
        }
        self.add_portable(p, t);
    }

    /// The moments of a prediction whose target is the noise.
    pub fn moments_of_noise(&self) -> Moments {
        let pt = self.pt.sum();
        Moments {
            pp: self.pp.sum(),
            pt,
            tt: self.tt.sum(),
            pe: pt,
        }
    }

    /// Wider registers, the same additions in the same order: without contraction the bits cannot differ.
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f")]
    fn add_avx512(&mut self, p: &[f32], t: &[f32]) {
        self.add_portable(p, t);
    }

    /// As [`Self::add_avx512`].
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2")]
    fn add_avx2(&mut self, p: &[f32], t: &[f32]) {
        self.add_portable(p, t);
    }

    #[inline(always)]
    fn add_portable(&mut self, p: &[f32], t: &[f32]) {
        let (p_groups, p_rest) = p.as_chunks::<LANES>();
        let (t_groups, t_rest) = t.as_chunks::<LANES>();
        // WASM has too few registers for all sums at once; the values are in the nearest cache, so that a second look is cheap.
        const PART: usize = if cfg!(target_arch = "wasm32") { LANES / 2 } else { LANES };
        for from in (0..LANES).step_by(PART) {
            let lanes = |sum: &Sum| -> [f64; PART] { std::array::from_fn(|i| sum.lanes[from + i]) };
            let (mut pp, mut pt, mut tt) = (lanes(&self.pp), lanes(&self.pt), lanes(&self.tt));
            for (p, t) in p_groups.iter().zip(t_groups) {
                for i in 0..PART {
                    let (p, t) = (f64::from(p[from + i]), f64::from(t[from + i]));
                    pp[i] += p * p;
                    pt[i] += p * t;
                    tt[i] += t * t;
                }
            }
            for (sum, lanes) in [(&mut self.pp, pp), (&mut self.pt, pt), (&mut self.tt, tt)] {
                sum.lanes[from..from + PART].copy_from_slice(&lanes);
            }
        }
        for (&p, &t) in p_rest.iter().zip(t_rest) {
            let (p, t) = (f64::from(p), f64::from(t));
            self.pp.tail += p * p;
            self.pt.tail += p * t;
            self.tt.tail += t * t;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dot_products_with_and_without_tails() {
        for n in [0usize, 1, 7, 8, 9, 100] {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let want: f64 = (0..n).map(|i| (i * i) as f64).sum();
            assert_eq!(dot(&a, &a), want);
        }
    }

    #[test]
    fn neither_parts_nor_registers_change_the_sums() {
        let of = |seed: u64| {
            let mut values = vec![0f32; 1_003];
            potstill_noise::PhiloxNormals::new(seed, potstill_noise::Stream::Noise).fill(&mut values);
            values
        };
        let (p, t) = (of(1), of(2));
        let bits = |products: &Products| [products.pp, products.pt, products.tt].map(|sum| sum.sum().to_bits());
        let (mut whole, mut narrow, mut parts) = (Products::default(), Products::default(), Products::default());
        whole.add(&p, &t);
        narrow.add_portable(&p, &t);
        for (p, t) in [(&p[..64], &t[..64]), (&p[64..72], &t[64..72]), (&p[72..], &t[72..])] {
            parts.add(p, t);
        }
        assert_eq!(bits(&whole), bits(&narrow));
        assert_eq!(bits(&whole), bits(&parts));
    }

    #[test]
    fn shortfall_and_residual_of_scaled_predictions() {
        // r = 0.8: of a target (4, 3) the prediction explains 4.
        let (target, length) = ([4f32, 3.0], 5.0);
        for scale in [1f32, 0.5, 1.5, -1.0] {
            let m = Moments::of(&[4.0 * scale, 0.0], &target, &target);
            let want = (4.0 * f64::from(scale).signum() - 4.0 * f64::from(scale).abs()) / 3.0;
            assert!((m.shortfall() - want).abs() < 1e-3, "{scale}: {}", m.shortfall());
            let off = f64::from(1.0 - scale) * 4.0;
            assert!((m.residual() - (9.0 + off * off) / (length * length)).abs() < 1e-12);
        }
    }

    #[test]
    fn empty_predictions_have_no_statistics() {
        let m = Moments::of(&[0.0; 4], &[1.0; 4], &[1.0; 4]);
        assert_eq!((m.calibration(), m.correlation(), m.ownership()), (0.0, 0.0, 0.0));
        assert_eq!((m.shortfall(), m.residual()), (0.0, 1.0));
    }
}
