//! knit: the users' command line, as a library.

pub mod image;
