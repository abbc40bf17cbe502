//! knitd: the server of Knit.
//!
//! The flow. `http` takes a push: the engine receives the folder into a volume (verified, synced),
//! then `store` makes the Data, its tags and its nominations true in one transaction, and `wake`
//! tells the loops. `loops::project` turns new combinations into Runs; `loops::initialize` makes
//! their output volumes; `loops::run` starts their workers through the engine and follows what it
//! observes; `loops::finish` seals what came out, and that is again Data that may fit a Plan.
//!
//! Who may do what: only `store` says SQL, only `engine` knows where bytes and work live, only
//! `http` and `registry` speak HTTP, `rules` only computes, only `clock` reads time and makes ids,
//! and `http` and `loops` meet only through the store and [`wake::Wake`], which [`relay`] carries to other processes.

pub mod app;
pub mod clock;
pub mod content;
pub mod engine;
pub mod http;
pub mod log_file;
pub mod loops;
pub mod metrics;
mod private;
pub mod registry;
pub mod relay;
pub mod rules;
pub mod serve;
pub mod settings;
pub mod store;
pub mod transfers;
pub mod wake;
