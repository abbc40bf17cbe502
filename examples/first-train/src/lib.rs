//! The first-train example: a classifier of handwritten digits that is trained by one program and
//! validated by another. This library holds what both agree on.
//!
//! Reading order: [`digits`] (the dataset), [`model`] (what is learnt), [`training`] (how),
//! [`evaluation`] (how well). [`flags`] and [`problem`] are how the programs talk to people.

pub mod digits;
pub mod evaluation;
pub mod flags;
pub mod model;
pub mod problem;
pub mod random;
pub mod training;
