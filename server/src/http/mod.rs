//! The API over HTTP: one file per noun, one line per route.
