//! The Node addon: conversions, handles, one engine thread per device.
