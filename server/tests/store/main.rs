//! The store on both databases, through its own door.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod candidates;
mod contention;
mod data;
mod explain;
mod graphs;
mod impact;
mod loops;
mod manifests;
mod migrations;
mod pages;
mod plans;
mod projection;
mod runs;
mod watching;
mod world;
mod wrong;
