//! Errors of operations, as they cross the boundary.

use std::fmt;

/// Result of an operation.
pub type Result<T> = std::result::Result<T, OpError>;

/// What went wrong, as far as the caller's next move depends on it (the kinds of `ts/errors.ts`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// What was given cannot be used.
    Input,
    /// This machine cannot do it.
    Machine,
    /// A cancel token was flipped.
    Interrupted,
    /// A fault of potstill.
    Bug,
}

impl ErrorKind {
    /// The name in `ts/errors.ts`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Machine => "machine",
            Self::Interrupted => "interrupted",
            Self::Bug => "bug",
        }
    }
}

/// An error that says what, where, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpError {
    /// Stable name, `ERR_…`.
    pub code: &'static str,
    /// What the caller can do about it, coarsely.
    pub kind: ErrorKind,
    /// One sentence without a final full stop.
    pub what: String,
    /// File, tensor or operation with its shapes.
    pub place: Option<String>,
    /// What to do.
    pub remedy: Option<String>,
}

impl OpError {
    fn new(code: &'static str, kind: ErrorKind, what: impl fmt::Display) -> Self {
        Self {
            code,
            kind,
            what: what.to_string(),
            place: None,
            remedy: None,
        }
    }

    /// Something that was given cannot be used.
    pub fn input(code: &'static str, what: impl fmt::Display) -> Self {
        Self::new(code, ErrorKind::Input, what)
    }

    /// This machine lacks something.
    pub fn machine(code: &'static str, what: impl fmt::Display) -> Self {
        Self::new(code, ErrorKind::Machine, what)
    }

    /// A fault of potstill.
    pub fn bug(what: impl fmt::Display) -> Self {
        let remedy = "This is a bug in potstill: please report it with the output of `potstill doctor --json`.";
        Self::new("ERR_INTERNAL", ErrorKind::Bug, what).remedy(remedy)
    }

    /// Cancelled on request.
    pub fn interrupted() -> Self {
        Self::new("ERR_INTERRUPTED", ErrorKind::Interrupted, "interrupted")
    }

    /// Where it happened, unless that is known more closely already.
    pub fn at(mut self, place: impl fmt::Display) -> Self {
        self.place.get_or_insert_with(|| place.to_string());
        self
    }

    /// What to do about it.
    pub fn remedy(mut self, remedy: impl fmt::Display) -> Self {
        self.remedy = Some(remedy.to_string());
        self
    }
}

impl fmt::Display for OpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.what),
            None => f.write_str(&self.what),
        }
    }
}
