//! UNet, VAE, CLIP, tokenizer, noise schedules and samplers.
