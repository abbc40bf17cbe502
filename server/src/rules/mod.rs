//! The rules: plain computation on plain values. No waiting, no clock, no chance, no logging. They know the
//! words of the API and their own, and nothing that uses them.

pub mod backoff;
pub mod expansion;
pub mod identity;
pub mod lifecycle;
pub mod lineage;
pub mod nearness;
pub mod plan;
pub mod projection;
pub mod why;
