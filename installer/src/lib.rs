//! The embedded installation: one folder, one `knitd` process, one handout for its users.
//!
//! The flow of [`embedded::up`]: find out for whom we work ([`caller`]), claim the folder
//! ([`folder`]), settle what is wanted against what was there before ([`record`]), make the token
//! ([`token`]), start the server and wait until it says that it is ready ([`process`]), write down
//! what was chosen and hand it out ([`handout`]). [`embedded::down`] asks the server to stop, waits
//! for its end and says which Runs it put back; [`embedded::look`] only looks.
//!
//! Every file is written beside its place, synced and renamed ([`durable`]), and any step may be
//! interrupted: doing it again completes it.

pub mod caller;
pub mod durable;
pub mod embedded;
pub mod folder;
pub mod handout;
pub mod problem;
pub mod process;
pub mod record;
pub mod token;

pub use problem::{Kind, Problem};
