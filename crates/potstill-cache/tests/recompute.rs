//! Recomputation of a cache whose server stops answering.
#![cfg(feature = "fs")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::{VALUES, build_cache};
use potstill_cache::{
    CacheError, CacheReader, ComponentId, EncodedText, FolderSource, PredictionInputs, PredictionKind, Predictor,
    RecomputeOptions, RemoteFailure, Source, SourceError, TeacherPlan, ViewOfImage, recompute,
};

/// A folder behind a server that may stop.
struct Server {
    folder: FolderSource,
    gone: Arc<AtomicBool>,
}

impl Server {
    fn asked<T>(&self, answer: impl FnOnce(&FolderSource) -> Result<T, SourceError>) -> Result<T, SourceError> {
        self.failure().map_or_else(|| answer(&self.folder), Err)
    }
}

impl Source for Server {
    fn list(&self) -> Result<Vec<String>, SourceError> {
        self.asked(Source::list)
    }

    fn size(&self, path: &str) -> Result<u64, SourceError> {
        self.asked(|folder| folder.size(path))
    }

    fn read(&self, path: &str, offset: u64, buffer: &mut [u8]) -> Result<(), SourceError> {
        self.asked(|folder| folder.read(path, offset, buffer))
    }

    fn failure(&self) -> Option<SourceError> {
        let failure = RemoteFailure {
            place: "s3://bucket/cache".to_owned(),
            reason: "no answer".to_owned(),
            remedy: "Wait.",
            is_here: true,
        };
        let gone = self.gone.load(Ordering::Relaxed);
        gone.then(|| SourceError::Remote(Box::new(failure)))
    }
}

/// Computes latents, all zero; after some of them the server is gone.
struct Zeros {
    left: usize,
    gone: Arc<AtomicBool>,
}

impl Predictor for Zeros {
    type Error = CacheError;

    fn omits(&self, component: &ComponentId) -> Option<String> {
        (*component != ComponentId::Latents).then(|| "only latents".to_owned())
    }

    fn latents(&mut self, view: &ViewOfImage) -> Result<Option<Vec<f32>>, CacheError> {
        if self.left == 0 {
            self.gone.store(true, Ordering::Relaxed);
        }
        self.left = self.left.saturating_sub(1);
        Ok(Some(vec![0.; VALUES * (view.view.width / view.view.height) as usize]))
    }

    fn text(&mut self, _: &str) -> Result<EncodedText, CacheError> {
        unreachable!("omitted")
    }

    fn prediction(&mut self, _: &TeacherPlan, _: PredictionInputs) -> Result<Vec<f32>, CacheError> {
        unreachable!("omitted")
    }
}

/// Recomputes ten latents, of which the server gives so many.
fn recompute_with(given: usize) -> Result<(), CacheError> {
    let folder = tempfile::tempdir().unwrap();
    build_cache(folder.path(), PredictionKind::Epsilon);
    let gone = Arc::new(AtomicBool::new(false));
    let server = Server {
        folder: FolderSource::new(folder.path()),
        gone: gone.clone(),
    };
    let reader = CacheReader::open(Box::new(server), None).unwrap();
    let options = RecomputeOptions {
        entries: 10,
        nonce: "test",
    };
    let mut predictor = Zeros { left: given, gone };
    recompute(&reader, &mut predictor, options, &|_, _| {}).map(|_| ())
}

#[test]
fn what_a_server_did_not_give_is_an_error_and_no_finding() {
    recompute_with(10).unwrap();
    for given in [0, 5, 9] {
        assert!(recompute_with(given).unwrap_err().is_remote(), "after {given}");
    }
}
