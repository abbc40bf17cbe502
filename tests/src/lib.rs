//! One harness, every story: the real binaries on a real machine.
//!
//! A [`World`] is a machine of its own as far as Knit can tell: a home, an installation on free
//! ports, a working folder. It runs the real `knit` and `knitctl` in it ([`Ran`]), speaks to the
//! server as foreign clients do ([`wire`]), kills what a story wants killed ([`processes`]), and
//! leaves nothing behind, whatever happens. [`Step`] writes Plans, [`able()`] says what this machine
//! lacks, [`Chance`] makes randomness that can be repeated, [`Transcript`] runs pages of documentation.
//!
//! With `KNIT_TESTS_ENGINE=kubernetes` the same stories run on a cluster ([`cluster`]) and a PostgreSQL of their own
//! ([`postgres`]); those that are about the embedded engine's insides say so with [`embedded_only()`].
//!
//! Stories wait for signals (the end of a Run, a line of a log, the end of a process), never for
//! time to pass.

pub mod able;
pub mod chance;
pub mod cluster;
pub mod postgres;
pub mod processes;
pub mod ran;
pub mod replicas;
pub mod step;
pub mod transcript;
pub mod wire;
pub mod world;

pub use able::able;
pub use chance::Chance;
pub use cluster::embedded_only;
pub use ran::{Following, Ran};
pub use step::Step;
pub use transcript::Transcript;
pub use world::World;
