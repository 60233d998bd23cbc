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
        let pt = dot(p, t);
        Self {
            pp: dot(p, p),
            pt,
            tt: dot(t, t),
            // Of ε predictions the target is the noise itself.
            pe: if std::ptr::eq(t, e) { pt } else { dot(p, e) },
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
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the CPU has just said that it has the feature.
        return unsafe { dot_avx2(a, b) };
    }
    dot_portable(a, b)
}

/// Wider registers, the same additions in the same order: without `fma` the bits cannot differ.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn dot_avx2(a: &[f32], b: &[f32]) -> f64 {
    dot_portable(a, b)
}

#[inline(always)]
fn dot_portable(a: &[f32], b: &[f32]) -> f64 {
    let mut sums = [0f64; LANES];
    let (a_groups, a_rest) = a.as_chunks::<LANES>();
    let (b_groups, b_rest) = b.as_chunks::<LANES>();
    for (x, y) in a_groups.iter().zip(b_groups) {
        for ((sum, &x), &y) in sums.iter_mut().zip(x).zip(y) {
            *sum += f64::from(x) * f64::from(y);
        }
    }
    let tail: f64 = a_rest
        .iter()
        .zip(b_rest)
        .map(|(&x, &y)| f64::from(x) * f64::from(y))
        .sum();
    sums.iter().sum::<f64>() + tail
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
            assert_eq!(dot_portable(&a, &a), want);
        }
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
