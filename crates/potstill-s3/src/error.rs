//! What a server said, or that it did not answer: in words, and without what is nobody else's concern.

use std::error::Error;

use object_store::Error as StoreError;
use object_store::client::{HttpError, HttpErrorKind};
use potstill_cache::{RemoteFailure, SourceError};

use crate::location::Location;

/// The address that machines of AWS ask for their credentials.
const METADATA_HOST: &str = "169.254.169.254";

/// What failed, as far as the next step depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum S3ErrorKind {
    /// There is no such object.
    Missing,
    /// There is no such bucket.
    NoBucket,
    /// The server refuses these credentials.
    Denied,
    /// There are no credentials.
    NoCredentials,
    /// The object is not the one any more that was listed.
    Changed,
    /// The object ends before the range that was asked for.
    TooShort,
    /// Variables of the environment that cannot be.
    Configuration,
    /// No answer, after all retries.
    Unreachable,
    /// Given up on request.
    Interrupted,
    /// Any other answer.
    Other,
}

/// A request that failed. Messages hold what the server calls the failure, and no more of its answer: those to wrong
/// signatures repeat whose key it was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {reason}")]
pub struct S3Error {
    /// What failed.
    pub kind: S3ErrorKind,
    /// The object, as `s3://bucket/key`.
    pub place: String,
    /// What is wrong, without a full stop.
    pub reason: String,
}

impl S3Error {
    pub(crate) fn new(kind: S3ErrorKind, place: String, reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self { kind, place, reason }
    }

    /// Of a request for a file, given relative to a location.
    pub(crate) fn of(error: &StoreError, location: &Location, path: &str) -> Self {
        let text = chain(error);
        let code = code_in(&text);
        let (kind, reason) = match error {
            _ if code == Some("NoSuchBucket") => (S3ErrorKind::NoBucket, "there is no such bucket".to_owned()),
            StoreError::NotFound { .. } => (S3ErrorKind::Missing, "there is no such object".to_owned()),
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => {
                (S3ErrorKind::Denied, said("the server refuses access", code))
            }
            _ if text.contains(METADATA_HOST) => (S3ErrorKind::NoCredentials, "there are no credentials".to_owned()),
            _ if matches!(
                code,
                Some("InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AccessDenied")
            ) =>
            {
                (S3ErrorKind::Denied, said("the server refuses access", code))
            }
            _ => match http_kind(error) {
                Some(kind) => (S3ErrorKind::Unreachable, unreachable(kind).to_owned()),
                None => (
                    S3ErrorKind::Other,
                    said("the server does not do it", code.or_else(|| status_in(&text))),
                ),
            },
        };
        Self::new(kind, location.name(path), reason)
    }

    /// What to do about it: a sentence with its full stop.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self.kind {
            S3ErrorKind::Missing => "Copy it from where the cache came from, or build the component again.",
            S3ErrorKind::NoBucket => "Check the name of the bucket and AWS_ENDPOINT_URL, or make the bucket first.",
            S3ErrorKind::Denied => {
                "Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, and that they may list, read and (to build) write there."
            }
            S3ErrorKind::NoCredentials => {
                "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; of a public bucket, AWS_SKIP_SIGNATURE=true. Files of credentials are not read."
            }
            S3ErrorKind::Changed | S3ErrorKind::TooShort => {
                "Leave the cache alone while it is read, and run the command again."
            }
            S3ErrorKind::Configuration => "Correct that variable of the environment, or unset it.",
            S3ErrorKind::Unreachable => {
                "Check AWS_ENDPOINT_URL and the network (of a server without TLS also AWS_ALLOW_HTTP=true), and run the command again."
            }
            S3ErrorKind::Interrupted => "Run the same command again.",
            S3ErrorKind::Other => "Look at the server's own log, and run the command again.",
        }
    }

    /// As a [`SourceError`] of a file.
    pub(crate) fn into_source(self, path: &str, end: u64) -> SourceError {
        let path = path.to_owned();
        match self.kind {
            S3ErrorKind::Missing => SourceError::Missing { path },
            S3ErrorKind::TooShort => SourceError::TooShort { path, end },
            _ => SourceError::Remote(Box::new(RemoteFailure {
                remedy: self.remedy(),
                is_here: matches!(self.kind, S3ErrorKind::Unreachable | S3ErrorKind::Interrupted),
                place: self.place,
                reason: self.reason,
            })),
        }
    }

    /// Whether nothing else can be read either: it is no fault of the object.
    pub(crate) fn is_of_all(&self) -> bool {
        !matches!(
            self.kind,
            S3ErrorKind::Missing | S3ErrorKind::TooShort | S3ErrorKind::Changed
        )
    }
}

/// Errors with those below them, as one text to look into; it is never shown.
fn chain(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(error) = below {
        text.push('\n');
        text.push_str(&error.to_string());
        below = error.source();
    }
    text
}

/// Why there was no answer.
fn http_kind(error: &StoreError) -> Option<HttpErrorKind> {
    let mut below = error.source();
    while let Some(error) = below {
        if let Some(http) = error.downcast_ref::<HttpError>() {
            return Some(http.kind());
        }
        below = error.source();
    }
    None
}

fn unreachable(kind: HttpErrorKind) -> &'static str {
    match kind {
        HttpErrorKind::Connect => "the server cannot be reached",
        HttpErrorKind::Timeout => "the server does not answer in time",
        _ => "the connection was lost",
    }
}

fn said(what: &str, code: Option<&str>) -> String {
    code.map_or_else(|| what.to_owned(), |code| format!("{what} ({code})"))
}

/// What S3 calls a failure, in its answer: `<Code>NoSuchBucket</Code>`.
fn code_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    is_word(code).then_some(code)
}

/// The status of an answer without such a name.
fn status_in(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("status code: ")?;
    let status = rest.get(..3)?;
    is_word(status).then_some(status)
}

/// Nothing that a server says is shown unless it is a plain word.
fn is_word(text: &str) -> bool {
    const MAX: usize = 64;
    !text.is_empty() && text.len() <= MAX && text.bytes().all(|c| c.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> StoreError {
        StoreError::Generic {
            store: "S3",
            source: text.to_owned().into(),
        }
    }

    #[test]
    fn answers_are_named_and_not_repeated() {
        let location: Location = "s3://caches/a".parse().unwrap();
        let answer = "Server returned non-2xx status code: 400 Bad Request: <Error><Code>SignatureDoesNotMatch</Code>\
            <AWSAccessKeyId>AKIASECRET</AWSAccessKeyId></Error>";
        let error = S3Error::of(&generic(answer), &location, "text/plan.json");
        assert_eq!(error.kind, S3ErrorKind::Denied);
        assert_eq!(
            error.to_string(),
            "s3://caches/a/text/plan.json: the server refuses access (SignatureDoesNotMatch)"
        );
        assert!(!format!("{error:?}").contains("AKIASECRET"));
        let error = S3Error::of(&generic("status code: 501 Not Implemented: no XML"), &location, "x");
        assert_eq!(error.to_string(), "s3://caches/a/x: the server does not do it (501)");
        let error = S3Error::of(&generic("<Code>a b; rm -rf</Code>"), &location, "x");
        assert_eq!(error.reason, "the server does not do it");
    }

    #[test]
    fn a_machine_without_credentials_is_told_so() {
        let location: Location = "s3://caches".parse().unwrap();
        let text = "Error performing PUT http://169.254.169.254/latest/api/token in 3s";
        let error = S3Error::of(&generic(text), &location, "");
        assert_eq!(error.kind, S3ErrorKind::NoCredentials);
        assert!(error.remedy().contains("AWS_ACCESS_KEY_ID"));
    }
}
