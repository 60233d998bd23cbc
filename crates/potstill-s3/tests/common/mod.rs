//! A server with a bucket, and places in it.
#![allow(dead_code)] // each test uses a part of it

pub mod server;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use potstill_s3::{Bucket, S3Error};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A bucket of the server, a folder of this machine.
pub const BUCKET: &str = "caches";

/// A server of its own; it ends when it is dropped.
pub struct Server {
    runtime: Option<Runtime>,
    url: String,
    root: TempDir,
}

impl Server {
    pub fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(BUCKET)).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let url = server::serve(&runtime, root.path()).unwrap();
        Self {
            runtime: Some(runtime),
            url,
            root,
        }
    }

    /// Where the objects below a prefix lie on this machine.
    pub fn folder(&self, prefix: &str) -> PathBuf {
        self.root.path().join(BUCKET).join(prefix)
    }

    /// The variables that the server is reached with, changed by `others`.
    pub fn variables(&self, others: &[(&str, &str)]) -> Vec<(String, String)> {
        let own = [
            ("AWS_ENDPOINT_URL", self.url.as_str()),
            ("AWS_ALLOW_HTTP", "true"),
            ("AWS_ACCESS_KEY_ID", server::ACCESS_KEY),
            ("AWS_SECRET_ACCESS_KEY", server::SECRET_KEY),
        ];
        let all = own.iter().chain(others);
        all.map(|&(name, value)| (name.to_owned(), value.to_owned())).collect()
    }

    /// A place below the bucket.
    pub fn bucket(&self, prefix: &str) -> Bucket {
        self.open(&format!("s3://{BUCKET}/{prefix}"), &[]).unwrap()
    }

    pub fn open(&self, location: &str, others: &[(&str, &str)]) -> Result<Bucket, S3Error> {
        Bucket::with_variables(location.parse().unwrap(), Arc::new(|| false), self.variables(others))
    }

    /// Ends it, with its connections.
    pub fn stop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Copies a folder with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
