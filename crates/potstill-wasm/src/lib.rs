//! Verification in a browser or in Node without a native binary.
