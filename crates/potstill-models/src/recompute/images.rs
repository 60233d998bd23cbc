//! Images by their digests, and as the VAE takes them.

use std::path::{Path, PathBuf};

use potstill_cache::{Digest32, ViewOfImage};
use potstill_io::{ImageError, ImageLimits, Pixels, disk};
use potstill_noise::View;

use super::RecomputeError;
use super::identity::Digests;
use crate::error::ModelError;

/// A view of a picture as three planes in [−1, 1]: scaled to cover the view's size, cropped, mirrored.
///
/// # Errors
/// A view beyond the picture.
pub fn view_planes(pixels: &Pixels, view: &View) -> Result<Vec<f32>, ImageError> {
    let cropped = pixels.cover_crop((view.width, view.height), (view.left, view.top))?;
    let shown = if view.flipped { cropped.flipped() } else { cropped };
    Ok(shown.to_chw())
}

/// Image files, digested one after another until the one that is asked for is found.
pub(super) struct Images {
    paths: Vec<PathBuf>,
    seen: usize,
    digests: Digests<'static>,
}

impl Images {
    pub(super) fn new(paths: &[String]) -> Self {
        Self {
            paths: paths.iter().map(PathBuf::from).collect(),
            seen: 0,
            digests: Digests::new(&|| false),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.paths.is_empty()
    }

    /// The planes of a view; none when no file has the image's digest.
    pub(super) fn planes(&mut self, view: &ViewOfImage) -> Result<Option<Vec<f32>>, RecomputeError> {
        let Some(path) = self.find(view.image)? else {
            return Ok(None);
        };
        let unusable = |reason: String| ModelError::file(&path, reason);
        let bytes = disk::read(&path).map_err(|error| unusable(format!("cannot be read: {error}")))?;
        let pixels = Pixels::decode(&bytes, ImageLimits::default()).map_err(|error| unusable(error.to_string()))?;
        let planes = view_planes(&pixels, &view.view).map_err(|error| unusable(error.to_string()))?;
        Ok(Some(planes))
    }

    fn find(&mut self, image: Digest32) -> Result<Option<PathBuf>, RecomputeError> {
        let Self { paths, seen, digests } = self;
        let is = |path: &Path, digests: &mut Digests| Ok::<_, RecomputeError>(digests.of(path)? == image);
        for path in &paths[..*seen] {
            if is(path, digests)? {
                return Ok(Some(path.clone()));
            }
        }
        while let Some(path) = paths.get(*seen) {
            *seen += 1;
            if is(path, digests)? {
                return Ok(Some(path.clone()));
            }
        }
        Ok(None)
    }
}
