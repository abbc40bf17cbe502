//! What v1.6.1 was seen doing: the program is given the same command lines, files and answers, and sends the
//! same writes, prints the same result and leaves the same files behind.
//!
//! `tests/golden/vectors.jsonl` holds the observations, facts only: first the records of the server, its answers to
//! everything that goes wrong, and binary inputs; then one command per line. `tests/golden/differences` lists what
//! is different on purpose, with the reason, and for templates with the members that are printed instead; a line there
//! that is no longer true is an error too.
//!
//! Compared are: `exit` (success or not), `writes` (method, target, meaning of the body or entries of the archive, in order), `stdout` (JSON and DOT byte
//! for byte but for the escapes of `<>&` and a final line feed, templates as YAML), `after` (the files).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, also in its closures and samples")]

#[path = "../fake/mod.rs"]
mod fake;
mod replay;
mod told;
mod world;
