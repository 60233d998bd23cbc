//! Sampling latents with a UNet: the loop around a [`Sampler`].

use candle_core::Tensor;
use potstill_engine::{Value, no_grad};

use crate::error::{ModelError, Result};
use crate::prediction::guide;
use crate::samplers::{Sampler, StepInputs};
use crate::unet::{ForwardOptions, Unet, UnetInputs};

/// What a UNet is told besides latents and time. B: batch.
#[derive(Clone)]
pub struct Conditioning {
    /// `[B, 77, cross_attention_dim]`.
    pub encoder_hidden_states: Tensor,
    /// SDXL: the pooled text, `[B, 1280]`.
    pub text_embeds: Option<Tensor>,
    /// SDXL: `[B, 6]`.
    pub time_ids: Option<Tensor>,
}

/// Classifier-free guidance.
pub struct Guidance<'a> {
    /// The conditioning to move away from (the negative or empty prompt).
    pub uncond: &'a Conditioning,
    /// 1 is no guidance (and costs none); above, the prediction is `uncond + scale·(cond − uncond)`.
    pub scale: f64,
}

/// What latents are sampled from.
pub struct Sampling<'a> {
    /// The steps.
    pub sampler: &'a Sampler,
    /// What to show.
    pub cond: &'a Conditioning,
    /// What to move away from; none for none.
    pub guidance: Option<&'a Guidance<'a>>,
    /// Unit noise, `[B, 4, h, w]`.
    pub noise: &'a Tensor,
    /// Fresh unit noise for each step of a stochastic sampler, `[S, B, 4, h, w]`.
    pub step_noise: Option<&'a Tensor>,
}

/// Samples latents `[B, 4, h, w]` in as many steps as the sampler has.
///
/// `progress` is called after every step with the number of finished steps and the current x; returning false stops the
/// loop, and the result is what is there.
///
/// # Errors
/// When the sampler is stochastic and there is no noise for one of its steps.
pub fn sample(unet: &Unet, sampling: &Sampling, mut progress: impl FnMut(usize, &Tensor) -> bool) -> Result<Tensor> {
    let Sampling {
        sampler, cond, noise, ..
    } = *sampling;
    let guidance = sampling.guidance.filter(|g| g.scale != 1.);
    let batch = noise.dim(0)?;
    // Guided, both conditionings run as one batch: the unconditional half first.
    let both = guidance.map(|g| g.uncond.beside(cond)).transpose()?;
    let told = both.as_ref().unwrap_or(cond);
    let mut x = (noise * sampler.init_noise_sigma())?;
    let mut previous: Option<Tensor> = None;
    for (i, step) in sampler.steps().iter().enumerate() {
        let input = sampler.input(i, &x)?;
        let input = if guidance.is_some() {
            Tensor::cat(&[&input, &input], 0)?
        } else {
            input
        };
        let prediction = no_grad(|| told.predict(unet, input, step.timestep))?;
        let prediction = match guidance {
            None => prediction,
            Some(g) => {
                let half = |start| Ok::<_, ModelError>(Value::constant(prediction.narrow(0, start, batch)?));
                guide(&half(batch)?, &half(0)?, g.scale)?.tensor().clone()
            }
        };
        let fresh = match sampling.step_noise {
            Some(step_noise) if step.noise != 0. => Some(step_noise.get(i)?),
            _ => None,
        };
        let next = sampler.step(
            i,
            &StepInputs {
                x: &x,
                prediction: &prediction,
                previous: previous.as_ref(),
                noise: fresh.as_ref(),
            },
        )?;
        previous = Some(sampler.clean(i, &prediction, &x)?);
        x = next;
        if !progress(i + 1, &x) {
            break;
        }
    }
    Ok(x)
}

impl Conditioning {
    /// Both conditionings as one batch, `self` first.
    fn beside(&self, other: &Self) -> Result<Self> {
        let pair = |a: &Option<Tensor>, b: &Option<Tensor>| match (a, b) {
            (Some(a), Some(b)) => Ok::<_, ModelError>(Some(Tensor::cat(&[a, b], 0)?)),
            _ => Ok(None),
        };
        Ok(Self {
            encoder_hidden_states: Tensor::cat(&[&self.encoder_hidden_states, &other.encoder_hidden_states], 0)?,
            text_embeds: pair(&self.text_embeds, &other.text_embeds)?,
            time_ids: pair(&self.time_ids, &other.time_ids)?,
        })
    }

    /// The UNet's prediction at one timestep.
    pub fn predict(&self, unet: &Unet, sample: Tensor, timestep: f64) -> Result<Tensor> {
        let inputs = UnetInputs {
            sample: Value::constant(sample),
            timestep: &[timestep],
            encoder_hidden_states: Value::constant(self.encoder_hidden_states.clone()),
            text_embeds: self.text_embeds.clone().map(Value::constant),
            time_ids: self.time_ids.clone().map(Value::constant),
        };
        Ok(unet.forward(&inputs, &ForwardOptions::default())?.tensor().clone())
    }
}
