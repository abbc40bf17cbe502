//! The store on both databases, through its own door.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod contention;
mod data;
mod graphs;
mod loops;
mod migrations;
mod plans;
mod postgres;
mod projection;
mod runs;
mod world;
