//! The embedded engine: folders as volumes, containers of our own as workers, on this machine.

pub mod images;
pub mod volumes;
