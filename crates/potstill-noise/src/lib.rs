//! Seeds, timesteps, torch-exact and counter-based noise.
