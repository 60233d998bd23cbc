//! Guarded safetensors reading and writing, atomic files, images to pixels.
//!
//! * [`Header`]: a safetensors header parsed from bytes, trusting nothing in them. Works without files, in WASM too.
//! * [`SafetensorsFile`] (feature `fs`): a memory-mapped file giving typed views and f32 conversions.
//! * [`disk`] (feature `fs`): small files, read from the system or, in WASM, from the host.
//! * [`write_atomic`], [`write_safetensors`] (feature `fs`): a file is there whole or not at all.
//! * [`Pixels`] (feature `images`): pictures decoded within limits, resized as Pillow does, cropped to a view.

mod dtype;
mod error;
mod header;
mod layout;

#[cfg(feature = "fs")]
mod atomic;
#[cfg(feature = "fs")]
pub mod disk;
#[cfg(feature = "fs")]
mod file;
#[cfg(feature = "fs")]
mod map;

#[cfg(feature = "images")]
mod pixels;
#[cfg(feature = "images")]
mod resize;

pub use dtype::{Dtype, f32_to_bytes, f32_to_bytes_into};
pub use error::{HeaderError, IoError};
pub use header::{Header, MAX_HEADER_BYTES, MAX_RANK, TensorInfo, header_length};
pub use layout::{TensorSpec, layout_header};

#[cfg(feature = "fs")]
pub use atomic::{create_dir_durably, rename_durably, write_atomic, write_atomic_once};
#[cfg(feature = "fs")]
pub use file::{SafetensorsFile, TensorView, TensorWrite, write_safetensors};

#[cfg(feature = "images")]
pub use pixels::{ImageError, ImageLimits, Pixels};
#[cfg(feature = "images")]
pub use resize::resize_lanczos;
