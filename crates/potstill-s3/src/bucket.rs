//! Requests to a bucket, awaited on threads of their own.

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{
    BackoffConfig, ClientOptions, Error as StoreError, GetOptions, GetRange, ObjectStore, ObjectStoreExt, PutMode,
    PutOptions, PutPayload, RetryConfig,
};
use tokio::runtime::Runtime;

use crate::error::{S3Error, S3ErrorKind};
use crate::location::Location;

/// Threads that wait for answers; what is computed with them is computed elsewhere.
const THREADS: usize = 2;
/// How often a request that failed for the moment is made again, and for how long after the first.
const MAX_RETRIES: usize = 5;
const RETRY_FOR: Duration = Duration::from_secs(60);
/// Between two attempts at most.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// For a connection, between two pieces of an answer, and for all of a request: the largest are a shard's 40 MB.
const CONNECT: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_secs(30);
const REQUEST: Duration = Duration::from_secs(300);
/// Between two looks whether the caller has given up.
const LOOK: Duration = Duration::from_millis(100);
/// Most objects below a prefix that are listed: of a cache in shards, 64 records each.
const MAX_OBJECTS: usize = 5_000_000;

/// Whether the caller has given up.
pub type Interrupted = dyn Fn() -> bool + Send + Sync;

/// An object, as a listing or an answer has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    pub bytes: u64,
    /// Of this content: another one has another tag. Set by whichever answer has one first; not every server gives them.
    pub tag: Arc<OnceLock<String>>,
}

impl Listed {
    pub fn new(bytes: u64, tag: Option<String>) -> Self {
        let tag = Arc::new(tag.map_or_else(OnceLock::new, OnceLock::from));
        Self { bytes, tag }
    }

    /// Whether an answer with this tag is of the same content.
    fn is_same(&self, tag: Option<&str>) -> bool {
        tag.is_none_or(|tag| self.tag.get_or_init(|| tag.to_owned()) == tag)
    }
}

/// A place in S3, and the connection to its server.
#[derive(Clone)]
pub struct Bucket {
    location: Location,
    store: Arc<AmazonS3>,
    interrupted: Arc<Interrupted>,
}

impl fmt::Debug for Bucket {
    /// Without credentials.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bucket({})", self.location)
    }
}

impl Bucket {
    /// As the environment says; nothing is asked yet.
    ///
    /// # Errors
    /// [`S3ErrorKind::Configuration`] naming the variable.
    pub fn open(location: Location, interrupted: Arc<Interrupted>) -> Result<Self, S3Error> {
        // What is no text is none of S3's variables.
        let text =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::with_variables(location, interrupted, text)
    }

    /// As these variables of an environment say.
    ///
    /// # Errors
    /// As [`Bucket::open`].
    pub fn with_variables(
        location: Location,
        interrupted: Arc<Interrupted>,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, S3Error> {
        let wrong = |reason: String| S3Error::new(S3ErrorKind::Configuration, location.to_string(), reason);
        let timeouts = ClientOptions::new()
            .with_connect_timeout(CONNECT)
            .with_read_timeout(SILENCE)
            .with_timeout(REQUEST);
        let retry = RetryConfig {
            max_retries: MAX_RETRIES,
            retry_timeout: RETRY_FOR,
            backoff: BackoffConfig {
                max_backoff: MAX_PAUSE,
                ..BackoffConfig::default()
            },
        };
        let mut builder = AmazonS3Builder::new().with_client_options(timeouts).with_retry(retry);
        let (mut for_s3, mut endpoint, mut plain) = (None, None, false);
        for (name, value) in variables {
            if !name.starts_with("AWS_") || value.is_empty() {
                continue;
            }
            match name.as_str() {
                "AWS_ENDPOINT_URL_S3" => for_s3 = Some((name.clone(), value.clone())),
                "AWS_ENDPOINT_URL" | "AWS_ENDPOINT" => endpoint = Some((name.clone(), value.clone())),
                "AWS_ALLOW_HTTP" => {
                    plain = matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "on" | "yes" | "y")
                }
                // The bucket is the one that was named.
                "AWS_BUCKET" | "AWS_BUCKET_NAME" => continue,
                _ => {}
            }
            if let Ok(key) = name.to_ascii_lowercase().parse() {
                builder = builder.with_config(key, value);
            }
        }
        // Of both, that for S3 counts.
        if let Some((name, value)) = for_s3.or(endpoint) {
            if !value.starts_with("http://") && !value.starts_with("https://") {
                return Err(wrong(format!("{name} begins with neither https:// nor http://")));
            }
            if value.starts_with("http://") && !plain {
                return Err(wrong(format!(
                    "{name} is without TLS, which AWS_ALLOW_HTTP=true must allow"
                )));
            }
        }
        install_cryptography();
        // The builder's words name a key and, of what cannot be parsed, the value of a switch.
        let store = builder.with_bucket_name(location.bucket()).build().map_err(|error| {
            wrong(format!(
                "the environment's AWS_ variables do not fit: {}",
                plain_words(&error)
            ))
        })?;
        Ok(Self {
            location,
            store: Arc::new(store),
            interrupted,
        })
    }

    /// The place.
    #[must_use]
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// Every object below the place, by its path relative to it.
    pub(crate) fn list(&self) -> Result<Vec<(String, Listed)>, S3Error> {
        let prefix = self.path("")?;
        self.wait("", async {
            let mut found = Vec::new();
            let mut objects = self.store.list(Some(&prefix));
            while let Some(object) = objects.try_next().await? {
                if found.len() == MAX_OBJECTS {
                    let source = "more objects than are listed".into();
                    return Err(StoreError::Generic { store: "S3", source });
                }
                // A key that is the prefix itself, as tools make it for a folder, is no file below it.
                if let Some(path) = self
                    .location
                    .relative(object.location.as_ref())
                    .filter(|path| !path.is_empty())
                {
                    found.push((path.to_owned(), Listed::new(object.size, object.e_tag)));
                }
            }
            Ok(found)
        })
    }

    /// An object, now.
    pub(crate) fn head(&self, path: &str) -> Result<Listed, S3Error> {
        let key = self.path(path)?;
        let found = self.wait(path, self.store.head(&key))?;
        Ok(Listed::new(found.size, found.e_tag))
    }

    /// A range of an object, which must be the one that was listed.
    pub(crate) async fn read(&self, path: &str, range: Range<u64>, listed: Option<&Listed>) -> Result<Bytes, S3Error> {
        let key = self.path(path)?;
        let wanted = range.end - range.start;
        if wanted == 0 {
            return Ok(Bytes::new());
        }
        let of = |error: StoreError| {
            let error = S3Error::of(&error, &self.location, path);
            match error.reason.contains("InvalidRange") || error.reason.contains("416") {
                true => self.too_short(path),
                false => error,
            }
        };
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            ..GetOptions::default()
        };
        let found = self.store.get_opts(&key, options).await.map_err(of)?;
        if listed.is_some_and(|listed| !listed.is_same(found.meta.e_tag.as_deref())) {
            let reason = "the object changed while it was read";
            return Err(S3Error::new(S3ErrorKind::Changed, self.location.name(path), reason));
        }
        let bytes = found.bytes().await.map_err(of)?;
        match bytes.len() as u64 == wanted {
            true => Ok(bytes),
            false => Err(self.too_short(path)),
        }
    }

    /// Writes an object unless there is one; whether there was none.
    pub(crate) fn create(&self, path: &str, content: PutPayload) -> Result<bool, S3Error> {
        let key = self.path(path)?;
        let options = PutOptions::from(PutMode::Create);
        let created = self.wait(path, async {
            match self.store.put_opts(&key, content.clone(), options).await {
                Ok(_) => Ok(true),
                Err(StoreError::AlreadyExists { .. } | StoreError::Precondition { .. }) => Ok(false),
                // AWS_CONDITIONAL_PUT=disabled, for servers that have no conditions: then a look before must do.
                Err(StoreError::NotImplemented { .. }) => match self.store.head(&key).await {
                    Ok(_) => Ok(false),
                    Err(StoreError::NotFound { .. }) => self.store.put(&key, content).await.map(|_| true),
                    Err(error) => Err(error),
                },
                Err(error) => Err(error),
            }
        })?;
        Ok(created)
    }

    /// Writes an object in the place of what is there.
    pub(crate) fn replace(&self, path: &str, content: PutPayload) -> Result<(), S3Error> {
        let key = self.path(path)?;
        self.wait(path, self.store.put(&key, content)).map(|_| ())
    }

    /// Awaits an answer about a file, unless the caller gives up.
    fn wait<T>(&self, path: &str, answer: impl Future<Output = Result<T, StoreError>>) -> Result<T, S3Error> {
        self.await_answer(path, async {
            answer.await.map_err(|error| S3Error::of(&error, &self.location, path))
        })
    }

    /// Awaits something about a file on this thread, unless the caller gives up.
    pub(crate) fn await_answer<T>(
        &self,
        path: &str,
        answer: impl Future<Output = Result<T, S3Error>>,
    ) -> Result<T, S3Error> {
        runtime().block_on(async {
            tokio::pin!(answer);
            loop {
                if (self.interrupted)() {
                    return Err(S3Error::new(
                        S3ErrorKind::Interrupted,
                        self.location.name(path),
                        "interrupted",
                    ));
                }
                tokio::select! {
                    found = &mut answer => return found,
                    () = tokio::time::sleep(LOOK) => {}
                }
            }
        })
    }

    fn path(&self, path: &str) -> Result<Path, S3Error> {
        let key = self.location.key(path);
        let wrong = |_| {
            let reason = "not a path within a cache";
            S3Error::new(S3ErrorKind::Other, self.location.name(path), reason)
        };
        Path::parse(&key).map_err(wrong)
    }

    fn too_short(&self, path: &str) -> S3Error {
        let reason = "the object ends before what was asked for";
        S3Error::new(S3ErrorKind::TooShort, self.location.name(path), reason)
    }
}

/// The threads that requests are made on: those of the process, made at the first one.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("potstill-s3")
            .enable_all()
            .build()
            .expect("threads for requests")
    })
}

/// Which cryptography TLS uses: the one that requests are signed with.
fn install_cryptography() {
    // A second call finds the first one's.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// What a builder says, on one line.
fn plain_words(error: &StoreError) -> String {
    match error {
        StoreError::Generic { source, .. } => source.to_string().replace('\n', " "),
        other => other.to_string().replace('\n', " "),
    }
}
