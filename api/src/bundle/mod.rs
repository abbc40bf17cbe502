//! One folder <-> one verified byte stream.
