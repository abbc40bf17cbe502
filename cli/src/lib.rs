//! `knit`, the users' command line, as a library.
//!
//! [`terminal`] and [`profile_store`] are shared with the administrators' command line: how both
//! speak to a person, and where both keep the profiles. Reading order for the rest: the grammar,
//! what is found around a command (profile, environment file), then one file per command.

pub mod args;
pub mod command;
pub mod image;
pub mod knitenv;
pub mod lineage;
pub mod plan_file;
pub mod plan_template;
pub mod profile_store;
pub mod project;
pub mod replace;
pub mod terminal;
pub mod yaml;
