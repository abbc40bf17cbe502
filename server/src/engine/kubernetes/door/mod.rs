//! What runs inside Pods: the roles of `knitd` that are a process of their own beside volumes.
//!
//! `knitd agent` serves volumes to servers; `knitd record-log` is the worker's recorder: it takes the log from main,
//! knows when main has ended, seals outputs and log, and tells servers through the same door; `knitd wrap` is what
//! main is started through; `knitd check-empty` makes sure that outputs are empty before anything is written.

pub mod check_empty;
pub mod frames;
pub mod wrap;
