//! The rules: plain computation on plain values. No waiting, no clock, no chance, no logging.

pub mod backoff;
pub mod identity;
pub mod lifecycle;
pub mod plan;
pub mod projection;
