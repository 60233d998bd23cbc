//! Guarded safetensors reading and writing, atomic files, images to pixels.
