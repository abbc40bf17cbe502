//! What every part of Knit agrees on: ids, tags, statuses, wire bodies, endpoints and profiles.
//!
//! The wire forms are those of Knitfab v1.6.1, so that its clients work with our server and our
//! client with its server; members that Knit adds stand after the original ones. Reading order:
//! [`id`], [`tag`], [`time`], [`quantity`], [`image`], then the nouns [`data`], [`plan`], [`run`], [`graph`],
//! what is asked about them before or after something happens: [`explain`], [`why`], [`impact`], and
//! what there is to execute them on: [`cluster`]; then how they travel: [`endpoint`], [`problem`], [`server`], [`candidate`], [`content`], [`event`], [`json`], and
//! [`profile`]; last what Knit makes on Kubernetes is called: [`label`].
//!
//! Feature `client` adds the HTTP client, `bundle` the form in which folders travel, `digest` the digests of
//! images.

#[cfg(feature = "bundle")]
pub mod bundle;
pub mod candidate;
#[cfg(feature = "client")]
pub mod client;
pub mod cluster;
pub mod content;
pub mod data;
#[cfg(feature = "digest")]
pub mod digest;
pub mod endpoint;
pub mod event;
pub mod explain;
pub mod graph;
pub mod id;
pub mod image;
pub mod impact;
pub mod json;
pub mod label;
pub mod plan;
pub mod problem;
pub mod profile;
pub mod quantity;
pub mod run;
pub mod server;
pub mod tag;
pub mod time;
pub mod why;

/// The version of this build: one for the whole workspace.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
