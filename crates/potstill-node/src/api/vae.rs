//! VAEs, and pictures on disk.

use std::path::Path;

use napi::Env;
use napi::bindgen_prelude::{BigInt, Object, Uint8Array};
use napi_derive::napi;
use potstill_engine::{Tensor, Value, no_grad};
use potstill_io::{ImageLimits, Pixels};
use potstill_models::{Initialisation, ModelKind, Tiling, Vae, VaeConfig};

use super::random::parse_config;
use crate::core::{Engine, OpError, State, id, tensor, values};

/// What a VAE makes.
#[napi(object)]
pub struct LoadedVae {
    /// Latents are the encoder's mean times this.
    pub scaling_factor: f64,
    /// Channels of the latents.
    pub latent_channels: u32,
    /// Pixels per latent, along each side.
    pub downscale: u32,
}

/// A picture's size in pixels.
#[napi(object)]
pub struct PictureSize {
    /// Width.
    pub width: u32,
    /// Height.
    pub height: u32,
}

#[napi]
impl Engine {
    /// Loads a VAE's component folder, or the VAE in a single file. `kind` is the family of the model that it is for, which
    /// decides the scaling factor of a file that holds a VAE alone.
    #[napi(ts_return_type = "Promise<Outcome<LoadedVae>>", catch_unwind)]
    pub fn load_vae<'env>(
        &self,
        env: &'env Env,
        out: f64,
        path: String,
        #[napi(ts_arg_type = "'sd15' | 'sdxl' | undefined")] kind: Option<String>,
    ) -> napi::Result<Object<'env>> {
        self.query(env, "loadVae", move |state| {
            let kind = kind.as_deref().and_then(ModelKind::from_name);
            let vae = Vae::load_for(Path::new(&path), kind, state.device()?)?;
            Ok(put(state, out, vae))
        })
    }

    /// A VAE whose every weight is random, from the JSON of a diffusers configuration.
    #[napi(ts_return_type = "Promise<Outcome<LoadedVae>>", catch_unwind)]
    pub fn random_vae<'env>(
        &self,
        env: &'env Env,
        out: f64,
        config: String,
        seed: BigInt,
    ) -> napi::Result<Object<'env>> {
        let seed = seed.get_u64().1;
        self.query(env, "randomVae", move |state| {
            let config = VaeConfig::parse(parse_config(&config)?, "config")?;
            let vae = Vae::random(config, seed, Initialisation::Normal, state.device()?)?;
            Ok(put(state, out, vae))
        })
    }

    /// Scaled latents (the mean) of pixels in [−1, 1], [B, 3, H, W].
    #[napi(catch_unwind)]
    pub fn vae_encode(&self, out: f64, vae: f64, pixels: f64) {
        self.submit(out, "vae.encode", move |state| {
            let pixels = tensor(state, id(pixels))?.detach();
            let vae = state.get::<Vae>(id(vae))?;
            Ok(no_grad(|| vae.encode(&pixels)?.mode())?)
        });
    }

    /// Pixels, about [−1, 1] and not clamped, of scaled latents.
    #[napi(catch_unwind)]
    pub fn vae_decode(&self, out: f64, vae: f64, latents: f64) {
        self.submit(out, "vae.decode", move |state| {
            let latents = tensor(state, id(latents))?.detach();
            let vae = state.get::<Vae>(id(vae))?;
            Ok(no_grad(|| vae.decode(&latents))?)
        });
    }

    /// The same by overlapping tiles of `tile` latents a side.
    #[napi(catch_unwind)]
    pub fn vae_decode_tiled(&self, out: f64, vae: f64, latents: f64, tile: u32, overlap: u32) {
        self.submit(out, "vae.decodeTiled", move |state| {
            let latents = tensor(state, id(latents))?;
            let vae = state.get::<Vae>(id(vae))?;
            let tiling = Tiling {
                tile: tile as usize,
                overlap: overlap as usize,
            };
            Ok(Value::constant(no_grad(|| vae.decode_tiled(latents.tensor(), tiling))?))
        });
    }

    /// Decodes a picture into pixels in [−1, 1], [1, 3, H, W]; alpha is laid over white.
    #[napi(ts_return_type = "Promise<Outcome<PictureSize>>", catch_unwind)]
    pub fn read_picture<'env>(&self, env: &'env Env, out: f64, file: String) -> napi::Result<Object<'env>> {
        self.query(env, "readPicture", move |state| {
            let pixels = Pixels::open(Path::new(&file), ImageLimits::default())?;
            let (width, height) = (pixels.width(), pixels.height());
            let shape = (1, 3, height as usize, width as usize);
            let tensor = Tensor::from_vec(pixels.to_chw(), shape, state.device()?)?;
            state.put(id(out), Ok(Value::constant(tensor)));
            Ok(PictureSize { width, height })
        })
    }

    /// A PNG of pixels in [−1, 1], [1, 3, H, W]; what is beyond is clamped.
    #[napi(ts_return_type = "Promise<Outcome<Uint8Array>>", catch_unwind)]
    pub fn encode_png<'env>(&self, env: &'env Env, pixels: f64) -> napi::Result<Object<'env>> {
        self.query(env, "encodePng", move |state| {
            let pixels = tensor(state, id(pixels))?;
            let &[1, 3, height, width] = pixels.dims() else {
                let what = format!(
                    "a picture must have the shape [1, 3, height, width], got {:?}",
                    pixels.dims()
                );
                return Err(OpError::input("ERR_TENSOR_SHAPE", what));
            };
            let picture = Pixels::from_chw(width as u32, height as u32, &values(pixels.tensor())?)?;
            Ok(Uint8Array::new(picture.to_png()?))
        })
    }
}

fn put(state: &mut State, out: f64, vae: Vae) -> LoadedVae {
    let config = vae.config();
    let facts = LoadedVae {
        scaling_factor: config.scaling_factor,
        latent_channels: config.latent_channels as u32,
        downscale: config.downscale() as u32,
    };
    state.put(id(out), Ok(vae));
    facts
}
