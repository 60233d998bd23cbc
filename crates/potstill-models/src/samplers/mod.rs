//! Samplers: from noise to latents in a given number of steps, with diffusers' numbers.
//!
//! A sampler is a list of [`Step`]s and a factor for the first noise. Which model predicts, with what guidance, and where
//! fresh noise comes from are the caller's.

mod consistency;
mod ddim;
mod ddpm;
mod dpmpp;
mod euler;
mod flow;
mod sigmas;
mod spacing;
mod step;

use candle_core::Tensor;
use potstill_engine::Value;

use crate::error::{ModelError, Result};
use crate::prediction::combine;
use crate::schedule::Schedule;
pub use spacing::Spacing;
pub use step::{Combination, Level, Step};

/// The samplers by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SamplerKind {
    /// Ancestral sampling of the reverse process (Ho et al. 2020), with the smaller variance.
    Ddpm,
    /// DDIM (Song et al. 2021); deterministic unless η is above 0.
    Ddim,
    /// Euler's method on the probability-flow ODE in σ (Karras et al. 2022, algorithm 2 without churn).
    Euler,
    /// The same with the noise of an ancestral step.
    EulerAncestral,
    /// DPM-Solver++ (Lu et al. 2022), multistep of second order.
    Dpmpp2m,
    /// Multistep sampling of latent consistency models (Luo et al. 2023).
    Lcm,
    /// Strategic stochastic sampling of trajectory consistency models (Zheng et al. 2024).
    Tcd,
    /// Euler's method along the straight paths of rectified flow.
    FlowEuler,
}

impl SamplerKind {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::Ddpm,
        Self::Ddim,
        Self::Euler,
        Self::EulerAncestral,
        Self::Dpmpp2m,
        Self::Lcm,
        Self::Tcd,
        Self::FlowEuler,
    ];

    /// Its name on the command line and in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ddpm => "ddpm",
            Self::Ddim => "ddim",
            Self::Euler => "euler",
            Self::EulerAncestral => "euler-a",
            Self::Dpmpp2m => "dpmpp-2m",
            Self::Lcm => "lcm",
            Self::Tcd => "tcd",
            Self::FlowEuler => "flow-euler",
        }
    }

    /// The kind of a name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Spacing of its timesteps unless one is chosen, as in diffusers; none where it has timesteps of its own.
    pub fn default_spacing(self) -> Option<Spacing> {
        match self {
            Self::Ddpm | Self::Ddim | Self::Euler | Self::EulerAncestral => Some(Spacing::Leading),
            Self::Dpmpp2m => Some(Spacing::Linspace),
            Self::Lcm | Self::Tcd | Self::FlowEuler => None,
        }
    }

    /// Whether it takes the noise levels of Karras et al.
    pub fn takes_karras(self) -> bool {
        matches!(self, Self::Euler | Self::Dpmpp2m)
    }

    /// η unless one is chosen; none where there is no such choice.
    pub fn default_eta(self) -> Option<f64> {
        match self {
            Self::Ddim => Some(0.),
            Self::Tcd => Some(0.3),
            _ => None,
        }
    }
}

/// What a run of a sampler is made of.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerOptions {
    /// Which sampler.
    pub kind: SamplerKind,
    /// Number of steps.
    pub steps: usize,
    /// How the timesteps are spread; the kind's own default unless chosen.
    pub spacing: Option<Spacing>,
    /// Noise levels of Karras et al. (2022), equation 5 with ρ = 7, in place of the spacing's own.
    pub karras: bool,
    /// Share of fresh noise, 0 to 1 (`ddim`, and γ of `tcd`); the kind's own default unless chosen.
    pub eta: Option<f64>,
}

impl SamplerOptions {
    /// A kind's defaults.
    pub fn new(kind: SamplerKind, steps: usize) -> Self {
        Self {
            kind,
            steps,
            spacing: None,
            karras: false,
            eta: None,
        }
    }

    /// With another spacing.
    pub fn spaced(self, spacing: Spacing) -> Self {
        Self {
            spacing: Some(spacing),
            ..self
        }
    }

    /// Refuses what the kind does not take: silently ignored, it would be taken for done.
    fn check(&self) -> Result<()> {
        let name = self.kind.name();
        let refuse = |what, reason: String| Err(ModelError::input(what, reason));
        if self.spacing.is_some() && self.kind.default_spacing().is_none() {
            return refuse(
                "spacing",
                format!("is not a choice of {name}, which has timesteps of its own"),
            );
        }
        if self.karras && !self.kind.takes_karras() {
            return refuse(
                "karras",
                format!("noise levels are not a choice of {name}: euler and dpmpp-2m take them"),
            );
        }
        match self.eta {
            Some(_) if self.kind.default_eta().is_none() => {
                refuse("eta", format!("is not a choice of {name}: ddim and tcd take it"))
            }
            Some(eta) if !(0. ..=1.).contains(&eta) => refuse("eta", format!("is {eta}, must be 0 to 1")),
            _ => Ok(()),
        }
    }
}

/// One run's worth of steps. `i` counts the steps from 0; latents are f32, `[B, 4, h, w]`.
///
/// A run is: `x = noise · init_noise_sigma`; for each i, `prediction = model(input(i, x), steps()[i].timestep)`,
/// `x = step(i, …)`; the last x is the clean latents.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampler {
    steps: Vec<Step>,
    init_noise_sigma: f64,
}

/// What a step is made of.
pub struct StepInputs<'a> {
    /// x before the step.
    pub x: &'a Tensor,
    /// The (guided) prediction at it, of the schedule's kind.
    pub prediction: &'a Tensor,
    /// [`Sampler::clean`] of the step before, where [`Step::previous`] is not 0.
    pub previous: Option<&'a Tensor>,
    /// Fresh unit noise, where [`Step::noise`] is not 0.
    pub noise: Option<&'a Tensor>,
}

impl Sampler {
    /// The steps of a kind over a schedule.
    ///
    /// # Errors
    /// When an option is not the kind's, when the schedule has fewer timesteps than steps are asked for, or when its
    /// predictions do not determine the clean latents at one of them (ε at a zero terminal signal-to-noise ratio).
    pub fn new(schedule: &Schedule, options: &SamplerOptions) -> Result<Self> {
        options.check()?;
        let SamplerOptions { kind, steps, .. } = *options;
        if schedule.is_straight() && kind != SamplerKind::FlowEuler {
            let reason = format!(
                "{} does not take a model trained along straight paths (rectified flow): use flow-euler",
                kind.name()
            );
            return Err(ModelError::input("sampler", reason));
        }
        let spacing = options.spacing.or(kind.default_spacing()).unwrap_or_default();
        let eta = options.eta.or(kind.default_eta()).unwrap_or(0.);
        match kind {
            SamplerKind::Ddpm => ddpm::steps(schedule, steps, spacing),
            SamplerKind::Ddim => ddim::steps(schedule, steps, spacing, eta),
            SamplerKind::Euler => euler::steps(schedule, steps, spacing, options.karras),
            SamplerKind::EulerAncestral => euler::ancestral_steps(schedule, steps, spacing),
            SamplerKind::Dpmpp2m => dpmpp::steps(schedule, steps, spacing, options.karras),
            SamplerKind::Lcm => consistency::lcm_steps(schedule, steps),
            SamplerKind::Tcd => consistency::tcd_steps(schedule, steps, eta),
            SamplerKind::FlowEuler => flow::steps(schedule, steps),
        }
    }

    /// With x of unit variance throughout.
    fn unscaled(steps: Vec<Step>) -> Self {
        Self {
            steps,
            init_noise_sigma: 1.,
        }
    }

    /// The steps, first to last.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// Factor from unit noise to the first x.
    pub fn init_noise_sigma(&self) -> f64 {
        self.init_noise_sigma
    }

    /// x as the model takes it.
    pub fn input(&self, i: usize, x: &Tensor) -> Result<Tensor> {
        sum(&[(x, self.get(i)?.input)])
    }

    /// The model's estimate of the clean latents at a step.
    pub fn clean(&self, i: usize, prediction: &Tensor, x: &Tensor) -> Result<Tensor> {
        let clean = self.get(i)?.clean;
        sum(&[(x, clean.x), (prediction, clean.prediction)])
    }

    /// x after step i.
    ///
    /// # Errors
    /// When a tensor that the step takes is not given, or one is of another shape.
    pub fn step(&self, i: usize, inputs: &StepInputs) -> Result<Tensor> {
        let step = self.get(i)?;
        let mut terms = vec![(inputs.x, step.next.x), (inputs.prediction, step.next.prediction)];
        for (what, tensor, share) in [
            ("previous", inputs.previous, step.previous),
            ("noise", inputs.noise, step.noise),
        ] {
            if share != 0. {
                let tensor = tensor.ok_or_else(|| ModelError::input(what, format!("is missing for step {i}")))?;
                terms.push((tensor, share));
            }
        }
        sum(&terms)
    }

    fn get(&self, i: usize) -> Result<&Step> {
        self.steps
            .get(i)
            .ok_or_else(|| ModelError::input("i", format!("{i}: there are {} steps", self.steps.len())))
    }
}

/// Σ share·tensor, in f64. What has no share takes no part, not even with its infinities.
fn sum(terms: &[(&Tensor, f64)]) -> Result<Tensor> {
    let dtype = terms[0].0.dtype();
    let values: Vec<(Value, [f64; 1])> = terms
        .iter()
        .filter(|(_, share)| *share != 0.)
        .map(|(tensor, share)| (Value::constant((*tensor).clone()), [*share]))
        .collect();
    if values.is_empty() {
        return Ok(terms[0].0.zeros_like()?);
    }
    let shares: Vec<(&Value, &[f64])> = values.iter().map(|(value, share)| (value, &share[..])).collect();
    Ok(combine(&shares, dtype)?.tensor().clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prediction::PredictionKind;

    fn options(kind: SamplerKind) -> SamplerOptions {
        SamplerOptions::new(kind, 10)
    }

    fn schedule_for(kind: SamplerKind) -> Schedule {
        match kind {
            SamplerKind::FlowEuler => Schedule::sd(PredictionKind::Flow),
            _ => Schedule::sd(PredictionKind::V),
        }
    }

    #[test]
    fn names_are_their_own_inverse() {
        for kind in SamplerKind::ALL {
            assert_eq!(SamplerKind::from_name(kind.name()), Some(kind));
        }
        assert_eq!(SamplerKind::from_name("heun"), None);
    }

    /// With a model that knows x0, x stays on the path of x0 and its (fresh or first) noise, and ends at x0.
    #[test]
    fn a_model_that_knows_the_answer_leads_to_it() {
        for kind in SamplerKind::ALL {
            let schedule = schedule_for(kind);
            let sampler = Sampler::new(&schedule, &options(kind)).unwrap();
            let (x0, mut eps) = (0.5, -1.25);
            // Start on the path: noise in the proportion that the first level has.
            let first = sampler.steps[0];
            let mut x = (first.level.signal * x0 + first.level.noise * eps) / first.input;
            let mut previous = 0.;
            for step in sampler.steps() {
                let Level { signal, noise } = step.level;
                eps = (step.input * x - signal * x0) / noise;
                let prediction = match schedule.prediction() {
                    PredictionKind::Flow => eps - x0,
                    _ => signal * eps - noise * x0,
                };
                let clean = step.clean.x * x + step.clean.prediction * prediction;
                assert!((clean - x0).abs() < 1e-6, "{} {clean}", kind.name());
                x = step.next.x * x + step.next.prediction * prediction + step.previous * previous;
                previous = clean;
            }
            // DDIM and TCD end at the first level of the schedule, not at none.
            let slack = match kind {
                SamplerKind::Ddim | SamplerKind::Tcd => 0.05,
                _ => 1e-6,
            };
            assert!((x - x0).abs() < slack, "{}: {x}", kind.name());
        }
    }

    #[test]
    fn noise_and_history_are_asked_for_where_they_count() {
        let tensor = |v: f32| Tensor::new(&[[v]], &candle_core::Device::Cpu).unwrap();
        let (x, prediction) = (tensor(1.), tensor(0.1));
        for (kind, what, first) in [
            (SamplerKind::EulerAncestral, "noise", 0),
            (SamplerKind::Ddpm, "noise", 0),
            (SamplerKind::Lcm, "noise", 0),
            (SamplerKind::Dpmpp2m, "previous", 1),
        ] {
            let sampler = Sampler::new(&Schedule::sd(PredictionKind::Epsilon), &options(kind)).unwrap();
            let inputs = StepInputs {
                x: &x,
                prediction: &prediction,
                previous: None,
                noise: None,
            };
            for i in 0..first {
                sampler.step(i, &inputs).unwrap();
            }
            let error = sampler.step(first, &inputs).unwrap_err().to_string();
            assert!(error.contains(what), "{error}");
            assert!(sampler.step(10, &inputs).is_err());
        }
    }

    #[test]
    fn choices_of_other_samplers_are_refused_by_name() {
        let epsilon = Schedule::sd(PredictionKind::Epsilon);
        for (options, word) in [
            (options(SamplerKind::Lcm).spaced(Spacing::Trailing), "spacing"),
            (
                SamplerOptions {
                    karras: true,
                    ..options(SamplerKind::Ddim)
                },
                "karras",
            ),
            (
                SamplerOptions {
                    eta: Some(0.5),
                    ..options(SamplerKind::Euler)
                },
                "eta",
            ),
            (
                SamplerOptions {
                    eta: Some(1.5),
                    ..options(SamplerKind::Tcd)
                },
                "eta",
            ),
            (options(SamplerKind::FlowEuler), "flow-euler"),
            (SamplerOptions::new(SamplerKind::Lcm, 51), "steps"),
            (SamplerOptions::new(SamplerKind::Dpmpp2m, 0), "steps"),
        ] {
            let error = Sampler::new(&epsilon, &options).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn epsilon_at_no_signal_is_refused() {
        let json = serde_json::json!({"rescale_betas_zero_snr": true});
        let schedule = Schedule::parse(json.as_object().expect("an object"), "test").unwrap();
        for kind in [SamplerKind::Ddim, SamplerKind::Ddpm, SamplerKind::Lcm, SamplerKind::Tcd] {
            let mut options = options(kind);
            options.spacing = kind.default_spacing().map(|_| Spacing::Trailing);
            let error = Sampler::new(&schedule, &options).unwrap_err().to_string();
            assert!(error.contains("v-prediction"), "{error}");
        }
    }
}
