//! Containers of our own: `knitd` starts itself again as a small single-threaded process, the shim,
//! one per worker, and the shim makes the container, records its log and writes down how it ended.
//! The shim does not need the server, so a restart of the server changes nothing for a worker.
//!
//! What the two tell each other stands in the worker's folder: [`order`] goes in, an outcome comes
//! out, and the [`lock`] in it says whether the shim lives.

pub mod cgroup;
mod executor;
pub mod lock;
pub mod order;
mod overlay;
mod owner;
pub mod program;
pub(in crate::engine) mod record;
pub mod requirements;
mod seccomp;
pub mod shim;
pub mod spec;
pub mod user;
