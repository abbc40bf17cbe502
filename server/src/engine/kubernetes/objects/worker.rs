//! The Job and the Secret of a worker.
