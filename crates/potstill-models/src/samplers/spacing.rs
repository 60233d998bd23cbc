//! Which timesteps a sampler visits.

use crate::error::{ModelError, Result};

/// Added to every timestep of the leading spacing (`steps_offset` of all Stable Diffusion configurations).
const LEADING_OFFSET: f64 = 1.;

/// How N timesteps are spread over the schedule (`timestep_spacing` in diffusers).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Spacing {
    /// Multiples of ⌊T/N⌋, plus 1: 951, 901, …, 51, 1.
    #[default]
    Leading,
    /// From the last timestep downwards in strides of T/N: 999, 749, 499, 249.
    Trailing,
    /// Evenly from the last timestep to 0, both included.
    Linspace,
}

impl Spacing {
    /// The spacing of a diffusers name.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "leading" => Self::Leading,
            "trailing" => Self::Trailing,
            "linspace" => Self::Linspace,
            _ => return None,
        })
    }

    /// `steps` falling whole timesteps of a schedule of `total`; halves are rounded to even.
    pub(super) fn whole_timesteps(self, steps: usize, total: usize) -> Result<Vec<f64>> {
        let timesteps = self.timesteps(steps, total)?;
        Ok(timesteps.into_iter().map(f64::round_ties_even).collect())
    }

    /// The same in DPM-Solver's way: where a spacing ends at (or just above) 0, it has one more timestep, which is left
    /// out.
    pub(super) fn timesteps_above_zero(self, steps: usize, total: usize) -> Result<Vec<f64>> {
        let mut timesteps = self.whole_timesteps(if self == Self::Trailing { steps } else { steps + 1 }, total)?;
        timesteps.truncate(steps);
        if timesteps.is_empty() {
            return Err(ModelError::input("steps", "0 must be at least 1"));
        }
        Ok(timesteps)
    }

    /// `steps` falling timesteps of a schedule of `total`. Linspace is unrounded.
    pub(super) fn timesteps(self, steps: usize, total: usize) -> Result<Vec<f64>> {
        if steps == 0 || steps > total {
            return Err(ModelError::input(
                "steps",
                format!("{steps} must be between 1 and {total}"),
            ));
        }
        let timesteps: Vec<f64> = match self {
            Self::Leading => {
                let stride = total / steps;
                (0..steps).rev().map(|i| (i * stride) as f64 + LEADING_OFFSET).collect()
            }
            Self::Trailing => {
                // numpy's `arange(T, 0, -T/N)`: its increment and its rounding of halves to even. Its length is N + 1 where
                // T/N is rounded down, and diffusers' list then ends in -1 (61 steps of 1000, for one); here it is always N.
                let (start, stride) = (total as f64, total as f64 / steps as f64);
                let increment = (start - stride) - start;
                (0..steps)
                    .map(|i| (start + i as f64 * increment).round_ties_even() - 1.)
                    .collect()
            }
            Self::Linspace => {
                let last = (total - 1) as f64;
                let stride = if steps > 1 { last / (steps - 1) as f64 } else { 0. };
                (0..steps)
                    .rev()
                    .map(|i| {
                        if i > 0 && i + 1 == steps {
                            last
                        } else {
                            i as f64 * stride
                        }
                    })
                    .collect()
            }
        };
        match timesteps[0] < total as f64 {
            true => Ok(timesteps),
            false => {
                let reason = format!(
                    "{steps} with leading spacing would start at {}, past {}",
                    timesteps[0],
                    total - 1
                );
                Err(ModelError::input("steps", reason))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spacings_are_diffusers() {
        let leading = Spacing::Leading.timesteps(50, 1000).unwrap();
        assert_eq!(
            (leading[0], leading[1], leading[48], leading[49]),
            (981., 961., 21., 1.)
        );
        let thirty = Spacing::Leading.timesteps(30, 1000).unwrap();
        assert_eq!((thirty[0], thirty[28], thirty[29]), (958., 34., 1.));
        assert_eq!(Spacing::Trailing.timesteps(4, 1000).unwrap(), [999., 749., 499., 249.]);
        assert_eq!(Spacing::Trailing.timesteps(3, 1000).unwrap(), [999., 666., 332.]);
        let linspace = Spacing::Linspace.timesteps(20, 1000).unwrap();
        assert!(linspace[0] == 999. && (linspace[1] - 946.421052).abs() < 1e-5 && linspace[19] == 0.);
    }

    #[test]
    fn every_count_is_kept_and_no_timestep_is_visited_twice() {
        let asked = |spacing, steps| match (spacing, steps) {
            // Its first timestep would be past the schedule's end.
            (Spacing::Leading, 1000) => None,
            _ => Some((spacing, steps)),
        };
        for spacing in [Spacing::Leading, Spacing::Trailing, Spacing::Linspace] {
            for (spacing, steps) in (1..=1000).filter_map(|steps| asked(spacing, steps)) {
                let timesteps = spacing.timesteps(steps, 1000).unwrap();
                assert_eq!(timesteps.len(), steps, "{spacing:?}");
                assert!(
                    timesteps.windows(2).all(|pair| pair[1] < pair[0]),
                    "{spacing:?}, {steps} steps"
                );
                let (first, last) = (timesteps[0], timesteps[steps - 1]);
                assert!(
                    first <= 999. && last >= 0.,
                    "{spacing:?}, {steps} steps: {first} to {last}"
                );
            }
        }
    }

    #[test]
    fn impossible_counts_are_errors() {
        assert!(Spacing::Leading.timesteps(0, 1000).is_err());
        assert!(Spacing::Leading.timesteps(1000, 1000).is_err());
        assert!(Spacing::Trailing.timesteps(1001, 1000).is_err());
        assert_eq!(Spacing::Trailing.timesteps(1000, 1000).unwrap().len(), 1000);
    }
}
