//! Caches in S3, or in what speaks its language: `s3://bucket/prefix`.
//!
//! * [`Location`]: where a cache is.
//! * [`S3Source`]: its files, as verification and training read them: by ranges, without a copy on disk.
//! * [`S3Store`]: writing them, object by object, for builds in parts.
//!
//! Who one is, and where the server is, the environment says, as to every tool of AWS: `AWS_ACCESS_KEY_ID`,
//! `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP` and the others that
//! `object_store` reads.

mod blocks;
mod bucket;
mod error;
mod location;
mod source;
mod store;

pub use bucket::{Bucket, Interrupted};
pub use error::{S3Error, S3ErrorKind};
pub use location::{Location, LocationError, SCHEME};
pub use source::S3Source;
pub use store::S3Store;
