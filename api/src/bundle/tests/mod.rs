//! Folders there and back, and streams that are not what they should be.

mod contents;
mod hostile;
mod roundtrip;
mod trees;
