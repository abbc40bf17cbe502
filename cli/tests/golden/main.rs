//! What v1.6.1 was seen to do, done again: recorded command lines against a server that answers as the recorded
//! one did. What is printed is the same to the byte, or stands in `tests/golden/differences` with its reason.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its closures and samples")]

#[path = "../fake/mod.rs"]
mod fake;
mod graphs;
mod told;
mod vectors;
mod world;
