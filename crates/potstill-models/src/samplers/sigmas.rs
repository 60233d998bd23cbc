//! σ, the ratio of noise to signal, at the timesteps of a schedule; in f32 as diffusers keeps it.

use crate::schedule::Schedule;

/// ᾱ that stands for 0 at the end of a zero-terminal-SNR schedule: σ is 4096 there (diffusers' value).
const SMALLEST_ALPHA_BAR: f32 = 1. / (1 << 24) as f32;

/// ρ of Karras et al. (2022).
const KARRAS_RHO: f64 = 7.;

/// σ of every timestep, rising.
pub(super) struct SigmaTable(Vec<f32>);

impl SigmaTable {
    pub(super) fn new(schedule: &Schedule) -> Self {
        let sigma = |alpha_bar: f32| ((1. - alpha_bar) / alpha_bar).sqrt();
        let bars = schedule.alphas_cumprod().iter();
        Self(bars.map(|&a| sigma(a.max(SMALLEST_ALPHA_BAR))).collect())
    }

    /// σ at a timestep, linear between whole ones; the last σ beyond the end.
    pub(super) fn at(&self, timestep: f64) -> f64 {
        let low = timestep as usize;
        let value = |i: usize| f64::from(self.0[i]);
        match low + 1 < self.0.len() {
            true => value(low) + (value(low + 1) - value(low)) * timestep.fract(),
            false => value(self.0.len() - 1),
        }
    }

    /// The smallest and the largest.
    pub(super) fn range(&self) -> (f64, f64) {
        (f64::from(self.0[0]), f64::from(self.0[self.0.len() - 1]))
    }

    /// The timestep of a σ, linear in log σ between whole ones, and within the table.
    pub(super) fn timestep_of(&self, sigma: f64) -> f64 {
        let log = |i: usize| f64::from(self.0[i].ln());
        let wanted = sigma.ln();
        let above = (0..self.0.len()).find(|&i| log(i) > wanted).unwrap_or(self.0.len());
        let low = above.saturating_sub(1).min(self.0.len() - 2);
        let share = ((log(low) - wanted) / (log(low) - log(low + 1))).clamp(0., 1.);
        (1. - share) * low as f64 + share * (low + 1) as f64
    }
}

/// `steps` falling σ from the largest to the smallest, evenly spread in σ^(1/ρ) (Karras et al. 2022, equation 5).
pub(super) fn karras(smallest: f64, largest: f64, steps: usize) -> Vec<f64> {
    let root = |sigma: f64| sigma.powf(1. / KARRAS_RHO);
    let last = (steps.max(2) - 1) as f64;
    (0..steps)
        .map(|i| (root(largest) + i as f64 / last * (root(smallest) - root(largest))).powf(KARRAS_RHO))
        .collect()
}

/// As diffusers stores it.
pub(super) fn in_f32(value: f64) -> f64 {
    f64::from(value as f32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::PredictionKind;

    #[test]
    fn timesteps_and_sigmas_are_inverse() {
        let table = SigmaTable::new(&Schedule::sd(PredictionKind::Epsilon));
        let (smallest, largest) = table.range();
        assert!((smallest - 0.029167535).abs() < 1e-7 && (largest - 14.6146469).abs() < 1e-5);
        for t in [0., 1., 37., 500., 998., 999.] {
            assert!((table.timestep_of(table.at(t)) - t).abs() < 1e-3, "{t}");
        }
        assert_eq!((table.timestep_of(1e-5), table.timestep_of(1e5)), (0., 999.));
        assert!(table.at(10.) < table.at(10.5) && table.at(10.5) < table.at(11.));
    }

    #[test]
    fn karras_runs_from_the_largest_to_the_smallest() {
        let sigmas = karras(0.03, 14.6, 10);
        assert!((sigmas[0] - 14.6).abs() < 1e-9 && (sigmas[9] - 0.03).abs() < 1e-12);
        assert!(sigmas.windows(2).all(|pair| pair[1] < pair[0]));
        assert_eq!(karras(0.03, 14.6, 1).len(), 1);
    }
}
