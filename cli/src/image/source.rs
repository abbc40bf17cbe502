//! Reads images from archives, layouts and stdin.
