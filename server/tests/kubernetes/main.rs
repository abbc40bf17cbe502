//! The Kubernetes engine on a real cluster: volumes and workers, each test in a namespace of its own. Without
//! KUBECONFIG they are skipped, and say so.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod ends;
mod place;
mod unreachable;
mod volumes;
mod workers;
